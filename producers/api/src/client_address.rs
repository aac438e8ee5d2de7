//! Where a request comes from, and what sends it.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderValue, header};

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

/// The most that is kept of what a client calls itself. Browsers' are shorter.
const MAX_USER_AGENT_CHARS: usize = 200;

/// What the client calls itself, for people to read: shortened, and what is not printable ASCII escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserAgent(Option<String>);

impl UserAgent {
    fn read(headers: &HeaderMap) -> Self {
        let given = headers.get(header::USER_AGENT).map(HeaderValue::as_bytes);
        let mut text = String::new();
        for c in String::from_utf8_lossy(given.unwrap_or_default()).chars() {
            let printable = c == ' ' || c.is_ascii_graphic();
            let shown = if printable {
                c.to_string()
            } else {
                c.escape_unicode().to_string()
            };
            if text.len() + shown.len() > MAX_USER_AGENT_CHARS {
                break;
            }
            text.push_str(&shown);
        }
        Self(Some(text).filter(|text| !text.is_empty()))
    }

    /// It, if the client calls itself something.
    pub fn as_deref(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for UserAgent {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::read(&parts.headers))
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
    fn what_a_client_calls_itself_is_short_and_printable() {
        let read = |bytes: &[u8]| {
            let value = HeaderValue::from_bytes(bytes).unwrap();
            UserAgent::read(&HeaderMap::from_iter([(header::USER_AGENT, value)])).0
        };
        let browser = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
        assert_eq!(read(browser.as_bytes()).as_deref(), Some(browser));
        // A tab, letters of other scripts, a mark of writing direction, and bytes that are no UTF-8.
        let odd = read("a\tb ü \u{202e}".as_bytes());
        assert_eq!(odd.as_deref(), Some(r"a\u{9}b \u{fc} \u{202e}"));
        assert_eq!(read(b"\xff").as_deref(), Some(r"\u{fffd}"));
        assert_eq!(
            read("x".repeat(5000).as_bytes()).unwrap().len(),
            MAX_USER_AGENT_CHARS
        );
        assert_eq!(read("ü".repeat(5000).as_bytes()).unwrap(), r"\u{fc}".repeat(33));
        assert_eq!(read(b""), None);
        assert_eq!(UserAgent::read(&HeaderMap::new()).0, None);
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
