#![doc = include_str!("../README.md")]

mod config;
mod event;
mod handler;
mod horizon;
mod metrics;
mod next;

use std::sync::Arc;
use std::time::Duration;

use db::inbox;
use kafka::{Consumer, Events, Registry};
use schemas::topics::RECURRENCE_GENERATOR;
use service::{Health, Supervisor, http};
use tokio_util::sync::CancellationToken;

pub use config::{Config, Stream};
pub use handler::Generator;
pub use horizon::{Attended, attend, attend_all};
pub use next::next_occurrence;

/// Runs until `shutdown`, or until something is wrong that waiting does not mend. With `--once` it attends to the series whose
/// turn it is, and returns.
///
/// # Errors
/// When a part cannot be set up, or ends before it was asked to.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let pool = config.database.pool()?;
    metrics::register();
    let Some(stream) = config.stream else {
        let attended = horizon::attend_all(&pool, config.horizon, &shutdown).await?;
        tracing::info!(?attended, "nothing is left to do");
        return Ok(());
    };
    let registry = Arc::new(Registry::new(&stream.registry)?);
    let listener = http::bind(config.service.http_bind).await?;
    let health = Health::new();

    let consumer = Consumer::new(
        &stream.kafka,
        RECURRENCE_GENERATOR.name,
        RECURRENCE_GENERATOR.topics,
        stream.batch,
        health.component("consumer", Duration::from_mins(2)),
    )?;
    let events = Events::new(
        RECURRENCE_GENERATOR.name,
        pool.clone(),
        registry,
        inbox::RECURRENCE_GENERATOR,
        Generator::new(),
    );
    let postgres = health.component("postgres", Duration::from_mins(1));

    let ahead = horizon::Ahead {
        pool: pool.clone(),
        horizon: config.horizon,
        component: health.component("horizon", Duration::from_mins(1)),
    };

    let mut supervisor = Supervisor::new(shutdown.clone(), health.clone(), config.service.shutdown_budget);
    supervisor.spawn(
        "http",
        http::serve(listener, http::admin_router(health), shutdown.clone()),
    );
    let stop = shutdown.clone();
    supervisor.spawn("consumer", async move { Ok(consumer.run(events, stop).await?) });
    supervisor.spawn("horizon", ahead.run(shutdown.clone()));
    supervisor.spawn_infallible(
        "postgres-probe",
        db::probe(pool.clone(), postgres, shutdown.clone()),
    );
    supervisor.spawn_infallible("inbox", inbox::RECURRENCE_GENERATOR.sweep_hourly(pool, shutdown));
    supervisor.run().await
}
