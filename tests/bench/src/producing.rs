//! librdkafka without the relay: the bare limit of publishing, and how topics are filled and watched.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use kafka::KafkaConfig;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use schemas::Encoded;
use support::Topics;
use uuid::Uuid;

/// How long Kafka may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A record as the relay would send it.
#[derive(Debug)]
pub struct Framed {
    event_id: Uuid,
    topic: Arc<str>,
    key: String,
    value: Vec<u8>,
    headers: OwnedHeaders,
}

/// Makes records of events, as the relay does.
#[derive(Debug)]
pub struct Framer {
    ids: HashMap<Uuid, u32>,
    topics: HashMap<&'static str, Arc<str>>,
}

impl Framer {
    /// Registers every schema under the topics' prefix.
    pub async fn new(topics: &Topics) -> anyhow::Result<Self> {
        let registry = kafka::Registry::new(&topics.registry())?;
        let config = topics.config();
        let mut framer = Self {
            ids: HashMap::new(),
            topics: HashMap::new(),
        };
        for schema in schemas::all_schemas() {
            let subject = schema.subject(&config.topic_prefix);
            let id = registry
                .id(schema.fingerprint, &subject, &schema.json, true)
                .await?;
            framer.ids.insert(schema.fingerprint, id);
            framer
                .topics
                .insert(schema.topic, config.prefixed(schema.topic).into());
        }
        Ok(framer)
    }

    /// The record of an event.
    pub fn frame(&self, event: &Encoded) -> anyhow::Result<Framed> {
        let id = self.ids.get(&event.fingerprint).context("an unknown schema")?;
        let headers = event.headers.iter().fold(
            OwnedHeaders::new_with_capacity(event.headers.len()),
            |all, (key, value)| {
                all.insert(Header {
                    key,
                    value: Some(value),
                })
            },
        );
        Ok(Framed {
            event_id: event.event_id,
            topic: Arc::clone(self.topics.get(event.topic).context("an unknown topic")?),
            key: event.user_id.to_string(),
            value: schemas::frame(*id, &event.body),
            headers,
        })
    }
}

/// What the broker has acknowledged.
#[derive(Debug, Default)]
struct Acks {
    count: AtomicUsize,
    first: Mutex<Option<Instant>>,
    error: Mutex<Option<KafkaError>>,
}

#[derive(Debug, Clone, Default)]
struct AckContext(Arc<Acks>);

impl ClientContext for AckContext {}

impl ProducerContext for AckContext {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            *lock(&self.0.error) = Some(error.clone());
        }
        if self.0.count.fetch_add(1, Ordering::AcqRel) == 0 {
            *lock(&self.0.first) = Some(Instant::now());
        }
    }
}

impl AckContext {
    fn check(&self) -> anyhow::Result<()> {
        lock(&self.0.error)
            .take()
            .map_or(Ok(()), |error| Err(error).context("Kafka does not take a record"))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends all records as fast as librdkafka and the broker can, with the settings of every producer of ours. Returns how
/// many were acknowledged a second, from the first acknowledgement to the last.
pub fn produce(config: &KafkaConfig, records: Vec<Framed>) -> anyhow::Result<f64> {
    let context = AckContext::default();
    let producer: BaseProducer<AckContext> = config.producer("bench").create_with_context(context.clone())?;
    let total = records.len();
    for (n, record) in records.into_iter().enumerate() {
        send(&producer, record)?;
        if n % 256 == 0 {
            producer.poll(Duration::ZERO);
            context.check()?;
        }
    }
    producer.flush(PATIENCE)?;
    let last = Instant::now();
    context.check()?;
    let acknowledged = context.0.count.load(Ordering::Acquire);
    ensure!(
        acknowledged == total,
        "{acknowledged} of {total} records were acknowledged"
    );
    let first = lock(&context.0.first).context("nothing was acknowledged")?;
    Ok(total as f64 / (last - first).as_secs_f64())
}

/// Puts a record into the queue, waiting for room.
fn send(producer: &BaseProducer<AckContext>, record: Framed) -> anyhow::Result<()> {
    let mut next = BaseRecord::to(&record.topic)
        .key(&record.key)
        .payload(&record.value)
        .headers(record.headers);
    loop {
        match producer.send(next) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned)) => {
                next = returned;
                producer.poll(Duration::from_millis(1));
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

/// Sends one record every `interval`, whether or not the ones before are acknowledged. Returns when each was given to
/// librdkafka.
pub fn produce_paced(
    config: &KafkaConfig,
    records: Vec<Framed>,
    interval: Duration,
) -> anyhow::Result<HashMap<Uuid, Instant>> {
    let context = AckContext::default();
    let producer: BaseProducer<AckContext> = config.producer("bench").create_with_context(context.clone())?;
    let start = Instant::now();
    let mut sent = HashMap::with_capacity(records.len());
    for (n, record) in (0_u32..).zip(records) {
        std::thread::sleep((start + interval * n).saturating_duration_since(Instant::now()));
        sent.insert(record.event_id, Instant::now());
        send(&producer, record)?;
        producer.poll(Duration::ZERO);
    }
    producer.flush(PATIENCE)?;
    context.check()?;
    Ok(sent)
}

/// Watches a topic from its end on and notes when each event is there to be read: the broker shows a record when it is
/// acknowledged, so that is when, and how long it took to be fetched.
#[derive(Debug)]
pub struct Probe {
    shared: Arc<Shared>,
    thread: JoinHandle<anyhow::Result<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    seen: Mutex<HashMap<Uuid, Instant>>,
}

impl Probe {
    /// Starts watching. What is sent after this returned is seen.
    pub async fn start(config: &KafkaConfig, topic: &str) -> anyhow::Result<Self> {
        let (config, topic) = (config.clone(), config.prefixed(topic));
        let consumer = tokio::task::spawn_blocking(move || watch(&config, &topic)).await??;
        let shared = Arc::new(Shared::default());
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                while !shared.stop.load(Ordering::Acquire) {
                    let Some(message) = consumer.poll(Duration::from_millis(100)) else {
                        continue;
                    };
                    let (message, at) = (message?, Instant::now());
                    let id = event_id(&message).context("a record without ce_id")?;
                    lock(&shared.seen).entry(id).or_insert(at);
                }
                Ok(())
            }
        });
        Ok(Self { shared, thread })
    }

