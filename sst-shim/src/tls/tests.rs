//! Every row of contract 6.3, and what goes wrong.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::server_args::ServerArgs;

/// `[mysqld]` and `[sst]` as `name=value` words.
fn choice((server, sst): (&str, &str), role: Role) -> Result<Choice> {
    let lines = |words: &str| {
        let lines: Vec<_> = words.split_whitespace().map(|word| format!("--{word}")).collect();
        ServerArgs::parse_lines(&lines.join("\n"))
    };
    Choice::resolve(&Config { server: lines(server), sst: lines(sst) }, role)
}

/// Mode and files in short: `VERIFY_CA ca=/a cert=/b`.
fn short(choice: &Choice) -> String {
    let mode = match choice.mode {
        Mode::Own(_) => "own",
        Mode::Required(_) => "REQUIRED",
        Mode::VerifyCa(_) => "VERIFY_CA",
        Mode::VerifyIdentity(_) => "VERIFY_IDENTITY",
    };
    let Files { ca, capath, cert, key } = &choice.files;
    let mut short = mode.to_owned();
    for (name, given) in [("ca", ca), ("capath", capath), ("cert", cert), ("key", key)] {
        if let Some(given) = given {
            short.push_str(&format!(" {name}={}", given.value));
        }
    }
    short
}

fn joiner(server: &str, sst: &str) -> String {
    short(&choice((server, sst), Role::Joiner).unwrap())
}

fn donor(server: &str, sst: &str) -> String {
    short(&choice((server, sst), Role::Donor).unwrap())
}

fn refused(server: &str, sst: &str) -> Error {
    choice((server, sst), Role::Joiner).unwrap_err()
}

#[test]
fn without_a_mode_the_files_decide() {
    assert_eq!(joiner("", ""), "own");
    assert_eq!(joiner("ssl-ca=/a", ""), "VERIFY_CA ca=/a");
    assert_eq!(joiner("ssl-capath=/nowhere", ""), "VERIFY_CA capath=/nowhere");
    assert_eq!(joiner("ssl-cert=/c ssl-key=/k", ""), "REQUIRED cert=/c key=/k");
    let all = "ssl-ca=/a ssl-cert=/c ssl-key=/k";
    assert_eq!(joiner(all, ""), "VERIFY_CA ca=/a cert=/c key=/k");
    assert_eq!(donor("", all), "VERIFY_CA ca=/a cert=/c key=/k");
    // One of the two is not enough for the stock scripts either.
    assert_eq!(joiner("ssl-cert=/c", ""), "own cert=/c");
    assert_eq!(joiner("ssl-key=/k", ""), "own key=/k");
}

#[test]
fn a_mode_that_is_given_decides() {
    let all = "ssl-ca=/a ssl-cert=/c ssl-key=/k";
    for (mode, expected) in [
        ("DISABLED", "own"),
        ("disabled", "own"),
        ("REQUIRED", "REQUIRED"),
        ("Verify_CA", "VERIFY_CA"),
        ("VERIFY_IDENTITY", "VERIFY_IDENTITY"),
    ] {
        let expected = format!("{expected} ca=/a cert=/c key=/k");
        assert_eq!(joiner(all, &format!("ssl-mode={mode}")), expected);
        assert_eq!(donor(&format!("{all} loose_ssl_mode={mode}"), ""), expected);
    }
    assert_eq!(joiner("", "ssl-mode=REQUIRED"), "REQUIRED");
    let error = refused("", "ssl-mode=PREFERRED");
    assert_eq!(error.code(), Code::Usage);
    assert!(error.to_string().contains("[sst] ssl-mode=PREFERRED: use DISABLED"), "{error}");
    for mode in ["VERIFY_CA", "VERIFY_IDENTITY"] {
        let error = refused("ssl-cert=/c ssl-key=/k", &format!("ssl-mode={mode}"));
        assert_eq!(error.code(), Code::Usage);
        assert_eq!(error.code().exit_code(), 22);
        assert!(error.to_string().contains(&format!("{mode} needs an authority")), "{error}");
    }
}

#[test]
fn the_servers_groups_win_over_sst() {
    let sst = "ssl-ca=/sst ssl-cert=/sst ssl-key=/sst ssl-mode=REQUIRED";
    assert_eq!(
        joiner("ssl-ca=/server ssl-mode=VERIFY_CA", sst),
        "VERIFY_CA ca=/server cert=/sst key=/sst"
    );
    // The last one of a group counts, an empty one takes back what came before.
    assert_eq!(joiner("ssl-ca=/a ssl-ca=/b", ""), "VERIFY_CA ca=/b");
    assert_eq!(joiner("ssl-ca=/a ssl-ca=", ""), "own");
    assert_eq!(joiner("ssl-ca=/a ssl-ca=", "ssl-ca=/s"), "VERIFY_CA ca=/s");
}

