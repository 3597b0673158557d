//! Ends that never answer: each wait has its option, and ends with its own code.

use std::time::Duration;

use fastsst_tests::standin::{Kind, Request, Server, Step, Transfer};

use super::{free_address, start, succeeds};

/// One second, and a slow machine's margin.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_joiner_whose_donor_never_comes_gives_up() {
    for kind in Kind::ALL {
        let joiner = Server::new(kind, "[sst]\nsst-initial-timeout=1\n");
        joiner.fill_old();
        let before = joiner.files();
        let mut joining = joiner.join(&free_address());
        joining.request();
        let joined = joining.finish();
        assert_eq!(joined.position, None);
        joined.script.assert_failed(110, "E31");
        assert!(joined.script.took < SOON, "{joined:#?}");
        assert_eq!(joiner.files(), before);
    }
}

#[test]
fn a_donor_whose_joiner_never_listens_gives_up_without_a_lock() {
    for kind in Kind::ALL {
        let donor = Server::new(kind, "[sst]\ndonor-timeout=1\n");
        donor.fill();
        let sent = donor.donate(&Request::to_nobody(kind), Transfer::Snapshot).serve();
        assert_eq!(sent.position, None);
        assert!(sent.files.is_empty(), "{kind:?} was locked");
        sent.script.assert_failed(113, "E11");
        donor.assert_no_markers();
    }
}

#[test]
fn a_server_that_never_locks_is_given_up_and_the_next_attempt_works() {
    for kind in [Kind::MariaDb1011, Kind::Pxc80] {
        let donor = Server::new(kind, "[sst]\nsst-lock-timeout=1\n");
        let joiner = Server::new(kind, "");
        donor.fill();
        joiner.fill_old();
        let (mut donating, joining) = start(&donor, &joiner);
        donating.expect(&Step::Flush);
        let ended = donating.wait();
        ended.assert_failed(110, "E26");
        assert!(ended.took < SOON, "{ended:#?}");
        drop(donating);
        assert_eq!(joining.finish().position, None);
        donor.configure("");
        succeeds(&donor, &joiner);
    }
}
