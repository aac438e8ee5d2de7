//! The whole service on a real Kafka.

use std::collections::BTreeSet;

use audit_sink::{Config, Sink};
use kafka::{Consumer, ProcessError, Processor, Record, Rejection};
use schemas::topics::{AUDIT_SINK, audited};
use service::config::{Env, ServiceConfig};
use sqlx::Row;
use support::{Database, Topics, eventually};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::events::every_kind;
use crate::{batch_config, rows, sink};

/// Starts the service as `main` does, on a free port.
pub(crate) fn start(
    database: &Database,
    topics: &Topics,
) -> (CancellationToken, JoinHandle<anyhow::Result<()>>) {
    let config = Config {
        service: ServiceConfig::loopback(),
        database: database.config("audit-sink"),
        kafka: topics.config(),
        registry: topics.registry(),
        batch: batch_config(),
        retention_days: 90,
        seal_interval: std::time::Duration::from_secs(1),
        seal_key: None,
    };
    let shutdown = CancellationToken::new();
    let service = tokio::spawn(audit_sink::run(config, shutdown.clone()));
    (shutdown, service)
}

async fn caught_up(topics: &Topics) {
    for topic in audited() {
        eventually("the group has committed everything", async || {
            (topics.lag(AUDIT_SINK.name, &topic).await == 0).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_every_topic_arrive_once_in_the_partition_of_their_day() {
    let (database, topics) = tokio::join!(Database::create(), Topics::create());
    let events: Vec<_> = (0..5).flat_map(|_| every_kind(Uuid::now_v7())).collect();
    topics.publish(&events).await;
    // As the relay may after a crash: the same again.
    topics.publish(&events[..20]).await;
    topics.produce("task-events", b"x", Some(b"poison")).await;
    let (shutdown, service) = start(&database, &topics);
    caught_up(&topics).await;
    shutdown.cancel();
    service.await.unwrap().unwrap();

    let rows = rows(&database).await;
    let mut expected: BTreeSet<Uuid> = events.iter().map(|event| event.head().event_id).collect();
    assert_eq!(rows.len(), expected.len() + 1);
    for row in &rows {
        if row.get::<&str, _>("event_type") != "undecodable" {
            assert!(expected.remove(&row.get("event_id")));
        }
        let day = row.get::<schemas::Timestamp, _>("occurred_at").format("%Y%m%d");
        assert_eq!(row.get::<String, _>("part"), format!("audit.events_{day}"));
    }
    assert_eq!(expected, BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_insert_and_commit_it_starts_again_without_a_second_row() {
    /// Stores a batch and never comes back to commit it.
    struct Stuck(Sink, mpsc::UnboundedSender<usize>);

    impl Processor for Stuck {
        async fn process(&mut self, batch: &[Record]) -> Result<Vec<Rejection>, ProcessError> {
            self.0.process(batch).await?;
            self.1.send(batch.len()).ok();
            std::future::pending().await
        }
    }

    let (database, topics) = tokio::join!(Database::create(), Topics::create());
    let events = every_kind(Uuid::now_v7());
    topics.publish(&events).await;
    let component = service::Health::new().component("stuck", std::time::Duration::MAX);
    let consumer = Consumer::new(
        &topics.config(),
        AUDIT_SINK.name,
        &audited(),
        batch_config(),
        component,
    )
    .unwrap();
    let (sender, mut stored) = mpsc::unbounded_channel();
    let stuck = Stuck(sink(&database, &topics.registry()), sender);
    let doomed = tokio::spawn(consumer.run(stuck, CancellationToken::new()));
    let stored = stored.recv().await.unwrap();
    doomed.abort();
    assert!(doomed.await.unwrap_err().is_cancelled());
    assert_eq!(rows(&database).await.len(), stored);
    let mut lag = 0;
    for topic in audited() {
        lag += topics.lag(AUDIT_SINK.name, &topic).await;
    }
    assert_eq!(lag, 13, "nothing is committed");

    let (shutdown, service) = start(&database, &topics);
    caught_up(&topics).await;
    shutdown.cancel();
    service.await.unwrap().unwrap();
    assert_eq!(rows(&database).await.len(), events.len());
}

#[test]
fn the_defaults_suit_a_sink_and_a_bad_environment_is_refused() {
    let pairs = [
        ("DATABASE_URL", "postgres://localhost/carillon"),
        ("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092"),
        ("SCHEMA_REGISTRY_URL", "http://localhost:8081"),
    ];
    let config = service::config::load_from(Env::from_pairs(pairs), Config::from_env).unwrap();
    assert_eq!(config.service.http_bind.port(), 8006);
    assert_eq!(
        (
            config.batch.max_events,
            config.batch.max_bytes,
            config.retention_days
        ),
        (2000, 8 << 20, 90)
    );
    let env = Env::from_pairs([("BATCH_MAX_BYTES", "much"), ("AUDIT_RETENTION_DAYS", "0")]);
    let problems = service::config::load_from(env, Config::from_env)
        .unwrap_err()
        .to_string();
    for name in [
        "DATABASE_URL",
        "KAFKA_BOOTSTRAP_SERVERS",
        "SCHEMA_REGISTRY_URL",
        "BATCH_MAX_BYTES",
        "AUDIT_RETENTION_DAYS",
    ] {
        assert_eq!(
            problems.matches(&format!("{name} is")).count(),
            1,
            "{name} in:\n{problems}"
        );
    }
}
