use std::str::FromStr;
use std::time::Duration;

use ::webhooks::Policy;
use axum::http::{HeaderValue, Uri};
use db::DatabaseConfig;
use secrecy::ExposeSecret;
use service::config::{Env, ServiceConfig};
use service::http::DRAIN_LIMIT;

use crate::accounts::AccountsConfig;
use crate::token::foreign::Issuer;
use crate::token::{SigningKey, TokenConfig};

const DAY: Duration = Duration::from_hours(24);

/// Everything that the API is told by its environment.
#[derive(Debug, Clone)]
pub struct Config {
    /// What every service is told.
    pub service: ServiceConfig,
    /// Where accounts, tasks and the outbox are.
    pub database: DatabaseConfig,
    /// How access tokens are made.
    pub tokens: TokenConfig,
    /// `PASSWORD_HASH_CONCURRENCY`: how many password hashes are computed at a time. Each takes 19 MiB and a core.
    pub password_hash_concurrency: usize,
    /// What holds for requests whatever they ask for.
    pub http: HttpConfig,
    /// Sessions, deletion, other issuers.
    pub accounts: AccountsConfig,
    /// `WEBHOOK_ALLOW…`: where webhooks may go; as the webhook sender has them.
    pub webhooks: Policy,
    /// `LINK_KEY`: what links in mails are signed with; as the email sender has it.
    pub links: links::Keys,
}

/// What holds for requests whatever they ask for.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// `RATE_LIMIT_USER_PER_MINUTE`: requests of one person; 0 is no limit.
    pub user_per_minute: u32,
    /// `RATE_LIMIT_ADDRESS_PER_MINUTE`: requests from one address, or one IPv6 network of 64 bits; 0 is no limit.
    pub address_per_minute: u32,
    /// `TRUSTED_PROXIES`: how many proxies of ours a request comes through, each of which appends the address that it sees
    /// to `X-Forwarded-For`.
    pub trusted_proxies: usize,
    /// `CORS_ALLOWED_ORIGINS`: whose pages may call this API from a browser.
    pub allowed_origins: Origins,
    /// `IDEMPOTENCY_KEY_TTL_SECONDS`: how long an answer is kept for its `Idempotency-Key`, at least.
    pub idempotency_key_ttl: Duration,
    /// `DRAIN_SECONDS`: how long requests are still taken after a stop was requested, while `/readyz` says that no more
    /// should come.
    pub drain: Duration,
}

/// Origins of pages (RFC 6454).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Every one.
    Any,
    /// These, or none.
    These(Vec<HeaderValue>),
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            user_per_minute: 1200,
            address_per_minute: 6000,
            trusted_proxies: 0,
            allowed_origins: Origins::These(Vec::new()),
            idempotency_key_ttl: Duration::from_hours(24),
            drain: Duration::ZERO,
        }
    }
}

impl HttpConfig {
    fn from_env(env: &mut Env) -> Option<Self> {
        let default = Self::default();
        let user_per_minute = env.within(
            "RATE_LIMIT_USER_PER_MINUTE",
            default.user_per_minute,
            0..=MAX_PER_MINUTE,
        );
        let address_per_minute = env.within(
            "RATE_LIMIT_ADDRESS_PER_MINUTE",
            default.address_per_minute,
            0..=MAX_PER_MINUTE,
        );
        let trusted_proxies = env.within("TRUSTED_PROXIES", default.trusted_proxies, 0..=10);
        let allowed_origins = env.or("CORS_ALLOWED_ORIGINS", default.allowed_origins);
        let idempotency_key_ttl = env.duration_seconds(
            "IDEMPOTENCY_KEY_TTL_SECONDS",
            default.idempotency_key_ttl,
            Duration::from_mins(1)..=Duration::from_hours(30 * 24),
        );
        let drain = env.duration_seconds(
            "DRAIN_SECONDS",
            default.drain,
            Duration::ZERO..=Duration::from_mins(5),
        );
        Some(Self {
            user_per_minute: user_per_minute?,
            address_per_minute: address_per_minute?,
            trusted_proxies: trusted_proxies?,
            allowed_origins: allowed_origins?,
            idempotency_key_ttl: idempotency_key_ttl?,
            drain: drain?,
        })
    }
}

const MAX_PER_MINUTE: u32 = 1_000_000;

impl FromStr for Origins {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "*" {
            return Ok(Self::Any);
        }
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        items.map(origin).collect::<Result<_, _>>().map(Self::These)
    }
}

/// One origin, as browsers write it: nothing behind the port, and no port that the scheme implies.
fn origin(text: &str) -> Result<HeaderValue, String> {
    let refused = || format!("{text:?} is no origin such as https://app.example.org");
    let uri: Uri = text.parse().map_err(|_| refused())?;
    let (scheme, authority) = (uri.scheme_str(), uri.authority());
    let bare = scheme
        .zip(authority)
        .map(|(scheme, authority)| format!("{scheme}://{authority}"));
    let plain = !text.contains(['@', '*']) && text == text.to_ascii_lowercase();
    if !plain || !matches!(scheme, Some("http" | "https")) || bare.as_deref() != Some(text) {
        return Err(refused());
    }
    HeaderValue::try_from(text).map_err(|_| refused())
}

