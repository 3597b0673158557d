//! A server that dies at each line of the dialogue: the script ends at once, leaves no marker, and the
//! next attempt, which goes one line further, works.

use std::time::Duration;

use fastsst_tests::standin::{Ended, Kind, POSITION, Server, Step};

use super::{free_address, start, succeeds};

/// The script promises one second.
const AT_ONCE: Duration = Duration::from_secs(2);

fn assert_ended(ended: &Ended, kind: Kind) {
    assert_eq!(ended.code, Some(32), "{kind:?}: {ended:#?}");
    ended.assert_failed(32, "E27");
    assert!(ended.took < AT_ONCE, "{kind:?}: {ended:#?}");
}

fn pair(kind: Kind) -> (Server, Server) {
    let (donor, joiner) = (Server::new(kind, ""), Server::new(kind, ""));
    donor.fill();
    joiner.fill_old();
    (donor, joiner)
}

/// Where a donor's server may die.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum At {
    Start,
    Flush,
    Locked,
    Continue,
}

fn a_donors_server_dies(kind: Kind) {
    let (donor, mut joiner) = pair(kind);
    for at in [At::Start, At::Flush, At::Locked, At::Continue] {
        let (mut donating, joining) = start(&donor, &joiner);
        if at >= At::Flush {
            donating.expect(&Step::Flush);
        }
        if at >= At::Locked {
            donating.lock();
        }
        if at >= At::Continue {
            donating.expect(&Step::Continue);
            donating.unlock();
        }
        let ended = donating.die();
        // Once everything is at the joiner, it may be done before anybody notices.
        let is_late = at >= At::Locked;
        if !(is_late && ended.code == Some(0)) {
            assert_ended(&ended, kind);
        }
        if at == At::Start {
            // Nobody has come, and nobody will: the joiner's server learns that from the cluster.
            assert_ended(&joining.die(&mut joiner), kind);
        } else {
            let joined = joining.finish();
            assert!(is_late || joined.position.is_none(), "{kind:?} {at:?}: {joined:#?}");
        }
        donor.assert_no_markers();
        joiner.assert_no_markers();
    }
    succeeds(&donor, &joiner);
}

fn a_joiners_server_dies(kind: Kind) {
    let (donor, mut joiner) = pair(kind);
    let ended = joiner.join(&free_address()).die(&mut joiner);
    assert_ended(&ended, kind);
    joiner.assert_no_markers();

    let mut joining = joiner.join(&free_address());
    joining.request();
    assert_ended(&joining.die(&mut joiner), kind);
    joiner.assert_no_markers();

    // The donor is there and about to be locked.
    let (mut donating, joining) = start(&donor, &joiner);
    donating.expect(&Step::Flush);
    assert_ended(&joining.die(&mut joiner), kind);
    joiner.assert_no_markers();
    let sent = donating.serve();
    assert_eq!(sent.position, None, "{kind:?}");
    assert_ne!(sent.script.code, Some(0), "{kind:?}");
    donor.assert_no_markers();
    succeeds(&donor, &joiner);
}

#[test]
fn a_donors_mariadb_10_11_dies_at_each_line() {
    a_donors_server_dies(Kind::MariaDb1011);
}

#[test]
fn a_donors_mariadb_10_5_and_11_8_die_at_each_line() {
    a_donors_server_dies(Kind::MariaDb105);
    a_donors_server_dies(Kind::MariaDb118);
}

#[test]
fn a_donors_mysql_wsrep_dies_at_each_line() {
    a_donors_server_dies(Kind::MysqlWsrep80);
}

#[test]
fn a_donors_pxc_dies_at_each_line() {
    a_donors_server_dies(Kind::Pxc80);
    a_donors_server_dies(Kind::Pxc84);
}

#[test]
fn a_joiners_server_of_each_kind_dies_at_each_line() {
    for kind in Kind::ALL {
        a_joiners_server_dies(kind);
    }
}

#[test]
fn perconas_server_cancels_either_end_with_a_signal_to_the_group() {
    let (donor, joiner) = pair(Kind::Pxc84);
    let (mut donating, joining) = start(&donor, &joiner);
    donating.expect(&Step::Flush);
    let ended = joining.cancel();
    ended.assert_says("E28");
    assert!(ended.took < AT_ONCE, "{ended:#?}");
    joiner.assert_no_markers();
    assert_eq!(donating.serve().position, None);

    let (mut donating, joining) = start(&donor, &joiner);
    donating.expect(&Step::Flush);
    donating.lock();
    let ended = donating.cancel();
    ended.assert_says("E28");
    assert!(ended.took < AT_ONCE, "{ended:#?}");
    donor.assert_no_markers();
    assert_eq!(joining.finish().position, None);
    succeeds(&donor, &joiner);
}

#[test]
fn a_server_that_cannot_lock_ends_both_and_the_next_attempt_works() {
    for kind in [Kind::MariaDb105, Kind::MariaDb1011, Kind::MariaDb118] {
        let (donor, joiner) = pair(kind);
        let (mut donating, joining) = start(&donor, &joiner);
        donating.expect(&Step::Flush);
        donating.fail_to_lock();
        donating.wait().assert_failed(5, "E25");
        drop(donating);
        joining.finish().script.assert_failed(103, "E19");
        donor.assert_no_markers();
        succeeds(&donor, &joiner);
    }
}

#[test]
fn the_position_of_a_done_transfer_stands_although_the_server_dies() {
    let (donor, joiner) = pair(Kind::MariaDb1011);
    let (mut donating, joining) = start(&donor, &joiner);
    donating.expect(&Step::Flush);
    donating.lock();
    donating.expect(&Step::Continue);
    donating.unlock();
    donating.expect(&Step::Done(format!("{POSITION} 7")));
    assert_eq!(donating.die().code, Some(0));
    assert!(joining.finish().position.is_some());
}
