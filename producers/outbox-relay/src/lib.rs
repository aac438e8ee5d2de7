#![doc = include_str!("../README.md")]

mod config;
mod cursor;
mod housekeeping;
mod metrics;
mod publish;
mod session;

use std::sync::Arc;
use std::time::Duration;

use kafka::Registry;
use service::{Health, Supervisor, http};
use tokio_util::sync::CancellationToken;

pub use config::Config;

/// Publishes until `shutdown`.
///
/// # Errors
/// When the configuration cannot work, the port is taken, or a task fails.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let health = Health::new();
    let listener = http::bind(config.service.http_bind).await?;
    let pool = config.database.pool()?;
    let registry = Arc::new(Registry::new(&config.registry)?);
    let mut supervisor = Supervisor::new(shutdown.clone(), health.clone(), config.service.shutdown_budget);
    for shard in 0..cursor::SHARDS {
        let component = health.component(format!("shard-{shard}"), Duration::from_mins(2));
        let session = session::Shard::new(shard, &config, Arc::clone(&registry), component);
        supervisor.spawn(format!("shard-{shard}"), session.run(shutdown.clone()));
    }
    let component = health.component("database", Duration::from_mins(2));
    supervisor.spawn(
        "housekeeping",
        housekeeping::run(pool, component, shutdown.clone()),
    );
    supervisor.spawn(
        "http",
        http::serve(listener, http::admin_router(health), shutdown),
    );
    supervisor.run().await
}
