//! What each end does with a peer that is wrong, late, or breaks the rules.

use fastsst_proto::error::codes;
use fastsst_proto::limits::*;
use fastsst_proto::*;

use crate::pair::{Pair, TRANSFER, declaration, entry, exporter, plain, side, token};
use crate::wire::{decode, encoded};

const NOW: Millis = Millis(0);

fn joiner() -> JoinerSession {
    JoinerSession::new(NOW, &token(), exporter(), side(plain()))
}

fn donor_with(token: &Secret) -> DonorSession {
    DonorSession::new(NOW, token, exporter(), "donor 1".into())
}

/// What a joiner answers to this first frame.
fn first_frame(frame: Frame) -> (ProtocolError, Option<u16>) {
    let mut joiner = joiner();
    let error = joiner.handle_frame(NOW, frame).unwrap_err();
    assert!(joiner.is_over() && joiner.poll_event().is_none() && joiner.poll_timeout().is_none());
    let code = match joiner.poll_transmit() {
        Some(Frame::Refuse(refusal)) => Some(refusal.code),
        Some(other) => panic!("answered {}", other.name()),
        None => None,
    };
    assert_eq!(joiner.poll_transmit(), None);
    (error, code)
}

#[test]
fn a_wrong_token_is_refused() {
    let mut donor = donor_with(&Secret::from_bytes([9; 16]));
    let (error, code) = first_frame(donor.poll_transmit().unwrap());
    assert_eq!((error, code), (ProtocolError::WrongProof, Some(codes::WRONG_TOKEN)));
}

#[test]
fn a_proof_of_another_connection_is_refused() {
    let mut donor = DonorSession::new(NOW, &token(), Exporter([9; 32]), "donor 1".into());
    assert_eq!(first_frame(donor.poll_transmit().unwrap()).0, ProtocolError::WrongProof);
}

#[test]
fn another_major_is_refused() {
    let Frame::Hello(hello) = donor_with(&token()).poll_transmit().unwrap() else {
        panic!("no Hello")
    };
    let other = Frame::Hello(Hello { major: 9, ..hello });
    let (error, code) = first_frame(decode(&encoded(&other)).unwrap().0.unwrap());
    assert_eq!(error, ProtocolError::Major { ours: 1, theirs: 9 });
    assert_eq!(code, Some(codes::INCOMPATIBLE));
}

#[test]
fn a_lane_is_no_control_connection() {
    let frame = lane::donor_hello(&token(), &exporter(), TRANSFER, LaneId(0), "donor 1");
    assert_eq!(first_frame(frame), (ProtocolError::WrongTransfer, Some(codes::BUSY)));
}

#[test]
fn the_first_frame_is_hello() {
    let (error, code) = first_frame(Frame::Bye);
    assert_eq!(error, ProtocolError::Unexpected { state: "waiting for Hello", frame: "Bye" });
    assert_eq!(code, Some(codes::PROTOCOL));
}

#[test]
fn another_program_is_refused() {
    let mut joiner = joiner();
    assert_eq!(joiner.handle_wire_error(WireError::BadMagic), ProtocolError::NotFastsst);
    let Some(Frame::Refuse(refusal)) = joiner.poll_transmit() else { panic!("no answer") };
    assert_eq!(refusal.code, codes::NOT_FASTSST);
}

#[test]
fn a_joiner_without_the_token_gets_nothing() {
    let mut donor = donor_with(&token());
    let other = Secret::from_bytes([9; 16]);
    let welcome = lane::joiner_welcome(&other, &exporter(), &Scope::Control, &side(plain()));
    assert_eq!(donor.handle_frame(NOW, welcome), Err(ProtocolError::WrongProof));
    assert!(donor.is_over());
}

#[test]
fn a_proof_cannot_be_reflected() {
    let mut donor = donor_with(&token());
    let Frame::Hello(hello) = donor.poll_transmit().unwrap() else { panic!("no Hello") };
    let reflected = Frame::Welcome(Welcome {
        major: hello.major,
        features: hello.features,
        proof: hello.proof,
        transfer: TRANSFER,
        software: String::new(),
    });
    assert_eq!(donor.handle_frame(NOW, reflected), Err(ProtocolError::WrongProof));
}

#[test]
fn a_refusal_reaches_the_donor() {
    let mut pair = Pair::new();
    pair.exchange().unwrap();
    pair.donor.declare(declaration(1)).unwrap();
    pair.exchange().unwrap();
    let refusal = Refusal { code: 7, text: "disk full".into() };
    pair.joiner.refuse(refusal.clone());
    let error = pair.exchange().unwrap_err();
    assert_eq!(error.to_string(), "refused by the peer: E07 disk full");
    assert_eq!(error, ProtocolError::Refused(refusal));
    assert!(pair.donor.is_over() && pair.joiner.is_over());
    assert_eq!(pair.donor.poll_transmit(), None, "the last word is the joiner's");
}

