//! The command line of an SST script, in two stages: words, then what they mean.
//!
//! Servers differ in order, quoting and in what they leave out, so the first stage accepts any
//! order, `--name value` and `--name=value`, empty values and the literal `(null)`, and skips
//! what it does not know with a warning. Everything behind `--mysqld-args` belongs to the server.

use std::ffi::OsString;
use std::path::PathBuf;

use fastsst_mover::{Code, Error, Result};

use crate::logging;
use crate::server_args::ServerArgs;

/// Which end of the transfer this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Sends its data directory.
    Donor,
    /// Receives one.
    Joiner,
}

impl Role {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Donor => "donor",
            Self::Joiner => "joiner",
        }
    }
}

/// What the donor is asked to hand over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transfer {
    /// The data directory.
    Snapshot,
    /// Only the position: the joiner gets what it lacks by IST.
    Bypass,
}

/// Who called, told by the options that only one of them gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    /// MariaDB.
    MariaDb,
    /// Codership's MySQL.
    MysqlWsrep,
    /// Percona `XtraDB` Cluster.
    Pxc,
}

/// Whether the caller reads `total` and `complete` lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProgressLines {
    /// They may be printed.
    Wanted,
    /// They would be taken for the final line.
    Unwanted,
}

/// Which option files the server read; handed on to `my_print_defaults`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Defaults {
    pub(crate) file: Option<String>,
    pub(crate) extra_file: Option<String>,
    pub(crate) group_suffix: Option<String>,
}

/// The position a bypass hands over, in the parts the server gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Gtid {
    /// `UUID:seqno`.
    pub(crate) gtid: Option<String>,
    /// MariaDB's domain.
    pub(crate) domain_id: Option<String>,
    /// mysql-wsrep's local position.
    pub(crate) local: Option<String>,
    /// mysql-wsrep's server id.
    pub(crate) server_id: Option<String>,
}

/// A call by a server.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) role: Role,
    pub(crate) transfer: Transfer,
    pub(crate) server: Server,
    pub(crate) progress: ProgressLines,
    /// As given: `[user:secret@]host[:port][/path]`. Never logged.
    pub(crate) address: String,
    /// The port given apart from the address.
    pub(crate) port: Option<String>,
    pub(crate) datadir: PathBuf,
    pub(crate) defaults: Defaults,
    /// Process id of the joiner's server.
    pub(crate) parent: Option<i32>,
    /// Version of the server, where it says so.
    pub(crate) mysqld_version: Option<String>,
    pub(crate) gtid: Gtid,
    /// Options that name files or directories of the server, as the script got them.
    pub(crate) explicit: ServerArgs,
    /// What the server itself was started with.
    pub(crate) server_args: ServerArgs,
}

/// What the words on the command line ask for.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// `--help` without a role.
    Help,
    /// `--version` without a role.
    Version,
    /// A state transfer.
    Transfer(Box<Args>),
}

/// Options with a value that mean something here, by the name stored.
const VALUES: [&str; 17] = [
    "address",
    "datadir",
    "defaults-extra-file",
    "defaults-file",
    "defaults-group-suffix",
    "gtid",
    "gtid-domain-id",
    "host",
    "local-gtid",
    "mysqld-version",
    "parent",
    "port",
    "progress",
    "role",
    "server-id",
    "basedir",
    "plugindir",
];

/// Options with a value that place files of the server; they win over everything else.
const PLACES: [&str; 7] = [
    "aria-log-dir-path",
    "innodb-data-home-dir",
    "innodb-log-group-home-dir",
    "innodb-undo-directory",
    "log-basename",
    "log-bin",
    "log-bin-index",
];

/// Options with a value that servers give and nobody here needs.
const IGNORED: [&str; 11] = [
    "innodb-buffer-pool-filename",
    "innodb-buffer-pool-size",
    "local-port",
    "password",
    "plugin-dir",
    "protocol",
    "server-uuid",
    "socket",
    "sst-auth",
    "tmpdir",
    "user",
];

/// The words, sorted by name; no meaning yet.
#[derive(Debug, Default)]
struct Words {
    named: ServerArgs,
    places: ServerArgs,
    flags: Vec<&'static str>,
    unknown: Vec<String>,
    server: ServerArgs,
}

/// Reads a command line without the program's name. Warnings go to the log.
///
/// # Errors
/// E01 naming the argument.
pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Invocation> {
    let mut text = Vec::new();
    for word in words {
        text.push(word.into_string().map_err(|word| {
            usage(format!("argument {word:?} is not UTF-8; use plain names for files and options"))
        })?);
    }
    let words = Words::sort(text);
    logging::speak_to(words.server());
    for name in &words.unknown {
        tracing::warn!("unknown argument {name} is ignored");
    }
    let asked = |flag| words.flags.contains(&flag) && words.named.value("role").is_none();
    if asked("help") {
        return Ok(Invocation::Help);
    }
    if asked("version") {
        return Ok(Invocation::Version);
    }
    words.understand().map(|args| Invocation::Transfer(Box::new(args)))
}