impl Config {
    /// Reads the settings above.
    pub fn from_env(env: &mut Env) -> Option<Self> {
        let service = ServiceConfig::from_env(env, 8000);
        let database = DatabaseConfig::from_env(env, "api", 16);
        let tokens = tokens(env);
        let password_hash_concurrency = env.within("PASSWORD_HASH_CONCURRENCY", 2, 1..=64);
        let http = HttpConfig::from_env(env);
        if let (Some(service), Some(http)) = (&service, &http)
            && http.drain + DRAIN_LIMIT >= service.shutdown_budget
        {
            env.reject(
                "DRAIN_SECONDS",
                format_args!(
                    "must be more than {} s below SHUTDOWN_BUDGET_SECONDS: requests in flight then take their time too",
                    DRAIN_LIMIT.as_secs()
                ),
            );
        }
        let accounts = accounts(env);
        let webhooks = Policy::from_env(env);
        let links = links::Keys::from_env(env);
        Some(Self {
            service: service?,
            database: database?,
            tokens: tokens?,
            password_hash_concurrency: password_hash_concurrency?,
            http: http?,
            accounts: accounts?,
            webhooks: webhooks?,
            links: links?,
        })
    }
}

fn tokens(env: &mut Env) -> Option<TokenConfig> {
    let key = env.secret("JWT_PRIVATE_KEY").and_then(|pem| {
        SigningKey::from_pem(pem.expose_secret())
            .map_err(|error| env.reject("JWT_PRIVATE_KEY", error))
            .ok()
    });
    let issuer = env.or("JWT_ISSUER", "carillon".to_owned());
    let audience = env.or("JWT_AUDIENCE", "carillon".to_owned());
    let ttl = env.duration_seconds(
        "JWT_TTL_SECONDS",
        Duration::from_mins(15),
        Duration::from_secs(1)..=Duration::from_hours(24),
    );
    // A day at least: a token, which lives a day at most, never outlives its key by more than one rotation.
    let rotation = env.within("JWT_ROTATION_DAYS", 30, 0..=3650_u64);
    Some(TokenConfig {
        key: key?,
        rotation: rotation.map(|days| (days > 0).then(|| DAY * u32::try_from(days).unwrap_or(u32::MAX)))?,
        issuer: issuer?,
        audience: audience?,
        ttl: ttl?,
    })
}

fn accounts(env: &mut Env) -> Option<AccountsConfig> {
    let defaults = AccountsConfig::default();
    let refresh_ttl = env.duration_seconds(
        "REFRESH_TTL_SECONDS",
        defaults.refresh_ttl,
        Duration::from_mins(1)..=365 * DAY,
    );
    let purge_days = env.within("ACCOUNT_PURGE_DAYS", 7, 1..=30);
    let verify_at_registration = env.or("VERIFY_EMAIL_AT_REGISTRATION", defaults.verify_at_registration);
    let trusted_issuers = trusted_issuers(env);
    Some(AccountsConfig {
        refresh_ttl: refresh_ttl?,
        purge_within: DAY * purge_days?,
        verify_at_registration: verify_at_registration?,
        trusted_issuers: trusted_issuers?,
    })
}

/// Issuers, one a line or with semicolons between them.
fn trusted_issuers(env: &mut Env) -> Option<Vec<Issuer>> {
    const NAME: &str = "TRUSTED_ISSUERS";
    let text = env.or(NAME, String::new())?;
    let mut issuers: Vec<Issuer> = Vec::new();
    let mut good = true;
    for entry in text
        .split([';', '\n'])
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
    {
        match entry.parse::<Issuer>() {
            Ok(issuer) if issuers.iter().any(|known| known.issuer == issuer.issuer) => {
                env.reject(NAME, format_args!("names {} twice", issuer.issuer));
                good = false;
            }
            Ok(issuer) => issuers.push(issuer),
            Err(why) => {
                env.reject(NAME, format_args!("has the entry {entry:?}: {why}"));
                good = false;
            }
        }
    }
    good.then_some(issuers)
}

#[cfg(test)]
mod tests {
    use service::config::load_from;

    use super::*;
    use crate::token::tests::RFC_8037_KEY;

    const LINK_KEY: &str = "a-key-of-tests-for-links-in-mails";

