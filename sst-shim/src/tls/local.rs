//! Whether a request points to this machine. Source: `is_local_ip` of `wsrep_sst_common`.

use std::net::{IpAddr, UdpSocket};

/// An address of this machine, or one of its names.
pub(super) fn is_local(host: &str) -> bool {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok();
    }
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy().into_owned();
    let short = name.split('.').next().unwrap_or_default();
    host == "localhost" || host == name || host == short
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