#[test]
fn any_old_name_in_sst_replaces_all_of_the_servers() {
    let server = "ssl-ca=/a ssl-capath=/p ssl-cert=/c ssl-key=/k";
    assert_eq!(joiner(server, "tca=/t"), "VERIFY_CA ca=/t");
    assert_eq!(joiner(server, "tcapath=/t"), "VERIFY_CA capath=/t");
    assert_eq!(joiner(server, "tcert=/tc tkey=/tk"), "REQUIRED cert=/tc key=/tk");
    assert_eq!(joiner("tca=/t", ""), "own", "only [sst] has old names");
}

#[test]
fn each_end_has_names_of_its_own_that_win_one_by_one() {
    let server = "ssl-ca=/a ssl-cert=/c ssl-key=/k";
    let ends = "ssl-server-cert=/sc ssl-server-key=/sk ssl-client-ca=/ca ssl-client-capath=/cp";
    assert_eq!(joiner(server, ends), "VERIFY_CA ca=/a cert=/sc key=/sk");
    assert_eq!(donor(server, ends), "VERIFY_CA ca=/ca capath=/cp cert=/c key=/k");
    assert_eq!(joiner("", "tcert=/t tkey=/t ssl-server-key=/sk"), "REQUIRED cert=/t key=/sk");
    assert_eq!(donor("ssl-client-cert=/cc ssl-client-key=/ck", ""), "REQUIRED cert=/cc key=/ck");
    assert_eq!(joiner("ssl-client-cert=/cc ssl-client-key=/ck", ""), "own");
}

#[test]
fn an_authority_that_is_a_directory_is_a_path() {
    assert_eq!(joiner("ssl-ca=/nowhere/", ""), "VERIFY_CA capath=/nowhere/");
    let directory = TempDir::new().unwrap();
    let path = directory.path().display();
    assert_eq!(joiner("", &format!("tca={path}")), format!("VERIFY_CA capath={path}"));
    assert_eq!(
        joiner(&format!("ssl-ca={path} ssl-capath=/p"), ""),
        format!("VERIFY_CA capath={path}")
    );
}

#[test]
fn encrypt_names_what_it_needs() {
    let all = "ssl-ca=/a ssl-cert=/c ssl-key=/k";
    assert_eq!(joiner("encrypt=0", ""), "own");
    assert_eq!(
        joiner(all, "encrypt=0 ssl-mode=REQUIRED"),
        format!("REQUIRED {}", &all.replace("ssl-", ""))
    );
    for encrypt in ["2", "3", "4"] {
        let sst = format!("encrypt={encrypt}");
        let files = all.replace("ssl-", "");
        assert_eq!(joiner(all, &sst), format!("VERIFY_CA {files}"));
        // More checks may be asked for, but not less.
        assert_eq!(joiner(all, &format!("{sst} ssl-mode=DISABLED")), format!("VERIFY_CA {files}"));
        let identity = format!("{sst} ssl-mode=VERIFY_IDENTITY");
        assert_eq!(donor(all, &identity), format!("VERIFY_IDENTITY {files}"));
    }
    assert_eq!(joiner("", "encrypt=2 tca=/a tcert=/c"), "VERIFY_CA ca=/a cert=/c");
    assert_eq!(joiner("", "encrypt=3 tcert=/c tkey=/k"), "REQUIRED cert=/c key=/k");
    for (sst, missing) in [
        ("encrypt=2 tca=/a", "set ssl-cert"),
        ("encrypt=2 tcert=/c", "set ssl-ca"),
        ("encrypt=3 tkey=/k", "set ssl-cert"),
        ("encrypt=3 tcert=/c", "set ssl-key"),
        ("encrypt=4 tca=/a tkey=/k", "set ssl-cert"),
        ("encrypt=4 tca=/a tcert=/c", "set ssl-key"),
        ("encrypt=4 tcert=/c tkey=/k", "set ssl-ca"),
        ("encrypt=3 tcert=/c tkey=/k ssl-mode=VERIFY_CA", "set ssl-ca"),
        ("encrypt=5", "use 0, 2, 3 or 4"),
        ("encrypt=yes", "use 0, 2, 3 or 4"),
    ] {
        let error = refused("", sst);
        assert_eq!(error.code(), Code::Usage, "{sst}");
        assert!(error.to_string().contains(missing), "{sst}: {error}");
    }
    let error = refused("", "encrypt=1 encrypt-key=secret");
    assert_eq!(error.code(), Code::Unsupported);
    assert!(
        error.to_string().contains("ssl-mode") && !error.to_string().contains("secret"),
        "{error}"
    );
}

#[test]
fn the_log_says_what_was_decided_and_why() {
    let line = |server: &str, sst: &str| choice((server, sst), Role::Joiner).unwrap().to_string();
    assert_eq!(
        line("ssl-ca=/a ssl-cert=/c ssl-key=/k", "ssl-mode=VERIFY_CA"),
        "VERIFY_CA ([sst] ssl-mode=VERIFY_CA) with /a ([mysqld] ssl-ca), certificate /c ([mysqld] ssl-cert)"
    );
    assert_eq!(
        line("", "tca=/a tcapath=/p"),
        "VERIFY_CA (an authority is configured) with /a ([sst] tca) and /p ([sst] tcapath), no certificate of this node"
    );
    assert_eq!(
        line("ssl-cert=/c ssl-key=/k loose-ssl-mode=DISABLED", ""),
        "encrypted with a key made for this transfer ([mysqld] ssl-mode=DISABLED)"
    );
    assert_eq!(
        line("", ""),
        "encrypted with a key made for this transfer (no certificate is configured)"
    );
}

