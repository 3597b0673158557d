//! The `[sst]` group: what an operator can choose.
//!
//! A key that is unknown is warned about, as it may belong to another method; a value that is
//! wrong is refused, as the operator meant something and would not get it.

use std::path::PathBuf;
use std::time::Duration;

use fastsst_mover::options::{Compress, Options, Transport, parse_bytes};
use fastsst_mover::{Code, Error, Result};
use fastsst_proto::limits::LANES_MAX;

use crate::keep_pattern::KeepPattern;
use crate::server_args::ServerArgs;

/// Longest timeout that is accepted. Unit: seconds. Why: 30 days; more is a typing error.
const TIMEOUT_SECONDS_MAX: u64 = 30 * 24 * 3600;

/// The choices of one node.
#[derive(Debug)]
pub(crate) struct SstOptions {
    /// What the engine takes.
    pub(crate) engine: Options,
    /// Further names that belong to the node.
    pub(crate) cpat: Option<KeepPattern>,
    /// Most binary logs that a donor sends; negative: all.
    pub(crate) max_binlogs: i64,
    /// Where a joiner puts tables that have a directory of their own; absent: where the donor has
    /// them.
    pub(crate) data_directory: Option<PathBuf>,
}

impl Default for SstOptions {
    fn default() -> Self {
        let (engine, cpat, data_directory) = (Options::default(), None, None);
        Self { engine, cpat, max_binlogs: MAX_BINLOGS_DEFAULT, data_directory }
    }
}

/// Source: contract 5.2. The last one carries the GTID state.
const MAX_BINLOGS_DEFAULT: i64 = 1;

/// Reads one value into its place; the words of the error say what is accepted.
type Apply = fn(&mut SstOptions, &str) -> Result<()>;

/// Every key that means something, with what reads it.
const KEYS: [(&str, Apply); 13] = [
    ("rlimit", |options, text| {
        let rate = parse_bytes(text)?;
        options.engine.rlimit = (rate > 0).then_some(rate);
        Ok(())
    }),
    ("compress", |options, text| {
        options.engine.compress = Compress::parse(text)?;
        Ok(())
    }),
    ("polite", |options, text| {
        options.engine.polite = switch(text)?;
        Ok(())
    }),
    ("transport", |options, text| {
        options.engine.transport = Transport::parse(text)?;
        Ok(())
    }),
    ("lanes", |options, text| {
        let lanes = text.parse().ok().filter(|lanes| (1..=LANES_MAX).contains(lanes));
        options.engine.lanes =
            Some(lanes.ok_or_else(|| wrong(format!("use a number from 1 to {LANES_MAX}")))?);
        Ok(())
    }),
    ("sst-initial-timeout", |options, text| {
        options.engine.initial_timeout = timeout_or_off(text)?;
        Ok(())
    }),
    ("sst-idle-timeout", |options, text| {
        options.engine.idle_timeout = timeout_or_off(text)?;
        Ok(())
    }),
    ("donor-timeout", |options, text| {
        options.engine.connect_timeout = timeout(text)?;
        Ok(())
    }),
    ("sst-reconnect-timeout", |options, text| {
        options.engine.reconnect_timeout = timeout(text)?;
        Ok(())
    }),
    ("sst-lock-timeout", |options, text| {
        options.engine.freeze_timeout = timeout(text)?;
        Ok(())
    }),
    ("sst-max-binlogs", |options, text| {
        let accepted = || wrong("use a number, 0 for none, -1 for all".to_owned());
        options.max_binlogs = text.parse().map_err(|_not_a_number| accepted())?;
        Ok(())
    }),
    ("data-directory", |options, text| {
        let path = Some(PathBuf::from(text)).filter(|path| path.is_absolute());
        let accepted = || wrong("use an absolute path".to_owned());
        options.data_directory = Some(path.ok_or_else(accepted)?);
        Ok(())
    }),
    ("cpat", |options, text| {
        options.cpat = Some(KeepPattern::parse(text).map_err(wrong)?);
        Ok(())
    }),
];

