//! Which addresses are this machine's. Source: `is_local_ip` of `wsrep_sst_common`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// An address of this machine, or one of its names.
pub(crate) fn is_local(host: &str) -> bool {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return is_own(ip);
    }
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy().into_owned();
    let short = name.split('.').next().unwrap_or_default();
    host == "localhost" || host == name || host == short
}

/// Whether this machine has the address: what is sent there comes from there. Not by binding: with
/// `ip_nonlocal_bind`, as machines with a floating address have it, that works with every address.
pub(crate) fn is_own(ip: IpAddr) -> bool {
    if ip.is_loopback() {
        return true;
    }
    let any = match ip {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let from = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((ip, 9))?;
        socket.local_addr()
    });
    from.is_ok_and(|from| from.ip() == ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_the_machines_own_names_are_local() {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        for host in ["127.0.0.1", "127.9.9.9", "::1", "localhost", &name] {
            assert!(is_local(host), "{host}");
        }
        for host in ["192.0.2.1", "2001:db8::1", "db.example", ""] {
            assert!(!is_local(host), "{host}");
        }
    }
}
