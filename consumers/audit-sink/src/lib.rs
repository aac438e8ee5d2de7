#![doc = include_str!("../README.md")]

mod config;
mod handler;
mod json;
pub mod partitions;
mod rows;
pub mod seals;

use std::sync::Arc;
use std::time::Duration;

use kafka::{Consumer, Registry};
use schemas::topics::{AUDIT_SINK, audited};
use service::{Health, Supervisor, http};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub use config::Config;
pub use handler::Sink;

/// Runs until `shutdown`, or until something is wrong that waiting does not mend.
///
/// # Errors
/// When a part cannot be set up, or ends before it was asked to.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let pool = config.database.pool()?;
    let registry = Arc::new(Registry::new(&config.registry)?);
    let listener = http::bind(config.service.http_bind).await?;
    let health = Health::new();

    let consumer = Consumer::new(
        &config.kafka,
        AUDIT_SINK.name,
        &audited(),
        config.batch,
        health.component("consumer", Duration::from_mins(2)),
    )?;
    let added = Arc::new(seals::Added::default());
    let sink = Sink::new(pool.clone(), registry, Arc::clone(&added));
    let postgres = health.component("postgres", Duration::from_mins(1));

    let mut supervisor = Supervisor::new(shutdown.clone(), health.clone(), config.service.shutdown_budget);
    supervisor.spawn(
        "http",
        http::serve(listener, http::admin_router(health), shutdown.clone()),
    );
    supervisor.spawn_infallible(
        "postgres-probe",
        db::probe(pool.clone(), postgres, shutdown.clone()),
    );
    let (tried, first_try) = oneshot::channel();
    let sealer = seals::Sealer {
        interval: config.seal_interval,
        key: config.seal_key,
        retention_days: config.retention_days,
    };
    supervisor.spawn("seals", seals::run(pool.clone(), sealer, added, shutdown.clone()));
    supervisor.spawn(
        "partitions",
        partitions::maintain(pool, config.retention_days, tried, shutdown.clone()),
    );
    supervisor.spawn("consumer", async {
        // A row that comes before its day has a partition goes to the default partition, and then that day cannot have
        // one any more. So partitions are given one try first; whether it worked does not matter here.
        first_try.await.ok();
        consumer.run(sink, shutdown).await?;
        Ok(())
    });
    supervisor.run().await
}
