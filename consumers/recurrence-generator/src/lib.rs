#![doc = include_str!("../README.md")]

mod config;
mod handler;
mod next;

use std::sync::Arc;
use std::time::Duration;

use db::inbox;
use kafka::{Consumer, Events, Registry};
use schemas::topics::RECURRENCE_GENERATOR;
use service::{Health, Supervisor, http};
use tokio_util::sync::CancellationToken;

pub use config::Config;
pub use handler::Generator;
pub use next::{NextError, next_instance};

/// Runs until `shutdown`, or until something is wrong that waiting does not mend.
///
/// # Errors
/// When a part cannot be set up, or ends before it was asked to.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let pool = config.database.pool()?;
    let registry = Arc::new(Registry::new(&config.registry)?);
    let health = Health::new();
    let consumer = Consumer::new(
        &config.kafka,
        RECURRENCE_GENERATOR.name,
        &RECURRENCE_GENERATOR
            .topics
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        config.batch,
        health.component("consumer", Duration::from_secs(120)),
    )?;
    let events = Events::new(
        RECURRENCE_GENERATOR.name,
        pool.clone(),
        registry,
        inbox::RECURRENCE_GENERATOR,
        Generator::new(),
    );
    let database = health.component("database", Duration::from_secs(60));
    let listener = http::bind(config.service.http_bind).await?;

    let mut supervisor = Supervisor::new(shutdown.clone(), health.clone(), config.service.shutdown_budget);
    supervisor.spawn(
        "http",
        http::serve(listener, http::admin_router(health), shutdown.clone()),
    );
    supervisor.spawn("database probe", {
        let probe = db::probe(pool.clone(), database, shutdown.clone());
        async {
            probe.await;
            Ok(())
        }
    });
    let stop = shutdown.clone();
    supervisor.spawn("inbox", async move {
        inbox::RECURRENCE_GENERATOR.sweep_hourly(pool, stop).await;
        Ok(())
    });
    supervisor.spawn("consumer", async {
        consumer.run(events, shutdown).await?;
        Ok(())
    });
    supervisor.run().await
}
