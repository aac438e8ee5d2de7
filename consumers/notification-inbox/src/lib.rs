#![doc = include_str!("../README.md")]

mod config;
mod handler;
mod metrics;
mod notifications;
mod retention;

use std::sync::Arc;
use std::time::Duration;

use db::inbox;
use kafka::{Consumer, Events, Registry};
use schemas::topics::NOTIFICATION_INBOX;
use service::{Health, Supervisor, http};
use tokio_util::sync::CancellationToken;

pub use config::Config;
pub use handler::Listing;

/// Runs the service until `shutdown`.
///
/// # Errors
/// When it cannot start, or when a part of it fails in a way that waiting does not mend.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    metrics::touch();
    let pool = config.database.pool()?;
    let registry = Arc::new(Registry::new(&config.registry)?);
    let listener = http::bind(config.service.http_bind).await?;
    let health = Health::new();

    let consumer = Consumer::new(
        &config.kafka,
        NOTIFICATION_INBOX.name,
        NOTIFICATION_INBOX.topics,
        config.batch,
        health.component("consumer", Duration::from_mins(2)),
    )?;
    let events = Events::new(
        NOTIFICATION_INBOX.name,
        pool.clone(),
        registry,
        inbox::NOTIFICATION_INBOX,
        Listing::default(),
    );
    let postgres = health.component("postgres", Duration::from_mins(1));

    let mut supervisor = Supervisor::new(shutdown.clone(), health.clone(), config.service.shutdown_budget);
    supervisor.spawn(
        "http",
        http::serve(listener, http::admin_router(health), shutdown.clone()),
    );
    let stop = shutdown.clone();
    supervisor.spawn("consumer", async move { Ok(consumer.run(events, stop).await?) });
    supervisor.spawn_infallible(
        "postgres-probe",
        db::probe(pool.clone(), postgres, shutdown.clone()),
    );
    supervisor.spawn_infallible(
        "retention",
        retention::sweep_hourly(pool.clone(), config.retention_days, shutdown.clone()),
    );
    supervisor.spawn_infallible("inbox", inbox::NOTIFICATION_INBOX.sweep_hourly(pool, shutdown));
    supervisor.run().await
}
