//! MariaDB's own tests of its rsync method, with fastsst in its place: two of those of `make mtr`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fastsst_tests::transfer::tool;
use fastsst_tests::wait::run;

/// Together 40 s; the first time the suite has to be installed.
const SUITE: Duration = Duration::from_secs(400);

/// The suite, and its end after it was told to.
const LIMIT: Duration = Duration::from_secs(440);

/// A full copy into a new and into an emptied datadir, IST, IST after a crash; and binary logs.
const TESTS: [&str; 2] = ["galera.galera_sst_rsync", "galera.galera_sst_rsync_binlogname"];

#[test]
fn tests_of_the_rsync_method_pass_with_fastsst() {
    let logs = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mtr-logs");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/mtr");
    // Ends what the script has started, too, and lets it clean up.
    let mut command = Command::new("timeout");
    command.args(["--kill-after=30", &SUITE.as_secs().to_string(), "bash"]);
    command.arg(script).arg("fastsst").arg(tool().parent().unwrap()).arg(&logs).args(TESTS);
    let finished = run(&mut command, LIMIT);
    let said = format!("{}\n{}", finished.stdout, finished.stderr);
    assert!(finished.status.success(), "{}\n{said}", finished.status);
    // A test that was skipped is no success, and neither is one that used another method.
    for test in TESTS {
        let passed = said
            .lines()
            .any(|line| line.split_whitespace().next() == Some(test) && line.contains("[ pass ]"));
        assert!(passed, "{test} did not pass:\n{said}");
    }
    let donor = fs::read_to_string(logs.join("mysqld.1.err")).unwrap();
    let copies = donor.lines().filter(|line| {
        line.contains("Running: 'wsrep_sst_fastsst --role 'donor'") && !line.contains("--bypass")
    });
    assert!(copies.count() >= 3, "three full copies by fastsst:\n{donor}");
}
