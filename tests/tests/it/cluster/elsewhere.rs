//! Tables outside of the datadir.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use fastsst_tests::cluster::{Cluster, LogMark, Node, assert_same_data, program};
use fastsst_tests::wait::succeed;

use super::JOIN;

/// A directory beside the nodes' that servers can write to.
fn directory(parent: &Path, name: &str) -> PathBuf {
    let path = parent.join(name);
    fs::create_dir_all(&path).unwrap();
    let mut command = Command::new(program("chown"));
    succeed(command.args(["-R", "mysql:mysql"]).arg(&path), JOIN);
    path
}

/// Tables that have their files in `outside`, and a database behind a link.
fn make_tables(donor: &Node, outside: &Path) {
    let linked = directory(outside, "linked");
    symlink(&linked, donor.datadir().join("linked")).unwrap();
    let at = outside.display();
    donor.sql(&format!(
        "CREATE DATABASE away; USE away;
         CREATE TABLE t (a INT PRIMARY KEY, b TEXT) DATA DIRECTORY='{at}';
         INSERT INTO t SELECT seq, REPEAT('t', 300) FROM mysql.seq_1_to_2000;
         CREATE TABLE p (a INT PRIMARY KEY) PARTITION BY HASH (a)
         (PARTITION p0 DATA DIRECTORY='{at}', PARTITION p1);
         INSERT INTO p SELECT seq FROM mysql.seq_1_to_500;
         CREATE TABLE m (a INT) ENGINE=MyISAM DATA DIRECTORY='{at}' INDEX DIRECTORY='{at}';
         INSERT INTO m VALUES (1), (2);
         CREATE TABLE r (a INT) ENGINE=Aria DATA DIRECTORY='{at}'; INSERT INTO r VALUES (3);
         CREATE TABLE linked.l (a INT PRIMARY KEY); INSERT INTO linked.l VALUES (4), (5)"
    ));
}

/// The tables are the same, are where they should be, and are whole: a server that is not content
/// with their places dies in `ALTER TABLE`.
fn assert_good(donor: &Node, joiner: &Node, expected: &Path) {
    assert_same_data(donor, joiner);
    let files = joiner.sql(
        "SELECT filename FROM information_schema.innodb_sys_tablespaces
         WHERE name IN ('away/t', 'away/p#P#p0') ORDER BY name",
    );
    let file = |name: &str| vec![expected.join("away").join(name).display().to_string()];
    assert_eq!(files, [file("p#P#p0.ibd"), file("t.ibd")]);
    joiner.sql(
        "ALTER TABLE away.t ADD COLUMN c INT, ALGORITHM=COPY; ALTER TABLE away.t DROP COLUMN c",
    );
    joiner.sql("INSERT INTO away.t VALUES (100000, 'x'); DELETE FROM away.t WHERE a = 100000");
    for row in joiner.sql("CHECK TABLE away.t, away.p, away.m, away.r, linked.l") {
        assert!(row[2] != "error" && !row[3].contains("orrupt"), "{row:?}");
    }
    assert_same_data(donor, joiner);
    joiner.assert_no_markers();
    assert!(!expected.join("away/.fastsst").exists());
}

/// Joins once more with a whole transfer, of which little is sent.
fn rejoin(donor: &Node, joiner: &Node) -> LogMark {
    joiner.stop();
    fs::remove_file(joiner.datadir().join("grastate.dat")).unwrap();
    let mark = donor.log_mark();
    joiner.start();
    joiner.wait_synced(JOIN);
    let figures = donor.sent_since(mark);
    assert!(figures.wire_mib < figures.data_mib / 4.0, "{figures:?}");
    mark
}