#[test]
fn an_abort_reaches_the_other_end_and_is_not_answered() {
    let refusal = Refusal { code: 28, text: "cancelled".into() };
    let mut pair = Pair::streaming();
    pair.donor.abort(refusal.clone());
    assert_eq!(pair.exchange(), Err(ProtocolError::Aborted(refusal.clone())));
    assert_eq!(pair.joiner.poll_transmit(), None);
    let mut pair = Pair::streaming();
    pair.joiner.abort(refusal.clone());
    assert_eq!(pair.exchange(), Err(ProtocolError::Aborted(refusal)));
    assert_eq!(pair.donor.poll_transmit(), None);
    assert_eq!(pair.donor.handle_frame(pair.now, Frame::Bye), Ok(()), "over: ignored");
}

#[test]
fn frames_out_of_place_end_the_conversation() {
    let unexpected = |result: Result<(), ProtocolError>| {
        assert!(matches!(result, Err(ProtocolError::Unexpected { .. })), "{result:?}");
    };
    let hash = RootHash([0; 32]);
    for frame in [Frame::Committed { root_hash: hash }, Frame::Bye, Frame::Gone(vec![])] {
        let mut pair = Pair::streaming();
        unexpected(pair.donor.handle_frame(pair.now, frame));
        assert!(
            matches!(pair.donor.poll_transmit(), Some(Frame::Abort(r)) if r.code == codes::PROTOCOL)
        );
    }
    for frame in
        [Frame::Durable(vec![]), Frame::Bye, Frame::BypassAck, Frame::Declare(declaration(1))]
    {
        let mut pair = Pair::streaming();
        unexpected(pair.joiner.handle_frame(pair.now, frame));
        assert!(
            matches!(pair.joiner.poll_transmit(), Some(Frame::Abort(r)) if r.code == codes::PROTOCOL)
        );
    }
    let mut joiner = joiner();
    joiner.handle_frame(NOW, donor_with(&token()).poll_transmit().unwrap()).unwrap();
    unexpected(joiner.handle_frame(NOW, Frame::Entries(vec![])));
}

#[test]
fn nothing_is_declared_after_finish() {
    let mut pair = Pair::streaming();
    let finish = Finish { root_hash: RootHash([1; 32]), position: vec![], entries: 0, bytes: 0 };
    pair.donor.manifest_end(0, 0).unwrap();
    pair.donor.finish(finish).unwrap();
    pair.exchange().unwrap();
    let result = pair.joiner.handle_frame(pair.now, Frame::Entries(vec![entry(1, 0, 1)]));
    assert_eq!(result, Err(ProtocolError::Unexpected { state: "finishing", frame: "Entries" }));
}

#[test]
fn lanes_are_only_those_agreed_on() {
    let inconsistent = |result: Result<(), ProtocolError>| {
        assert!(matches!(result, Err(ProtocolError::Inconsistent { .. })), "{result:?}");
    };
    let mut pair = Pair::streaming();
    inconsistent(
        pair.donor.handle_frame(pair.now, Frame::LaneReady { lane: LaneId(0), own_socket: true }),
    );
    let mut pair = Pair::streaming();
    inconsistent(
        pair.joiner.handle_frame(pair.now, Frame::LaneOffer { lane: LaneId(2), source_port: 1 }),
    );
    let mut pair = Pair::new();
    pair.exchange().unwrap();
    pair.donor.declare(declaration(2)).unwrap();
    inconsistent(pair.donor.handle_frame(pair.now, Frame::Accept(Accept { lanes: 3 })));
}

#[test]
fn root_hashes_that_differ_are_an_error_at_both_ends() {
    let (ours, theirs) = (RootHash([1; 32]), RootHash([2; 32]));
    let finish = Finish { root_hash: ours, position: vec![], entries: 0, bytes: 0 };
    let mut pair = Pair::streaming();
    pair.donor.manifest_end(0, 0).unwrap();
    pair.donor.finish(finish).unwrap();
    pair.exchange().unwrap();
    let error = pair.joiner.committed(theirs).unwrap_err();
    assert_eq!(error, ProtocolError::RootHashDiffers { ours: theirs, theirs: ours });
    let result = pair.donor.handle_frame(pair.now, Frame::Committed { root_hash: theirs });
    assert_eq!(result, Err(ProtocolError::RootHashDiffers { ours, theirs }));
}