/// Other names of a key, taken when the key itself is not given.
const ALIASES: [(&str, &str); 1] = [("joiner-timeout", "sst-initial-timeout")];

/// Keys of the stock methods that ask for something fastsst does in its own way.
const FOREIGN: [&str; 45] = [
    "backup-threads",
    "compress-chunk-size",
    "compress-threads",
    "compressor",
    "decompressor",
    "encrypt",
    "encrypt-algo",
    "encrypt-chunk-size",
    "encrypt-format",
    "encrypt-key",
    "encrypt-key-file",
    "encrypt-threads",
    "inno-apply-opts",
    "inno-backup-opts",
    "inno-move-opts",
    "ncsockopt",
    "progress",
    "rebuild",
    "sockopt",
    "ssl-ca",
    "ssl-capath",
    "ssl-cert",
    "ssl-client-ca",
    "ssl-client-capath",
    "ssl-client-cert",
    "ssl-client-key",
    "ssl-dhparams",
    "ssl-key",
    "ssl-mode",
    "ssl-server-ca",
    "ssl-server-capath",
    "ssl-server-cert",
    "ssl-server-key",
    "sst-log-archive",
    "sst-log-archive-dir",
    "sst-special-dirs",
    "sst-syslog",
    "streamfmt",
    "tca",
    "tcapath",
    "tcert",
    "time",
    "tkey",
    "tmpdir",
    "transferfmt",
];

impl SstOptions {
    /// Reads the group. Warnings go to the log.
    ///
    /// # Errors
    /// E01 (or E29 for what a later release will have) with group, key, value and what is accepted.
    pub(crate) fn from_group(sst: &ServerArgs) -> Result<Self> {
        let mut options = Self::default();
        for (key, apply) in KEYS {
            let Some((name, text)) = given(sst, key) else { continue };
            apply(&mut options, text).map_err(|error| {
                Error::new(error.code(), format!("my.cnf [sst] {name}={text}: {}", error.what()))
            })?;
        }
        warn_of_the_rest(sst);
        Ok(options)
    }
}

/// The name and value under which a key is given.
fn given<'a>(sst: &'a ServerArgs, key: &'static str) -> Option<(&'static str, &'a str)> {
    let aliases = ALIASES.iter().filter(|(_, of)| *of == key).map(|(alias, _)| *alias);
    std::iter::once(key)
        .chain(aliases)
        .find(|name| sst.is_set(name))
        .map(|name| (name, sst.value(name).unwrap_or_default()))
}

fn warn_of_the_rest(sst: &ServerArgs) {
    let known = |name: &str| {
        KEYS.iter().any(|(key, _)| *key == name) || ALIASES.iter().any(|(alias, _)| *alias == name)
    };
    for (name, _) in sst.iter() {
        if FOREIGN.contains(&name) {
            tracing::warn!("my.cnf [sst] {name} belongs to other SST methods and is not used");
        } else if !known(name) {
            tracing::warn!("my.cnf [sst] {name} is unknown and ignored");
        }
    }
}

/// On or off, as the server's option files write it.
fn switch(text: &str) -> Result<bool> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "1" | "true" | "yes" => Ok(true),
        "off" | "0" | "false" | "no" => Ok(false),
        _ => Err(wrong("use on or off".to_owned())),
    }
}

fn timeout(text: &str) -> Result<Duration> {
    seconds(text).filter(|time| !time.is_zero()).ok_or_else(|| wrong(seconds_accepted("1")))
}

fn timeout_or_off(text: &str) -> Result<Option<Duration>> {
    let time = seconds(text).ok_or_else(|| wrong(seconds_accepted("0 (off)")))?;
    Ok((!time.is_zero()).then_some(time))
}

