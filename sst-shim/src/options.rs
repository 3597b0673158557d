//! The `[sst]` group: what an operator can choose.
//!
//! A key that is unknown is warned about, with the name that may have been meant; a value that is
//! wrong is refused, as the operator meant something and would not get it.

mod compressor;
mod nearest;
mod stock;

use std::path::PathBuf;
use std::time::Duration;

use fastsst_mover::options::{Compress, Options, Transport, parse_bytes};
use fastsst_mover::{Code, Error, Result};
use fastsst_proto::limits::LANES_MAX;

use self::nearest::nearest;
use self::stock::STOCK;
use crate::config::Config;
use crate::keep_pattern::KeepPattern;
use crate::server_args::ServerArgs;
use crate::tls;

/// Longest timeout that is accepted. Unit: seconds. Why: 30 days; more is a typing error.
const TIMEOUT_SECONDS_MAX: u64 = 30 * 24 * 3600;

/// Most threads of one kind that are accepted. Why: more than any machine's cores is a typing
/// error.
const THREADS_MAX: usize = 1024;

/// How many binary logs go along. Source: `wsrep_sst_rsync` (contract 4.2).
const BINLOGS_DEFAULT: i64 = 1;

/// The choices of one node.
#[derive(Debug)]
pub(crate) struct SstOptions {
    /// What the engine takes.
    pub(crate) engine: Options,
    /// Further names that belong to the node.
    pub(crate) cpat: Option<KeepPattern>,
    /// How many of the newest binary logs go along; 0: none, negative: all.
    pub(crate) max_binlogs: i64,
    /// Where a joiner puts tables that have a directory of their own; absent: where the donor has
    /// them.
    pub(crate) data_directory: Option<PathBuf>,
    /// Where the progress lines go.
    pub(crate) progress: ProgressTo,
    /// Whether the log lines go to syslog, too.
    pub(crate) syslog: Syslog,
}

/// Where the progress lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ProgressTo {
    /// To the log, as all lines.
    Log,
    /// Nowhere.
    Nowhere,
    /// To the end of this file.
    File(PathBuf),
}

/// Whether the log lines go to syslog, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syslog {
    /// They do.
    Also,
    /// Only standard error, which is the server's error log.
    No,
}

impl Default for SstOptions {
    fn default() -> Self {
        Self {
            engine: Options::default(),
            cpat: None,
            max_binlogs: BINLOGS_DEFAULT,
            data_directory: None,
            progress: ProgressTo::Log,
            syslog: Syslog::No,
        }
    }
}

/// Reads one value into its place; the words of the error say what is accepted.
type Apply = fn(&mut SstOptions, &str) -> Result<()>;

/// Every key that means something, with what reads it.
const KEYS: [(&str, Apply); 16] = [
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
    ("threads", |options, text| {
        options.engine.threads = threads(text)?;
        Ok(())
    }),
    ("sst-max-binlogs", |options, text| {
        options.max_binlogs = text.parse().map_err(|_not_a_number| {
            wrong("use a number of binary logs, 0 for none or -1 for all".to_owned())
        })?;
        Ok(())
    }),
    ("progress", |options, text| {
        options.progress = progress(text)?;
        Ok(())
    }),
    ("sst-syslog", |options, text| {
        options.syslog = if switch(text)? { Syslog::Also } else { Syslog::No };
        Ok(())
    }),
];

/// Other names of a key, taken when the key itself is not given.
const ALIASES: [(&str, &str); 3] = [
    ("joiner-timeout", "sst-initial-timeout"),
    ("backup-threads", "threads"),
    ("compress-threads", "threads"),
];

/// Names that count more in the server's own groups than in `[sst]`, as in the stock scripts.
/// Source: contract 6.1.
const FROM_SERVER: [&str; 2] = ["backup-threads", "sst-max-binlogs"];

