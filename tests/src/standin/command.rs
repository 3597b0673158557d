//! The command line of a script, as each server prints it.

use std::path::Path;

use super::kind::Kind;
use super::{Request, Transfer};

/// What a server knows of itself when it starts a script.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) kind: Kind,
    pub(super) datadir: &'a Path,
    pub(super) config: &'a Path,
    /// Process of the server.
    pub(super) pid: u32,
}

/// One word, and whether the server puts it in single quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Bare(String),
    Quoted(String),
}

/// The words behind the program's name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CommandLine(Vec<Word>);

impl CommandLine {
    /// As `sh -c` gets it. The server escapes nothing: a quote in a name breaks it.
    pub(super) fn for_shell(&self) -> String {
        let words = self.0.iter().map(|word| match word {
            Word::Bare(text) => text.clone(),
            Word::Quoted(text) => format!("'{text}'"),
        });
        std::iter::once("wsrep_sst_fastsst".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
    }

    /// As the script gets it when no shell is in between.
    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|word| match word {
            Word::Bare(text) | Word::Quoted(text) => text.as_str(),
        })
    }

    fn bare(mut self, text: impl Into<String>) -> Self {
        self.0.push(Word::Bare(text.into()));
        self
    }

    fn quoted(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.push(Word::Bare(name.to_owned()));
        self.0.push(Word::Quoted(value.into()));
        self
    }

    /// What MySQL's servers leave where the name of the binary log would be.
    fn empty_word(mut self) -> Self {
        self.0.push(Word::Quoted(String::new()));
        self
    }
}

/// The joiner's command line (contract 1.2, 1.7, 1.8).
pub(super) fn joiner(known: Known<'_>, address: &str) -> CommandLine {
    let (datadir, config) = texts(known);
    let line = CommandLine::default()
        .quoted("--role", "joiner")
        .quoted("--address", address)
        .quoted("--datadir", datadir);
    let (pid, version) = (known.pid.to_string(), known.kind.version());
    match known.kind {
        Kind::MariaDb105 | Kind::MariaDb1011 | Kind::MariaDb118 => line
            .quoted("--defaults-file", config)
            .bare("--parent")
            .bare(pid)
            .bare("--progress")
            .bare("0")
            .quoted("--binlog", "mysql-bin")
            .bare("--mysqld-args")
            .bare("--wsrep_on=ON")
            .bare("--wsrep-new-cluster"),
        Kind::MysqlWsrep80 | Kind::MysqlWsrep80Late => line
            .quoted("--defaults-file", config)
            .quoted("--defaults-group-suffix", "")
            .quoted("--parent", pid)
            .quoted("--mysqld-version", version)
            .quoted("--plugin-dir", "/usr/lib/mysql/plugin/")
            .empty_word(),
        Kind::Pxc80 | Kind::Pxc84 => line
            .quoted("--basedir", "/usr/")
            .quoted("--plugindir", "/usr/lib64/mysql/plugin/")
            .quoted("--defaults-file", config)
            .quoted("--defaults-group-suffix", "")
            .quoted("--parent", pid)
            .quoted("--mysqld-version", version)
            .empty_word(),
    }
}

/// The donor's command line (contract 1.3, 1.7, 1.8).
pub(super) fn donor(known: Known<'_>, request: &Request, transfer: Transfer<'_>) -> CommandLine {
    let (datadir, config) = texts(known);
    let line =
        CommandLine::default().quoted("--role", "donor").quoted("--address", request.place());
    let (gtid, version) = (transfer.gtid(), known.kind.version());
    let line = match known.kind {
        Kind::MariaDb105 | Kind::MariaDb1011 | Kind::MariaDb118 => line
            .bare("--local-port")
            .bare("3306")
            .quoted("--socket", "/run/mysqld/mysqld.sock")
            .bare("--progress")
            .bare("0")
            .quoted("--datadir", datadir)
            .quoted("--defaults-file", config)
            .quoted("--gtid", gtid)
            .bare("--gtid-domain-id")
            .bare("7")
            .quoted("--binlog", "mysql-bin"),
        Kind::MysqlWsrep80 | Kind::MysqlWsrep80Late => line
            .quoted("--local-port", "3306")
            .quoted("--socket", "/run/mysqld/mysqld.sock")
            .quoted("--datadir", datadir)
            .quoted("--defaults-file", config)
            .quoted("--defaults-group-suffix", "")
            .quoted("--mysqld-version", version)
            .quoted("--plugin-dir", "/usr/lib/mysql/plugin/")
            .empty_word()
            .quoted("--gtid", gtid)
            .quoted("--local-gtid", super::LOCAL_GTID)
            .quoted("--server-id", "9"),
        Kind::Pxc80 | Kind::Pxc84 => line
            .quoted("--socket", "/run/mysqld/mysqld.sock")
            .quoted("--datadir", datadir)
            .quoted("--basedir", "/usr/")
            .quoted("--plugindir", "/usr/lib64/mysql/plugin/")
            .quoted("--defaults-file", config)
            .quoted("--defaults-group-suffix", "")
            .quoted("--mysqld-version", version)
            .empty_word()
            .quoted("--gtid", gtid),
    };
    let line = match transfer {
        Transfer::Snapshot => line,
        Transfer::Bypass(_) => line.bare("--bypass"),
    };
    // MariaDB's own arguments are the last ones.
    if known.kind.is_mariadb() { line.bare("--mysqld-args").bare("--wsrep_on=ON") } else { line }
}

fn texts(known: Known<'_>) -> (String, String) {
    let text = |path: &Path| path.to_str().expect("names are UTF-8").to_owned();
    (format!("{}/", text(known.datadir)), text(known.config))
}
