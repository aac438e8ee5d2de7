//! The consumer loop on a real Kafka, a real registry and a real Postgres: every effect once, offsets after effects, and
//! nothing that happens in between loses, doubles or blocks anything.
#![expect(clippy::unwrap_used, reason = "tests")]

mod brokers;
mod dead_letters;
mod delivery;
mod faults;
mod lanes;
mod rebalance;
mod replay;
mod traces;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use kafka::{
    BatchConfig, Consumer, ConsumerError, Events, HandleError, Handler, KafkaConfig, ProcessError, Processor,
    Record, Registry, RegistryConfig, Rejection,
};
use rdkafka::message::OwnedHeaders;
use schemas::topics::{TASK_EVENTS, dead_letter};
use schemas::{Event, TaskEventKind};
use sqlx::{PgConnection, PgPool};
use support::{Database, Topics, eventually, samples};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The group of most tests: one whose dead-letter topic is declared.
const GROUP: &str = "reminder-scanner";

const BATCH: BatchConfig = BatchConfig {
    max_events: 50,
    max_bytes: 1 << 20,
    max_wait: Duration::from_millis(5),
};

/// Writes one row an event, so that an effect that is missing, doubled or out of order shows.
#[derive(Debug, Clone, Copy)]
struct Counting;

/// Where [`Counting`] writes. Nothing in the table keeps doubles out: only the inbox can.
async fn make_effects(admin: &PgPool) {
    sqlx::query(
        "create table public.effects (
             n bigint generated always as identity, event_id uuid not null, user_id uuid not null,
             version bigint not null, title text not null constraint effects_title_check check (title <> 'refused'))",
    )
    .execute(admin)
    .await
    .unwrap();
}

impl Handler for Counting {
    async fn handle(&mut self, tx: &mut PgConnection, events: Vec<Event>) -> Result<(), HandleError> {
        for event in events {
            let Event::Task(event) = event else {
                return Err(HandleError::Invalid("no task event".to_owned()));
            };
            sqlx::query(
                "insert into public.effects (event_id, user_id, version, title) values ($1, $2, $3, $4)",
            )
            .bind(event.event_id)
            .bind(event.user_id)
            .bind(event.task.version)
            .bind(&event.task.title)
            .execute(&mut *tx)
            .await?;
        }
        Ok(())
    }
}

/// A database and topics of one test's own.
struct World {
    database: Database,
    topics: Topics,
}

impl World {
    async fn create() -> Self {
        let (database, topics) = (Database::create().await, Topics::create().await);
        make_effects(database.admin()).await;
        Self { database, topics }
    }

    fn counting(&self, group: &'static str) -> Events<Counting> {
        counting(group, self.database.admin().clone(), &self.topics.registry())
    }

    fn member(&self, group: &'static str, batch: BatchConfig, processor: impl Processor + 'static) -> Member {
        Member::start(&self.topics.config(), group, batch, processor)
    }

    async fn publish(&self, events: &[Event]) {
        publish(&self.topics.config(), &self.topics.registry(), events).await;
    }

    /// Waits until so many rows are written, and everything is committed.
    async fn wait_for(&self, group: &str, effects: usize) {
        eventually(&format!("{effects} effects"), async || {
            (self.effects().await.len() >= effects).then_some(())
        })
        .await;
        self.wait_for_commits(group).await;
    }

    async fn wait_for_commits(&self, group: &str) {
        eventually("no lag", async || {
            (self.topics.lag(group, TASK_EVENTS).await == 0).then_some(())
        })
        .await;
    }

    /// The effects in the order in which they were made.
    async fn effects(&self) -> Vec<Effect> {
        sqlx::query_as("select event_id, user_id, version from public.effects order by n")
            .fetch_all(self.database.admin())
            .await
            .unwrap()
    }

    /// Checks that every event had its effect, once, and that those of one user came in their order.
    async fn assert_once_and_in_order(&self, events: &[Event]) {
        let effects = self.effects().await;
        let mut counts: HashMap<Uuid, usize> = HashMap::new();
        for effect in &effects {
            *counts.entry(effect.event_id).or_default() += 1;
        }
        for event in events {
            let count = counts.remove(&event.head().event_id).unwrap_or_default();
            assert_eq!(count, 1, "how often {:?} had its effect", event.head());
        }
        assert!(counts.is_empty(), "effects of events that were never published");
        let mut newest: HashMap<Uuid, i64> = HashMap::new();
        for effect in &effects {
            let newest = newest.entry(effect.user_id).or_default();
            assert!(*newest < effect.version, "{effect:?} after version {newest}");
            *newest = effect.version;
        }
    }
}

