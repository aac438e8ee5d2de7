//! Topics of one test's own: the declared ones under a prefix that nobody else uses.

use std::collections::HashMap;
use std::time::Duration;

use kafka::{KafkaConfig, RegistryConfig};
use rdkafka::Message;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Headers;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};
use schemas::{Encoded, Event};
use uuid::Uuid;

use crate::{eventually, stack};

/// The declared topics under a prefix of their own.
#[derive(Debug, Clone)]
pub struct Topics {
    config: KafkaConfig,
}

/// A record as it was found in a topic.
#[derive(Debug, Clone)]
pub struct ReadRecord {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// The headers as text.
    pub headers: Vec<(String, String)>,
}

impl ReadRecord {
    /// The last header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

impl Topics {
    /// Makes every declared topic under a new prefix.
    ///
    /// # Panics
    /// When the stack's Kafka does not answer.
    pub async fn create() -> Self {
        let topics = Self::to_be_made();
        kafka::admin::ensure_topics(&topics.config, &schemas::topics::all(), 1)
            .await
            .expect("Kafka answers");
        topics
    }

    /// A new prefix, under which there are no topics yet.
    #[must_use]
    pub fn to_be_made() -> Self {
        Self::named(&format!("t{}.", Uuid::new_v4().simple()))
    }

    /// Lets a topic take larger records than it is declared to, as one of another's making may.
    ///
    /// # Panics
    /// When Kafka does not answer.
    pub async fn widen(&self, topic: &str, max_record_bytes: usize) {
        let admin: AdminClient<DefaultClientContext> = self.config.client("test").create().unwrap();
        let (name, bytes) = (self.config.prefixed(topic), max_record_bytes.to_string());
        let topic = ResourceSpecifier::Topic(&name);
        let change = AlterConfig::new(ResourceSpecifier::Topic(&name)).set("max.message.bytes", &bytes);
        admin
            .alter_configs([&change], &AdminOptions::new())
            .await
            .unwrap();
        // rdkafka keeps a refusal to itself here, so what the topic has now is what counts.
        eventually("the topic takes larger records", async || {
            let described = admin
                .describe_configs([&topic], &AdminOptions::new())
                .await
                .unwrap();
            let setting = described[0].as_ref().ok()?.get("max.message.bytes")?;
            (setting.value.as_deref() == Some(&bytes)).then_some(())
        })
        .await;
    }

    /// The topics under `prefix`, which exist or not.
    #[must_use]
    pub fn named(prefix: &str) -> Self {
        Self {
            config: KafkaConfig {
                bootstrap_servers: stack("KAFKA_BOOTSTRAP_SERVERS"),
                security_protocol: "plaintext",
                sasl_mechanism: "PLAIN",
                sasl_username: None,
                sasl_password: None,
                ssl_ca_location: None,
                topic_prefix: prefix.to_owned(),
                group_instance_id: None,
                session_timeout: Duration::from_secs(6),
            },
        }
    }

    /// How a service would be configured to reach them.
    #[must_use]
    pub fn config(&self) -> KafkaConfig {
        self.config.clone()
    }

    /// How a service would be configured to reach the registry.
    #[must_use]
    pub fn registry(&self) -> RegistryConfig {
        RegistryConfig {
            url: stack("SCHEMA_REGISTRY_URL"),
            username: None,
            password: None,
            ca_file: None,
        }
    }

    /// Writes a record, acknowledged.
    ///
    /// # Panics
    /// When Kafka does not take it.
    pub async fn produce(&self, topic: &str, key: &[u8], value: Option<&[u8]>) {
        let producer: FutureProducer = self.config.producer("test").create().unwrap();
        let topic = self.config.prefixed(topic);
        let mut record = FutureRecord::<[u8], [u8]>::to(&topic).key(key);
        record.payload = value;
        producer
            .send(record, Duration::from_secs(30))
            .await
            .expect("Kafka takes the record");
    }

    /// Writes events as the relay would, registering their schemas.
    ///
    /// # Panics
    /// When Kafka or the registry does not answer.
    pub async fn publish(&self, events: &[Event]) {
        let registry = kafka::Registry::new(&self.registry()).unwrap();
        let producer: FutureProducer = self.config.producer("test").create().unwrap();
        for event in events {
            let encoded: Encoded = event.encode("test").unwrap();
            let schema = schemas::all_schemas()
                .iter()
                .find(|s| s.fingerprint == encoded.fingerprint)
                .unwrap();
            let subject = schema.subject(&self.config.topic_prefix);
            let id = registry
                .id(schema.fingerprint, &subject, &schema.json, true)
                .await
                .unwrap();
            let topic = self.config.prefixed(encoded.topic);
            let key = encoded.user_id.to_string();
            let value = schemas::frame(id, &encoded.body);
            producer
                .send(
                    FutureRecord::to(&topic).key(&key).payload(&value),
                    Duration::from_secs(30),
                )
                .await
                .expect("Kafka takes the event");
        }
    }

