#![doc = include_str!("../README.md")]

mod bounce;
mod calendar;
mod circuit;
mod config;
mod deliveries;
mod handler;
mod intake;
mod language;
mod message;
mod metrics;
mod moot;
mod pace;
mod retention;
mod send;
mod smtp;
mod template;

use std::sync::Arc;
use std::time::Duration;

use db::inbox;
use kafka::{Consumer, Events, Registry};
use schemas::topics::EMAIL_SENDER;
use service::{Health, Supervisor, http};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use config::{Config, DeliveryConfig, MailConfig, SmtpConfig, Tls};

use handler::ArmDeliveries;
use send::Sender;

/// Runs the service until `shutdown`.
///
/// # Errors
/// When it cannot start (templates, certificates, ports), or when a part of it fails in a way that waiting does not mend.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    metrics::touch();
    let pool = config.database.pool()?;
    let registry = Arc::new(Registry::new(&config.registry)?);
    let listener = http::bind(config.service.http_bind).await?;
    let health = Health::new();

    // The handler wakes the sender when it has written deliveries.
    let wake = Arc::new(Notify::new());
    let consumer = Consumer::new(
        &config.kafka,
        EMAIL_SENDER.name,
        EMAIL_SENDER.topics,
        config.batch,
        health.component("consumer", Duration::from_mins(2)),
    )?;
    let events = Events::new(
        EMAIL_SENDER.name,
        pool.clone(),
        registry,
        inbox::EMAIL_SENDER,
        ArmDeliveries::new(Arc::clone(&wake)),
    );
    let postgres = health.component("postgres", Duration::from_mins(1));
    let component = health.component("smtp", delivery::stale_after(config.smtp.send_budget()));
    let sender = Sender::new(&config, pool.clone(), wake, component)?;

    let mut router = http::admin_router(health.clone());
    if let Some(token) = config.bounce_token {
        router = router.merge(intake::router(pool.clone(), token, config.mail.message_id_domain));
    }
    let mut supervisor = Supervisor::new(shutdown.clone(), health.clone(), config.service.shutdown_budget);
    supervisor.spawn("http", http::serve(listener, router, shutdown.clone()));
    let stop = shutdown.clone();
    supervisor.spawn("consumer", async move { Ok(consumer.run(events, stop).await?) });
    supervisor.spawn("sender", sender.run(shutdown.clone()));
    supervisor.spawn_infallible(
        "postgres-probe",
        db::probe(pool.clone(), postgres, shutdown.clone()),
    );
    supervisor.spawn_infallible(
        "retention",
        retention::sweep_hourly(pool.clone(), config.delivery.retention_days, shutdown.clone()),
    );
    supervisor.spawn_infallible("inbox", inbox::EMAIL_SENDER.sweep_hourly(pool, shutdown));
    supervisor.run().await
}
