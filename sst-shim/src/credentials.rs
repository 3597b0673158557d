//! How the joiner's token reaches the donor: the environment, or standard input.
//!
//! MariaDB up to 11.5 puts what stood before the `@` into the environment; later ones write it to
//! the script's standard input (contract 1.6). Older servers leave standard input as they
//! inherited it, so it is read only when a token is still missing, never from a terminal, and
//! with a deadline.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use fastsst_mover::{Code, Error, Result};
use fastsst_proto::Secret;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zeroize::Zeroizing;

use crate::address::{parse_credentials, parse_token};

const VARIABLE: &str = "WSREP_SST_OPT_REMOTE_AUTH";

/// The key on standard input; the user beside it says nothing.
const KEY: &str = "sst_remote_password";

/// The key of the donor's own account, and how the name of one made for one SST begins. Source:
/// MariaDB 11.6 and newer (contract 1.6).
const ACCOUNT_KEY: &str = "sst_user";
const TEMPORARY_ACCOUNT: &str = "wsrep.sst.";

/// How long the server may take to write. Why: it may create an account before (contract 1.6).
const PATIENCE: Duration = Duration::from_secs(5);

/// Most that is read. Why: four short lines are expected.
const INPUT_BYTES_MAX: usize = 4096;

/// The token the joiner sent along with its request.
///
/// # Errors
/// E10 when the server handed over none, or something else.
pub(crate) fn token() -> Result<Secret> {
    if let Ok(text) = std::env::var(VARIABLE).map(Zeroizing::new)
        && !text.is_empty()
        && *text != "(null)"
    {
        return parse_credentials(&text);
    }
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Err(missing());
    }
    let text = read_until_key(&stdin)?;
    if has_temporary_account(&text) {
        tracing::info!(
            "the server made an account with all privileges for this transfer, which fastsst does \
             not use; set wsrep_sst_auth='fastsst:none' on all nodes and it makes none"
        );
    }
    value_of(KEY, &text).map_or_else(|| Err(missing()), parse_token)
}

fn read_until_key(input: &io::Stdin) -> Result<Zeroizing<String>> {
    // The capacity is final, so no reallocation leaves a copy of the token behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(INPUT_BYTES_MAX));
    let deadline = Instant::now() + PATIENCE;
    while bytes.len() < INPUT_BYTES_MAX && !has_complete_key(&bytes) {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout =
            Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        let ready = poll(&mut [PollFd::new(input, PollFlags::IN)], Some(&timeout));
        match ready {
            Ok(0) => break,
            Err(rustix::io::Errno::INTR) => continue,
            Ok(_) | Err(_) => {}
        }
        let mut part = Zeroizing::new([0; INPUT_BYTES_MAX]);
        let room = INPUT_BYTES_MAX - bytes.len();
        let got = rustix::io::read(input, &mut part[..room])
            .map_err(|error| Error::read("standard input", error.into()))?;
        if got == 0 {
            break;
        }
        bytes.extend_from_slice(&part[..got]);
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| missing().because(error))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn has_complete_key(bytes: &[u8]) -> bool {
    let complete =
        bytes.iter().rposition(|byte| *byte == b'\n').map_or(&bytes[..0], |end| &bytes[..end]);
    std::str::from_utf8(complete).is_ok_and(|text| value_of(KEY, text).is_some())
}

/// Whether the server made an account because no one is configured and it does not know the method.
fn has_temporary_account(text: &str) -> bool {
    value_of(ACCOUNT_KEY, text).is_some_and(|user| user.starts_with(TEMPORARY_ACCOUNT))
}

fn value_of<'a>(key: &str, text: &'a str) -> Option<&'a str> {
    text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))
}

fn missing() -> Error {
    Error::new(
        Code::Ticket,
        "the server handed over no token with the joiner's request; the joiner must run fastsst of \
         the same release",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_found_among_the_servers_lines() {
        let text = "sst_user=u\nsst_password=p\nsst_remote_user=fastsst\nsst_remote_password=t\n";
        assert_eq!(value_of(KEY, text), Some("t"));
        assert!(has_complete_key(text.as_bytes()));
        assert!(!has_complete_key(text.trim_end().as_bytes()), "the line is not complete yet");
        assert_eq!(value_of(KEY, "sst_password=p\n"), None);
    }

    #[test]
    fn only_an_account_that_the_server_made_is_spoken_of() {
        assert!(has_temporary_account("sst_user=wsrep.sst.261125_101112_n\nsst_password=p\n"));
        for text in ["sst_user=fastsst\n", "sst_user=mysql.pxc.sst.user\n", "", "sst_user\n"] {
            assert!(!has_temporary_account(text), "{text}");
        }
    }
}