    /// Everything that is in a topic now, in offset order within each partition.
    ///
    /// # Panics
    /// When Kafka does not answer.
    pub async fn read(&self, topic: &str) -> Vec<ReadRecord> {
        let config = self.config.clone();
        let topic = config.prefixed(topic);
        tokio::task::spawn_blocking(move || read(&config, &topic))
            .await
            .unwrap()
    }

    /// The offsets that a group has committed for a topic, by partition; `None` where it has committed none.
    ///
    /// # Panics
    /// When Kafka does not answer.
    pub async fn committed(&self, group: &str, topic: &str) -> Vec<Option<i64>> {
        let config = self.config.clone();
        let (group, topic) = (group.to_owned(), config.prefixed(topic));
        tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = config.consumer(&group).create().unwrap();
            let list = partitions(&consumer, &topic);
            let committed = consumer.committed_offsets(list, Duration::from_secs(30)).unwrap();
            committed
                .elements()
                .iter()
                .map(|e| match e.offset() {
                    Offset::Offset(offset) => Some(offset),
                    _ => None,
                })
                .collect()
        })
        .await
        .unwrap()
    }

    /// How many records of a topic a group has not committed yet.
    ///
    /// # Panics
    /// When Kafka does not answer.
    pub async fn lag(&self, group: &str, topic: &str) -> i64 {
        let committed = self.committed(group, topic).await;
        let config = self.config.clone();
        let topic = config.prefixed(topic);
        tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = config.consumer("lag").create().unwrap();
            (0..).zip(committed).fold(0, |lag, (partition, committed)| {
                let (low, high) = watermarks(&consumer, &topic, partition);
                lag + high - committed.unwrap_or(low)
            })
        })
        .await
        .unwrap()
    }
}

/// The topic's partitions; a topic that was made a moment ago may have no leaders yet.
fn partitions(consumer: &BaseConsumer, topic: &str) -> TopicPartitionList {
    loop {
        let metadata = consumer
            .fetch_metadata(Some(topic), Duration::from_secs(30))
            .unwrap();
        let partitions = metadata.topics()[0].partitions();
        if !partitions.is_empty() && partitions.iter().all(|p| p.error().is_none()) {
            let mut list = TopicPartitionList::new();
            for partition in partitions {
                list.add_partition(topic, partition.id());
            }
            return list;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The first and the next offset of a partition.
fn watermarks(consumer: &BaseConsumer, topic: &str, partition: i32) -> (i64, i64) {
    let mut last = None;
    // A broker that was started a moment ago, on a machine with much to do, takes its time to lead.
    for _ in 0..1200 {
        match consumer.fetch_watermarks(topic, partition, Duration::from_secs(30)) {
            Ok(watermarks) => return watermarks,
            Err(error) => last = Some(error),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{topic} {partition} has no leader: {last:?}");
}

fn read(config: &KafkaConfig, topic: &str) -> Vec<ReadRecord> {
    let consumer: BaseConsumer = config.consumer("reader").create().unwrap();
    let mut list = partitions(&consumer, topic);
    // What each partition held when we looked: what comes while we read belongs to the next look.
    let mut ends = HashMap::new();
    let mut missing = 0;
    for partition in list
        .elements()
        .iter()
        .map(TopicPartitionListElem::partition)
        .collect::<Vec<_>>()
    {
        let (low, high) = watermarks(&consumer, topic, partition);
        missing += high - low;
        ends.insert(partition, high);
        list.set_partition_offset(topic, partition, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&list).unwrap();
    let mut records = Vec::new();
    while missing > 0 {
        let message = consumer
            .poll(Duration::from_secs(30))
            .expect("the topic gives what it holds")
            .unwrap();
        if message.offset() >= ends[&message.partition()] {
            continue;
        }
        missing -= 1;
        records.push(ReadRecord {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: message
                .headers()
                .map(|headers| {
                    headers
                        .iter()
                        .map(|h| {
                            let value = h.value.map(String::from_utf8_lossy).unwrap_or_default();
                            (h.key.to_owned(), value.into_owned())
                        })
                        .collect()
                })
                .unwrap_or_default(),
        });
    }
    records.sort_by_key(|r| (r.partition, r.offset));
    records
}