#[test]
fn a_stranger_has_ten_seconds_and_cannot_buy_more() {
    let mut joiner = joiner();
    assert_eq!(joiner.poll_timeout(), Some(Millis(HANDSHAKE_MS)));
    joiner.handle_skipped(Millis(HANDSHAKE_MS - 1));
    assert_eq!(joiner.handle_timeout(Millis(HANDSHAKE_MS - 1)), Ok(()));
    assert_eq!(joiner.poll_transmit(), None, "no heartbeats for strangers");
    let result = joiner.handle_timeout(Millis(HANDSHAKE_MS));
    assert_eq!(result, Err(ProtocolError::Silence { ms: HANDSHAKE_MS }));
    assert_eq!(joiner.poll_timeout(), None);
}

#[test]
fn silence_ends_the_conversation_and_heartbeats_prevent_it() {
    let mut pair = Pair::streaming();
    for _ in 0..100 {
        pair.pass_time().unwrap();
        pair.exchange().unwrap();
    }
    pair.donor.progress(5, 6, 7);
    pair.pass_time().unwrap();
    pair.exchange().unwrap();
    assert_eq!(
        pair.joiner_events().last(),
        Some(&JoinerEvent::PeerProgress { bytes: 5, files: 6, phase: 7 })
    );
    let last = pair.now;
    let silent = last.plus(PEER_SILENCE_MS);
    assert_eq!(pair.donor.handle_timeout(Millis(silent.0 - 1)), Ok(()));
    let result = pair.donor.handle_timeout(silent);
    assert_eq!(result, Err(ProtocolError::Silence { ms: PEER_SILENCE_MS }));
    assert_eq!(pair.donor.poll_transmit(), None, "there is nobody to tell");
}

#[test]
fn heartbeats_do_not_pile_up_behind_a_blocked_connection() {
    let mut pair = Pair::streaming();
    for second in 1..6 {
        pair.donor.progress(second, 0, 0);
        pair.donor.handle_timeout(pair.now.plus(1000 * second)).unwrap();
    }
    assert_eq!(pair.donor.poll_transmit(), Some(Frame::Heartbeat { bytes: 5, files: 0, phase: 0 }));
    assert_eq!(pair.donor.poll_transmit(), None);
}

#[test]
fn commands_out_of_place_change_nothing() {
    let misuse = |result: Result<(), ProtocolError>| {
        assert!(matches!(result, Err(ProtocolError::Misuse { .. })), "{result:?}");
    };
    let mut pair = Pair::new();
    misuse(pair.donor.declare(declaration(1)));
    misuse(pair.donor.entries(vec![]));
    misuse(pair.donor.bye());
    misuse(pair.joiner.accept(Accept { lanes: 1 }));
    misuse(pair.joiner.committed(RootHash([0; 32])));
    misuse(pair.joiner.durable(vec![]));
    misuse(pair.donor.limited_by(Bottleneck::Cpu));
    misuse(pair.joiner.limited_by(Bottleneck::Cpu));
    pair.exchange().unwrap();
    let unnamed = Declaration { roots: vec![String::new()], ..declaration(1) };
    assert!(matches!(pair.donor.declare(unnamed), Err(ProtocolError::Unsendable(_))));
    assert!(matches!(pair.donor.declare(declaration(0)), Err(ProtocolError::Unsendable(_))));
    pair.donor.declare(declaration(1)).unwrap();
    misuse(pair.donor.declare(declaration(1)));
    pair.exchange().unwrap();
    misuse(pair.joiner.accept(Accept { lanes: 0 }));
    misuse(pair.joiner.accept(Accept { lanes: 2 }));
    pair.joiner.accept(Accept { lanes: 1 }).unwrap();
    pair.exchange().unwrap();
    misuse(pair.donor.offer_lane(LaneId(1), 0));
    misuse(pair.joiner.lane_ready(LaneId(1), false));
    pair.donor.entries(vec![entry(1, 0, 10)]).unwrap();
    let finish =
        |entries| Finish { root_hash: RootHash([1; 32]), position: vec![], entries, bytes: 10 };
    misuse(pair.donor.finish(finish(1)));
    pair.donor.manifest_end(1, 10).unwrap();
    misuse(pair.donor.finish(finish(2)));
    let mut bad = entry(2, 0, 10);
    bad.mode = u16::MAX;
    assert!(matches!(pair.donor.entries(vec![bad]), Err(ProtocolError::Unsendable(_))));
    pair.donor.finish(finish(1)).unwrap();
    pair.exchange().unwrap();
    pair.joiner.committed(RootHash([1; 32])).unwrap();
    pair.exchange().unwrap();
    pair.donor.bye().unwrap();
    pair.donor.bye().unwrap();
    pair.exchange().unwrap();
    assert!(pair.donor.is_over() && pair.joiner.is_over());
}
