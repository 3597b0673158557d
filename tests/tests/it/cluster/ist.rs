//! A short absence: the donor's script is called with `--bypass`, and nothing may be touched.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fastsst_tests::cluster::{Cluster, assert_same_data};

use super::JOIN;

#[test]
fn a_short_absence_is_bridged_by_ist_and_the_datadir_is_left_alone() {
    let cluster = Cluster::builder().start(2);
    let [donor, joiner] = cluster.nodes();
    donor.fill_mib(8);
    joiner.start();
    joiner.wait_synced(JOIN);
    joiner.stop();
    donor.sql(
        "CREATE DATABASE missed; CREATE TABLE missed.t (a INT PRIMARY KEY);
         INSERT INTO missed.t SELECT seq FROM mysql.seq_1_to_1000;",
    );
    let inodes = innodb_inodes(&joiner.datadir());
    // Nothing writes these tables while the node is away, so not even the server touches them.
    let quiet = contents(&joiner.datadir().join("fill"));
    let mark = donor.log_mark();
    joiner.start();
    joiner.wait_synced(JOIN);
    assert_eq!(donor.donations_since(mark), (0, 1), "a bypass, and no copy");
    assert_eq!(inodes, innodb_inodes(&joiner.datadir()), "no InnoDB file was replaced");
    assert!(quiet == contents(&joiner.datadir().join("fill")), "no table was written");
    assert_same_data(donor, joiner);
    donor.assert_no_markers();
    joiner.assert_no_markers();
}

/// The files that an SST would replace, and which file each name means.
fn innodb_inodes(datadir: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    for directory in [datadir.to_owned(), datadir.join("mysql"), datadir.join("fill")] {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let innodb = name.ends_with(".ibd")
                || ["ibdata", "ib_logfile", "undo"].iter().any(|it| name.starts_with(it));
            if innodb {
                found.insert(entry.path(), entry.metadata().unwrap().ino());
            }
        }
    }
    assert!(found.len() > 8, "ibdata1, ib_logfile0, undo logs, four tables: {found:?}");
    found
}

/// Time of change and content of every file in a directory.
fn contents(directory: &Path) -> BTreeMap<PathBuf, (i64, i64, Vec<u8>)> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    let look = |entry: fs::DirEntry| {
        let meta = entry.metadata().unwrap();
        (entry.path(), (meta.mtime(), meta.mtime_nsec(), fs::read(entry.path()).unwrap()))
    };
    entries.map(look).collect()
}
