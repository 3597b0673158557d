//! The configuration file of one node.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::server::Server;

/// Size of the redo log.
pub(super) const LOG_FILE_SIZE: &str = "96M";

/// An SST method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Ours.
    Fastsst,
    /// The stock method that every MariaDB has.
    Rsync,
}

impl Method {
    /// The method that tests are about: ours, unless `FASTSST_TEST_METHOD=rsync` asks for a
    /// look at whether the tests themselves hold on a method known to work.
    #[must_use]
    pub fn under_test() -> Self {
        match std::env::var("FASTSST_TEST_METHOD").as_deref() {
            Err(_) | Ok("fastsst") => Self::Fastsst,
            Ok("rsync") => Self::Rsync,
            Ok(other) => panic!("FASTSST_TEST_METHOD={other}: fastsst or rsync"),
        }
    }

    /// The value of `wsrep_sst_method`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fastsst => "fastsst",
            Self::Rsync => "rsync",
        }
    }
}

/// Ports of one node, all on 127.0.0.1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) client: u16,
    pub(super) group: u16,
    pub(super) ist: u16,
    pub(super) sst: u16,
}

/// The directory of one node and what lies in it.
#[derive(Debug, Clone)]
pub(super) struct Places<'a> {
    /// Directory that is everyone's base: `bin` holds our binaries.
    pub(super) base: &'a Path,
    /// The node's own directory.
    pub(super) node: &'a Path,
    /// Where its programs and their files are.
    pub(super) server: Server,
}

/// Options by group (`mysqld`, `sst`, ...), a later value for a name replaces an earlier one.
#[derive(Debug, Clone, Default)]
pub(super) struct Options(BTreeMap<String, BTreeMap<String, String>>);

impl Options {
    pub(super) fn set(&mut self, group: &str, name: &str, value: &str) {
        let group = self.0.entry(group.to_owned()).or_default();
        group.insert(name.to_owned(), value.to_owned());
    }

    pub(super) fn remove(&mut self, group: &str, name: &str) {
        if let Some(group) = self.0.get_mut(group) {
            group.remove(name);
        }
    }

    /// The value of an option in any group.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.0.values().find_map(|group| group.get(name)).map(String::as_str)
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        for (group, options) in &self.0 {
            writeln!(text, "[{group}]").unwrap();
            for (name, value) in options {
                writeln!(text, "{name}={value}").unwrap();
            }
        }
        text
    }
}

/// What every node has in `[mysqld]` beside the options of Galera's provider.
pub(super) fn server_options(places: &Places<'_>, ports: &Ports, name: &str) -> Options {
    let node = places.node.display();
    let mut options = Options::default();
    let mut set = |name: &str, value: &str| options.set("mysqld", name, value);
    // A server looks for its SST script in <basedir>/bin before PATH: basedir is ours, so that a
    // test never runs a script that the machine has installed.
    set("basedir", &places.base.display().to_string());
    set("plugin_dir", &places.server.plugins());
    set("lc_messages_dir", &places.server.share());
    set("character_sets_dir", &format!("{}/charsets", places.server.share()));
    set("datadir", &format!("{node}/data"));
    set("tmpdir", &format!("{node}/tmp"));
    set("socket", &format!("{node}/sock"));
    set("pid_file", &format!("{node}/pid"));
    set("log_error", &format!("{node}/error.log"));
    set("bind_address", "127.0.0.1");
    set("port", &ports.client.to_string());
    set("skip_name_resolve", "ON");
    set("performance_schema", "OFF");
    set("max_connections", "30");
    set("innodb_buffer_pool_size", "96M");
    set("innodb_log_file_size", LOG_FILE_SIZE);
    set("innodb_flush_log_at_trx_commit", "2");
    set("innodb_autoinc_lock_mode", "2");
    set("default_storage_engine", "InnoDB");
    set("binlog_format", "ROW");
    set("wsrep_on", "ON");
    set("wsrep_provider", &places.server.provider());
    set("wsrep_node_name", name);
    set("wsrep_node_address", &format!("127.0.0.1:{}", ports.group));
    set("wsrep_node_incoming_address", &format!("127.0.0.1:{}", ports.client));
    set("wsrep_sst_receive_address", &format!("127.0.0.1:{}", ports.sst));
    options
}

/// `wsrep_provider_options`. `weight`: this node's votes; `gcache`: size of its write-set cache.
pub(super) fn provider_options(ports: &Ports, weight: u8, gcache: &str) -> String {
    let (group, ist) = (ports.group, ports.ist);
    // A dead node is noticed after 2 s instead of 5, and expelled after 3 instead of 15.
    [
        &format!(
            "base_host=127.0.0.1;base_port={group};gmcast.listen_addr=tcp://127.0.0.1:{group}"
        ),
        &format!("ist.recv_addr=127.0.0.1:{ist};gcache.size={gcache};pc.weight={weight}"),
        "evs.keepalive_period=PT0.3S;evs.inactive_check_period=PT0.3S;evs.suspect_timeout=PT2S",
        "evs.inactive_timeout=PT3S;evs.install_timeout=PT3S;gmcast.peer_timeout=PT2S",
        "pc.recovery=false;socket.checksum=1",
    ]
    .join(";")
}
