//! Addresses: what the joiner is told to listen on, and what the donor gets to connect to.
//!
//! Request text: `[user:secret@]HOST:PORT/fastsst/1/PIN[/TOKEN][/no-binlogs]`, PIN and TOKEN
//! hexadecimal. The token stands in front where the server takes credentials out of the request,
//! which keeps it out of `ps`; only for a server that refuses `@` it stands in the path.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};

use fastsst_mover::{Code, Error, Result};
use fastsst_proto::{Secret, Ticket};
use zeroize::Zeroizing;

use crate::args::Server;
use crate::own_address;

/// Port when nobody names one, as for all SST methods.
const PORT_DEFAULT: u16 = 4444;

/// First and second part of the path: method and version of the request's form.
const METHOD: &str = "fastsst";
const VERSION: &str = "1";

/// Part of the path by which a joiner says that its server writes no binary logs.
const NO_BINLOGS: &str = "no-binlogs";

/// User name in front of the token; the server insists on one.
const USER: &str = "fastsst";

/// Where the joiner can be reached, as it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinerAddress {
    /// Name or address, IPv6 without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// What a donor learns from the request.
#[derive(Debug)]
pub(crate) struct DonorAddress {
    host: String,
    port: u16,
    pin: [u8; 32],
    /// The token, when the address itself carries it.
    token: Option<Secret>,
    /// Whether the joiner has a use for binary logs.
    pub(crate) history: History,
}

/// Whether a joiner has a use for binary logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum History {
    /// Its server writes them, too.
    Wanted,
    /// It writes none.
    Unwanted,
}

impl JoinerAddress {
    /// Reads `--address` and `--port`.
    ///
    /// # Errors
    /// E01 naming what is wrong.
    pub(crate) fn parse(address: &str, port_option: Option<&str>) -> Result<Self> {
        let address = address.split('/').next().unwrap_or_default();
        let (host, port) = split_host_port(address).map_err(|why| malformed(address, why))?;
        let port_option =
            port_option.map(|text| parse_port(text).map_err(|why| malformed(text, why)));
        let port = match (port, port_option.transpose()?) {
            (Some(port), Some(other)) if port != other => {
                return Err(Error::new(
                    Code::Usage,
                    format!("--address names port {port} but --port {other}; give one of them"),
                ));
            }
            (port, other) => port.or(other).unwrap_or(PORT_DEFAULT),
        };
        Ok(Self { host: host.to_owned(), port })
    }

    /// The address to bind: the host if it is this machine's, else all addresses.
    ///
    /// The host is how others reach this node, behind address translation not an address here.
    pub(crate) fn listen(&self) -> SocketAddr {
        let literal: Option<IpAddr> = self.host.parse().ok();
        let candidates: Vec<IpAddr> = match literal {
            Some(ip) => vec![ip],
            None => match (self.host.as_str(), 0).to_socket_addrs() {
                Ok(found) => found.map(|address| address.ip()).collect(),
                Err(error) => {
                    tracing::warn!("{} does not resolve here: {error}", self.host);
                    Vec::new()
                }
            },
        };
        // A name that means loopback here (Debian's 127.0.1.1) means something else elsewhere, and of
        // several addresses nobody knows which one a donor will take.
        let ip = match (literal, candidates.as_slice()) {
            (Some(ip), _) if own_address::is_own(ip) => ip,
            (None, [ip]) if !ip.is_loopback() && own_address::is_own(*ip) => *ip,
            (Some(IpAddr::V4(_)), _) => Ipv4Addr::UNSPECIFIED.into(),
            (Some(IpAddr::V6(_)) | None, _) => every_address(),
        };
        SocketAddr::new(ip, self.port)
    }

    /// The text behind `ready`.
    ///
    /// # Errors
    /// E01 for a host that the donor's server would refuse in a request.
    pub(crate) fn request(
        &self,
        ticket: &Ticket,
        server: Server,
        history: History,
    ) -> Result<Zeroizing<String>> {
        self.check_charset()?;
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        let place = format!("{host}:{}/{METHOD}/{VERSION}/{}", ticket.port, ticket.pin_hex());
        let token = ticket.token.to_hex();
        let more = match history {
            History::Wanted => String::new(),
            History::Unwanted => format!("/{NO_BINLOGS}"),
        };
        Ok(Zeroizing::new(match server {
            Server::MariaDb | Server::MysqlWsrep => format!("{USER}:{}@{place}{more}", *token),
            Server::Pxc => format!("{place}/{}{more}", *token),
        }))
    }

    /// Whether a server would carry the host in a request (contract 1.4).
    ///
    /// # Errors
    /// E01 naming the host.
    pub(crate) fn check_charset(&self) -> Result<()> {
        let carried = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
        match self.host.bytes().all(carried) {
            true => Ok(()),
            false => Err(malformed(
                &self.host,
                "servers carry only letters, digits and . _ : - in a request; set \
                 wsrep_sst_receive_address to such a name",
            )),
        }
    }
}

