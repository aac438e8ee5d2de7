//! How fast a backlog goes in, against a bare loop that inserts the same rows from memory. Run by hand:
//!
//! ```text
//! cargo test --release -p audit-sink -- --ignored --nocapture rate
//! ```

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use schemas::topics::{AUDIT_SINK, TASK_EVENTS};
use schemas::{Encoded, Event, TaskEventKind, TaskReminder};
use sqlx::PgPool;
use support::{Database, Topics, samples, within};
use uuid::Uuid;

use crate::events::payload;
use crate::service_loop::start;

const BATCH: usize = 2000;

fn event(user_id: Uuid) -> Event {
    let due = schemas::now() + chrono::TimeDelta::days(2);
    let task = schemas::Task {
        description: Some("The ones in the hall too, and *not* the cactus this time.".to_owned()),
        tags: vec!["home".to_owned(), "plants".to_owned()],
        due_at: Some(due),
        reminders: vec![TaskReminder::relative("-PT30M".to_owned())],
        ..samples::task()
    };
    samples::event(TaskEventKind::Created, user_id, &task).into()
}

/// Puts the events into Kafka as the relay does.
async fn fill(topics: &Topics, events: &[(Event, Encoded)]) {
    let registry = kafka::Registry::new(&topics.registry()).unwrap();
    let config = topics.config();
    let producer: FutureProducer = config.producer("fill").create().unwrap();
    let topic = config.prefixed(TASK_EVENTS);
    let schema = schemas::all_schemas()
        .iter()
        .find(|s| s.name == "TaskCreated")
        .unwrap();
    let subject = schema.subject(&config.topic_prefix);
    let id = registry
        .id(schema.fingerprint, &subject, &schema.json, true)
        .await
        .unwrap();
    for (_, encoded) in events {
        let headers = encoded
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |all, (key, value)| {
                all.insert(Header {
                    key,
                    value: Some(value.as_bytes()),
                })
            });
        let (key, value) = (encoded.user_id.to_string(), schemas::frame(id, &encoded.body));
        let mut record = FutureRecord::to(&topic)
            .key(&key)
            .payload(&value)
            .headers(headers);
        while let Err((_, returned)) = producer.send_result(record) {
            record = returned;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    tokio::task::spawn_blocking(move || producer.flush(Duration::from_secs(60)))
        .await
        .unwrap()
        .unwrap();
}

#[derive(Default)]
struct Columns {
    event_ids: Vec<Uuid>,
    occurred_at: Vec<DateTime<Utc>>,
    topics: Vec<&'static str>,
    partitions: Vec<i32>,
    offsets: Vec<i64>,
    event_types: Vec<&'static str>,
    user_ids: Vec<Uuid>,
    task_ids: Vec<Uuid>,
    actors: Vec<&'static str>,
    payloads: Vec<String>,
    raws: Vec<Option<Vec<u8>>>,
    headers: Vec<String>,
}

impl Columns {
    fn of(events: &[(Event, Encoded)]) -> Self {
        let mut columns = Self::default();
        for (offset, (event, encoded)) in (0..).zip(events) {
            let headers: serde_json::Map<_, _> = encoded
                .headers
                .iter()
                .map(|(name, value)| (name.clone(), value.clone().into()))
                .collect();
            columns.event_ids.push(encoded.event_id);
            columns.occurred_at.push(event.head().occurred_at);
            columns.topics.push(TASK_EVENTS);
            columns.partitions.push(0);
            columns.offsets.push(offset);
            columns.event_types.push(encoded.event_type);
            columns.user_ids.push(encoded.user_id);
            columns.task_ids.push(event.task_id());
            columns.actors.push("user");
            columns.payloads.push(payload(event).to_string());
            columns.raws.push(None);
            columns
                .headers
                .push(serde_json::Value::Object(headers).to_string());
        }
        columns
    }

    async fn insert(&self, pool: &PgPool) {
        sqlx::query(
            "insert into audit.events (event_id, occurred_at, topic, partition_id, offset_id, event_type, user_id,
                                       task_id, actor, payload, raw, headers, segment)
             select event_id, occurred_at, topic, partition_id, offset_id, event_type, user_id, task_id, actor,
                    payload::jsonb, raw, headers::jsonb, 1
             from unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::integer[], $5::bigint[], $6::text[],
                         $7::uuid[], $8::uuid[], $9::text[], $10::text[], $11::bytea[], $12::text[])
                  as r (event_id, occurred_at, topic, partition_id, offset_id, event_type, user_id, task_id, actor,
                        payload, raw, headers)
             on conflict do nothing",
        )
        .bind(&self.event_ids)
        .bind(&self.occurred_at)
        .bind(&self.topics)
        .bind(&self.partitions)
        .bind(&self.offsets)
        .bind(&self.event_types)
        .bind(&self.user_ids)
        .bind(&self.task_ids)
        .bind(&self.actors)
        .bind(&self.payloads)
        .bind(&self.raws)
        .bind(&self.headers)
        .execute(pool)
        .await
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a test: run it alone, built for release"]
async fn rate() {
    let count: usize = std::env::var("RATE_EVENTS").map_or(500_000, |n| n.parse().unwrap());
    let users: Vec<Uuid> = (0..1000).map(|_| Uuid::new_v4()).collect();
    let topics = Topics::create().await;
    let events: Vec<(Event, Encoded)> = (0..count)
        .map(|n| {
            let event = event(users[n % users.len()]);
            let encoded = event.encode("api").unwrap();
            (event, encoded)
        })
        .collect();
    fill(&topics, &events).await;
    let batches: Vec<Columns> = events.chunks(BATCH).map(Columns::of).collect();
    drop(events);

    for round in 1..=2 {
        let database = Database::create().await;
        let pool = database.pool("audit-sink");
        audit_sink::partitions::round(&pool, 90).await.unwrap();
        let started = Instant::now();
        for batch in &batches {
            batch.insert(&pool).await;
        }
        let bare = started.elapsed();
        println!(
            "bare loop {round}: {count} rows in {bare:.2?}, {:.0}/s",
            count as f64 / bare.as_secs_f64()
        );
        pool.close().await;
    }
    drop(batches);

    let database = Database::create().await;
    let started = Instant::now();
    let (shutdown, service) = start(&database, &topics);
    // Counted from the first row on too: joining a group takes seconds whatever the size of the backlog.
    let mut first = None;
    within(Duration::from_secs(600), "the backlog is in", async || {
        let stored = stored();
        if stored > 0 {
            first.get_or_insert_with(Instant::now);
        }
        (stored >= count as u64).then_some(())
    })
    .await;
    let (all, busy) = (started.elapsed(), first.unwrap().elapsed());
    println!(
        "audit sink: {count} rows in {all:.2?}, {:.0}/s; from the first batch on {busy:.2?}, {:.0}/s",
        count as f64 / all.as_secs_f64(),
        (count - BATCH) as f64 / busy.as_secs_f64()
    );
    shutdown.cancel();
    service.await.unwrap().unwrap();
    assert_eq!(topics.lag(AUDIT_SINK.name, TASK_EVENTS).await, 0);
}

/// Rows added so far by this process, from its metric: asking the table would take from what is measured.
fn stored() -> u64 {
    service::metrics::render()
        .lines()
        .filter_map(|line| line.strip_prefix("events_persisted_total{")?.rsplit_once(' '))
        .map(|(_, value)| value.parse::<u64>().unwrap())
        .sum()
}
