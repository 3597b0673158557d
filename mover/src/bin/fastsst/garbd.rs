//! A copy of a running cluster: `garbd` asks it for a donor, whose SST script then comes here.
//!
//! What `garbd --sst METHOD:REQUEST` hands to the donor's server is what a joiner's script hands to
//! its own (`sst-shim/src/address.rs`): `USER:TOKEN@HOST:PORT/fastsst/1/PIN/no-binlogs`. The server takes what
//! stands before the `@` out of it, so on the donor the token is on no command line. On the machine
//! of `garbd` it is on none either when it comes from a file, by `garbd --cfg FILE`.

use std::path::Path;

use fastsst_mover::receive::{JoinerPolicy, Target};
use fastsst_mover::{Code, Error, Result};
use fastsst_proto::Declaration;
use fastsst_proto::ticket::Ticket;
use zeroize::Zeroizing;

use crate::private_file::PrivateFile;

/// Roots that a donor's script sends and that make up a data directory when they lie in one
/// directory, as they do for a server without options. Source: `sst-shim/src/parts.rs`.
const ROOTS: [&str; 5] = ["datadir", "innodb-data-home", "innodb-log", "innodb-undo", "aria-log"];

/// The root of a donor's binary logs. Source: `sst-shim/src/binlogs.rs`.
const BINLOG: &str = "binlog";

/// Takes a donor's data directory and all its parts into one directory.
#[derive(Debug)]
pub(crate) struct WholeDatadir;

impl JoinerPolicy for WholeDatadir {
    fn accept(&mut self, declaration: &Declaration) -> Result<Vec<Target>> {
        let target = |root: &String| match root.as_str() {
            part if ROOTS.contains(&part) => Ok(Target::known(0)),
            BINLOG => Err(Error::new(
                Code::Unsupported,
                "the request asks for binary logs, which a copy does not get; append /no-binlogs to it",
            )),
            other => Err(Error::new(
                Code::Unsupported,
                format!(
                    "the donor has tables outside of its datadir ({other}), which a copy cannot \
                     have; let a node join instead"
                ),
            )),
        };
        declaration.roots.iter().map(target).collect()
    }
}

/// Writes the file for `garbd --cfg`, readable by its owner only.
pub(crate) fn write_config(path: &Path, ticket: &Ticket) -> Result<()> {
    let text = config(ticket);
    PrivateFile::create("garbd file", path)?.publish(|out| out.write_all(text.as_bytes()))
}

fn config(ticket: &Ticket) -> Zeroizing<String> {
    let Ticket { host, port, token, .. } = ticket;
    let (pin, token) = (ticket.pin_hex(), token.to_hex());
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let token = token.as_str();
    Zeroizing::new(format!(
        "sst = fastsst:fastsst:{token}@{host}:{port}/fastsst/1/{pin}/no-binlogs\n"
    ))
}

#[cfg(test)]
mod tests {
    use fastsst_proto::Secret;

    use super::*;

    #[test]
    fn the_request_has_the_form_of_a_joiners() {
        for (host, written) in [("db1.example.com", "db1.example.com"), ("::1", "[::1]")] {
            let token = Secret::from_bytes([0xc3; 16]);
            let ticket = Ticket::from_parts(host, 4444, [0x5a; 32], token).unwrap();
            let (pin, token) = ("5a".repeat(32), "c3".repeat(16));
            let expected = format!(
                "sst = fastsst:fastsst:{token}@{written}:4444/fastsst/1/{pin}/no-binlogs\n"
            );
            assert_eq!(*config(&ticket), expected);
        }
    }
}
