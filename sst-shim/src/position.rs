//! A replication position, as the server wrote it.

use std::fmt;

use fastsst_mover::{Code, Error, Result};
use fastsst_proto::limits::POSITION_BYTES_MAX;

use crate::args::{Gtid, Server};

/// `UUID:seqno`, perhaps with more words behind it that only the server understands.
///
/// Invariant: one line of printable ASCII that the server can parse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position(String);

impl Position {
    /// Takes the first line of what the donor's server wrote.
    ///
    /// # Errors
    /// The reason, without a place: the caller knows it.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii();
        if line.len() > POSITION_BYTES_MAX {
            return Err(format!("position has more than {POSITION_BYTES_MAX} bytes"));
        }
        let line = std::str::from_utf8(line)
            .ok()
            .filter(|line| line.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()))
            .ok_or("position is not plain text")?;
        let first = line.split(' ').next().unwrap_or_default();
        let (uuid, seqno) = first.split_once(':').ok_or("position lacks a colon")?;
        let is_uuid = uuid.len() == 36 && uuid.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit());
        if !is_uuid || seqno.parse::<i64>().is_err() {
            return Err(format!("{first:?} is not UUID:seqno"));
        }
        Ok(Self(line.to_owned()))
    }

    /// The position a bypass hands over, from the donor's arguments.
    ///
    /// # Errors
    /// E01 when the server gave none.
    pub(crate) fn of_bypass(gtid: &Gtid, server: Server) -> Result<Self> {
        let more: [&Option<String>; 2] = match server {
            Server::MysqlWsrep => [&gtid.local, &gtid.server_id],
            Server::MariaDb | Server::Pxc => [&gtid.domain_id, &None],
        };
        let mut text = gtid.gtid.clone().unwrap_or_default();
        for word in more.into_iter().flatten() {
            text.push(' ');
            text.push_str(word);
        }
        Self::parse(text.as_bytes()).map_err(|why| {
            Error::new(Code::Usage, format!("--gtid: {why}; the server passes it with --bypass"))
        })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// `UUID:seqno` alone.
    pub(crate) fn gtid(&self) -> &str {
        self.0.split(' ').next().unwrap_or_default()
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "61e1e4b5-9b5c-11ef-8a1c-0242ac110002";

    #[test]
    fn the_first_line_is_echoed_exactly() {
        let text = format!("{UUID}:17 3\n\n");
        let position = Position::parse(text.as_bytes()).unwrap();
        assert_eq!(position.as_str(), format!("{UUID}:17 3"));
        assert_eq!(position.gtid(), format!("{UUID}:17"));
    }

    #[test]
    fn what_a_server_could_not_parse_is_refused() {
        let long = format!("{UUID}:1 {}", "x".repeat(POSITION_BYTES_MAX));
        let wrong = [
            "",
            "nonsense",
            "x:1",
            &format!("{UUID}:"),
            &format!("{UUID}:1x"),
            &format!("{UUID}:1 \u{7}"),
            &long,
        ];
        for text in wrong {
            assert!(Position::parse(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(Position::parse(&[0xff, b':']).is_err());
    }

    #[test]
    fn a_bypass_takes_what_its_server_gave() {
        let gtid = Gtid {
            gtid: Some(format!("{UUID}:5")),
            domain_id: Some("2".to_owned()),
            local: Some(format!("{UUID}:9")),
            server_id: Some("7".to_owned()),
        };
        let text = |server| Position::of_bypass(&gtid, server).unwrap().to_string();
        assert_eq!(text(Server::MariaDb), format!("{UUID}:5 2"));
        assert_eq!(text(Server::MysqlWsrep), format!("{UUID}:5 {UUID}:9 7"));
        let error = Position::of_bypass(&Gtid::default(), Server::MariaDb).unwrap_err();
        assert_eq!(error.code(), Code::Usage);
    }
}