impl DonorAddress {
    /// Reads the request.
    ///
    /// # Errors
    /// E10 naming what is wrong, without repeating the text, which may hold a secret.
    pub(crate) fn parse(request: &str) -> Result<Self> {
        let (auth, place) = match request.rsplit_once('@') {
            Some((auth, place)) => (Some(auth), place),
            None => (None, request),
        };
        let mut parts = place.split('/');
        let (host, port) = split_host_port(parts.next().unwrap_or_default()).map_err(refused)?;
        match (parts.next(), parts.next()) {
            (Some(METHOD), Some(VERSION)) => {}
            (Some(METHOD), _) => {
                return Err(refused("it is made for another release of fastsst; use the same"));
            }
            _ => return Err(refused("the joiner does not run fastsst, or the text was cut")),
        }
        let pin = Ticket::pin_from_hex(parts.next().unwrap_or_default())
            .map_err(|error| refused("the key pin is not valid").because(error))?;
        let mut token = auth.map(parse_credentials).transpose()?;
        let mut history = History::Wanted;
        for (place, part) in parts.enumerate() {
            if part == NO_BINLOGS {
                history = History::Unwanted;
            } else if place == 0 {
                token = Some(parse_token(part)?);
            }
            // Later releases may add words.
        }
        let port = port.unwrap_or(PORT_DEFAULT);
        Ok(Self { host: host.to_owned(), port, pin, token, history })
    }

    /// The ticket, with a token from the address or else from `elsewhere`.
    ///
    /// # Errors
    /// Those of `elsewhere`; E10 for a host that cannot be one.
    pub(crate) fn ticket(self, elsewhere: impl FnOnce() -> Result<Secret>) -> Result<Ticket> {
        let token = match self.token {
            Some(token) => token,
            None => elsewhere()?,
        };
        Ticket::from_parts(self.host, self.port, self.pin, token)
            .map_err(|error| refused("the address is not valid").because(error))
    }
}

/// Reads `user:token`.
///
/// # Errors
/// E10 without repeating the text.
pub(crate) fn parse_credentials(text: &str) -> Result<Secret> {
    parse_token(text.split_once(':').map_or("", |(_, token)| token))
}

/// Reads the token alone.
///
/// # Errors
/// E10 without repeating the text.
pub(crate) fn parse_token(text: &str) -> Result<Secret> {
    Secret::from_hex(text.trim())
        .map_err(|error| refused("its secret is not a token of fastsst").because(error))
}

fn refused(why: &str) -> Error {
    Error::new(Code::Ticket, format!("the joiner's request cannot be used: {why}"))
}

fn malformed(text: &str, why: &str) -> Error {
    Error::new(Code::Usage, format!("address {text:?} is malformed: {why}"))
}

/// Splits `host`, `host:port`, `[v6]`, `[v6]:port` and a bare IPv6 address.
fn split_host_port(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    let text = text.trim();
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("the bracket is not closed")?;
        if host.parse::<Ipv6Addr>().is_err() && !host.contains('%') {
            return Err("brackets are for IPv6 addresses");
        }
        match rest {
            "" => (host, None),
            rest => {
                (host, Some(rest.strip_prefix(':').ok_or("a port follows the bracket with :")?))
            }
        }
    } else if text.parse::<Ipv6Addr>().is_ok() {
        (text, None)
    } else {
        match text.split_once(':') {
            None => (text, None),
            Some((_, port)) if port.contains(':') => {
                return Err("an IPv6 address with a port needs brackets");
            }
            Some((host, port)) => (host, Some(port)),
        }
    };
    let host = host.trim();
    if host.is_empty() {
        return Err("it names no host");
    }
    match port {
        None | Some("") => Ok((host, None)),
        Some(port) => parse_port(port).map(|port| (host, Some(port))),
    }
}

fn parse_port(text: &str) -> Result<u16, &'static str> {
    let text = text.trim();
    let port = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    port.filter(|port| *port != 0).ok_or("a port is a number from 1 to 65535")
}

