#![doc = include_str!("../README.md")]

mod alarm;
mod config;
mod fire;
mod handler;
mod metrics;
pub mod plan;
mod queue;
mod reminders;
pub mod rings;

use std::sync::Arc;
use std::time::Duration;

use db::inbox;
use kafka::{Consumer, Events, Registry};
use schemas::topics::REMINDER_SCANNER;
use service::{Health, Supervisor, http};
use tokio_util::sync::CancellationToken;

pub use config::Config;
pub use fire::fire;
pub use handler::Arming;
pub use reminders::{Place, Rung, TOLERANCE_SECONDS};

/// Arms and fires until `shutdown`.
///
/// # Errors
/// When the configuration cannot work, the port is taken, or a task fails.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    metrics::register();
    let pool = config.database.pool()?;
    let registry = Arc::new(Registry::new(&config.registry)?);
    let listener = http::bind(config.service.http_bind).await?;
    let health = Health::new();

    let alarm = Arc::new(alarm::Alarm::default());
    let consumer = Consumer::new(
        &config.kafka,
        REMINDER_SCANNER.name,
        REMINDER_SCANNER.topics,
        config.batch,
        health.component("consumer", Duration::from_mins(2)),
    )?;
    let events = Events::new(
        REMINDER_SCANNER.name,
        pool.clone(),
        registry,
        inbox::REMINDER_SCANNER,
        handler::Arming::new(Arc::clone(&alarm)),
    )
    .beside(handler::Arming::new(Arc::clone(&alarm)));
    let postgres = health.component("postgres", Duration::from_mins(1));
    let component = health.component("fire", Duration::from_mins(1));
    let firing = fire::Firing::new(pool.clone(), alarm, config.fire_batch, component);

    let mut supervisor = Supervisor::new(shutdown.clone(), health.clone(), config.service.shutdown_budget);
    supervisor.spawn(
        "http",
        http::serve(listener, http::admin_router(health), shutdown.clone()),
    );
    let stop = shutdown.clone();
    supervisor.spawn("consumer", async move { Ok(consumer.run(events, stop).await?) });
    supervisor.spawn("fire", firing.run(shutdown.clone()));
    supervisor.spawn_infallible(
        "postgres-probe",
        db::probe(pool.clone(), postgres, shutdown.clone()),
    );
    supervisor.spawn_infallible("inbox", inbox::REMINDER_SCANNER.sweep_hourly(pool, shutdown));
    supervisor.run().await
}
