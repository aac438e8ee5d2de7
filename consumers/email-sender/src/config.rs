//! Everything the environment can say; README.md has the table.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use db::DatabaseConfig;
use kafka::{BatchConfig, KafkaConfig, RegistryConfig};
use lettre::Address;
use links::Keys;
use secrecy::{ExposeSecret, SecretString};
use service::config::{Env, Secret, ServiceConfig};

/// What a claim leaves for recording the outcome, above the time that sending may take.
const RECORD_MARGIN: Duration = Duration::from_secs(5);

/// Below this a token can be guessed.
const MIN_BOUNCE_TOKEN_CHARS: usize = 32;
/// The links in the header List-Unsubscribe must fit into one line of 998 bytes.
const MAX_PUBLIC_URL_CHARS: usize = 500;

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// What every binary has; the default port is 8003.
    pub service: ServiceConfig,
    /// `DATABASE_…`.
    pub database: DatabaseConfig,
    /// `KAFKA_…`.
    pub kafka: KafkaConfig,
    /// `SCHEMA_REGISTRY_…`.
    pub registry: RegistryConfig,
    /// `BATCH_…`.
    pub batch: BatchConfig,
    /// `SMTP_…`, as far as it is about the server.
    pub smtp: SmtpConfig,
    /// `SMTP_…`, as far as it is about the mail.
    pub mail: MailConfig,
    /// `EMAIL_…`.
    pub delivery: DeliveryConfig,
    /// `LINK_KEY`: what links in mails are signed with; as the API has it.
    pub links: Keys,
    /// `BOUNCE_TOKEN`: who knows it may hand reports of non-delivery over; without it nobody may.
    pub bounce_token: Option<SecretString>,
}

/// How the wire to the SMTP server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// Not at all: for a server on the same machine or network.
    Off,
    /// STARTTLS, and nothing is sent when the server does not offer it.
    Starttls,
    /// TLS from the first byte (RFC 8314).
    Implicit,
}

/// How to reach the SMTP server.
#[derive(Debug, Clone)]
pub struct SmtpConfig {
    /// `SMTP_HOST`.
    pub host: String,
    /// `SMTP_PORT`: by default 25, 587 or 465, as `SMTP_TLS` is off, starttls or tls.
    pub port: u16,
    /// `SMTP_TLS`: off, starttls or tls.
    pub tls: Tls,
    /// `SMTP_CA_FILE`: certificates to trust besides the system's, PEM.
    pub ca_file: Option<PathBuf>,
    /// `SMTP_USERNAME` and `SMTP_PASSWORD`, which in a file may change.
    pub credentials: Option<(String, Secret)>,
    /// `SMTP_TIMEOUT_MS`: for connecting, and for the answer to each command; four times that for the answer to the mail
    /// itself, which servers give after they have looked through it.
    pub timeout: Duration,
    /// `SMTP_MAX_CONNECTIONS`: mails are sent over so many connections at once.
    pub max_connections: usize,
    /// `SMTP_MAX_CONNECTIONS_PER_DOMAIN`: so many of them with mails to one domain; by default three quarters, so that a slow one
    /// does not hold all.
    pub max_connections_per_domain: usize,
    /// `SMTP_MAX_MAILS_PER_SECOND_PER_DOMAIN`: by default as many as may be.
    pub max_mails_per_second_per_domain: Option<u32>,
}

impl SmtpConfig {
    /// The longest that sending one mail may take: a try over a connection that turns out to be stale (3 answers), a new
    /// connection (1), the dialogue over it (3), the mail itself (4), and putting the connection in order (1).
    #[must_use]
    pub fn send_budget(&self) -> Duration {
        self.timeout * 12
    }

