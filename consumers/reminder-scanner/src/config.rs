use db::DatabaseConfig;
use kafka::{BatchConfig, KafkaConfig, RegistryConfig};
use service::config::{Env, ServiceConfig};

/// Everything that the scanner is told by its environment.
#[derive(Debug, Clone)]
pub struct Config {
    /// What every service is told.
    pub service: ServiceConfig,
    /// Where reminders are kept.
    pub database: DatabaseConfig,
    /// Where events come from.
    pub kafka: KafkaConfig,
    /// Where schemas are.
    pub registry: RegistryConfig,
    /// How events are batched.
    pub batch: BatchConfig,
    /// `FIRE_BATCH`: how many reminders are fired in one transaction.
    pub fire_batch: usize,
}

impl Config {
    /// Reads the settings above.
    pub fn from_env(env: &mut Env) -> Option<Self> {
        let service = ServiceConfig::from_env(env, 8002);
        let database = DatabaseConfig::from_env(env, "reminder-scanner", 7);
        let kafka = KafkaConfig::from_env(env);
        let registry = RegistryConfig::from_env(env);
        let batch = BatchConfig::from_env(env, 1000);
        let fire_batch = env.within("FIRE_BATCH", 2000, 1..=10_000);
        Some(Self {
            service: service?,
            database: database?,
            kafka: kafka?,
            registry: registry?,
            batch: batch?,
            fire_batch: fire_batch?,
        })
    }
}