impl Words {
    fn sort(text: Vec<String>) -> Self {
        let mut words = Self::default();
        let mut text = text.into_iter().peekable();
        while let Some(word) = text.next() {
            let Some(name) = word.strip_prefix("--") else {
                words.positional(word);
                continue;
            };
            let (name, inline) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, None),
            };
            let name = name.replace('_', "-");
            if name == "mysqld-args" {
                words.server = ServerArgs::parse(inline.into_iter().chain(text));
                break;
            }
            if let Some(flag) = ["bypass", "help", "version"].into_iter().find(|flag| *flag == name)
            {
                words.flags.push(flag);
                continue;
            }
            // A value never begins with dashes: what does is the next option.
            let value = inline.or_else(|| text.next_if(|next| !next.starts_with("--")));
            words.named(name, value.as_deref().map(meaning_of));
        }
        words
    }

    fn positional(&mut self, word: String) {
        // mysql-wsrep leaves an empty word where the binlog's name would be.
        if word == "-h" {
            self.flags.push("help");
        } else if !word.trim().is_empty() {
            // Not repeated: it may be somebody's secret.
            self.unknown.push("without dashes in front".to_owned());
        }
    }

    fn named(&mut self, name: String, value: Option<String>) {
        let name = match name.as_str() {
            "binlog" => "log-bin".to_owned(),
            "binlog-index" => "log-bin-index".to_owned(),
            _ => name,
        };
        let value = value.filter(|value| !value.is_empty());
        if PLACES.contains(&name.as_str()) {
            self.places.push(name, value);
        } else if VALUES.contains(&name.as_str()) {
            self.named.push(name, value);
        } else if !IGNORED.contains(&name.as_str()) {
            self.unknown.push(format!("--{name}"));
        }
    }

    fn understand(self) -> Result<Args> {
        let value = |name| self.named.value(name).map(str::to_owned);
        let role = match self.named.value("role") {
            None | Some("donor") => Role::Donor,
            Some("joiner") => Role::Joiner,
            Some(other) => {
                return Err(usage(format!("--role {other:?} is unknown; use donor or joiner")));
            }
        };
        let server = self.server();
        Ok(Args {
            role,
            transfer: match self.flags.contains(&"bypass") {
                true => Transfer::Bypass,
                false => Transfer::Snapshot,
            },
            server,
            progress: self.progress_lines(server),
            address: value("address")
                .or_else(|| value("host"))
                .ok_or_else(|| missing("address"))?,
            port: value("port"),
            datadir: value("datadir")
                .or_else(|| self.server.value("datadir").map(str::to_owned))
                .map(PathBuf::from)
                .ok_or_else(|| missing("datadir"))?,
            defaults: Defaults {
                file: value("defaults-file"),
                extra_file: value("defaults-extra-file"),
                group_suffix: value("defaults-group-suffix"),
            },
            parent: self.named.value("parent").map(parse_pid).transpose()?,
            mysqld_version: value("mysqld-version"),
            gtid: Gtid {
                gtid: value("gtid"),
                domain_id: value("gtid-domain-id"),
                local: value("local-gtid"),
                server_id: value("server-id"),
            },
            explicit: self.places,
            server_args: self.server,
        })
    }

    /// Who calls like this (contract 1.2, 1.3, 1.7, 1.8).
    fn server(&self) -> Server {
        let given = |name| self.named.is_set(name);
        if given("progress") {
            Server::MariaDb
        } else if given("basedir") && given("plugindir") {
            Server::Pxc
        } else if given("mysqld-version") || given("local-gtid") {
            Server::MysqlWsrep
        } else {
            Server::MariaDb
        }
    }

    fn progress_lines(&self, server: Server) -> ProgressLines {
        let asked = match self.named.value("progress") {
            None | Some("0") => false,
            Some("1") => true,
            Some(other) => {
                tracing::warn!("--progress {other:?} is neither 0 nor 1; taken as 0");
                false
            }
        };
        match asked || server == Server::MysqlWsrep {
            true => ProgressLines::Wanted,
            false => ProgressLines::Unwanted,
        }
    }
}

/// A value as it is meant: trimmed, and what old servers print for NULL is nothing.
fn meaning_of(value: &str) -> String {
    let value = value.trim();
    if value == "(null)" { String::new() } else { value.to_owned() }
}

fn parse_pid(text: &str) -> Result<i32> {
    text.parse().ok().filter(|pid| *pid > 0).ok_or_else(|| {
        usage(format!("--parent {text:?} is not a process id; the server passes its own"))
    })
}

fn usage(what: String) -> Error {
    Error::new(Code::Usage, what)
}

