use std::time::Duration;

use db::DatabaseConfig;
use kafka::{KafkaConfig, RegistryConfig};
use service::config::{Env, ServiceConfig};

/// Everything that the relay is told by its environment.
#[derive(Debug, Clone)]
pub struct Config {
    /// What every service is told.
    pub service: ServiceConfig,
    /// Where the outbox is.
    pub database: DatabaseConfig,
    /// Where events go.
    pub kafka: KafkaConfig,
    /// Where schemas are.
    pub registry: RegistryConfig,
    /// `SCHEMA_REGISTRY_AUTO_REGISTER`: whether the relay may register schemas. If not, `carillon schemas register` must
    /// have, and events of a schema that is not there wait.
    pub auto_register: bool,
    /// `OUTBOX_PAGE_ROWS`: how many rows are read at once.
    pub page_rows: i64,
    /// `OUTBOX_PACE_MS`: the least time between two looks while pages are not full. It trades latency for fewer, larger requests.
    pub pace: Duration,
    /// `OUTBOX_IDLE_MS`: the longest pause between two looks at an outbox where nothing happens.
    pub idle: Duration,
    /// `OUTBOX_STORE_MS`: how often progress is stored while events flow. What is published after the last store comes a
    /// second time when the relay is killed.
    pub store_every: Duration,
}

impl Config {
    /// Reads the settings above.
    pub fn from_env(env: &mut Env) -> Option<Self> {
        let service = ServiceConfig::from_env(env, 8008);
        let database = DatabaseConfig::from_env(env, "outbox-relay", 4);
        let kafka = KafkaConfig::from_env(env);
        let registry = RegistryConfig::from_env(env);
        let auto_register = env.one_of(
            "SCHEMA_REGISTRY_AUTO_REGISTER",
            &[("true", true), ("false", false)],
            true,
        );
        let page_rows = env.within("OUTBOX_PAGE_ROWS", 2000, 1..=20_000);
        let ms = Duration::from_millis;
        let pace = env.duration_ms("OUTBOX_PACE_MS", ms(3), ms(0)..=ms(1000));
        let idle = env.duration_ms("OUTBOX_IDLE_MS", ms(50), ms(1)..=ms(5000));
        let store_every = env.duration_ms("OUTBOX_STORE_MS", ms(500), ms(0)..=ms(60_000));
        Some(Self {
            service: service?,
            database: database?,
            kafka: kafka?,
            registry: registry?,
            auto_register: auto_register?,
            page_rows: page_rows?,
            pace: pace?,
            idle: idle?,
            store_every: store_every?,
        })
    }
}
