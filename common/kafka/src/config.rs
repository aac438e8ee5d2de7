//! How to reach the brokers and the registry, and every librdkafka setting that we depend on.

use std::path::PathBuf;
use std::time::Duration;

use rdkafka::ClientConfig;
use secrecy::{ExposeSecret, SecretString};
use service::config::{Env, Secret};

/// How to reach the brokers.
#[derive(Debug, Clone)]
pub struct KafkaConfig {
    /// `KAFKA_BOOTSTRAP_SERVERS`: `host:port`, several separated by commas.
    pub bootstrap_servers: String,
    /// `KAFKA_SECURITY_PROTOCOL`: plaintext, ssl, sasl_plaintext or sasl_ssl.
    pub security_protocol: &'static str,
    /// `KAFKA_SASL_MECHANISM`: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
    pub sasl_mechanism: &'static str,
    /// `KAFKA_SASL_USERNAME`.
    pub sasl_username: Option<String>,
    /// `KAFKA_SASL_PASSWORD`. In a file it may change: see [`Login`].
    pub sasl_password: Option<Secret>,
    /// `KAFKA_SSL_CA_LOCATION`: a file of trusted certificates; the system's without it.
    pub ssl_ca_location: Option<String>,
    /// `KAFKA_TOPIC_PREFIX`: put before the name of every topic, group and subject, for clusters that several
    /// installations share.
    pub topic_prefix: String,
    /// `KAFKA_GROUP_INSTANCE_ID`: static membership (KIP-345). With one, a restarted process takes its partitions back at
    /// once; it must differ between the replicas of a service.
    pub group_instance_id: Option<String>,
    /// `KAFKA_SESSION_TIMEOUT_MS`: a member that is silent for so long has lost its partitions.
    pub session_timeout: Duration,
}

impl KafkaConfig {
    /// Reads the settings above.
    pub fn from_env(env: &mut Env) -> Option<Self> {
        let bootstrap_servers = env.required::<String>("KAFKA_BOOTSTRAP_SERVERS");
        let security_protocol = env.one_of(
            "KAFKA_SECURITY_PROTOCOL",
            &[
                ("plaintext", "plaintext"),
                ("ssl", "ssl"),
                ("sasl_plaintext", "sasl_plaintext"),
                ("sasl_ssl", "sasl_ssl"),
                ("PLAINTEXT", "plaintext"),
                ("SSL", "ssl"),
                ("SASL_PLAINTEXT", "sasl_plaintext"),
                ("SASL_SSL", "sasl_ssl"),
            ],
            "plaintext",
        );
        let sasl_mechanism = env.one_of(
            "KAFKA_SASL_MECHANISM",
            &[
                ("PLAIN", "PLAIN"),
                ("SCRAM-SHA-256", "SCRAM-SHA-256"),
                ("SCRAM-SHA-512", "SCRAM-SHA-512"),
            ],
            "SCRAM-SHA-512",
        );
        let sasl_username = env.optional::<String>("KAFKA_SASL_USERNAME");
        let sasl_password = env.optional_changing_secret("KAFKA_SASL_PASSWORD");
        let ssl_ca_location = env.optional::<String>("KAFKA_SSL_CA_LOCATION");
        let topic_prefix = env.or("KAFKA_TOPIC_PREFIX", String::new());
        let group_instance_id = env.optional::<String>("KAFKA_GROUP_INSTANCE_ID");
        // The least that a broker takes unless told otherwise (group.min.session.timeout.ms). Whoever was away for longer joins
        // as a new member, and the broker waits for the old one for this long before anybody reads on: after Kafka has been
        // away this is the greater part of what coming back takes. A rebalance too many costs little, as effects are
        // idempotent.
        let session_timeout = env.duration_ms(
            "KAFKA_SESSION_TIMEOUT_MS",
            Duration::from_secs(6),
            Duration::from_secs(2)..=Duration::from_mins(4),
        );
        if security_protocol.is_some_and(|p| p.starts_with("sasl")) {
            if sasl_username == Some(None) {
                env.reject(
                    "KAFKA_SASL_USERNAME",
                    "is missing: KAFKA_SECURITY_PROTOCOL asks for SASL",
                );
            }
            if matches!(sasl_password, Some(None)) {
                env.reject(
                    "KAFKA_SASL_PASSWORD",
                    "is missing: KAFKA_SECURITY_PROTOCOL asks for SASL",
                );
            }
        }
        if let Some(prefix) = &topic_prefix
            && !prefix
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
        {
            env.reject(
                "KAFKA_TOPIC_PREFIX",
                "may hold only letters, digits, '.', '_' and '-'",
            );
        }
        Some(Self {
            bootstrap_servers: bootstrap_servers?,
            security_protocol: security_protocol?,
            sasl_mechanism: sasl_mechanism?,
            sasl_username: sasl_username?,
            sasl_password: sasl_password?,
            ssl_ca_location: ssl_ca_location?,
            topic_prefix: topic_prefix?,
            group_instance_id: group_instance_id?,
            session_timeout: session_timeout?,
        })
    }