    /// Waits until `count` events were seen, stops, and returns when each was.
    pub async fn finish(self, count: usize) -> anyhow::Result<HashMap<Uuid, Instant>> {
        let started = Instant::now();
        let mut seen = 0;
        while seen < count && started.elapsed() < PATIENCE && !self.thread.is_finished() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            seen = lock(&self.shared.seen).len();
        }
        self.shared.stop.store(true, Ordering::Release);
        tokio::task::spawn_blocking(|| self.thread.join())
            .await?
            .map_err(|_| anyhow!("the watching thread panicked"))??;
        ensure!(seen >= count, "{seen} of {count} events arrived");
        Ok(std::mem::take(&mut *lock(&self.shared.seen)))
    }
}

fn event_id(message: &rdkafka::message::BorrowedMessage<'_>) -> Option<Uuid> {
    let header = message.headers()?.iter().find(|header| header.key == "ce_id")?;
    Uuid::try_parse_ascii(header.value?).ok()
}

/// A consumer that stands at the end of every partition.
fn watch(config: &KafkaConfig, topic: &str) -> anyhow::Result<BaseConsumer> {
    let consumer: BaseConsumer = config
        .client("bench")
        .set("group.id", config.prefixed("bench"))
        .set("enable.auto.commit", "false")
        .create()?;
    let mut list = TopicPartitionList::new();
    for (partition, (_, next)) in (0..).zip(watermarks(&consumer, topic)?) {
        list.add_partition_offset(topic, partition, Offset::Offset(next))?;
    }
    consumer.assign(&list)?;
    // The first fetches are under way when this returns; nothing has to be there yet.
    consumer.poll(Duration::from_millis(500)).transpose()?;
    Ok(consumer)
}

/// The first and the next offset of each partition.
fn watermarks(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<Vec<(i64, i64)>> {
    let started = Instant::now();
    loop {
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
        let found = metadata.topics().first().context("no metadata")?;
        let all: Result<Vec<_>, _> = (0..i32::try_from(found.partitions().len())?)
            .map(|partition| consumer.fetch_watermarks(topic, partition, PATIENCE))
            .collect();
        match all {
            Ok(all) if !all.is_empty() => return Ok(all),
            // A topic that was made a moment ago may have no leaders yet.
            result if started.elapsed() > PATIENCE => {
                result?;
                return Err(anyhow!("{topic} has no partitions"));
            }
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// How many records a topic holds.
pub async fn records(topics: &Topics, topic: &str) -> anyhow::Result<u64> {
    let config = topics.config();
    let topic = config.prefixed(topic);
    tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = config.client("bench").set("group.id", "bench").create()?;
        let held: i64 = watermarks(&consumer, &topic)?
            .iter()
            .map(|(first, next)| next - first)
            .sum();
        Ok(u64::try_from(held)?)
    })
    .await?
}