impl SstOptions {
    /// Reads the options of one node. Warnings and notes go to the log.
    ///
    /// # Errors
    /// E01, or E29 for what does not exist here, with group, key, value and what is accepted.
    pub(crate) fn read(config: &Config) -> Result<Self> {
        let mut options = Self::default();
        // First, so that our own keys win.
        for (key, answer) in STOCK.iter().filter(|(key, _)| config.sst.is_set(key)) {
            let value = config.sst.value(key).unwrap_or_default();
            answer.apply(key, value, &mut options).map_err(|error| {
                Error::new(error.code(), format!("my.cnf [sst] {key}: {}", error.what()))
            })?;
        }
        for (key, apply) in KEYS {
            let Some((group, name, text)) = given(config, key) else { continue };
            apply(&mut options, text).map_err(|error| {
                let what = error.what();
                Error::new(error.code(), format!("my.cnf [{group}] {name}={text}: {what}"))
            })?;
        }
        warn_of_the_rest(&config.sst);
        Ok(options)
    }
}

/// The group, name and value under which a key is given.
fn given<'a>(
    config: &'a Config,
    key: &'static str,
) -> Option<(&'static str, &'static str, &'a str)> {
    let aliases = ALIASES.iter().filter(|(_, of)| *of == key).map(|(alias, _)| *alias);
    std::iter::once(key).chain(aliases).find_map(|name| {
        let of_server = FROM_SERVER.contains(&name).then(|| config.server.value(name)).flatten();
        let of_sst = || config.sst.is_set(name).then(|| config.sst.value(name).unwrap_or_default());
        of_server
            .map(|value| ("mysqld", name, value))
            .or_else(|| of_sst().map(|value| ("sst", name, value)))
    })
}

/// Every name that is not unknown.
fn known_names() -> impl Iterator<Item = &'static str> {
    let keys = KEYS.iter().map(|(key, _)| *key);
    let aliases = ALIASES.iter().map(|(alias, _)| *alias);
    keys.chain(aliases).chain(STOCK.iter().map(|(key, _)| *key)).chain(tls::OPTIONS)
}

