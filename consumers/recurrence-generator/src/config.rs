//! The settings of the recurrence generator.

use chrono::TimeDelta;
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
    /// How far ahead instances of series that pile up are made, in whole days.
    pub horizon: TimeDelta,
    /// Where completions come from; none with `--once`, which needs nothing but Postgres.
    pub stream: Option<Stream>,
}

/// The events that are consumed.
#[derive(Debug, Clone)]
pub struct Stream {
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
        let once = env.flag("--once");
        let service = ServiceConfig::from_env(env, 8004);
        // One each for the loops, the probe and the sweep, one to spare.
        let database = DatabaseConfig::from_env(env, "recurrence-generator", 5);
        let horizon = env.within("HORIZON_DAYS", 30, 1..=366);
        let stream = if once {
            Some(None)
        } else {
            Stream::from_env(env).map(Some)
        };
        Some(Self {
            service: service?,
            database: database?,
            horizon: TimeDelta::days(horizon?),
            stream: stream?,
        })
    }
}

impl Stream {
    fn from_env(env: &mut Env) -> Option<Self> {
        let kafka = KafkaConfig::from_env(env);
        let registry = RegistryConfig::from_env(env);
        let batch = BatchConfig::from_env(env, 500);
        Some(Self {
            kafka: kafka?,
            registry: registry?,
            batch: batch?,
        })
    }
}
