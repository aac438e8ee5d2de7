#![doc = include_str!("../README.md")]

mod circuit;
mod config;
mod deliveries;
mod handler;
mod message;
mod metrics;
mod record;
mod retry;
mod send;
mod smtp;
mod template;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use kafka::{Consumer, Events, Registry};
use schemas::topics::EMAIL_SENDER;
use service::{Health, Supervisor, http};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use config::{Config, DeliveryConfig, MailConfig, SmtpConfig, Tls};

use handler::ArmDeliveries;
use send::Sender;

/// The Kafka loop: one turn waits for Postgres and the registry with timeouts far below this.
const CONSUMER_STALE_AFTER: Duration = Duration::from_mins(2);

/// Runs the service until `shutdown`.
///
/// # Errors
/// When it cannot start (templates, certificates, ports), or when a part of it fails in a way that waiting does not mend.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    metrics::touch();
    let health = Health::new();
    let pool = config.database.pool().context("DATABASE_URL")?;
    let registry = Arc::new(Registry::new(&config.registry).context("SCHEMA_REGISTRY_URL")?);
    let listener = http::bind(config.service.http_bind).await?;

    // The handler wakes the sender when it has written deliveries.
    let wake = Arc::new(Notify::new());
    let component = health.component("smtp", send::stale_after(&config.smtp));
    let sender = Sender::new(&config, pool.clone(), Arc::clone(&wake), component)?;
    let handler = Events::new(
        EMAIL_SENDER.name,
        pool.clone(),
        registry,
        db::inbox::EMAIL_SENDER,
        ArmDeliveries::new(wake),
    );
    let topics: Vec<String> = EMAIL_SENDER
        .topics
        .iter()
        .map(|&topic| topic.to_owned())
        .collect();
    let consumer = Consumer::new(
        &config.kafka,
        EMAIL_SENDER.name,
        &topics,
        config.batch,
        health.component("kafka", CONSUMER_STALE_AFTER),
    )?;

    let mut supervisor = Supervisor::new(shutdown.clone(), health.clone(), config.service.shutdown_budget);
    let postgres = health.component("postgres", Duration::from_mins(2));
    supervisor.spawn(
        "http",
        http::serve(listener, http::admin_router(health), shutdown.clone()),
    );
    supervisor.spawn("sender", sender.run(shutdown.clone()));
    let token = shutdown.clone();
    supervisor.spawn("consumer", async move { Ok(consumer.run(handler, token).await?) });
    let probe = db::probe(pool.clone(), postgres, shutdown.clone());
    supervisor.spawn("postgres probe", async move {
        probe.await;
        Ok(())
    });
    supervisor.spawn("inbox", async move {
        db::inbox::EMAIL_SENDER.sweep_hourly(pool, shutdown).await;
        Ok(())
    });
    supervisor.run().await
}
