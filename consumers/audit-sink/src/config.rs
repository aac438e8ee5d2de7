//! The settings of the audit sink.

use std::time::Duration;

use audit::SealKey;
use db::DatabaseConfig;
use kafka::{BatchConfig, KafkaConfig, RegistryConfig};
use service::config::{Env, ServiceConfig};

/// Everything that comes from the environment.
#[derive(Debug, Clone)]
pub struct Config {
    /// What every service has: probes on port 8006, logs, the stop.
    pub service: ServiceConfig,
    /// Postgres, as the role `carillon_audit_sink`.
    pub database: DatabaseConfig,
    /// The brokers.
    pub kafka: KafkaConfig,
    /// The schema registry.
    pub registry: RegistryConfig,
    /// When a batch is written.
    pub batch: BatchConfig,
    /// `AUDIT_RETENTION_DAYS`: partitions of days longer ago are dropped.
    pub retention_days: i32,
    /// `AUDIT_SEAL_SECONDS`: how long rows wait at most to be sealed together.
    pub seal_interval: Duration,
    /// `AUDIT_SEAL_KEY`: what seals are made with, if with a key.
    pub seal_key: Option<SealKey>,
}

impl Config {
    /// Reads the settings.
    pub fn from_env(env: &mut Env) -> Option<Self> {
        let service = ServiceConfig::from_env(env, 8006);
        // One each for the loop, the probe, the partitions and the seals.
        let database = DatabaseConfig::from_env(env, "audit-sink", 4);
        let kafka = KafkaConfig::from_env(env);
        let registry = RegistryConfig::from_env(env);
        let batch = BatchConfig::from_env(env, 2000);
        // Other defaults than every consumer's: nobody waits for an audit row, and large batches are what makes a
        // backlog go fast.
        let max_bytes = env.within("BATCH_MAX_BYTES", 8 << 20, 1024..=64 << 20);
        let max_wait = env.duration_ms(
            "BATCH_MAX_WAIT_MS",
            Duration::from_millis(100),
            Duration::ZERO..=Duration::from_secs(10),
        );
        let retention_days = env.within("AUDIT_RETENTION_DAYS", 90, 1..=36_500);
        let seal_interval = env.duration_seconds(
            "AUDIT_SEAL_SECONDS",
            Duration::from_mins(1),
            Duration::from_secs(1)..=Duration::from_hours(1),
        );
        let seal_key = SealKey::from_env(env);
        Some(Self {
            service: service?,
            database: database?,
            kafka: kafka?,
            registry: registry?,
            batch: BatchConfig {
                max_bytes: max_bytes?,
                max_wait: max_wait?,
                ..batch?
            },
            retention_days: retention_days?,
            seal_interval: seal_interval?,
            seal_key: seal_key?,
        })
    }
}
