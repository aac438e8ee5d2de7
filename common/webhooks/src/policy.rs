//! Which URLs an endpoint may have, and which addresses may be behind them.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use service::config::Env;
use url::{Host, Url};

use crate::is_public;

/// No URL is longer.
pub const MAX_URL_CHARS: usize = 2000;

/// Ports below this are those of services of the system, of which only the web's are for webhooks. What is sent to a mail
/// server, a resolver or a login on a well-known port could be taken for something else there.
const FIRST_FREE_PORT: u16 = 1024;

/// Where webhooks may go.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// `WEBHOOK_ALLOW_HTTP`: whether a URL may begin with `http://`.
    pub allow_http: bool,
    /// `WEBHOOK_ALLOWED_NETWORKS`: may be sent to though they are not of the internet.
    pub allowed_networks: Vec<IpNet>,
}

/// Why an endpoint cannot have a URL. Each reads after the field's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlProblem {
    /// It is no absolute URL.
    #[error("must be a URL such as https://example.org/hook")]
    NotAUrl,
    /// It is too long.
    #[error("must have at most {MAX_URL_CHARS} characters")]
    TooLong,
    /// The scheme is none of HTTP's.
    #[error("must begin with https://")]
    Scheme,
    /// It has a user name or a password.
    #[error("must not have a user name or a password in it")]
    UserInfo,
    /// It has a part that is never sent.
    #[error("must not have a fragment (#…)")]
    Fragment,
    /// The port is that of something else.
    #[error("must have the port 80, 443, or one above 1023")]
    Port,
    /// It leads inside.
    #[error("leads to an address that is not of the internet")]
    Address,
}

impl Policy {
    /// Reads the settings above.
    pub fn from_env(env: &mut Env) -> Option<Self> {
        let allow_http = env.or("WEBHOOK_ALLOW_HTTP", false);
        let allowed_networks = env.or("WEBHOOK_ALLOWED_NETWORKS", Networks(Vec::new()));
        Some(Self {
            allow_http: allow_http?,
            allowed_networks: allowed_networks?.0,
        })
    }

    /// Whether something may be sent to an address.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        is_public(address)
            || self
                .allowed_networks
                .iter()
                .any(|network| network.contains(&address))
    }

    /// The URL as it is kept: in the one spelling that it has for every reader. An address in it, however it was spelled,
    /// must be allowed; a name is looked up when something is sent.
    ///
    /// # Errors
    /// Why it can be none.
    pub fn check(&self, text: &str) -> Result<Url, UrlProblem> {
        if text.chars().count() > MAX_URL_CHARS {
            return Err(UrlProblem::TooLong);
        }
        // The parser passes over white space and control characters, as browsers do.
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(UrlProblem::NotAUrl);
        }
        let url = Url::parse(text).map_err(|_| UrlProblem::NotAUrl)?;
        if url.as_str().len() > MAX_URL_CHARS {
            return Err(UrlProblem::TooLong);
        }
        if url.scheme() != "https" && !(self.allow_http && url.scheme() == "http") {
            return Err(UrlProblem::Scheme);
        }
        if !url.username().is_empty()
            || url.password().is_some()
            || text.contains('@') && has_empty_user(text)
        {
            return Err(UrlProblem::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(UrlProblem::Fragment);
        }
        let port = url.port_or_known_default().unwrap_or_default();
        if !matches!(port, 80 | 443) && port < FIRST_FREE_PORT {
            return Err(UrlProblem::Port);
        }
        match url.host() {
            Some(Host::Ipv4(address)) if self.allows(address.into()) => Ok(url),
            Some(Host::Ipv6(address)) if self.allows(address.into()) => Ok(url),
            Some(Host::Domain(name)) if !is_local(name) || !self.allowed_networks.is_empty() => Ok(url),
            Some(_) => Err(UrlProblem::Address),
            None => Err(UrlProblem::NotAUrl),
        }
    }
}

/// `https://@host`: the parser drops a user name that is empty.
fn has_empty_user(text: &str) -> bool {
    let authority = text.split_once("://").map_or(text, |(_, rest)| rest);
    let end = authority.find(['/', '?', '#', '\\']).unwrap_or(authority.len());
    authority
        .get(..end)
        .is_some_and(|authority| authority.contains('@'))
}