    fn from_env(env: &mut Env) -> Option<Self> {
        let host = env.required::<String>("SMTP_HOST");
        let tls = env.one_of(
            "SMTP_TLS",
            &[
                ("off", Tls::Off),
                ("starttls", Tls::Starttls),
                ("tls", Tls::Implicit),
            ],
            Tls::Starttls,
        );
        let default_port = match tls {
            Some(Tls::Off) => lettre::transport::smtp::SMTP_PORT,
            Some(Tls::Implicit) => lettre::transport::smtp::SUBMISSIONS_PORT,
            Some(Tls::Starttls) | None => lettre::transport::smtp::SUBMISSION_PORT,
        };
        let port = env.within("SMTP_PORT", default_port, 1..=u16::MAX);
        let ca_file = env.optional::<PathBuf>("SMTP_CA_FILE");
        let username = env.optional::<String>("SMTP_USERNAME");
        let password = env.optional_changing_secret("SMTP_PASSWORD");
        let timeout = env.duration_ms(
            "SMTP_TIMEOUT_MS",
            Duration::from_secs(10),
            Duration::from_millis(100)..=Duration::from_mins(5),
        );
        let max_connections = env.within("SMTP_MAX_CONNECTIONS", 8, 1..=256);
        let most = max_connections.unwrap_or(256);
        let max_connections_per_domain =
            env.within("SMTP_MAX_CONNECTIONS_PER_DOMAIN", (most * 3 / 4).max(1), 1..=most);
        let max_mails_per_second_per_domain =
            env.optional::<NonZeroU32>("SMTP_MAX_MAILS_PER_SECOND_PER_DOMAIN");
        let (host, tls) = (host?, tls?);
        let credentials = match (username?, password?) {
            (None, None) => None,
            (Some(username), Some(password)) => {
                if tls == Tls::Off && !is_loopback(&host) {
                    env.reject(
                        "SMTP_USERNAME",
                        "would be sent with its password in the clear: set SMTP_TLS to starttls or tls (off is accepted \
                         with credentials for a server on this machine only)",
                    );
                }
                Some((username, password))
            }
            (Some(_), None) => {
                env.reject("SMTP_PASSWORD", "is missing: SMTP_USERNAME is set");
                None
            }
            (None, Some(_)) => {
                env.reject("SMTP_USERNAME", "is missing: SMTP_PASSWORD is set");
                None
            }
        };
        Some(Self {
            host,
            port: port?,
            tls,
            ca_file: ca_file?,
            credentials,
            timeout: timeout?,
            max_connections: max_connections?,
            max_connections_per_domain: max_connections_per_domain?,
            max_mails_per_second_per_domain: max_mails_per_second_per_domain?.map(NonZeroU32::get),
        })
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// What stands in every mail.
#[derive(Debug, Clone)]
pub struct MailConfig {
    /// `SMTP_FROM_EMAIL`.
    pub from_email: Address,
    /// `SMTP_FROM_NAME`: "Carillon" by default.
    pub from_name: String,
    /// `SMTP_MESSAGE_ID_DOMAIN`: what follows the @ in Message-IDs; by default the domain of `SMTP_FROM_EMAIL`.
    pub message_id_domain: String,
    /// `SMTP_TEMPLATE_DIR`: a folder with templates that replace those of the same name in templates/.
    pub template_dir: Option<PathBuf>,
    /// `PUBLIC_URL`: what links begin with, as people reach the API; `http://localhost:8000` by default.
    pub public_url: String,
}

impl MailConfig {
    fn from_env(env: &mut Env) -> Option<Self> {
        let from_email = env.required::<Address>("SMTP_FROM_EMAIL");
        let from_name = env.or("SMTP_FROM_NAME", "Carillon".to_owned());
        let domain = env.optional::<String>("SMTP_MESSAGE_ID_DOMAIN");
        let template_dir = env.optional::<PathBuf>("SMTP_TEMPLATE_DIR");
        if let Some(Some(domain)) = &domain
            && !domain
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-')
        {
            env.reject(
                "SMTP_MESSAGE_ID_DOMAIN",
                "must be a domain name: letters, digits, dots and hyphens",
            );
        }
        let public_url = env.or("PUBLIC_URL", "http://localhost:8000".to_owned());
        if let Some(url) = &public_url
            && (!url.starts_with("http://") && !url.starts_with("https://")
                || url.len() > MAX_PUBLIC_URL_CHARS
                || url.contains(|c: char| !c.is_ascii_graphic() || "\"<>#?&',".contains(c)))
        {
            env.reject(
                "PUBLIC_URL",
                "must be a URL of at most 500 characters, ASCII, that begins with http:// or https:// and has neither query nor \
                 fragment",
            );
        }
        let from_email = from_email?;
        let message_id_domain = domain?.unwrap_or_else(|| from_email.domain().to_owned());
        Some(Self {
            from_email,
            from_name: from_name?,
            message_id_domain,
            template_dir: template_dir?,
            public_url: public_url?.trim_end_matches('/').to_owned(),
        })
    }
}

/// How deliveries are claimed and tried again.
#[derive(Debug, Clone, Copy)]
pub struct DeliveryConfig {
    /// `EMAIL_LEASE_SECONDS`: a claimed delivery is nobody else's for so long. When a process dies in the middle, its
    /// deliveries wait that long.
    pub lease: Duration,
    /// `EMAIL_DEADLINE_HOURS`: no attempt is made once a failed one comes so long after the reminder rang.
    pub deadline: Duration,
    /// `EMAIL_RETRY_MIN_MS`: the ceiling of the first delay. It doubles with every attempt.
    pub retry_min: Duration,
    /// `EMAIL_RETRY_MAX_MS`: no delay is longer.
    pub retry_max: Duration,
    /// `REQUIRE_VERIFIED_EMAIL`: whether reminders go only to addresses that their owners have shown to be theirs.
    pub require_verified: bool,
    /// `DELIVERY_RETENTION_DAYS`: deliveries that ended longer ago are removed. At least as long as a firing can come again.
    pub retention_days: i32,
}

impl DeliveryConfig {
    fn from_env(env: &mut Env) -> Option<Self> {
        let hour = Duration::from_hours(1);
        let lease = env.duration_seconds(
            "EMAIL_LEASE_SECONDS",
            Duration::from_mins(3),
            Duration::from_secs(5)..=24 * hour,
        );
        let deadline_hours = env.within("EMAIL_DEADLINE_HOURS", 24, 1..=24 * 30);
        let least = Duration::from_millis(10);
        let retry_min = env.duration_ms("EMAIL_RETRY_MIN_MS", Duration::from_secs(15), least..=24 * hour);
        let retry_max = env.duration_ms("EMAIL_RETRY_MAX_MS", Duration::from_mins(30), least..=24 * hour);
        let retention_days = env.within("DELIVERY_RETENTION_DAYS", 90, 15..=36_500);
        if let (Some(min), Some(max)) = (retry_min, retry_max)
            && min > max
        {
            env.reject("EMAIL_RETRY_MIN_MS", "must not be above EMAIL_RETRY_MAX_MS");
        }
        let require_verified = env.or("REQUIRE_VERIFIED_EMAIL", false);
        Some(Self {
            lease: lease?,
            deadline: hour * deadline_hours?,
            retry_min: retry_min?,
            retry_max: retry_max?,
            require_verified: require_verified?,
            retention_days: retention_days?,
        })
    }
}

impl Config {
    /// Reads the variables named at the fields.
    pub fn from_env(env: &mut Env) -> Option<Self> {
        let service = ServiceConfig::from_env(env, 8003);
        let database = DatabaseConfig::from_env(env, "email-sender", 6);
        let kafka = KafkaConfig::from_env(env);
        let registry = RegistryConfig::from_env(env);
        let batch = BatchConfig::from_env(env, 500);
        let smtp = SmtpConfig::from_env(env);
        let mail = MailConfig::from_env(env);
        let delivery = DeliveryConfig::from_env(env);
        let links = Keys::from_env(env);
        let bounce_token = env.optional_secret("BOUNCE_TOKEN");
        if let Some(Some(token)) = &bounce_token
            && token.expose_secret().len() < MIN_BOUNCE_TOKEN_CHARS
        {
            env.reject(
                "BOUNCE_TOKEN",
                "must have at least 32 characters: openssl rand -hex 32",
            );
        }
        if let (Some(smtp), Some(delivery)) = (&smtp, &delivery) {
            let least = smtp.send_budget() + RECORD_MARGIN;
            if delivery.lease < least {
                env.reject(
                    "EMAIL_LEASE_SECONDS",
                    format_args!(
                        "must be at least {}: one mail may take 12 times SMTP_TIMEOUT_MS, and a claim that ends before \
                         would have it sent twice",
                        least.as_millis().div_ceil(1000)
                    ),
                );
            }
        }
        Some(Self {
            service: service?,
            database: database?,
            kafka: kafka?,
            registry: registry?,
            batch: batch?,
            smtp: smtp?,
            mail: mail?,
            delivery: delivery?,
            links: links?,
            bounce_token: bounce_token?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDED: [(&str, &str); 6] = [
        ("DATABASE_URL", "postgres://u@localhost/d"),
        ("KAFKA_BOOTSTRAP_SERVERS", "localhost:1"),
        ("SCHEMA_REGISTRY_URL", "http://localhost:1"),
        ("SMTP_HOST", "mail.example.com"),
        ("SMTP_FROM_EMAIL", "bell@example.com"),
        ("LINK_KEY", "a-key-of-tests-for-links-in-mails"),
    ];

    fn load(more: &[(&str, &str)]) -> Result<Config, String> {
        let env = Env::from_pairs(NEEDED.iter().chain(more).copied());
        service::config::load_from(env, Config::from_env).map_err(|problems| problems.to_string())
    }

    #[test]
    fn six_variables_are_enough_and_the_wire_is_encrypted() {
        let config = load(&[]).unwrap();
        assert_eq!((config.smtp.tls, config.smtp.port), (Tls::Starttls, 587));
        assert_eq!(config.mail.message_id_domain, "example.com");
        assert_eq!(config.mail.from_name, "Carillon");
        assert!(config.smtp.credentials.is_none());
    }

    #[test]
    fn the_port_follows_the_kind_of_tls() {
        assert_eq!(load(&[("SMTP_TLS", "off")]).unwrap().smtp.port, 25);
        assert_eq!(load(&[("SMTP_TLS", "tls")]).unwrap().smtp.port, 465);
        assert_eq!(
            load(&[("SMTP_TLS", "tls"), ("SMTP_PORT", "2525")])
                .unwrap()
                .smtp
                .port,
            2525
        );
    }

    #[test]
    fn one_domain_gets_most_of_the_connections_and_never_more_than_there_are() {
        let of = |pairs: &[(&str, &str)]| load(pairs).map(|config| config.smtp.max_connections_per_domain);
        assert_eq!(of(&[]), Ok(6));
        assert_eq!(of(&[("SMTP_MAX_CONNECTIONS", "1")]), Ok(1));
        assert_eq!(of(&[("SMTP_MAX_CONNECTIONS_PER_DOMAIN", "8")]), Ok(8));
        for (name, value) in [
            ("SMTP_MAX_CONNECTIONS_PER_DOMAIN", "9"),
            ("SMTP_MAX_CONNECTIONS_PER_DOMAIN", "0"),
            ("SMTP_MAX_MAILS_PER_SECOND_PER_DOMAIN", "0"),
        ] {
            let problems = load(&[(name, value)]).unwrap_err();
            assert!(problems.starts_with(name), "{problems}");
        }
    }

    #[test]
    fn credentials_do_not_travel_in_the_clear() {
        let credentials = [
            ("SMTP_TLS", "off"),
            ("SMTP_USERNAME", "u"),
            ("SMTP_PASSWORD", "hush"),
        ];
        let problems = load(&credentials).unwrap_err();
        assert!(problems.starts_with("SMTP_USERNAME would be sent"), "{problems}");
        assert!(!problems.contains("hush"));
        for host in ["localhost", "127.0.0.1", "::1"] {
            load(&[&credentials[..], &[("SMTP_HOST", host)]].concat()).unwrap();
        }
    }

    #[test]
    fn half_of_the_credentials_is_a_problem() {
        assert!(
            load(&[("SMTP_USERNAME", "u")])
                .unwrap_err()
                .contains("SMTP_PASSWORD is missing")
        );
        assert!(
            load(&[("SMTP_PASSWORD", "p")])
                .unwrap_err()
                .contains("SMTP_USERNAME is missing")
        );
    }

    #[test]
    fn a_lease_shorter_than_sending_may_take_is_refused() {
        let problems = load(&[("SMTP_TIMEOUT_MS", "20000")]).unwrap_err();
        assert!(
            problems.contains("EMAIL_LEASE_SECONDS must be at least 245"),
            "{problems}"
        );
        load(&[("SMTP_TIMEOUT_MS", "20000"), ("EMAIL_LEASE_SECONDS", "245")]).unwrap();
    }

    #[test]
    fn what_mails_and_their_links_stand_on_is_checked() {
        for (name, value) in [
            ("PUBLIC_URL", "https://carillon.example/?q"),
            ("PUBLIC_URL", "https://carillon.example/\u{fc}"),
            ("PUBLIC_URL", "https://carillon.example/>,<mailto:eve@example.com"),
            ("PUBLIC_URL", "carillon.example"),
            ("LINK_KEY", "short"),
            ("BOUNCE_TOKEN", "hush"),
        ] {
            let problems = load(&[(name, value)]).unwrap_err();
            assert!(
                problems.starts_with(&format!("{name} must be"))
                    || problems.starts_with(&format!("{name} must have")),
                "{problems}"
            );
            assert!(
                !problems.contains("hush") && !problems.contains("short"),
                "{problems}"
            );
        }
        assert!(
            load(&[("BOUNCE_TOKEN", &"t".repeat(32))])
                .unwrap()
                .bounce_token
                .is_some()
        );
    }

    #[test]
    fn the_secrets_are_not_in_the_debug_output() {
        let token = "t".repeat(32);
        let config = load(&[
            ("SMTP_USERNAME", "u"),
            ("SMTP_PASSWORD", "hush"),
            ("BOUNCE_TOKEN", &token),
        ])
        .unwrap();
        let shown = format!("{config:?}");
        assert!(
            ["hush", &token, "a-key-of-tests"]
                .iter()
                .all(|secret| !shown.contains(secret)),
            "{shown}"
        );
    }
}