    /// What a client that is made now logs in with. Ask before making it: then a change in between is seen.
    #[must_use]
    pub fn login(&self) -> Login {
        Login(
            self.sasl_password
                .clone()
                .map(|password| (password.current(), password)),
        )
    }

    /// The name of a topic, group or subject on the cluster.
    #[must_use]
    pub fn prefixed(&self, name: &str) -> String {
        format!("{}{name}", self.topic_prefix)
    }

    /// What every client has in common.
    #[must_use]
    pub fn client(&self, client_id: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap_servers)
            .set("client.id", client_id)
            .set("security.protocol", self.security_protocol)
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.max.ms", "2000")
            .set("allow.auto.create.topics", "false")
            // A topic that is made after we started is seen within seconds, not within five minutes.
            .set("topic.metadata.refresh.interval.ms", "10000");
        if self.security_protocol.starts_with("sasl") {
            config.set("sasl.mechanisms", self.sasl_mechanism);
            if let Some(username) = &self.sasl_username {
                config.set("sasl.username", username);
            }
            if let Some(password) = &self.sasl_password {
                config.set("sasl.password", password.current().expose_secret());
            }
        }
        if let Some(location) = &self.ssl_ca_location {
            config.set("ssl.ca.location", location);
        }
        config
    }

    /// A consumer of `group`. Offsets are committed by hand, after the Postgres commit: without both settings librdkafka
    /// would do it by itself, before (librdkafka#1829). The range assignor and eager rebalancing are docs/adr/0004.
    #[must_use]
    pub fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.client(group);
        config
            .set("group.id", self.prefixed(group))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("partition.assignment.strategy", "range")
            .set("session.timeout.ms", self.session_timeout.as_millis().to_string())
            .set(
                "heartbeat.interval.ms",
                (self.session_timeout / 4).as_millis().to_string(),
            )
            .set("max.poll.interval.ms", MAX_POLL_INTERVAL.as_millis().to_string())
            .set("enable.partition.eof", "false")
            // Bounds what lies fetched and unhandled in memory.
            .set("queued.max.messages.kbytes", "8192")
            .set("queued.min.messages", "10000")
            .set("fetch.message.max.bytes", "1048576")
            .set("statistics.interval.ms", "5000");
        if let Some(id) = &self.group_instance_id {
            config.set("group.instance.id", id);
        }
        config
    }

    /// A producer that neither loses, doubles nor reorders: it tries each record until the broker took it or the producer
    /// is dropped.
    #[must_use]
    pub fn producer(&self, client_id: &str) -> ClientConfig {
        let mut config = self.client(client_id);
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            // No limit: a record given up in the middle of others would let its successors overtake it.
            .set("message.timeout.ms", "0")
            .set("linger.ms", "1")
            .set("batch.num.messages", "10000")
            .set("compression.type", "lz4")
            .set("queue.buffering.max.messages", "100000")
            .set("message.max.bytes", MAX_RECORD_BYTES.to_string());
        config
    }
}

/// The password that a client was made with. librdkafka keeps it, so who lives long makes a new client when it has changed.
#[derive(Debug, Clone)]
pub struct Login(Option<(SecretString, Secret)>);

impl Login {
    /// Whether it is another one now.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.0.as_ref().is_some_and(|(used, now)| now.differs_from(used))
    }
}

/// A consumer that does not poll for so long has lost its partitions. One statement takes at most the database's
/// statement timeout, and between attempts the loop polls.
pub const MAX_POLL_INTERVAL: Duration = Duration::from_mins(5);