/// All addresses of both families; the listeners take IPv4 on it, too. Without IPv6: all of IPv4.
fn every_address() -> IpAddr {
    match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)) {
        Ok(_) => Ipv6Addr::UNSPECIFIED.into(),
        Err(_) => Ipv4Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIN: &str = "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a";
    const TOKEN: &str = "c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3";

    fn ticket(host: &str) -> Ticket {
        Ticket::from_parts(host, 4445, [0x5a; 32], Secret::from_bytes([0xc3; 16])).unwrap()
    }

    #[test]
    fn addresses_with_and_without_port_and_brackets() {
        let cases = [
            ("10.0.0.7", None, "10.0.0.7", 4444),
            ("db1:5000", None, "db1", 5000),
            ("db1", Some("5000"), "db1", 5000),
            ("db1:5000", Some("5000"), "db1", 5000),
            ("[::1]:5000", None, "::1", 5000),
            ("[fe80::1]", None, "fe80::1", 4444),
            ("fe80::1", None, "fe80::1", 4444),
            (" db1:5000/rsync_sst ", None, "db1", 5000),
        ];
        for (text, option, host, port) in cases {
            let expected = JoinerAddress { host: host.to_owned(), port };
            assert_eq!(JoinerAddress::parse(text, option).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn malformed_addresses_are_refused() {
        let wrong = ["", ":4444", "[::1", "[db1]:1", "a:0", "a:x", "a:65536", "::1:x:1", "[::1]1"];
        for text in wrong {
            assert_eq!(JoinerAddress::parse(text, None).unwrap_err().code(), Code::Usage, "{text}");
        }
        assert!(JoinerAddress::parse("a:1", Some("2")).is_err());
        assert!(JoinerAddress::parse("a", Some("x")).is_err());
        assert!(JoinerAddress::parse("a,b", None).unwrap().check_charset().is_err());
    }

    #[test]
    fn a_local_address_is_bound_and_any_other_means_all() {
        let listen = |host: &str| JoinerAddress::parse(host, None).unwrap().listen().to_string();
        assert_eq!(listen("127.0.0.1:7"), "127.0.0.1:7");
        assert_eq!(listen("203.0.113.77:7"), "0.0.0.0:7");
        assert_eq!(listen("localhost:7").rsplit_once(':').map(|(_, port)| port), Some("7"));
        assert!(!listen("localhost:7").starts_with("127."));
    }

    #[test]
    fn the_request_is_understood_by_the_donor() {
        for host in ["db1.example.com", "::1"] {
            let address = JoinerAddress { host: host.to_owned(), port: 4444 };
            let text = address.request(&ticket(host), Server::Pxc, History::Unwanted).unwrap();
            let got = DonorAddress::parse(&text).unwrap().ticket(|| panic!("not asked")).unwrap();
            assert_eq!(got, ticket(host));

            let text = address.request(&ticket(host), Server::MariaDb, History::Wanted).unwrap();
            assert!(text.starts_with(&format!("fastsst:{TOKEN}@")));
            // The server takes the credentials away.
            let (_, place) = text.split_once('@').unwrap();
            let elsewhere = || parse_credentials(&format!("fastsst:{TOKEN}"));
            let got = DonorAddress::parse(place).unwrap().ticket(elsewhere).unwrap();
            assert_eq!(got, ticket(host));
            assert_eq!(DonorAddress::parse(&text).unwrap().token, Some(ticket(host).token));
        }
    }

    #[test]
    fn the_request_uses_only_what_servers_carry() {
        let address = JoinerAddress { host: "::1".to_owned(), port: 1 };
        let text = address.request(&ticket("::1"), Server::MariaDb, History::Wanted).unwrap();
        let (_, place) = text.rsplit_once('@').unwrap();
        assert!(place.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/[]-".contains(&b)));
        assert!(text.len() < 300);
    }

    #[test]
    fn foreign_and_cut_requests_are_refused_without_repeating_secrets() {
        let wrong = [
            "h:4444/rsync_sst".to_owned(),
            "h:4444".to_owned(),
            format!("h:4444/fastsst/2/{PIN}"),
            format!("h:4444/fastsst/1/{}", &PIN[1..]),
            format!("h:4444/fastsst/1/{PIN}/{}x", &TOKEN[1..]),
            format!("fastsst:{}x@h:4444/fastsst/1/{PIN}", &TOKEN[1..]),
            format!("{TOKEN}@h:4444/fastsst/1/{PIN}"),
            format!(":1/fastsst/1/{PIN}"),
        ];
        for text in wrong {
            let error = DonorAddress::parse(&text).unwrap_err();
            assert_eq!(error.code(), Code::Ticket, "{text}");
            assert!(!error.to_string().contains("c3c3"), "{error}");
        }
    }

    #[test]
    fn a_name_that_may_mean_any_address_is_listened_to_on_both_families() {
        let listen = |host: &str| JoinerAddress { host: host.to_owned(), port: 7 }.listen().ip();
        for host in ["localhost", "does-not-resolve.invalid"] {
            assert_eq!(listen(host), every_address(), "{host}");
        }
        assert_eq!(listen("127.0.0.1").to_string(), "127.0.0.1");
        assert_eq!(listen("192.0.2.1"), IpAddr::from(Ipv4Addr::UNSPECIFIED), "behind translation");
        assert_eq!(listen("2001:db8::1"), every_address());
    }
}
