//! Everything the environment can say; README.md has the table.

use std::str::FromStr;
use std::time::Duration;

use db::DatabaseConfig;
use kafka::{BatchConfig, KafkaConfig, RegistryConfig};
use service::config::{Env, ServiceConfig};
use webhooks::Policy;

/// What a claim leaves for recording the outcome, above the time that sending may take.
const RECORD_MARGIN: Duration = Duration::from_secs(5);

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// What every binary has; the default port is 8007.
    pub service: ServiceConfig,
    /// `DATABASE_…`.
    pub database: DatabaseConfig,
    /// `KAFKA_…`.
    pub kafka: KafkaConfig,
    /// `SCHEMA_REGISTRY_…`.
    pub registry: RegistryConfig,
    /// `BATCH_…`.
    pub batch: BatchConfig,
    /// `WEBHOOK_ALLOW…`: where webhooks may go.
    pub policy: Policy,
    /// `WEBHOOK_…`: how they are sent.
    pub send: SendConfig,
}

/// How deliveries are claimed, sent and tried again.
#[derive(Debug, Clone)]
pub struct SendConfig {
    /// `WEBHOOK_TIMEOUT_MS`: for the whole of a request and its answer.
    pub timeout: Duration,
    /// `WEBHOOK_CONNECT_TIMEOUT_MS`: for the look-up of the name and the connection, within that.
    pub connect_timeout: Duration,
    /// `WEBHOOK_MAX_IN_FLIGHT`: requests at once.
    pub in_flight: usize,
    /// `WEBHOOK_MAX_IN_FLIGHT_PER_ENDPOINT`: those to one endpoint, of all replicas together.
    pub in_flight_per_endpoint: i64,
    /// `WEBHOOK_MAX_IN_FLIGHT_PER_PERSON`: those to all endpoints of a person, likewise.
    pub in_flight_per_person: i64,
    /// `WEBHOOK_LEASE_SECONDS`: a claimed delivery is nobody else's for so long. When a process dies in the middle, its
    /// deliveries wait that long.
    pub lease: Duration,
    /// `WEBHOOK_RETRY_DELAYS_MS`: how long to wait after each failed attempt; after as many and one it is given up.
    pub retry_delays: Vec<Duration>,
    /// `WEBHOOK_DISABLE_AFTER_MINUTES`: an endpoint at which everything failed for so long is disabled.
    pub disable_after: Duration,
    /// `DELIVERY_RETENTION_DAYS`: deliveries that ended longer ago are removed. At least as long as an event can come again.
    pub retention_days: i32,
}

/// Svix's schedule, which receivers know: immediately, 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 10 h.
const RETRY_DELAYS: [Duration; 7] = [
    Duration::from_secs(5),
    Duration::from_mins(5),
    Duration::from_mins(30),
    Duration::from_hours(2),
    Duration::from_hours(5),
    Duration::from_hours(10),
    Duration::from_hours(10),
];

/// Durations in milliseconds, separated by commas.
struct Delays(Vec<Duration>);

impl FromStr for Delays {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let longest = Duration::from_hours(48);
        let delays = text.split(',').map(|item| {
            let delay = item.trim().parse().map(Duration::from_millis);
            delay
                .ok()
                .filter(|delay| *delay <= longest)
                .ok_or_else(|| format!("{item:?} is no number of milliseconds up to two days"))
        });
        let delays: Vec<_> = delays.collect::<Result<_, _>>()?;
        if delays.len() > 20 {
            return Err("accepted are at most 20 delays".to_owned());
        }
        Ok(Self(delays))
    }
}