fn missing(option: &str) -> Error {
    usage(format!(
        "--{option} is missing; this program is started by the server, see --help and wsrep_sst_method"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Args {
        let Invocation::Transfer(args) = parse(words.iter().map(OsString::from)).unwrap() else {
            panic!("not a transfer: {words:?}")
        };
        *args
    }

    #[test]
    fn the_joiner_of_mariadb_10_11() {
        let args = read(&[
            "--role",
            "joiner",
            "--address",
            "10.0.0.7:4444",
            "--datadir",
            "/var/lib/mysql/",
            "--defaults-file",
            "/etc/my.cnf",
            "--defaults-group-suffix",
            ".1",
            "--parent",
            "4242",
            "--progress",
            "0",
            "--binlog",
            "mysql-bin",
            "--mysqld-args",
            "--wsrep_start_position=x:1",
            "--role=evil",
        ]);
        assert_eq!(args.role, Role::Joiner);
        assert_eq!(args.address, "10.0.0.7:4444");
        assert_eq!(args.defaults.file.as_deref(), Some("/etc/my.cnf"));
        assert_eq!(args.defaults.group_suffix.as_deref(), Some(".1"));
        assert_eq!(args.parent, Some(4242));
        assert_eq!((args.server, args.progress), (Server::MariaDb, ProgressLines::Unwanted));
        assert_eq!(args.explicit.value("log-bin"), Some("mysql-bin"));
        assert_eq!(args.server_args.value("role"), Some("evil"));
    }

    #[test]
    fn the_donor_of_mariadb_with_a_bypass_in_any_order_and_form() {
        let args = read(&[
            "--bypass",
            "--gtid=u:7",
            "--gtid-domain-id",
            "3",
            "--datadir=/d",
            "--socket",
            "/s",
            "--local-port",
            "3306",
            "--address=h:1/fastsst/1/aa",
            "--progress",
            "1",
        ]);
        assert_eq!((args.role, args.transfer), (Role::Donor, Transfer::Bypass));
        assert_eq!(args.gtid.gtid.as_deref(), Some("u:7"));
        assert_eq!(args.gtid.domain_id.as_deref(), Some("3"));
        assert_eq!(args.progress, ProgressLines::Wanted);
    }

    #[test]
    fn mysql_wsrep_and_pxc_are_told_apart() {
        let args = read(&[
            "--role",
            "joiner",
            "--address",
            "a",
            "--datadir",
            "/d",
            "--defaults-file",
            "",
            "--defaults-group-suffix",
            "",
            "--parent",
            "9",
            "--mysqld-version",
            "8.0.36",
            "--plugin-dir",
            "/p",
            "",
        ]);
        assert_eq!((args.server, args.progress), (Server::MysqlWsrep, ProgressLines::Wanted));
        assert_eq!(args.defaults, Defaults::default());
        let args = read(&[
            "--role",
            "joiner",
            "--address",
            "a",
            "--datadir",
            "/d",
            "--basedir",
            "/b",
            "--plugindir",
            "/p",
            "--mysqld-version",
            "8.0.36",
        ]);
        assert_eq!((args.server, args.progress), (Server::Pxc, ProgressLines::Unwanted));
    }

    #[test]
    fn unknown_options_do_not_swallow_the_next_one() {
        let args = read(&[
            "--new-flag",
            "--address",
            "a",
            "--new-option",
            "value",
            "--datadir",
            "/d",
            "stray",
            "--defaults-file",
            "--gtid",
            "(null)",
        ]);
        assert_eq!(args.address, "a");
        assert_eq!(args.datadir, PathBuf::from("/d"));
        assert_eq!(args.defaults.file, None);
        assert_eq!(args.gtid.gtid, None);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let cases: [(&[&str], &str); 5] = [
            (&[], "--address is missing"),
            (&["--address", "a"], "--datadir is missing"),
            (&["--role", "leader", "--address", "a"], "\"leader\""),
            (&["--address", "a", "--datadir", "/d", "--parent", "x"], "--parent \"x\""),
            (&["--address", "a", "--datadir", "/d", "--parent", "0"], "--parent \"0\""),
        ];
        for (words, expected) in cases {
            let error = parse(words.iter().map(OsString::from)).unwrap_err();
            assert_eq!(error.code(), Code::Usage);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn help_and_version_need_no_role_and_a_role_overrides_them() {
        let ask = |words: &[&str]| parse(words.iter().map(OsString::from)).unwrap();
        assert!(matches!(ask(&["--help"]), Invocation::Help));
        assert!(matches!(ask(&["--version"]), Invocation::Version));
        let words = ["--version", "--role", "donor", "--address", "a", "--datadir", "/d"];
        assert!(matches!(ask(&words), Invocation::Transfer(_)));
    }

    #[test]
    fn the_datadir_may_come_from_the_servers_own_arguments() {
        let args = read(&["--address", "a", "--mysqld-args", "-h", "/x", "--datadir=/y"]);
        assert_eq!(args.datadir, PathBuf::from("/y"));
    }
}