/// The largest record that is written: a dead letter holds its source whole.
pub const MAX_RECORD_BYTES: usize = schemas::topics::MAX_DEAD_LETTER_BYTES;

/// When a batch is handed to the processor: whichever comes first.
#[derive(Debug, Clone, Copy)]
pub struct BatchConfig {
    /// `BATCH_MAX_EVENTS`.
    pub max_events: usize,
    /// `BATCH_MAX_BYTES`.
    pub max_bytes: usize,
    /// `BATCH_MAX_WAIT_MS`: since the first record of the batch.
    pub max_wait: Duration,
}

impl BatchConfig {
    /// Reads the settings above.
    pub fn from_env(env: &mut Env, max_events: usize) -> Option<Self> {
        let max_events = env.within("BATCH_MAX_EVENTS", max_events, 1..=100_000);
        let max_bytes = env.within("BATCH_MAX_BYTES", 4 << 20, 1024..=64 << 20);
        let max_wait = env.duration_ms(
            "BATCH_MAX_WAIT_MS",
            Duration::from_millis(5),
            Duration::ZERO..=Duration::from_secs(10),
        );
        Some(Self {
            max_events: max_events?,
            max_bytes: max_bytes?,
            max_wait: max_wait?,
        })
    }
}

/// How to reach the schema registry (Confluent's API).
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// `SCHEMA_REGISTRY_URL`.
    pub url: String,
    /// `SCHEMA_REGISTRY_USERNAME`.
    pub username: Option<String>,
    /// `SCHEMA_REGISTRY_PASSWORD`. In a file it may change.
    pub password: Option<Secret>,
    /// `SCHEMA_REGISTRY_CA_FILE`: certificates to trust besides the system's, PEM.
    pub ca_file: Option<PathBuf>,
}

impl RegistryConfig {
    /// Reads the settings above.
    pub fn from_env(env: &mut Env) -> Option<Self> {
        let url = env.required::<String>("SCHEMA_REGISTRY_URL");
        if url
            .as_ref()
            .is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://"))
        {
            env.reject("SCHEMA_REGISTRY_URL", "must start with http:// or https://");
        }
        let username = env.optional::<String>("SCHEMA_REGISTRY_USERNAME");
        let password = env.optional_changing_secret("SCHEMA_REGISTRY_PASSWORD");
        let ca_file = env.optional::<PathBuf>("SCHEMA_REGISTRY_CA_FILE");
        if matches!((&username, &password), (Some(None), Some(Some(_)))) {
            env.reject(
                "SCHEMA_REGISTRY_USERNAME",
                "is missing: SCHEMA_REGISTRY_PASSWORD is set",
            );
        }
        Some(Self {
            url: url?.trim_end_matches('/').to_owned(),
            username: username?,
            password: password?,
            ca_file: ca_file?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> KafkaConfig {
        let env = Env::from_pairs([("KAFKA_BOOTSTRAP_SERVERS", "localhost:1")]);
        service::config::load_from(env, KafkaConfig::from_env).unwrap()
    }

    #[test]
    fn a_consumer_never_commits_or_stores_offsets_by_itself() {
        let consumer = config().consumer("g");
        assert_eq!(consumer.get("enable.auto.commit"), Some("false"));
        assert_eq!(consumer.get("enable.auto.offset.store"), Some("false"));
        assert_eq!(consumer.get("auto.offset.reset"), Some("earliest"));
    }

    #[test]
    fn a_producer_waits_for_all_replicas_and_never_gives_up_a_record() {
        let producer = config().producer("p");
        assert_eq!(producer.get("acks"), Some("all"));
        assert_eq!(producer.get("enable.idempotence"), Some("true"));
        assert_eq!(producer.get("message.timeout.ms"), Some("0"));
    }

    #[test]
    fn sasl_without_credentials_is_refused_with_both_named() {
        let env = Env::from_pairs([
            ("KAFKA_BOOTSTRAP_SERVERS", "localhost:1"),
            ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
        ]);
        let problems = service::config::load_from(env, KafkaConfig::from_env)
            .unwrap_err()
            .to_string();
        assert!(problems.contains("KAFKA_SASL_USERNAME"), "{problems}");
        assert!(problems.contains("KAFKA_SASL_PASSWORD"), "{problems}");
    }
}