#[test]
fn tables_are_put_below_a_directory_of_the_joiners_own() {
    let cluster = Cluster::builder().node_option(1, "sst", "data-directory", "{node}/own").start(2);
    let [donor, joiner] = cluster.nodes();
    let outside = directory(cluster.directory(), "outside");
    make_tables(donor, &outside);
    joiner.start();
    joiner.wait_synced(JOIN);
    let own = joiner.datadir().parent().unwrap().join("own");
    assert_good(donor, joiner, &own);
    rejoin(donor, joiner);
    assert_good(donor, joiner, &own);
    donor.sql("DROP TABLE away.t");
    rejoin(donor, joiner);
    assert!(!own.join("away/t.ibd").exists(), "what vanished at the donor is removed");
}

#[test]
fn tables_are_put_into_the_same_directory() {
    let base = tempfile::tempdir().unwrap();
    let outside = directory(base.path(), "outside");
    let disk = directory(base.path(), "disk");
    succeed(Command::new(program("chmod")).arg("755").arg(base.path()), JOIN);
    let cluster = Cluster::builder().mount(1, &disk, &outside).start(2);
    let [donor, joiner] = cluster.nodes();
    make_tables(donor, &outside);
    joiner.start();
    joiner.wait_synced(JOIN);
    assert!(disk.join("away/t.ibd").is_file() && disk.join("away/p#P#p0.ibd").is_file());
    assert_good(donor, joiner, &outside);
    rejoin(donor, joiner);
    assert_good(donor, joiner, &outside);
}

#[test]
fn a_file_that_is_somebody_elses_is_not_overwritten() {
    let cluster = Cluster::builder().start(2);
    let [donor, joiner] = cluster.nodes();
    let outside = directory(cluster.directory(), "outside");
    make_tables(donor, &outside);
    // The donor's own files are where the joiner would put its own.
    let mark = joiner.log_mark();
    joiner.start();
    joiner.wait_exit(JOIN);
    let log = joiner.log_since(mark);
    assert!(log.contains("E23") && log.contains(".ibd") && log.contains("data-directory"), "{log}");
    donor.sql("UPDATE away.t SET b = 'still there' WHERE a < 10");
    joiner.set_option(
        "sst",
        "data-directory",
        &joiner.datadir().with_file_name("own").display().to_string(),
    );
    joiner.start();
    joiner.wait_synced(JOIN);
    assert_good(donor, joiner, &joiner.datadir().with_file_name("own"));
    assert!(!outside.join("away/.fastsst").exists(), "the first attempt leaves nothing behind");
}

#[test]
fn a_database_behind_a_link_at_both_ends_stays_there_with_tables_elsewhere() {
    let cluster = Cluster::builder().node_option(1, "sst", "data-directory", "{node}/own").start(2);
    let [donor, joiner] = cluster.nodes();
    let outside = directory(cluster.directory(), "outside");
    make_tables(donor, &outside);
    let third = directory(cluster.directory(), "third");
    let at = third.display();
    donor.sql(&format!(
        "CREATE TABLE linked.d (a INT PRIMARY KEY) DATA DIRECTORY='{at}'; INSERT INTO linked.d VALUES (6);
         CREATE TABLE linked.s (a INT) ENGINE=MyISAM DATA DIRECTORY='{at}'; INSERT INTO linked.s VALUES (7)"
    ));
    let place = directory(cluster.directory(), "place");
    symlink(&place, joiner.datadir().join("linked")).unwrap();
    joiner.start();
    joiner.wait_synced(JOIN);
    let own = joiner.datadir().with_file_name("own");
    for _ in 0..2 {
        assert_good(donor, joiner, &own);
        assert!(joiner.datadir().join("linked").is_symlink(), "the joiner's own link stays");
        for file in ["l.ibd", "s.MYD", "d.isl"] {
            assert!(place.join(file).is_file(), "{file}");
        }
        assert!(own.join("linked/d.ibd").is_file());
        assert!(!place.join(".fastsst").exists());
        joiner.sql("ALTER TABLE linked.d ADD COLUMN b INT; ALTER TABLE linked.d DROP COLUMN b");
        rejoin(donor, joiner);
    }
}
