//! Where a request comes from.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap};

use crate::App;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The client's address: the one that the connection comes from, or, behind that many proxies of ours, the one that the
/// outermost of them saw. Each appends what it sees to `X-Forwarded-For`; what stands further left the client may have
/// made up.
pub fn client_address(extensions: &Extensions, headers: &HeaderMap, trusted_proxies: usize) -> IpAddr {
    let peer = extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |ConnectInfo(peer)| peer.ip());
    forwarded(headers, trusted_proxies).unwrap_or(peer).to_canonical()
}

/// [`client_address`], for handlers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

impl FromRequestParts<App> for ClientAddress {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        Ok(Self(client_address(
            &parts.extensions,
            &parts.headers,
            app.trusted_proxies,
        )))
    }
}

fn forwarded(headers: &HeaderMap, trusted_proxies: usize) -> Option<IpAddr> {
    let seen_from_the_right = headers
        .get_all(FORWARDED_FOR)
        .iter()
        .rev()
        .flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
    let address = seen_from_the_right.take(trusted_proxies).last()?.trim();
    let with_port = || address.parse::<SocketAddr>().ok().map(|address| address.ip());
    let bare = address
        .strip_prefix('[')
        .and_then(|address| address.strip_suffix(']'));
    bare.unwrap_or(address).parse().ok().or_else(with_port)
}

/// What is counted as one client: an IPv4 address, or an IPv6 network of 64 bits, which is what one customer gets at least
/// (RFC 6177) and can take any address of.
pub fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() >> 64 << 64,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn address(peer: &str, forwarded: &[&'static str], trusted_proxies: usize) -> String {
        let mut extensions = Extensions::new();
        extensions.insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 1)));
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, HeaderValue::from_static(value));
        }
        client_address(&extensions, &headers, trusted_proxies).to_string()
    }

    #[test]
    fn without_proxies_of_ours_the_header_is_not_believed() {
        assert_eq!(address("192.0.2.1", &["203.0.113.9"], 0), "192.0.2.1");
        assert_eq!(address("::ffff:192.0.2.1", &[], 0), "192.0.2.1");
    }

    #[test]
    fn behind_proxies_the_outermost_one_says_who_asked() {
        for (forwarded, proxies, expected) in [
            (["203.0.113.9"].as_slice(), 1, "203.0.113.9"),
            (&["10.9.9.9, 203.0.113.9"], 1, "203.0.113.9"),
            (&["10.9.9.9, 203.0.113.9,192.0.2.7"], 2, "203.0.113.9"),
            (&["10.9.9.9", "203.0.113.9", "192.0.2.7"], 2, "203.0.113.9"),
            (&["203.0.113.9:4711"], 1, "203.0.113.9"),
            (&["[2001:db8::9]:4711"], 1, "2001:db8::9"),
            (&["2001:db8::9"], 1, "2001:db8::9"),
            (&["[2001:db8::9]"], 1, "2001:db8::9"),
            // What cannot be read, or is not there, is not believed either.
            (&["unknown"], 1, "192.0.2.1"),
            (&[""], 1, "192.0.2.1"),
            (&[], 1, "192.0.2.1"),
        ] {
            assert_eq!(
                address("192.0.2.1", forwarded, proxies),
                expected,
                "{forwarded:?}"
            );
        }
    }

    #[test]
    fn addresses_of_one_network_of_64_bits_are_one_client() {
        let network = |address: &str| network(address.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_eq!(network("192.0.2.1"), network("::ffff:192.0.2.1"));
    }
}
