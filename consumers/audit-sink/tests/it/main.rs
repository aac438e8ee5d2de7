//! The audit sink on a real Postgres, as its role, and on a real Kafka.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot be set up should fail at once"
)]

mod events;
mod partitions;
mod rate;
mod records;
mod seals;
mod service_loop;

use std::sync::Arc;
use std::time::Duration;

use audit_sink::Sink;
use audit_sink::seals::Added;
use kafka::{BatchConfig, Consumer, ProcessError, Processor, Record, Registry, RegistryConfig, Rejection};
use schemas::topics::audited;
use sqlx::PgPool;
use sqlx::postgres::PgRow;
use support::{Database, Topics};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A sink that writes as its role.
fn sink(database: &Database, registry: &RegistryConfig) -> Sink {
    sink_into(database.pool("audit-sink"), registry)
}

fn sink_into(pool: PgPool, registry: &RegistryConfig) -> Sink {
    Sink::new(
        pool,
        Arc::new(Registry::new(registry).unwrap()),
        Arc::new(Added::default()),
    )
}

fn batch_config() -> BatchConfig {
    BatchConfig {
        max_events: 2000,
        max_bytes: 8 << 20,
        max_wait: Duration::from_millis(5),
    }
}

/// Every record of every topic that the sink reads, as the loop hands them on.
async fn records(topics: &Topics, count: usize) -> Vec<Record> {
    struct Capture(mpsc::UnboundedSender<Record>);

    impl Processor for Capture {
        async fn process(&mut self, batch: &[Record]) -> Result<Vec<Rejection>, ProcessError> {
            for record in batch {
                self.0.send(record.clone()).ok();
            }
            Ok(Vec::new())
        }
    }

    let component = service::Health::new().component("capture", Duration::MAX);
    let consumer = Consumer::new(&topics.config(), "capture", &audited(), batch_config(), component).unwrap();
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let shutdown = CancellationToken::new();
    let capture = tokio::spawn(consumer.run(Capture(sender), shutdown.clone()));
    let mut records = Vec::new();
    while records.len() < count {
        let record = tokio::time::timeout(support::PATIENCE, receiver.recv()).await;
        records.push(record.expect("the records come").expect("the loop runs"));
    }
    shutdown.cancel();
    capture.await.unwrap().unwrap();
    records
}

/// Everything in the audit trail.
async fn rows(database: &Database) -> Vec<PgRow> {
    sqlx::query("select *, tableoid::regclass::text as part from audit.events order by topic, partition_id, offset_id")
        .fetch_all(database.admin())
        .await
        .unwrap()
}
