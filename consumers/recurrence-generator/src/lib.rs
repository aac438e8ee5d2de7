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
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

pub use config::Config;
pub use handler::Generator;
pub use next::{NextError, next_instance};

/// How often old inbox rows are swept.
const SWEEP_INTERVAL: Duration = Duration::from_hours(1);

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
    supervisor.spawn("inbox sweep", sweep(pool, shutdown.clone()));
    supervisor.spawn("consumer", async {
        consumer.run(events, shutdown).await?;
        Ok(())
    });
    supervisor.run().await
}

/// Forgets inbox rows that nothing will ask for again. A failure is no harm: the next round finds the same rows.
async fn sweep(pool: PgPool, shutdown: CancellationToken) -> anyhow::Result<()> {
    loop {
        let pause = match inbox::RECURRENCE_GENERATOR.sweep(&pool).await {
            Ok(0) => SWEEP_INTERVAL,
            // A sweep takes a bounded number of rows: there may be more.
            Ok(_) => Duration::from_secs(1),
            Err(error) => {
                tracing::warn!(error = %error, "old inbox rows could not be swept; the next round tries again");
                SWEEP_INTERVAL
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}
