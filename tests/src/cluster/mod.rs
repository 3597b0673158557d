//! A real Galera cluster: Debian's MariaDB and provider, on 127.0.0.1, without systemd.
//!
//! ```text
//! Cluster::builder().start::<2>()   a cluster of one; the second node is prepared, not started
//! joiner.start()                    mariadbd runs, and joins by SST
//! joiner.wait_synced(...)           it is a member
//! ```
//!
//! Every node has its own directory and ports, so clusters run beside each other and beside a
//! MariaDB that the machine already has. Dropping the cluster kills what it started, by pid,
//! and removes its directory; when the test process itself dies, a guard process does that.

mod config;
mod data;
pub(crate) mod guard;
mod load;
pub(crate) mod machine;
mod node;
pub(crate) mod process;
mod server;
mod slot;
mod spread;
mod sql;
mod summary;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

pub use config::Method;
pub use data::assert_same_data;
pub use load::{Seen, WriteLoad};
pub use machine::{SHIM, TOOL, program};
pub use node::{LogMark, Node};
pub use process::ProcessId;
pub use server::Server;
pub use sql::Rows;
pub use summary::Figures;

use config::{Options, Places, Ports, provider_options, server_options};
use guard::Guard;
use machine::{give, install_binaries, target_directory};
use node::Plan;
use slot::Slot;

/// Starting the first node.
const BOOTSTRAP: Duration = Duration::from_secs(60);

/// Votes of the first node: it stays a working cluster when all others die.
const WEIGHT_FIRST: u8 = 10;

/// Lines of each error log that a failing test shows.
const LOG_TAIL_LINES: usize = 60;

/// Some nodes, the first of them running.
#[derive(Debug)]
pub struct Cluster {
    method: Method,
    nodes: Vec<Node>,
    guard: Arc<Guard>,
    directory: TempDir,
    // Last, so that it is given back when everything else is gone.
    _slot: Slot,
}

/// Whose SST script servers start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Programs {
    /// Those that were built.
    Own,
    /// Those in `PATH`.
    Installed,
}

/// What a cluster shall be like.
#[derive(Debug, Clone)]
pub struct Builder {
    method: Method,
    gcache: String,
    programs: Programs,
    server: Server,
    /// Nodes that run another one, by their place.
    others: Vec<(usize, Server)>,
    options: Vec<(String, String, String)>,
    node_options: Vec<(usize, String, String, String)>,
    arguments: Vec<(usize, String)>,
    mounts: Vec<(usize, PathBuf, PathBuf)>,
}

impl Builder {
    /// Servers find the SST script that the machine has installed, not ours.
    #[must_use]
    pub const fn installed_programs(mut self) -> Self {
        self.programs = Programs::Installed;
        self
    }

    /// The server of all nodes.
    #[must_use]
    pub const fn server(mut self, server: Server) -> Self {
        self.server = server;
        self
    }

    /// The server of one node, of which the first is 0.
    #[must_use]
    pub fn server_of(mut self, node: usize, server: Server) -> Self {
        self.others.push((node, server));
        self
    }

    /// The SST method of all nodes.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// Size of each node's write-set cache: what a node may miss and still join by IST.
    #[must_use]
    pub fn gcache(mut self, size: &str) -> Self {
        size.clone_into(&mut self.gcache);
        self
    }

    /// An option for all nodes.
    #[must_use]
    pub fn option(mut self, group: &str, name: &str, value: &str) -> Self {
        self.options.push((group.to_owned(), name.to_owned(), value.to_owned()));
        self
    }

    /// An option for one node, the first is number 0. `{node}` in the value is the node's
    /// directory.
    #[must_use]
    pub fn node_option(mut self, node: usize, group: &str, name: &str, value: &str) -> Self {
        self.node_options.push((node, group.to_owned(), name.to_owned(), value.to_owned()));
        self
    }

