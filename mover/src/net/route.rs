//! How large a datagram the first hop to a peer takes.
//!
//! `getsockopt(IP_MTU)` would answer this, but no safe wrapper for it exists, and a bound is all
//! that is needed: path MTU discovery starts small and never goes beyond it. So: the loopback
//! interface when both ends are this machine, else the interface the routing table names.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Assumed when nothing better is known. Source: Ethernet.
const ETHERNET_MTU: u32 = 1500;

/// IPv4 header without options, and UDP header. Source: RFC 791, RFC 768.
const IPV4_UDP_HEADER_BYTES: u32 = 20 + 8;

/// IPv6 header and UDP header. Source: RFC 8200, RFC 768.
const IPV6_UDP_HEADER_BYTES: u32 = 40 + 8;

/// Smallest UDP payload a QUIC path must carry. Source: RFC 9000, section 14.
pub(super) const QUIC_DATAGRAM_BYTES_MIN: u16 = 1200;

/// Largest UDP payload of an Ethernet path over IPv6, good for either family.
pub(super) const ETHERNET_DATAGRAM_BYTES: u16 = 1452;

/// Largest UDP payload the first hop from `local` to `peer` takes without fragments.
pub(super) fn datagram_bytes_max(local: IpAddr, peer: IpAddr) -> u16 {
    let (local, peer) = (local.to_canonical(), peer.to_canonical());
    let headers = if peer.is_ipv4() { IPV4_UDP_HEADER_BYTES } else { IPV6_UDP_HEADER_BYTES };
    let payload = mtu(local, peer).saturating_sub(headers);
    u16::try_from(payload).unwrap_or(u16::MAX).max(QUIC_DATAGRAM_BYTES_MIN)
}

fn mtu(local: IpAddr, peer: IpAddr) -> u32 {
    let interface = match (local, peer) {
        (local, peer) if local == peer || peer.is_loopback() => Some("lo".to_owned()),
        (_, IpAddr::V4(peer)) => fs::read_to_string("/proc/net/route")
            .ok()
            .and_then(|table| interface_of_route(&table, peer)),
        (IpAddr::V6(local), IpAddr::V6(_)) => fs::read_to_string("/proc/net/if_inet6")
            .ok()
            .and_then(|table| interface_of_address(&table, local)),
        (IpAddr::V4(_), IpAddr::V6(_)) => None,
    };
    interface
        .and_then(|name| fs::read_to_string(format!("/sys/class/net/{name}/mtu")).ok())
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(ETHERNET_MTU)
}

/// The interface of the longest matching prefix in the format of `/proc/net/route`.
fn interface_of_route(table: &str, peer: Ipv4Addr) -> Option<String> {
    let peer = u32::from_ne_bytes(peer.octets());
    let mut best: Option<(u32, &str)> = None;
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(name), Some(destination), Some(mask)) =
            (fields.first(), fields.get(1), fields.get(7))
        else {
            continue;
        };
        // Both columns are the network-order bytes printed as one number of this machine.
        let (Ok(destination), Ok(mask)) =
            (u32::from_str_radix(destination, 16), u32::from_str_radix(mask, 16))
        else {
            continue;
        };
        let longer = best.is_none_or(|(bits, _)| mask.count_ones() > bits);
        if peer & mask == destination && longer {
            best = Some((mask.count_ones(), name));
        }
    }
    best.map(|(_, name)| name.to_owned())
}

/// The interface that has `local`, in the format of `/proc/net/if_inet6`.
fn interface_of_address(table: &str, local: Ipv6Addr) -> Option<String> {
    let wanted = format!("{:032x}", u128::from(local));
    table.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        (fields.next()? == wanted).then(|| fields.last().map(str::to_owned))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth1\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0
eth2\t0001000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_longest_prefix_wins() {
        let name = |ip: &str| interface_of_route(ROUTES, ip.parse().unwrap()).unwrap();
        assert_eq!(name("192.0.2.7"), "eth0");
        assert_eq!(name("10.9.9.9"), "eth1");
        assert_eq!(name("10.0.1.9"), "eth2");
        assert_eq!(interface_of_route("", Ipv4Addr::LOCALHOST), None);
        assert_eq!(interface_of_route("head\nnonsense\n", Ipv4Addr::LOCALHOST), None);
    }

    #[test]
    fn ipv6_goes_by_the_local_address() {
        let table = "fd000000000000000000000000000002 04 40 00 82     eth0\n";
        assert_eq!(
            interface_of_address(table, "fd00::2".parse().unwrap()).as_deref(),
            Some("eth0")
        );
        assert_eq!(interface_of_address(table, "fd00::3".parse().unwrap()), None);
    }

    #[test]
    fn loopback_is_large_and_an_unknown_route_is_ethernet_or_more() {
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert!(datagram_bytes_max(localhost, localhost) > 16_000);
        let documentation = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        let local = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
        assert!(datagram_bytes_max(local, documentation) >= QUIC_DATAGRAM_BYTES_MIN);
    }
}
