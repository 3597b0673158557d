//! Directories with names that a shell would not survive.

use fastsst_tests::standin::{Kind, Server};

use super::succeeds;

#[test]
fn quotes_spaces_dollars_backticks_and_newlines_are_just_letters() {
    for name in [
        "it's data",
        "two \"quoted\" words",
        "$HOME and $(touch was-here)",
        "`touch was-here`",
        "one\nline and another",
        "back\\slash; touch was-here && *?[x]",
        "-dash --role=joiner",
    ] {
        let donor = Server::with_datadir(Kind::MariaDb1011, "", name);
        let joiner = Server::with_datadir(Kind::MariaDb1011, "", name);
        donor.fill();
        joiner.fill_old();
        succeeds(&donor, &joiner);
        for server in [&donor, &joiner] {
            assert!(!server.files().contains_key("was-here"), "{name} was given to a shell");
        }
    }
}
