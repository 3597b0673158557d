//! The handshake and the account of a lane.

use fastsst_proto::lane::{donor_check_welcome, donor_hello, joiner_check_hello, joiner_welcome};
use fastsst_proto::limits::UNACKED_CHUNKS_PER_LANE_MAX;
use fastsst_proto::*;

use crate::pair::{TRANSFER, exporter, plain, side, token};

const OTHER: TransferId = TransferId([0x44; 16]);
const LANE: LaneId = LaneId(3);

#[test]
fn a_lane_of_this_transfer_is_welcome() {
    let hello = donor_hello(&token(), &exporter(), TRANSFER, LANE, "donor 1");
    let accepted = joiner_check_hello(&hello, &token(), &exporter(), Some(&TRANSFER)).unwrap();
    assert_eq!(accepted.scope, Scope::Lane { transfer: TRANSFER, lane: LANE });
    assert_eq!(accepted.peer.role(), Role::Donor);
    assert_eq!(accepted.peer.scope(), &accepted.scope);
    assert_eq!(accepted.software, "donor 1");
    let welcome = joiner_welcome(&token(), &exporter(), &accepted.scope, &side(plain()));
    let welcome = donor_check_welcome(&welcome, &token(), &exporter(), &accepted.scope).unwrap();
    assert_eq!(welcome.transfer, TRANSFER);
}

#[test]
fn a_second_donor_with_the_token_and_another_transfer_is_refused() {
    let hello = donor_hello(&token(), &exporter(), OTHER, LANE, "donor 2");
    let check = |running| joiner_check_hello(&hello, &token(), &exporter(), running);
    assert_eq!(check(Some(&TRANSFER)), Err(ProtocolError::WrongTransfer));
    assert_eq!(check(None), Err(ProtocolError::WrongTransfer));
}

#[test]
fn the_token_is_checked_before_the_transfer() {
    // A stranger must not learn whether it guessed the name of a running transfer.
    let stranger = Secret::from_bytes([9; 16]);
    for transfer in [TRANSFER, OTHER] {
        let hello = donor_hello(&stranger, &exporter(), transfer, LANE, "x");
        let result = joiner_check_hello(&hello, &token(), &exporter(), Some(&TRANSFER));
        assert_eq!(result, Err(ProtocolError::WrongProof));
    }
}

#[test]
fn a_proof_for_one_lane_does_not_open_another() {
    let Frame::Hello(hello) = donor_hello(&token(), &exporter(), TRANSFER, LANE, "x") else {
        panic!("no Hello");
    };
    for scope in [Scope::Control, Scope::Lane { transfer: TRANSFER, lane: LaneId(4) }] {
        let moved = Frame::Hello(Hello { scope, ..hello.clone() });
        let result = joiner_check_hello(&moved, &token(), &exporter(), Some(&TRANSFER));
        assert_eq!(result, Err(ProtocolError::WrongProof));
    }
}

#[test]
fn the_donor_checks_who_answers() {
    let scope = Scope::Lane { transfer: TRANSFER, lane: LANE };
    let check = |frame: &Frame| donor_check_welcome(frame, &token(), &exporter(), &scope);
    let elsewhere = JoinerSide { transfer: OTHER, ..side(plain()) };
    let other = joiner_welcome(&token(), &exporter(), &scope, &elsewhere);
    assert_eq!(check(&other), Err(ProtocolError::WrongTransfer));
    let control = joiner_welcome(&token(), &exporter(), &Scope::Control, &side(plain()));
    assert_eq!(check(&control), Err(ProtocolError::WrongProof));
    let refusal = Refusal { code: 5, text: "busy".into() };
    assert_eq!(check(&Frame::Refuse(refusal.clone())), Err(ProtocolError::Refused(refusal)));
    assert!(matches!(check(&Frame::Bye), Err(ProtocolError::Unexpected { .. })));
}

fn chunk(index: u32) -> ChunkRef {
    ChunkRef { file: FileId(1), generation: Generation(0), chunk: ChunkIndex(index) }
}

#[test]
fn what_is_not_acknowledged_comes_back() {
    let mut lane = DonorLane::new();
    for index in [5, 2, 9, 2] {
        lane.sent(chunk(index));
    }
    lane.handle_ack(&[chunk(9), chunk(2)]).unwrap();
    assert_eq!(lane.outstanding(), 2);
    assert_eq!(lane.clone().into_unacked(), [chunk(2), chunk(5)]);
    lane.handle_ack(&[chunk(2)]).unwrap();
    let twice = lane.handle_ack(&[chunk(2)]);
    assert!(matches!(twice, Err(ProtocolError::Inconsistent { .. })));
    assert_eq!(lane.into_unacked(), [chunk(5)]);
}

#[test]
fn a_full_lane_says_so() {
    let mut lane = DonorLane::new();
    for index in 0..UNACKED_CHUNKS_PER_LANE_MAX {
        assert!(!lane.is_full());
        lane.sent(chunk(u32::try_from(index).unwrap()));
    }
    assert!(lane.is_full());
    lane.handle_ack(&[chunk(0)]).unwrap();
    assert!(!lane.is_full());
}