/// Files of an authority and of a certificate that it issued.
fn files(directory: &Path) -> String {
    let mut about = rcgen::CertificateParams::default();
    about.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = rcgen::CertifiedIssuer::self_signed(about, key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let about = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = about.signed_by(&key, &authority).unwrap();
    let write = |name: &str, text: String| fs::write(directory.join(name), text).unwrap();
    write("ca.pem", authority.pem());
    write("cert.pem", certificate.pem());
    write("key.pem", key.serialize_pem());
    write("both.pem", certificate.pem() + &key.serialize_pem());
    let at = directory.display();
    format!("ssl-ca={at}/ca.pem ssl-cert={at}/cert.pem ssl-key={at}/key.pem")
}

#[test]
fn what_is_demanded_depends_on_mode_and_end() {
    let directory = TempDir::new().unwrap();
    let all = files(directory.path());
    let load = |sst: &str, role| choice((&all, sst), role).unwrap().load("127.0.0.1").unwrap();
    for role in [Role::Joiner, Role::Donor] {
        let tls = load("ssl-mode=DISABLED", role);
        assert!(matches!((tls.own, tls.peer), (Own::Ephemeral, Demand::Nothing)));
        let tls = load("ssl-mode=REQUIRED", role);
        assert!(matches!((tls.own, tls.peer), (Own::Files(_), Demand::Nothing)));
        let tls = load("ssl-mode=VERIFY_CA", role);
        assert!(matches!((tls.own, tls.peer), (Own::Files(_), Demand::Chain(_))));
    }
    let tls = load("ssl-mode=VERIFY_IDENTITY", Role::Joiner);
    assert!(matches!((tls.own, tls.peer), (Own::Files(_), Demand::Chain(_))), "it has the token");
    let tls = load("ssl-mode=VERIFY_IDENTITY", Role::Donor);
    let Demand::ChainAndName(_, names) = tls.peer else { panic!("{tls:?}") };
    let names = format!("{names:?}");
    assert!(names.contains("127, 0, 0, 1") && names.contains("localhost"), "{names}");
}

#[test]
fn a_joiner_that_verifies_has_something_to_show_before_anything_has_happened() {
    let directory = TempDir::new().unwrap();
    files(directory.path());
    let ca = format!("ssl-ca={}/ca.pem", directory.path().display());
    let load = |role| choice((&ca, ""), role).unwrap().load("db.example");
    let error = load(Role::Joiner).unwrap_err();
    assert_eq!(error.code(), Code::Usage);
    assert!(
        error.to_string().contains("ssl-cert") && error.to_string().contains("VERIFY_CA"),
        "{error}"
    );
    load(Role::Donor).unwrap();
}

#[test]
fn the_key_may_be_in_the_file_of_the_certificate() {
    let directory = TempDir::new().unwrap();
    files(directory.path());
    let at = directory.path().display();
    let sst = format!("encrypt=2 tca={at}/ca.pem tcert={at}/both.pem");
    choice(("", &sst), Role::Donor).unwrap().load("db.example").unwrap();
}

#[test]
fn files_that_cannot_be_used_are_named_with_their_option() {
    let directory = TempDir::new().unwrap();
    let all = files(directory.path());
    let at = directory.path().display().to_string();
    let other = TempDir::new().unwrap();
    files(other.path());
    let elsewhere = other.path().display();
    for (sst, option, why) in [
        ("ssl-server-ca=/nowhere.pem".to_owned(), "[sst] ssl-server-ca", "cannot be read"),
        ("ssl-server-cert=/nowhere.pem".to_owned(), "[sst] ssl-server-cert", "cannot be read"),
        (format!("ssl-server-key={elsewhere}/key.pem"), "[sst] ssl-server-key", "not the key of"),
        (format!("ssl-server-ca={elsewhere}/ca.pem"), "[mysqld] ssl-cert", "does not pass"),
        (format!("ssl-server-cert={at}/key.pem"), "[sst] ssl-server-cert", "no certificate"),
        (format!("tca={at}/ca.pem tkey={at}/key.pem"), "[sst] tkey", "no option its certificate"),
    ] {
        let error = choice((&all, &sst), Role::Joiner).unwrap().load("db.example").unwrap_err();
        assert_eq!(error.code(), Code::Usage, "{error}");
        assert!(error.to_string().contains(option), "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
    // What is not used is not read.
    let sst = "ssl-mode=DISABLED ssl-server-cert=/nowhere.pem";
    choice((&all, sst), Role::Joiner).unwrap().load("db.example").unwrap();
}

#[test]
fn every_option_is_explained_to_operators() {
    let manual = include_str!("../../../docs/OPERATIONS.md");
    for option in OPTIONS {
        assert!(manual.contains(&format!("`{option}`")), "{option}");
    }
}