    /// An argument for the server of one node, as for [`Builder::node_option`].
    #[must_use]
    pub fn argument(mut self, node: usize, argument: &str) -> Self {
        self.arguments.push((node, argument.to_owned()));
        self
    }

    /// What one node finds at `at` is the directory `place`, as if it had a disk of its own there.
    #[must_use]
    pub fn mount(mut self, node: usize, place: &Path, at: &Path) -> Self {
        self.mounts.push((node, place.to_owned(), at.to_owned()));
        self
    }

    /// Waits for a turn, prepares `count` nodes and starts the first as a cluster of one.
    #[must_use]
    pub fn start(self, count: usize) -> Cluster {
        let mut slot = Slot::take();
        let directory = base_directory();
        let base = directory.path().to_owned();
        let guard = Arc::new(Guard::over(&base));
        fs::create_dir(base.join("bin")).unwrap();
        if self.method == Method::Fastsst && self.programs == Programs::Own {
            install_binaries(&base.join("bin"));
        }
        let mut port = || slot.port();
        let ports: Vec<_> = (0..count)
            .map(|_| Ports { client: port(), group: port(), ist: port(), sst: port() })
            .collect();
        let plans = self.plans(&base, &ports);
        let nodes = plans.map(|plan| Node::prepare(plan, Arc::clone(&guard))).collect();
        let cluster = Cluster { method: self.method, nodes, guard, directory, _slot: slot };
        let first = &cluster.nodes[0];
        first.install_datadir();
        first.bootstrap();
        first.wait_synced(BOOTSTRAP);
        cluster
    }

    fn plans(&self, base: &Path, ports: &[Ports]) -> impl Iterator<Item = Plan> {
        let members: Vec<_> = ports.iter().map(|it| format!("127.0.0.1:{}", it.group)).collect();
        let address = format!("gcomm://{}", members.join(","));
        ports.iter().enumerate().map(move |(index, ports)| {
            let name = format!("n{}", index + 1);
            let node = base.join(&name);
            let other = self.others.iter().rfind(|(other, _)| *other == index);
            let server = other.map_or(self.server, |(_, server)| *server);
            let places = Places { base, node: &node, server };
            let mut options = server_options(&places, ports, &name);
            let weight = if index == 0 { WEIGHT_FIRST } else { 1 };
            let provider = provider_options(ports, weight, &self.gcache);
            let cluster_name = format!("fastsst-{}", members[0]);
            options.set("mysqld", "wsrep_cluster_name", &cluster_name);
            options.set("mysqld", "wsrep_cluster_address", &address);
            options.set("mysqld", "wsrep_sst_method", self.method.name());
            options.set("mysqld", "wsrep_provider_options", &format!("\"{provider}\""));
            set_all(&mut options, &self.options);
            let directory = node.display().to_string();
            let own = |of: &usize| *of == index;
            for (_, group, name, value) in self.node_options.iter().filter(|it| own(&it.0)) {
                options.set(group, name, &value.replace("{node}", &directory));
            }
            let arguments = self.arguments.iter().filter(|it| own(&it.0));
            let arguments = arguments.map(|it| it.1.replace("{node}", &directory)).collect();
            let mounts = self.mounts.iter().filter(|it| own(&it.0));
            let mounts = mounts.map(|(_, place, at)| (place.clone(), at.clone())).collect();
            let (base, method) = (base.to_owned(), self.method);
            Plan { name, base, ports: *ports, method, server, options, arguments, mounts }
        })
    }
}

fn set_all(options: &mut Options, values: &[(String, String, String)]) {
    for (group, name, value) in values {
        options.set(group, name, value);
    }
}

impl Cluster {
    /// A cluster with the method under test and room for an IST.
    #[must_use]
    pub fn builder() -> Builder {
        Builder {
            method: Method::under_test(),
            gcache: "64M".to_owned(),
            programs: Programs::Own,
            server: Server::Machine,
            others: Vec::new(),
            options: Vec::new(),
            node_options: Vec::new(),
            arguments: Vec::new(),
            mounts: Vec::new(),
        }
    }

