//! Command lines: what is wrong is said, together with what is right.

use std::process::Command;
use std::time::Duration;

use fastsst_tests::transfer::{Sandbox, tool};
use fastsst_tests::wait::{Finished, run};

/// Nothing here does any work.
const LIMIT: Duration = Duration::from_secs(20);

const INVALID: i32 = 22;

#[test]
fn wrong_options_are_refused_with_what_is_accepted() {
    let place = Sandbox::new();
    let (source, target) = (place.dir("source"), place.dir("target"));
    let (source, target) = (source.to_str().unwrap(), target.to_str().unwrap());
    let send = ["send", source, "--to", "-"];
    let receive = ["receive", "--into", target];
    let cases: [(&[&str], &[&str], i32, &str); 25] = [
        (&[], &[], INVALID, "receive"),
        (&["sned"], &[], INVALID, "send"),
        (&["send"], &[], INVALID, "--to"),
        (&["send", source], &[], INVALID, "--to"),
        (&["receive"], &[], INVALID, "--into"),
        (&["verify"], &[], INVALID, "DIR"),
        (&send, &["--bogus"], INVALID, "--bogus"),
        (&receive, &["--bogus"], INVALID, "--bogus"),
        (&receive, &["--rlimit", "1m"], INVALID, "--rlimit"),
        (&send, &["--compress", "lz9"], INVALID, "auto, none, zstd"),
        (&send, &["--compress", "zstd:99"], INVALID, "-7 to 19"),
        (&send, &["--rlimit", "x"], INVALID, "100m"),
        (&send, &["--rlimit=-5"], INVALID, "100m"),
        (&send, &["--transport", "pigeon"], INVALID, "auto, quic or tcp"),
        (&receive, &["--transport", "TCP"], INVALID, "auto, quic or tcp"),
        (&send, &["--lanes", "0"], INVALID, "1..=64"),
        (&send, &["--lanes", "65"], INVALID, "1..=64"),
        (&send, &["--io", "turbo"], INVALID, "buffered"),
        (&send, &["--buffer", "much"], INVALID, "100m"),
        (&send, &["--connect-timeout", "soon"], INVALID, "soon"),
        (&send, &["--reconnect-timeout", "0"], INVALID, "--reconnect-timeout"),
        (&receive, &["--manifest", "m"], INVALID, "--manifest"),
        (&["verify", source], &["--manifest", "-"], INVALID, "name a file"),
        (&receive, &["--listen", "nonsense"], INVALID, "nonsense"),
        (&receive, &["--listen", "127.0.0.1:65536"], INVALID, "65536"),
    ];
    for (command, further, exit, named) in cases {
        let refused = fastsst(&[command, further].concat());
        let what = format!("{command:?} {further:?}: {refused:?}");
        assert_eq!(refused.status.code(), Some(exit), "{what}");
        assert!(refused.stderr.contains(named), "no {named:?} in {what}");
        assert_eq!(refused.stdout, "", "{what}");
        assert!(!refused.stderr.contains("panicked"), "{what}");
        assert!(std::fs::read_dir(target).unwrap().next().is_none(), "touched: {what}");
    }
}

#[test]
fn help_and_version_are_printed_and_are_no_errors() {
    for (arguments, named) in [
        (&["--help"][..], "Examples:"),
        (&["send", "--help"], "--rlimit"),
        (&["receive", "--help"], "--ticket-file"),
        (&["verify", "--help"], "--against"),
        (&["--version"], "fastsst "),
    ] {
        let printed = fastsst(arguments);
        assert!(printed.status.success(), "{printed:?}");
        assert!(printed.stdout.contains(named), "{printed:?}");
        assert_eq!(printed.stderr, "");
    }
}

#[test]
fn verify_names_a_directory_that_is_not_there() {
    let place = Sandbox::new();
    let missing = place.path("missing");
    let refused = fastsst(&["verify", missing.to_str().unwrap()]);
    assert!([2, 5, 13].contains(&refused.status.code().unwrap()), "{refused:?}");
    assert!(refused.stderr.contains("missing"), "{refused:?}");
    assert_eq!(refused.stdout, "");
}

fn fastsst(arguments: &[&str]) -> Finished {
    run(Command::new(tool()).args(arguments), LIMIT)
}
