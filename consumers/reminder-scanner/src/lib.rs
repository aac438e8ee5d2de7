#![doc = include_str!("../README.md")]

mod alarm;
mod config;
mod fire;
mod handler;
mod metrics;
pub mod plan;
mod reminders;

use std::sync::Arc;
use std::time::Duration;

use kafka::{Consumer, Events, Registry};
use schemas::topics::REMINDER_SCANNER;
use service::{Health, Supervisor, http};
use tokio_util::sync::CancellationToken;

pub use config::Config;

/// Arms and fires until `shutdown`.
///
/// # Errors
/// When the configuration cannot work, the port is taken, or a task fails.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let health = Health::new();
    let listener = http::bind(config.service.http_bind).await?;
    let pool = config.database.pool()?;
    let registry = Arc::new(Registry::new(&config.registry)?);
    let alarm = Arc::new(alarm::Alarm::default());

    let topics = REMINDER_SCANNER
        .topics
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>();
    let component = health.component("consumer", Duration::from_mins(2));
    let consumer = Consumer::new(
        &config.kafka,
        REMINDER_SCANNER.name,
        &topics,
        config.batch,
        component,
    )?;
    let arming = Events::new(
        REMINDER_SCANNER.name,
        pool.clone(),
        registry,
        db::inbox::REMINDER_SCANNER,
        handler::Arming::new(Arc::clone(&alarm)),
    );
    let component = health.component("fire", Duration::from_mins(1));
    let firing = fire::Firing::new(pool.clone(), alarm, config.fire_batch, component);

    let mut supervisor = Supervisor::new(shutdown.clone(), health.clone(), config.service.shutdown_budget);
    let stop = shutdown.clone();
    supervisor.spawn("consumer", async move { Ok(consumer.run(arming, stop).await?) });
    supervisor.spawn("fire", firing.run(shutdown.clone()));
    let stop = shutdown.clone();
    supervisor.spawn("inbox", async move {
        db::inbox::REMINDER_SCANNER.sweep_hourly(pool, stop).await;
        Ok(())
    });
    supervisor.spawn(
        "http",
        http::serve(listener, http::admin_router(health), shutdown),
    );
    supervisor.run().await
}