fn warn_of_the_rest(sst: &ServerArgs) {
    for (name, _) in sst.iter() {
        if !known_names().any(|known| known == name) {
            match nearest(name, known_names()) {
                Some(meant) => {
                    tracing::warn!("my.cnf [sst] {name} is unknown; did you mean {meant}?");
                }
                None => tracing::warn!("my.cnf [sst] {name} is unknown and ignored"),
            }
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

/// A number of threads; 0, as for the stock methods: as many as there are cores.
fn threads(text: &str) -> Result<Option<usize>> {
    let threads = text.parse().ok().filter(|threads| *threads <= THREADS_MAX);
    let threads = threads.ok_or_else(|| {
        wrong(format!("use a number from 1 to {THREADS_MAX}, or 0 for all cores"))
    })?;
    Ok((threads > 0).then_some(threads))
}

/// Where the stock script's progress meter would write.
fn progress(text: &str) -> Result<ProgressTo> {
    match text {
        "1" => Ok(ProgressTo::Log),
        "0" | "none" => Ok(ProgressTo::Nowhere),
        path if path.starts_with('/') => Ok(ProgressTo::File(PathBuf::from(path))),
        _ => Err(wrong("use 1 (the server's error log), none or an absolute path".to_owned())),
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
    use super::*;

    fn config(sst: &str, server: &str) -> Config {
        Config { server: ServerArgs::parse_lines(server), sst: ServerArgs::parse_lines(sst) }
    }

    fn read(sst: &str) -> Result<SstOptions> {
        SstOptions::read(&config(sst, ""))
    }

    #[test]
    fn an_empty_group_is_the_default() {
        let options = read("").unwrap();
        assert_eq!(options.engine.initial_timeout, Some(Duration::from_secs(300)));
        assert!(options.cpat.is_none() && options.engine.threads.is_none());
        assert_eq!((options.max_binlogs, options.syslog), (1, Syslog::No));
        assert_eq!(options.progress, ProgressTo::Log);
    }

    #[test]
    fn every_key_reaches_the_engine() {
        let options = read(
            "--rlimit=100m\n--compress=zstd:3\n--polite=ON\n--transport=quic\n--lanes=8\n\
             --sst_initial_timeout=0\n--sst-idle-timeout=7\n--donor-timeout=8\n\
             --sst-lock-timeout=9\n--sst-reconnect-timeout=10\n--cpat=.*\\.keep$\n\
             --streamfmt=mbstream\n--nonsense=1\n--threads=5\n--sst-max-binlogs=-1\n\
             --progress=none\n--sst_syslog=1\n--data-directory=/d\n",
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
        assert_eq!(engine.threads, Some(5));
        assert!(options.cpat.is_some());
        assert_eq!((options.max_binlogs, options.syslog), (-1, Syslog::Also));
        assert_eq!(options.progress, ProgressTo::Nowhere);
        assert_eq!(options.data_directory, Some(PathBuf::from("/d")));
    }

    #[test]
    fn threads_have_the_names_of_the_stock_methods_and_their_order_of_groups() {
        let threads = |sst: &str, server: &str| {
            SstOptions::read(&config(sst, server)).unwrap().engine.threads
        };
        assert_eq!(threads("--compress-threads=2", ""), Some(2));
        assert_eq!(threads("--compress-threads=2\n--backup-threads=3", ""), Some(3));
        assert_eq!(threads("--backup-threads=3", "--backup-threads=4"), Some(4));
        assert_eq!(threads("--threads=0\n--backup-threads=3", "--backup-threads=4"), None);
        assert_eq!(threads("", "--threads=5\n--compress-threads=6"), None, "not the server's");
        let error = SstOptions::read(&config("", "--sst-max-binlogs=few")).unwrap_err();
        assert!(error.to_string().contains("my.cnf [mysqld] sst-max-binlogs=few"), "{error}");
    }

    #[test]
    fn a_compressor_is_mapped_and_compress_wins() {
        let compress = |sst: &str| read(sst).unwrap().engine.compress;
        assert_eq!(compress("--compressor=zstd -5"), Compress::Zstd(5));
        assert_eq!(compress("--compress=none\n--compressor=zstd -5"), Compress::None);
        assert_eq!(compress("--compressor=my-own"), Compress::Auto);
        assert_eq!(read("--compressor").unwrap_err().code(), Code::Usage);
    }

    #[test]
    fn what_does_not_exist_is_refused_without_showing_secrets() {
        for refused in ["--encrypt-key=c3c3c3", "--encrypt-algo=AES256"] {
            let error = read(refused).unwrap_err();
            assert_eq!(error.code(), Code::Unsupported, "{refused}");
            assert!(error.to_string().contains("TLS 1.3"), "{error}");
            assert!(!error.to_string().contains("c3c3"), "{error}");
        }
        for accepted in ["--encrypt=0", "--encrypt=4"] {
            read(accepted).unwrap();
        }
    }

    #[test]
    fn progress_goes_where_it_is_told() {
        let progress = |value: &str| read(&format!("--progress={value}")).map(|it| it.progress);
        assert_eq!(progress("1").unwrap(), ProgressTo::Log);
        assert_eq!(progress("/x/y").unwrap(), ProgressTo::File(PathBuf::from("/x/y")));
        assert!(progress("somewhere").unwrap_err().to_string().contains("absolute path"));
    }

    #[test]
    fn no_name_is_known_twice() {
        let mut names: Vec<_> = known_names().collect();
        let before = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), before);
    }

    /// Rows of the table of stock options, as the names in their first cell and the rest.
    fn rows_of_stock_options() -> Vec<(Vec<String>, String)> {
        let text = include_str!("../../docs/OPERATIONS.md");
        let (_, text) = text.split_once("\n### Options of other methods\n").unwrap();
        let rows = text.split("\n#").next().unwrap().lines().filter(|l| l.starts_with("| `"));
        rows.map(|row| {
            let (names, rest) = row[2..].split_once(" | ").unwrap();
            let names = names.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            (names, rest.to_owned())
        })
        .collect()
    }

    #[test]
    fn the_table_of_stock_options_says_what_the_code_does() {
        let rows = rows_of_stock_options();
        for (key, answer) in STOCK {
            let mut found = rows.iter().filter(|(names, _)| names.iter().any(|name| name == key));
            let (_, row) = found.next().unwrap_or_else(|| panic!("no row for {key}"));
            assert!(row.starts_with(answer.word()), "{key}: {row}");
            assert!(found.next().is_none(), "two rows for {key}");
        }
        for name in rows.iter().flat_map(|(names, _)| names) {
            assert!(known_names().any(|known| known == name), "{name} is in the table only");
        }
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
            ("--cpat=[", "my.cnf [sst] cpat="),
        ];
        for (text, expected) in cases {
            let error = read(text).unwrap_err();
            assert_eq!(error.code(), Code::Usage, "{text}");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