impl SendConfig {
    fn from_env(env: &mut Env) -> Option<Self> {
        let timeout = env.duration_ms(
            "WEBHOOK_TIMEOUT_MS",
            Duration::from_secs(15),
            Duration::from_millis(100)..=Duration::from_mins(1),
        );
        let connect_timeout = env.duration_ms(
            "WEBHOOK_CONNECT_TIMEOUT_MS",
            Duration::from_secs(5),
            Duration::from_millis(50)..=Duration::from_mins(1),
        );
        let in_flight = env.within("WEBHOOK_MAX_IN_FLIGHT", 256, 1..=10_000);
        let in_flight_per_endpoint = env.within("WEBHOOK_MAX_IN_FLIGHT_PER_ENDPOINT", 16, 1..=10_000);
        let in_flight_per_person = env.within("WEBHOOK_MAX_IN_FLIGHT_PER_PERSON", 64, 1..=10_000);
        let lease = env.duration_seconds(
            "WEBHOOK_LEASE_SECONDS",
            Duration::from_mins(1),
            Duration::from_secs(2)..=Duration::from_hours(1),
        );
        let retry_delays = env.or("WEBHOOK_RETRY_DELAYS_MS", Delays(RETRY_DELAYS.to_vec()));
        let disable_after_minutes =
            env.within("WEBHOOK_DISABLE_AFTER_MINUTES", 5 * 24 * 60, 1..=365 * 24 * 60);
        let retention_days = env.within("DELIVERY_RETENTION_DAYS", 90, 15..=36_500);
        if let (Some(timeout), Some(lease)) = (timeout, lease) {
            let least = timeout + RECORD_MARGIN;
            if lease < least {
                env.reject(
                    "WEBHOOK_LEASE_SECONDS",
                    format_args!(
                        "must be at least {}: a request may take WEBHOOK_TIMEOUT_MS, and a claim that ends before would have \
                         it sent twice",
                        least.as_millis().div_ceil(1000)
                    ),
                );
            }
        }
        Some(Self {
            timeout: timeout?,
            connect_timeout: connect_timeout?,
            in_flight: in_flight?,
            in_flight_per_endpoint: in_flight_per_endpoint?,
            in_flight_per_person: in_flight_per_person?,
            lease: lease?,
            retry_delays: retry_delays?.0,
            disable_after: Duration::from_mins(disable_after_minutes?),
            retention_days: retention_days?,
        })
    }
}

impl Config {
    /// Reads the variables named at the fields.
    pub fn from_env(env: &mut Env) -> Option<Self> {
        let service = ServiceConfig::from_env(env, 8007);
        let database = DatabaseConfig::from_env(env, "webhook-sender", 6);
        let kafka = KafkaConfig::from_env(env);
        let registry = RegistryConfig::from_env(env);
        let batch = BatchConfig::from_env(env, 500);
        let policy = Policy::from_env(env);
        let send = SendConfig::from_env(env);
        Some(Self {
            service: service?,
            database: database?,
            kafka: kafka?,
            registry: registry?,
            batch: batch?,
            policy: policy?,
            send: send?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(more: &[(&str, &str)]) -> Result<Config, String> {
        let needed = [
            ("DATABASE_URL", "postgres://u@localhost/d"),
            ("KAFKA_BOOTSTRAP_SERVERS", "localhost:1"),
            ("SCHEMA_REGISTRY_URL", "http://localhost:1"),
        ];
        let env = Env::from_pairs(needed.iter().chain(more).copied());
        service::config::load_from(env, Config::from_env).map_err(|problems| problems.to_string())
    }

    #[test]
    fn three_variables_are_enough_and_only_the_internet_is_reached_and_by_https() {
        let config = load(&[]).unwrap();
        assert_eq!(config.send.retry_delays, RETRY_DELAYS);
        assert!(!config.policy.allow_http && config.policy.allowed_networks.is_empty());
    }

    #[test]
    fn delays_are_a_list() {
        let config = load(&[("WEBHOOK_RETRY_DELAYS_MS", "10, 2000")]).unwrap();
        let delays = [Duration::from_millis(10), Duration::from_secs(2)];
        assert_eq!(config.send.retry_delays, delays);
        for wrong in ["x", "1,,2", "-1", "999999999999"] {
            let problems = load(&[("WEBHOOK_RETRY_DELAYS_MS", wrong)]).unwrap_err();
            assert!(problems.contains("is no number of milliseconds"), "{problems}");
        }
    }

    #[test]
    fn a_lease_shorter_than_a_request_may_take_is_refused() {
        let problems = load(&[("WEBHOOK_LEASE_SECONDS", "19")]).unwrap_err();
        assert!(
            problems.contains("WEBHOOK_LEASE_SECONDS must be at least 20"),
            "{problems}"
        );
        load(&[("WEBHOOK_LEASE_SECONDS", "20")]).unwrap();
    }
}