#[derive(Debug, sqlx::FromRow)]
struct Effect {
    event_id: Uuid,
    user_id: Uuid,
    version: i64,
}

fn counting(group: &'static str, pool: PgPool, registry: &RegistryConfig) -> Events<Counting> {
    let registry = Arc::new(Registry::new(registry).unwrap());
    Events::new(group, pool, registry, db::inbox::REMINDER_SCANNER, Counting)
}

/// A member of a consumer group, running until it is stopped.
struct Member {
    shutdown: CancellationToken,
    health: service::Health,
    task: JoinHandle<Result<(), ConsumerError>>,
}

impl Member {
    fn start(
        config: &KafkaConfig,
        group: &'static str,
        batch: BatchConfig,
        processor: impl Processor + 'static,
    ) -> Self {
        let health = service::Health::new();
        let component = health.component("consumer", Duration::from_mins(2));
        let consumer = Consumer::new(config, group, &[TASK_EVENTS.to_owned()], batch, component).unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(consumer.run(processor, shutdown.clone()));
        Self {
            shutdown,
            health,
            task,
        }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// Waits for it to end by itself.
    async fn ended(self) -> Result<(), ConsumerError> {
        match tokio::time::timeout(support::PATIENCE, self.task).await {
            Ok(ended) => ended.unwrap(),
            Err(_) => panic!("it goes on"),
        }
    }
}

/// What a test makes of a batch before, or instead of, the processor behind it.
struct Before<F, P>(F, P);

impl<F, P> Processor for Before<F, P>
where
    F: FnMut(&[Record]) -> Result<(), ProcessError> + Send,
    P: Processor + Sync,
{
    async fn process(&mut self, batch: &[Record]) -> Result<Vec<Rejection>, ProcessError> {
        (self.0)(batch)?;
        self.1.process(batch).await
    }
}

fn away() -> ProcessError {
    ProcessError::Away {
        what: "the test",
        source: "it says so".into(),
    }
}

/// Versions `versions` of one task for each of `users`, a version of each after the other.
fn events(users: &[Uuid], versions: std::ops::RangeInclusive<i64>) -> Vec<Event> {
    versions
        .flat_map(|version| {
            users
                .iter()
                .map(move |user_id| event(*user_id, version, "Water the plants"))
        })
        .collect()
}

fn users(count: usize) -> Vec<Uuid> {
    (0..count).map(|_| Uuid::now_v7()).collect()
}

fn event(user_id: Uuid, version: i64, title: &str) -> Event {
    let mut task = samples::task();
    task.version = version;
    task.title = title.to_owned();
    samples::event(TaskEventKind::Updated, user_id, &task).into()
}

/// The event as it travels.
async fn framed(config: &KafkaConfig, registry: &Registry, event: &Event) -> Vec<u8> {
    let encoded = event.encode("test").unwrap();
    let schema = schemas::all_schemas()
        .iter()
        .find(|s| s.fingerprint == encoded.fingerprint)
        .unwrap();
    let subject = schema.subject(&config.topic_prefix);
    let id = registry
        .id(schema.fingerprint, &subject, &schema.json, true)
        .await
        .unwrap();
    schemas::frame(id, &encoded.body)
}

/// Writes events as the relay would: in order, and acknowledged.
async fn publish(config: &KafkaConfig, registry: &RegistryConfig, events: &[Event]) {
    let registry = Registry::new(registry).unwrap();
    let mut records = Vec::new();
    for event in events {
        let key = event.head().user_id.to_string().into_bytes();
        records.push((key, Some(framed(config, &registry, event).await)));
    }
    produce(config, &records).await;
}

/// Writes records, keys and values, to the topic of task events.
async fn produce(config: &KafkaConfig, records: &[(Vec<u8>, Option<Vec<u8>>)]) {
    let producer = kafka::Producer::new(config, "test").unwrap();
    let topic = config.prefixed(TASK_EVENTS);
    let mut acks = Vec::new();
    for (key, value) in records {
        acks.push(
            producer
                .enqueue(&topic, Some(key), value.as_deref(), OwnedHeaders::new())
                .await
                .unwrap(),
        );
    }
    for ack in join_all(acks).await {
        ack.unwrap().unwrap();
    }
}

/// The dead-letter topic of [`GROUP`].
fn dead_letters() -> String {
    dead_letter(TASK_EVENTS, GROUP)
}
