//! Everything the environment can say; README.md has the table.

use db::DatabaseConfig;
use kafka::{BatchConfig, KafkaConfig, RegistryConfig};
use service::config::{Env, ServiceConfig};

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// What every binary has; the default port is 8009.
    pub service: ServiceConfig,
    /// `DATABASE_…`.
    pub database: DatabaseConfig,
    /// `KAFKA_…`.
    pub kafka: KafkaConfig,
    /// `SCHEMA_REGISTRY_…`.
    pub registry: RegistryConfig,
    /// `BATCH_…`.
    pub batch: BatchConfig,
    /// `NOTIFICATION_RETENTION_DAYS`: rows that are older are removed. At least as long as an event can come again.
    pub retention_days: i32,
}

impl Config {
    /// Reads the variables named at the fields.
    pub fn from_env(env: &mut Env) -> Option<Self> {
        let service = ServiceConfig::from_env(env, 8009);
        let database = DatabaseConfig::from_env(env, "notification-inbox", 3);
        let kafka = KafkaConfig::from_env(env);
        let registry = RegistryConfig::from_env(env);
        let batch = BatchConfig::from_env(env, 500);
        let retention_days = env.within("NOTIFICATION_RETENTION_DAYS", 90, 15..=36_500);
        Some(Self {
            service: service?,
            database: database?,
            kafka: kafka?,
            registry: registry?,
            batch: batch?,
            retention_days: retention_days?,
        })
    }
}
