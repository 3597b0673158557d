//! How the token reaches a donor, and what is said of accounts that nobody needs.

use fastsst_tests::standin::{Kind, Server};

use super::start;

#[test]
fn the_token_arrives_by_every_way_and_is_in_no_log() {
    for kind in Kind::ALL {
        let (donor, joiner) = (Server::new(kind, ""), Server::new(kind, ""));
        donor.fill();
        let mut joining = joiner.join(&super::free_address());
        let request = joining.request();
        let sent = donor.donate(&request, fastsst_tests::standin::Transfer::Snapshot).serve();
        let joined = joining.finish();
        assert!(joined.position.is_some(), "{kind:?}: {joined:#?}\n{:#?}", sent.script);
        for log in [&sent.script.log, &joined.script.log] {
            assert!(!log.contains(request.token()), "{kind:?}: the token is in {log}");
            assert!(!log.contains("yx9!A-"), "{kind:?}: a password is in {log}");
        }
    }
}

#[test]
fn a_useless_account_is_spoken_of_once_and_only_where_the_server_made_one() {
    let hint = "wsrep_sst_auth='fastsst:none'";
    let hints = |kind: Kind, account: Option<&str>| {
        let (mut donor, joiner) = (Server::new(kind, ""), Server::new(kind, ""));
        if let Some(account) = account {
            donor.set_account(account);
        }
        donor.fill();
        let (donating, joining) = start(&donor, &joiner);
        let sent = donating.serve();
        assert!(joining.finish().position.is_some());
        sent.script.log.matches(hint).count()
    };
    assert_eq!(hints(Kind::MariaDb118, None), 1);
    assert_eq!(hints(Kind::MariaDb118, Some("fastsst")), 0);
    assert_eq!(hints(Kind::MariaDb1011, None), 0);
    assert_eq!(hints(Kind::Pxc80, None), 0);
}
