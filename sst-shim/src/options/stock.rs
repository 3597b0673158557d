//! Options of the stock methods: what becomes of each here.
//!
//! Nobody who changes the method has to clean up `[sst]` first. What has a meaning here has it
//! under its old name; the rest gets one line that says why it is not needed, and what asks for
//! something that does not exist is refused with what to use instead.

use fastsst_mover::{Code, Error, Result};

use super::compressor::nearest_compress;
use super::{SstOptions, wrong};

/// What becomes of an option.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    /// Nothing to do; the words say why. Values that ask for what is done anyway get no line.
    Note {
        /// Values that need no words.
        silent: &'static [&'static str],
        /// Why it is not needed.
        why: &'static str,
    },
    /// It asks for what does not exist; the words say what to use instead.
    Refused {
        /// What to use instead.
        instead: &'static str,
    },
    /// `compressor`, which has a nearest value of `compress`.
    Compressor,
}

/// An option that is not needed, whatever its value.
const fn note(why: &'static str) -> Answer {
    Answer::Note { silent: &[], why }
}

const FORMAT: &str = "fastsst has a format of its own";
const TRANSPORT: &str = "fastsst brings its own transport; see transport and lanes";
const BACKUP: &str = "no backup program runs, and nothing has to be prepared on the joiner";
const LOG: &str = "every line is in the server's error log, and there are no other logs to keep";
const KEY_BASED: &str = "the key-based encryption of encrypt=1 does not exist here; remove the \
    encrypt-* options: every transfer is encrypted with TLS 1.3 and a key of its own";

/// Every option of the stock methods that is not one of ours. Source: contract 5.2.
pub(super) const STOCK: [(&str, Answer); 30] = [
    ("streamfmt", note(FORMAT)),
    ("xbstream-opts", note(FORMAT)),
    ("transferfmt", note(TRANSPORT)),
    ("sockopt", note(TRANSPORT)),
    ("ncsockopt", note(TRANSPORT)),
    ("transfer-fifo-streams", note(TRANSPORT)),
    ("ssl-dhparams", note("TLS 1.3 has no parameters to choose")),
    ("encrypt-algo", Answer::Refused { instead: KEY_BASED }),
    ("encrypt-key", Answer::Refused { instead: KEY_BASED }),
    ("encrypt-key-file", Answer::Refused { instead: KEY_BASED }),
    ("encrypt-format", Answer::Refused { instead: KEY_BASED }),
    ("encrypt-threads", Answer::Refused { instead: KEY_BASED }),
    ("encrypt-chunk-size", Answer::Refused { instead: KEY_BASED }),
    ("compressor", Answer::Compressor),
    ("decompressor", note("each chunk says how it is compressed; see compress")),
    ("compress-chunk-size", note("a chunk is 1 MiB")),
    (
        "time",
        Answer::Note { silent: &["0", "1"], why: "how long everything took is always logged" },
    ),
    ("use-extra", Answer::Note { silent: &["0"], why: "fastsst does not connect to the server" }),
    (
        "sst-special-dirs",
        Answer::Note {
            silent: &["1"],
            why: "the directories of undo logs, redo log and system tablespace are always looked \
                at",
        },
    ),
    ("inno-backup-opts", note(BACKUP)),
    ("inno-apply-opts", note(BACKUP)),
    ("inno-move-opts", note(BACKUP)),
    ("use-memory", note(BACKUP)),
    ("rebuild", Answer::Note { silent: &["0"], why: BACKUP }),
    ("sst-log-archive", Answer::Note { silent: &["0"], why: LOG }),
    ("sst-log-archive-dir", note(LOG)),
    ("wsrep-debug", note("how much is logged does not depend on it")),
    ("tmpdir", note("what arrives is kept in .fastsst/ below the datadir, where it needs no copy")),
    (
        "wsrep-sst-tmp-dir",
        note("what arrives is kept in .fastsst/ below the datadir, where it needs no copy"),
    ),
    ("wsrep-sst-auth", note("fastsst does not log in to the server, and needs no account")),
];

impl Answer {
    /// Does what there is to do for `name=value`.
    ///
    /// # Errors
    /// E29 with what to use instead, without the place.
    pub(super) fn apply(self, name: &str, value: &str, options: &mut SstOptions) -> Result<()> {
        match self {
            Self::Note { silent, .. } if silent.contains(&value) => {}
            Self::Note { why, .. } => {
                tracing::info!("my.cnf [sst] {name} is not needed: {why}");
            }
            Self::Refused { instead } => {
                // Not the value: encrypt-key is a secret.
                return Err(Error::new(Code::Unsupported, instead));
            }
            Self::Compressor => take_compressor(value, options)?,
        }
        Ok(())
    }

    /// The word of the table for operators.
    #[cfg(test)]
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Note { .. } => "not needed",
            Self::Refused { .. } => "refused",
            Self::Compressor => "mapped",
        }
    }
}

fn take_compressor(filter: &str, options: &mut SstOptions) -> Result<()> {
    if filter.is_empty() {
        return Err(wrong("write compress=zstd:3 instead of a filter".to_owned()));
    }
    match nearest_compress(filter) {
        Some(compress) => {
            tracing::info!("my.cnf [sst] compressor={filter} is taken as compress={compress}");
            options.engine.compress = compress;
        }
        None => tracing::warn!(
            "my.cnf [sst] compressor={filter} is not used: fastsst runs no filters; write \
             compress=zstd:3 (more: zstd:9, less: zstd:-1), or compress=none"
        ),
    }
    Ok(())
}
