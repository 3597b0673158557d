//! The files of each server, and the part of them that InnoDB writes until it is stopped.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Kind, Server};

/// Between two writes of the server.
const WRITES: Duration = Duration::from_millis(15);

/// What every server has, and what MariaDB and MySQL have besides. Sizes are more than one chunk where
/// that makes a difference.
const COMMON: [(&str, usize); 5] = [
    ("db1/t.ibd", (1 << 20) + 17),
    ("db1/with space.ibd", 4096),
    ("ibdata1", 1 << 19),
    ("ib_buffer_pool", 99),
    ("mysql/user.MYD", 300),
];
const MARIADB: [(&str, usize); 5] = [
    ("db1/db.opt", 20),
    ("undo001", 70_000),
    ("aria_log_control", 52),
    ("aria_log.00000001", 8192),
    ("ib_logfile0", 1 << 20),
];
const MYSQL: [(&str, usize); 6] = [
    ("mysql.ibd", 90_000),
    ("undo_001", 70_000),
    ("undo_002", 70_000),
    ("#ib_16384_0.dblwr", 200_000),
    ("#innodb_redo/#ib_redo10", 1 << 20),
    ("#innodb_redo/#ib_redo11_tmp", 4096),
];

/// Files that belong to a node, whichever server it has.
const OF_THE_NODE: [&str; 9] = [
    "grastate.dat",
    "gvwstate.dat",
    "galera.cache",
    "auto.cnf",
    "mysqld-auto.cnf",
    "server-key.pem",
    "keyring",
    "node.err",
    "node.pid",
];

/// Files that no joiner must get, nor keep.
const OF_NOBODY: [&str; 4] = ["binlog.000001", "binlog.index", "ibtmp1", "#innodb_temp/temp_1.ibt"];

impl Server {
    /// Fills the datadir as a donor's.
    pub fn fill(&self) {
        let more: &[_] = if self.kind().is_mariadb() { &MARIADB } else { &MYSQL };
        for (name, size) in COMMON.iter().chain(more) {
            self.write(name, &noise(*size));
        }
        if self.kind().is_mariadb() {
            self.write("mysql_upgrade_info", self.kind().version().as_bytes());
        }
        self.write_own("donor's own");
    }

    /// Fills the datadir with something old.
    pub fn fill_old(&self) {
        for name in ["olddb/t.ibd", "db1/t.ibd", "ibdata1"] {
            self.write(name, b"old");
        }
        self.write_own("joiner's own");
    }

    fn write_own(&self, text: &str) {
        for name in OF_THE_NODE.iter().chain(&OF_NOBODY) {
            self.write(name, text.as_bytes());
        }
    }

    fn write(&self, name: &str, content: &[u8]) {
        let path = self.datadir().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, content).expect("a file");
    }

    /// Every file with its content; what the program keeps for itself is left out.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(self.datadir(), "", &mut files);
        files
    }

    /// Fails unless this joiner has what the donor had while it was locked, and its own.
    pub fn assert_has(&self, donors: &BTreeMap<String, Vec<u8>>) {
        let is_data = |name: &str| !OF_THE_NODE.contains(&name) && !OF_NOBODY.contains(&name);
        let mut expected = donors.clone();
        expected.retain(|name, _| is_data(name));
        for name in OF_THE_NODE {
            expected.insert(name.to_owned(), b"joiner's own".to_vec());
        }
        let got = self.files();
        let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&got), names(&expected), "{:?}", self.kind());
        for (name, content) in &expected {
            assert!(got[name] == *content, "{:?}: {name} differs", self.kind());
        }
    }
}

fn collect(directory: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let entry = entry.expect("an entry");
        let name = format!("{prefix}{}", entry.file_name().to_str().expect("UTF-8"));
        if name.starts_with(".fastsst") {
            continue;
        }
        if entry.file_type().expect("a kind").is_dir() {
            collect(&entry.path(), &format!("{name}/"), files);
        } else {
            files.insert(name, fs::read(entry.path()).expect("a file"));
        }
    }
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ bytes as u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(bytes)
    .collect()
}

/// InnoDB of a running server: writes all the time, unless it is stopped.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Whether a server writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// It does not.
    Now,
    /// It does again.
    NoMore,
}

#[derive(Debug, Default)]
struct Shared {
    /// Whether writes are stopped; held for each write.
    stopped: Mutex<bool>,
    over: AtomicBool,
}

impl Writer {
    pub(super) fn start(kind: Kind, datadir: &Path) -> Self {
        let names = match kind.is_mariadb() {
            true => ["db1/t.ibd", "ibdata1", "ib_logfile0"],
            false => ["db1/t.ibd", "mysql.ibd", "#innodb_redo/#ib_redo10"],
        };
        let paths = names.map(|name| datadir.join(name));
        let shared = Arc::new(Shared::default());
        let writing = Arc::clone(&shared);
        let thread = std::thread::spawn(move || write_until_over(&writing, &paths));
        Self { shared, thread: Some(thread) }
    }

    /// Stops the writes, or lets them go on. What is under way is done when this returns.
    pub(super) fn stop(&self, stop: Stop) {
        *self.shared.stopped.lock().expect("the writer lives") = stop == Stop::Now;
    }
}

fn write_until_over(shared: &Shared, paths: &[PathBuf]) {
    for round in 0_u64.. {
        if shared.over.load(Ordering::Relaxed) {
            return;
        }
        let stopped = shared.stopped.lock().expect("nobody fails while holding it");
        if !*stopped {
            for path in paths {
                // A file that is gone belongs to a directory that is being removed.
                if let Ok(file) = OpenOptions::new().write(true).open(path) {
                    file.write_all_at(&round.to_le_bytes(), 512 + round % 64 * 8).expect("a write");
                }
            }
        }
        drop(stopped);
        std::thread::sleep(WRITES);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its failure has been reported by itself.
            let _failed = thread.join();
        }
    }
}