fn seconds(text: &str) -> Option<Duration> {
    text.parse().ok().filter(|seconds| *seconds <= TIMEOUT_SECONDS_MAX).map(Duration::from_secs)
}

fn seconds_accepted(least: &str) -> String {
    format!("use seconds from {least} to {TIMEOUT_SECONDS_MAX}")
}

fn wrong(accepted: String) -> Error {
    Error::new(Code::Usage, accepted)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(text: &str) -> Result<SstOptions> {
        SstOptions::from_group(&ServerArgs::parse_lines(text))
    }

    #[test]
    fn an_empty_group_is_the_default() {
        let options = read("").unwrap();
        assert_eq!(options.engine.initial_timeout, Some(Duration::from_secs(300)));
        assert!(options.cpat.is_none());
    }

    #[test]
    fn every_key_reaches_the_engine() {
        let options = read(
            "--rlimit=100m\n--compress=zstd:3\n--polite=ON\n--transport=quic\n--lanes=8\n\
             --sst_initial_timeout=0\n--sst-idle-timeout=7\n--donor-timeout=8\n\
             --sst-lock-timeout=9\n--sst-reconnect-timeout=10\n--cpat=.*\\.keep$\n--sst-max-binlogs=-1\n--data-directory=/d\n--streamfmt=mbstream\n--nonsense=1\n",
        )
        .unwrap();
        let engine = options.engine;
        assert_eq!(engine.rlimit, Some(100 << 20));
        assert_eq!(engine.compress, Compress::Zstd(3));
        assert!(engine.polite);
        assert_eq!(engine.transport, Transport::Quic);
        assert_eq!(engine.lanes, Some(8));
        assert_eq!(engine.initial_timeout, None);
        assert_eq!(engine.idle_timeout, Some(Duration::from_secs(7)));
        assert_eq!(engine.connect_timeout, Duration::from_secs(8));
        assert_eq!(engine.freeze_timeout, Duration::from_secs(9));
        assert_eq!(engine.reconnect_timeout, Duration::from_secs(10));
        assert!(options.cpat.is_some());
        assert_eq!(options.max_binlogs, -1);
        assert_eq!(options.data_directory.as_deref(), Some(Path::new("/d")));
    }

    #[test]
    fn every_key_is_explained_to_operators() {
        for text in [include_str!("../../docs/OPERATIONS.md"), crate::HELP] {
            for (key, _) in KEYS {
                assert!(text.contains(key), "{key}");
            }
        }
    }

    #[test]
    fn wrong_values_name_group_key_value_and_what_is_accepted() {
        let cases = [
            ("--lanes=many", "my.cnf [sst] lanes=many: use a number from 1 to 64"),
            ("--lanes=0", "from 1 to 64"),
            ("--polite=rather", "my.cnf [sst] polite=rather: use on or off"),
            ("--lanes", "my.cnf [sst] lanes=: use a number"),
            ("--rlimit=fast", "my.cnf [sst] rlimit=fast"),
            ("--compress=lz4", "auto, none, zstd"),
            ("--transport=pigeon", "auto, quic or tcp"),
            ("--sst-idle-timeout=-1", "seconds from 0 (off) to"),
            ("--joiner-timeout=soon", "my.cnf [sst] joiner-timeout=soon"),
            ("--sst-lock-timeout=0", "seconds from 1 to"),
            (
                "--sst-reconnect-timeout=0",
                "my.cnf [sst] sst-reconnect-timeout=0: use seconds from 1",
            ),
            ("--sst-max-binlogs=few", "my.cnf [sst] sst-max-binlogs=few: use a number"),
            ("--data-directory=x", "my.cnf [sst] data-directory=x: use an absolute path"),
            ("--cpat=[", "my.cnf [sst] cpat="),
        ];
        for (text, expected) in cases {
            let error = read(text).unwrap_err();
            assert_eq!(error.code(), Code::Usage, "{text}");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
