//! The relay on a real Postgres and a real Kafka: what it must never do is lose, and what breaks must not matter.
#![expect(clippy::unwrap_used, reason = "tests")]

mod take_over;
mod transactions;

use std::collections::HashMap;
use std::time::Duration;

use outbox_relay::Config;
use schemas::{Encoded, Event, TaskEventKind};
use service::config::ServiceConfig;
use sqlx::PgConnection;
use support::{Database, ReadRecord, Topics, eventually, samples};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A relay that runs until it is dropped or stopped.
struct Relay {
    shutdown: CancellationToken,
    task: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Relay {
    fn start(config: Config) -> Self {
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(outbox_relay::run(config, shutdown.clone()));
        Self {
            shutdown,
            task: Some(task),
        }
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        self.task.take().unwrap().await.unwrap().unwrap();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn config(database: &Database, topics: &Topics) -> Config {
    // A port that was free a moment ago; the test that asks the relay by HTTP needs to know it.
    let http_bind = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    Config {
        service: ServiceConfig {
            http_bind,
            ..ServiceConfig::loopback()
        },
        database: database.config("outbox-relay"),
        kafka: topics.config(),
        registry: topics.registry(),
        auto_register: true,
        page_rows: 50,
        pace: Duration::from_millis(1),
        idle: Duration::from_millis(20),
        store_every: Duration::from_millis(10),
    }
}

fn event(user_id: Uuid, version: i64) -> Encoded {
    let mut task = samples::task();
    task.version = version;
    task.title = format!("version {version}");
    Event::from(samples::event(TaskEventKind::Created, user_id, &task))
        .encode("test")
        .unwrap()
}

async fn write(connection: &mut PgConnection, events: &[Encoded]) {
    db::outbox::insert(connection, events).await.unwrap();
}

/// How often each event id is in the topic.
fn counts(records: &[ReadRecord]) -> HashMap<Uuid, usize> {
    let mut counts = HashMap::new();
    for record in records {
        *counts
            .entry(record.header("ce_id").unwrap().parse().unwrap())
            .or_default() += 1;
    }
    counts
}

async fn wait_for(topics: &Topics, events: &[Encoded]) -> Vec<ReadRecord> {
    eventually("every event is in the topic", async || {
        let records = topics.read("task-events").await;
        let found = counts(&records);
        events
            .iter()
            .all(|event| found.contains_key(&event.event_id))
            .then_some(records)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_arrives_framed_keyed_by_its_user_and_with_cloudevents_headers() {
    let (database, topics) = (Database::create().await, Topics::create().await);
    let relay = Relay::start(config(&database, &topics));
    let user_id = Uuid::now_v7();
    let event = event(user_id, 1);
    write(
        &mut database.admin().acquire().await.unwrap(),
        std::slice::from_ref(&event),
    )
    .await;

    let records = wait_for(&topics, std::slice::from_ref(&event)).await;
    let record = &records[0];
    assert_eq!(record.key.as_deref(), Some(user_id.to_string().as_bytes()));
    for (name, value) in &event.headers {
        assert_eq!(record.header(name), Some(value.as_str()), "{name}");
    }
    let (id, body) = schemas::unframe(record.value.as_deref()).unwrap();
    let schema = kafka::Registry::new(&topics.registry())
        .unwrap()
        .schema(id)
        .await
        .unwrap();
    let decoded = schemas::decode("task-events", &schema, body).unwrap();
    assert_eq!(decoded.head().event_id, event.event_id);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_relay_goes_on_where_the_last_one_stopped_and_sends_nothing_twice() {
    let (database, topics) = (Database::create().await, Topics::create().await);
    let user_id = Uuid::now_v7();
    let mut all = Vec::new();
    for round in 0..3 {
        let relay = Relay::start(config(&database, &topics));
        let events: Vec<Encoded> = (0..120).map(|n| event(user_id, round * 1000 + n + 1)).collect();
        write(&mut database.admin().acquire().await.unwrap(), &events).await;
        all.extend(events);
        wait_for(&topics, &all).await;
        relay.stop().await;
    }
    let records = topics.read("task-events").await;
    assert_eq!(records.len(), all.len());
    let order: Vec<Uuid> = records
        .iter()
        .map(|r| r.header("ce_id").unwrap().parse().unwrap())
        .collect();
    assert_eq!(
        order,
        all.iter().map(|e| e.event_id).collect::<Vec<_>>(),
        "one user's events keep their order"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_may_not_register_waits_until_somebody_has() {
    let (database, topics) = (Database::create().await, Topics::create().await);
    let config = Config {
        auto_register: false,
        ..config(&database, &topics)
    };
    let readyz = format!("http://{}/readyz", config.service.http_bind);
    let relay = Relay::start(config);
    let event = event(Uuid::now_v7(), 1);
    write(
        &mut database.admin().acquire().await.unwrap(),
        std::slice::from_ref(&event),
    )
    .await;
    eventually("the relay says that the registry refuses", async || {
        let body = reqwest::get(&readyz).await.ok()?.text().await.ok()?;
        body.contains("it is not registered").then_some(())
    })
    .await;
    assert!(topics.read("task-events").await.is_empty());

    let schema = schemas::all_schemas()
        .iter()
        .find(|s| s.fingerprint == event.fingerprint)
        .unwrap();
    kafka::Registry::new(&topics.registry())
        .unwrap()
        .id(
            schema.fingerprint,
            &schema.subject(&topics.config().topic_prefix),
            &schema.json,
            true,
        )
        .await
        .unwrap();
    wait_for(&topics, &[event]).await;
    relay.stop().await;
}
