//! The settings of the recurrence generator.

use db::DatabaseConfig;
use kafka::{BatchConfig, KafkaConfig, RegistryConfig};
use service::config::{Env, ServiceConfig};

/// Everything that comes from the environment.
#[derive(Debug, Clone)]
pub struct Config {
    /// What every service has: probes on port 8004, logs, the stop.
    pub service: ServiceConfig,
    /// Postgres, as the role `carillon_recurrence_generator`.
    pub database: DatabaseConfig,
    /// The brokers.
    pub kafka: KafkaConfig,
    /// The schema registry.
    pub registry: RegistryConfig,
    /// When a batch is handled.
    pub batch: BatchConfig,
}

impl Config {
    /// Reads the settings.
    pub fn from_env(env: &mut Env) -> Option<Self> {
        let service = ServiceConfig::from_env(env, 8004);
        // One for the loop, one each for the probe and the sweep, one to spare.
        let database = DatabaseConfig::from_env(env, "recurrence-generator", 4);
        let kafka = KafkaConfig::from_env(env);
        let registry = RegistryConfig::from_env(env);
        let batch = BatchConfig::from_env(env, 500);
        Some(Self {
            service: service?,
            database: database?,
            kafka: kafka?,
            registry: registry?,
            batch: batch?,
        })
    }
}
