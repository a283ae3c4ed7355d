//! Who is on the other end: the peer's address, or behind a configured proxy the one that the proxy tells.
//!
//! `X-Forwarded-For` is written by whoever sends the request; only what a trusted proxy has put at its end is true. So it
//! is read from the right, and the first address that is no trusted proxy is the sender.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

/// What stands for a connection without an address.
pub const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The sender's address.
pub fn sender(peer: Option<IpAddr>, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    let mut sender = peer.map_or(UNKNOWN, |address| address.to_canonical());
    let hops: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    for hop in hops.into_iter().rev() {
        if !is_trusted(sender) {
            break;
        }
        // What is no address was not written by a proxy that one can trust.
        let Some(address) = address(hop.trim()) else { break };
        sender = address.to_canonical();
    }
    sender
}

fn address(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_trusted_proxies_tell_is_believed() {
        let trusted: Vec<IpNet> =
            ["10.0.0.0/8", "fd00::/8"].iter().map(|text| text.parse().unwrap()).collect();
        let cases = [
            // peer, header, sender
            ("192.0.2.9", "203.0.113.1", "192.0.2.9"),
            ("10.0.0.1", "203.0.113.1", "203.0.113.1"),
            ("10.0.0.1", "1.1.1.1, 203.0.113.1, 10.2.3.4", "203.0.113.1"),
            ("10.0.0.1", "203.0.113.1:4711", "203.0.113.1"),
            ("fd00::1", "[2001:db8::5]:80", "2001:db8::5"),
            ("::ffff:10.0.0.1", "203.0.113.1", "203.0.113.1"),
            ("10.0.0.1", "nonsense", "10.0.0.1"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "203.0.113.1, nonsense", "10.0.0.1"),
        ];
        for (peer, header, expected) in cases {
            let headers: HeaderMap =
                [("x-forwarded-for".parse().unwrap(), header.parse().unwrap())].into_iter().collect();
            let found = sender(Some(peer.parse().unwrap()), &headers, &trusted);
            assert_eq!(found, expected.parse::<IpAddr>().unwrap(), "{peer}, {header:?}");
        }
        assert_eq!(sender(None, &HeaderMap::new(), &trusted), UNKNOWN);
    }
}