    #[test]
    fn the_defaults_need_a_database_and_two_keys() {
        let env = Env::from_pairs([
            ("DATABASE_URL", "postgres://api:very-secret@localhost/carillon"),
            ("JWT_PRIVATE_KEY", RFC_8037_KEY),
            ("LINK_KEY", LINK_KEY),
        ]);
        let config = load_from(env, Config::from_env).unwrap();
        assert_eq!(config.service.http_bind.port(), 8000);
        assert_eq!(config.database.max_connections, 16);
        assert_eq!(config.tokens.ttl, Duration::from_secs(900));
        assert_eq!(config.tokens.rotation, Some(30 * DAY));
        assert_eq!(config.accounts.refresh_ttl, 30 * DAY);
        assert_eq!(config.accounts.purge_within, 7 * DAY);
        let shown = format!("{config:?}");
        assert!(
            !shown.contains("very-secret") && !shown.contains("MC4C") && !shown.contains(LINK_KEY),
            "{shown}"
        );
    }

    #[test]
    fn all_problems_are_named_at_once_and_secrets_are_not() {
        let env = Env::from_pairs([
            ("JWT_PRIVATE_KEY", "very-secret"),
            ("JWT_TTL_SECONDS", "0"),
            ("PASSWORD_HASH_CONCURRENCY", "many"),
            ("HTTP_PORT", "http"),
            ("RATE_LIMIT_USER_PER_MINUTE", "-1"),
            ("CORS_ALLOWED_ORIGINS", "https://app.example.org/"),
            ("TRUSTED_PROXIES", "yes"),
            ("LINK_KEY", "very-secret"),
        ]);
        let problems = load_from(env, Config::from_env).unwrap_err();
        let names: Vec<_> = problems
            .lines()
            .iter()
            .filter_map(|line| line.split(' ').next())
            .collect();
        assert_eq!(
            names,
            [
                "HTTP_PORT",
                "DATABASE_URL",
                "JWT_PRIVATE_KEY",
                "JWT_TTL_SECONDS",
                "PASSWORD_HASH_CONCURRENCY",
                "RATE_LIMIT_USER_PER_MINUTE",
                "TRUSTED_PROXIES",
                "CORS_ALLOWED_ORIGINS",
                "LINK_KEY",
            ]
        );
        assert!(!problems.to_string().contains("very-secret"));
    }

    #[test]
    fn origins_are_taken_as_browsers_write_them() {
        let these = |texts: &[&'static str]| {
            Ok(Origins::These(
                texts.iter().map(|text| HeaderValue::from_static(text)).collect(),
            ))
        };
        for (text, expected) in [
            ("*", Ok(Origins::Any)),
            ("", these(&[])),
            ("https://app.example.org", these(&["https://app.example.org"])),
            (
                "http://localhost:3000, https://a.example,",
                these(&["http://localhost:3000", "https://a.example"]),
            ),
        ] {
            assert_eq!(text.parse::<Origins>(), expected, "{text}");
        }
        for text in [
            "app.example.org",
            "https://app.example.org/",
            "https://app.example.org/path",
            "https://APP.example.org",
            "https://user@app.example.org",
            "https://*.example.org",
            "ftp://app.example.org",
            "null",
            "https://a.example b",
            "*,https://a.example",
        ] {
            assert!(text.parse::<Origins>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_drain_must_leave_time_for_what_is_in_flight() {
        let with = |drain: &str| {
            let env = Env::from_pairs([
                ("DATABASE_URL", "postgres://api:very-secret@localhost/carillon"),
                ("JWT_PRIVATE_KEY", RFC_8037_KEY),
                ("LINK_KEY", LINK_KEY),
                ("DRAIN_SECONDS", drain),
            ]);
            load_from(env, Config::from_env).map_err(|problems| problems.lines().len())
        };
        assert_eq!(with("9").unwrap().http.drain, Duration::from_secs(9));
        assert_eq!(with("10").unwrap_err(), 1);
    }

    #[test]
    fn several_issuers_are_trusted_and_all_that_is_wrong_with_them_is_named() {
        let with = |issuers: &str| {
            let pairs = [
                ("DATABASE_URL", "postgres://api@localhost/carillon"),
                ("JWT_PRIVATE_KEY", RFC_8037_KEY),
                ("LINK_KEY", LINK_KEY),
                ("JWT_ROTATION_DAYS", "0"),
                ("TRUSTED_ISSUERS", issuers),
            ];
            load_from(Env::from_pairs(pairs), Config::from_env)
        };
        let config =
            with("https://a.example us https://a.example/jwks; https://b.example us https://b.example/jwks;")
                .unwrap();
        let names: Vec<_> = config
            .accounts
            .trusted_issuers
            .iter()
            .map(|i| i.issuer.as_str())
            .collect();
        assert_eq!(names, ["https://a.example", "https://b.example"]);
        assert_eq!(config.tokens.rotation, None);
        let problems =
            with("https://a.example us; b us http://b.example/jwks; c us https://c/; c us https://c/")
                .unwrap_err();
        assert_eq!(problems.lines().len(), 3, "{problems}");
    }
}