    /// The nodes, as many as were asked for.
    #[must_use]
    pub fn nodes<const COUNT: usize>(&self) -> [&Node; COUNT] {
        let nodes: Vec<&Node> = self.nodes.iter().collect();
        nodes.try_into().unwrap_or_else(|_| panic!("there are {} nodes", self.nodes.len()))
    }

    /// Slows transfers down to about this rate, or lets them run freely again.
    ///
    /// Unit: MiB per second.
    pub fn throttle(&self, rate: Option<u32>) {
        match self.method {
            Method::Fastsst => self.nodes.iter().for_each(|node| match rate {
                Some(rate) => node.set_option("sst", "rlimit", &format!("{rate}m")),
                None => node.remove_option("sst", "rlimit"),
            }),
            Method::Rsync => throttle_rsync(&self.directory.path().join("bin/rsync"), rate),
        }
    }

    /// The directory that holds everything of this cluster.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Copies logs and configurations below cargo's target directory; returns where they are.
    #[must_use]
    pub fn keep_logs(&self, name: &str) -> PathBuf {
        let (target, _) = target_directory();
        let kept = target.join("cluster-logs").join(name);
        drop(fs::remove_dir_all(&kept));
        for node in &self.nodes {
            let directory = kept.join(node.name());
            fs::create_dir_all(&directory).unwrap();
            let own = self.directory.path().join(node.name());
            for file in ["error.log", "recover.log", "my.cnf"] {
                // recover.log exists only after a recovery.
                drop(fs::copy(own.join(file), directory.join(file)));
            }
        }
        kept
    }

    /// Shows the ends of the error logs and says where the whole ones are.
    #[expect(clippy::print_stderr, reason = "a failing test speaks to whoever runs it")]
    fn report(&self) {
        for node in &self.nodes {
            let log = node.error_log();
            let lines: Vec<_> = log.lines().collect();
            let tail = lines.len().saturating_sub(LOG_TAIL_LINES);
            eprintln!("---- end of {}'s error log\n{}", node.name(), lines[tail..].join("\n"));
        }
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("test").replace("::", "-");
        eprintln!("---- whole logs: {}", self.keep_logs(&name).display());
    }
}

/// The stock script has no limit of its own: put a program before rsync that adds one.
fn throttle_rsync(wrapper: &Path, rate: Option<u32>) {
    let Some(rate) = rate else {
        return fs::remove_file(wrapper).unwrap();
    };
    let rsync = program("rsync");
    let (rsync, kib) = (rsync.display(), rate * 1024);
    fs::write(wrapper, format!("#!/bin/sh\nexec {rsync} --bwlimit={kib} \"$@\"\n")).unwrap();
    fs::set_permissions(wrapper, fs::Permissions::from_mode(0o755)).unwrap();
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.report();
        }
        for node in &self.nodes {
            node.sweep();
        }
        // The directory goes with its own drop, after this and before the slot.
        let _still_watched = &self.guard;
    }
}

/// A directory that the server's account can reach: below `FASTSST_TEST_DIR`, or the system's.
///
/// Its path is short, because a socket's path may have 107 bytes only.
fn base_directory() -> TempDir {
    let parent =
        std::env::var_os("FASTSST_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let parent = fs::canonicalize(&parent).unwrap_or_else(|e| panic!("{}: {e}", parent.display()));
    for ancestor in parent.ancestors() {
        let mode = fs::metadata(ancestor).unwrap().permissions().mode();
        let open = !machine::as_root() || mode & 0o001 != 0;
        assert!(open, "{}: mysql cannot pass; set FASTSST_TEST_DIR", ancestor.display());
    }
    let directory = tempfile::Builder::new().prefix("fastsst-").tempdir_in(&parent).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    give(directory.path());
    directory
}