/// Names that are known to lead inside without being looked up (RFC 6761, RFC 6762, RFC 8375). That others do is seen
/// when something is sent.
fn is_local(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    ["localhost", "local", "internal", "home.arpa"]
        .iter()
        .any(|local| {
            name.strip_suffix(local)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
}

/// Networks, separated by commas.
#[derive(Debug)]
struct Networks(Vec<IpNet>);

impl FromStr for Networks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        items
            .map(|item| {
                let network = item.parse::<IpNet>();
                network.map_err(|_| format!("{item:?} is no network such as 10.1.0.0/16 or fd00::/8"))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy {
            allow_http: true,
            allowed_networks: Vec::new(),
        }
    }

    /// Everything that stands for a forbidden address, or for none.
    const FORBIDDEN: [&str; 76] = [
        // Loopback, in every spelling of IPv4 that some library takes.
        "http://127.0.0.1/",
        "http://127.0.0.1./",
        "http://127.1/",
        "http://127.0.1/",
        "http://127.00.00.01/",
        "http://127.255.255.254/",
        "http://2130706433/",
        "http://2130706433./",
        "http://0x7f000001/",
        "http://0X7F.0.0.1/",
        "http://0x7f.1/",
        "http://0x7f.0x0.0x0.0x1/",
        "http://0177.0.0.1/",
        "http://017700000001/",
        "http://0177.0.1/",
        "http://00000177.1/",
        "http://0x7f.0.0x1/",
        "http://0/",
        "http://0.0.0.0/",
        "http://0x0/",
        "http://00/",
        // Digits and dots of other scripts, which IDNA maps to ours; escapes.
        "http://①②⑦.⓪.⓪.①/",
        "http://１２７.０.０.１/",
        "http://127。0。0。1/",
        "http://127．0．0．1/",
        "http://127｡0｡0｡1/",
        "http://%31%32%37.0.0.1/",
        "http://127.0.0.%31/",
        "http://0x7f%2e0.0.1/",
        "http://𝟏𝟐𝟕.𝟎.𝟎.𝟏/",
        // Private, shared, link-local, metadata.
        "http://10.0.0.1/",
        "http://10.1/",
        "http://167772161/",
        "http://012.1/",
        "http://172.16.0.1/",
        "http://2886729729/",
        "http://192.168.0.1/",
        "http://192.168.1/",
        "http://3232235521/",
        "http://0xc0a80001/",
        "http://0300.0250.0.1/",
        "http://100.64.0.1/",
        "http://100.100.100.200/",
        "http://169.254.169.254/latest/meta-data/",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://0251.0376.0251.0376/",
        "http://169.254.43518/",
        "http://168.63.129.16/",
        // Multicast, reserved, broadcast, documentation.
        "http://224.0.0.1/",
        "http://240.0.0.1/",
        "http://255.255.255.255/",
        "http://0xffffffff/",
        "http://198.18.0.1/",
        "http://192.0.2.1/",
        // IPv6, and IPv4 within it.
        "http://[::1]/",
        "http://[::]/",
        "http://[0:0:0:0:0:0:0:1]/",
        "http://[0000::0001]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[::127.0.0.1]/",
        "http://[::ffff:0:127.0.0.1]/",
        "http://[64:ff9b::127.0.0.1]/",
        "http://[64:ff9b::a00:1]/",
        "http://[2002:7f00:1::]/",
        "http://[2001:0:4136:e378:8000:63bf:80ff:fffe]/",
        "http://[fe80::1]/",
        "http://[fc00::1]/",
        "http://[fd00:ec2::254]/",
        "http://[ff02::1]/",
        // Names of this machine and this network.
        "http://localhost/",
        "http://LOCALHOST./",
        "http://a.localhost/",
        "http://metadata.google.internal/",
        "http://printer.local/",
    ];

    /// What is no URL of an endpoint for another reason.
    const REFUSED: [(&str, UrlProblem); 20] = [
        ("", UrlProblem::NotAUrl),
        ("example.org", UrlProblem::NotAUrl),
        ("//example.org", UrlProblem::NotAUrl),
        ("http://", UrlProblem::NotAUrl),
        ("http://exa mple.org/", UrlProblem::NotAUrl),
        ("http://example.org/\n", UrlProblem::NotAUrl),
        ("http://[fe80::1%25eth0]/", UrlProblem::NotAUrl),
        ("http://[fe80::1%eth0]/", UrlProblem::NotAUrl),
        ("http://256.0.0.1/", UrlProblem::NotAUrl),
        ("http://127.0.0.1.1.1/", UrlProblem::NotAUrl),
        ("ftp://example.org/", UrlProblem::Scheme),
        ("file:///etc/passwd", UrlProblem::Scheme),
        ("gopher://example.org/", UrlProblem::Scheme),
        ("http://ada@example.org/", UrlProblem::UserInfo),
        ("http://:secret@example.org/", UrlProblem::UserInfo),
        ("http://@example.org/", UrlProblem::UserInfo),
        ("http://example.org:80@127.0.0.1/", UrlProblem::UserInfo),
        ("http://example.org/#here", UrlProblem::Fragment),
        ("http://example.org:22/", UrlProblem::Port),
        ("http://example.org:0/", UrlProblem::Port),
    ];

    #[test]
    fn an_address_of_the_inside_is_refused_in_every_spelling() {
        for text in FORBIDDEN {
            assert_eq!(policy().check(text), Err(UrlProblem::Address), "{text}");
            let https = text.replacen("http:", "https:", 1);
            assert_eq!(policy().check(&https), Err(UrlProblem::Address), "{https}");
        }
        for (text, problem) in REFUSED {
            assert_eq!(policy().check(text), Err(problem), "{text}");
        }
        let long = format!("https://example.org/{}", "x".repeat(MAX_URL_CHARS));
        assert_eq!(policy().check(&long), Err(UrlProblem::TooLong));
    }

    #[test]
    fn what_is_of_the_internet_is_taken_in_one_spelling() {
        for (text, kept) in [
            ("https://Example.ORG", "https://example.org/"),
            ("https://example.org:443/a?b=c", "https://example.org/a?b=c"),
            ("https://example.org:8443/", "https://example.org:8443/"),
            ("https://example.org/@ada", "https://example.org/@ada"),
            ("http://134744072/", "http://8.8.8.8/"),
            ("http://[64:ff9b::8.8.8.8]/", "http://[64:ff9b::808:808]/"),
            ("https://bücher.example/", "https://xn--bcher-kva.example/"),
            ("https://notlocalhost/", "https://notlocalhost/"),
        ] {
            assert_eq!(
                policy().check(text).map(String::from).as_deref(),
                Ok(kept),
                "{text}"
            );
        }
    }

    #[test]
    fn http_and_inner_networks_are_taken_where_that_is_set() {
        let load = |pairs: &[(&str, &str)]| {
            let env = Env::from_pairs(pairs.iter().copied());
            service::config::load_from(env, Policy::from_env).map_err(|problems| problems.to_string())
        };
        let strict = load(&[]).unwrap();
        assert_eq!(strict.check("http://example.org/"), Err(UrlProblem::Scheme));
        let open = load(&[
            ("WEBHOOK_ALLOW_HTTP", "true"),
            ("WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8, ::1/128"),
        ])
        .unwrap();
        for text in [
            "http://127.0.0.1:9000/",
            "http://[::1]:9000/",
            "http://localhost:9000/",
        ] {
            assert!(open.check(text).is_ok(), "{text}");
        }
        for text in [
            "http://10.0.0.1/",
            "http://[::ffff:127.0.0.1]/",
            "http://169.254.169.254/",
        ] {
            assert_eq!(open.check(text), Err(UrlProblem::Address), "{text}");
        }
        let problems = load(&[("WEBHOOK_ALLOWED_NETWORKS", "10.0.0.0/33")]).unwrap_err();
        assert!(problems.contains("is no network such as"), "{problems}");
    }
}
