//! Reading what a topic holds, outside of any group: for operators, who look and leave no trace.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rdkafka::consumer::{Consumer as _, StreamConsumer};
pub use rdkafka::error::KafkaError;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::timeout;

use crate::{KafkaConfig, Record};

/// How long a broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The first offset that a partition still has, and the next that it will give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// The first offset that is still there.
    pub low: i64,
    /// The offset of the next record to come.
    pub high: i64,
}

/// Reads one topic up to where it ended when it was opened.
pub struct Reader {
    client: Arc<StreamConsumer>,
    prefix: String,
    /// The offset to stop before, of each partition that is not read to its end.
    ends: BTreeMap<i32, i64>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

impl Reader {
    /// Opens a topic (its name without prefix) where `range` says for each partition: from its first offset to before its
    /// second. A range that begins before the partition does, begins with it; one that is empty is left out.
    ///
    /// # Errors
    /// When no broker answers, or the topic is not there.
    pub async fn open(
        config: &KafkaConfig,
        topic: &str,
        range: impl Fn(i32, Watermarks) -> (i64, i64),
    ) -> Result<Self, KafkaError> {
        let client = client(config)?;
        let name = config.prefixed(topic);
        let mut list = TopicPartitionList::new();
        let mut ends = BTreeMap::new();
        for (partition, marks) in watermarks(&client, &name).await? {
            let (from, to) = range(partition, marks);
            let (from, to) = (from.max(marks.low), to.min(marks.high));
            if from < to {
                list.add_partition_offset(&name, partition, Offset::Offset(from))?;
                ends.insert(partition, to);
            }
        }
        client.assign(&list)?;
        Ok(Self {
            client,
            prefix: config.topic_prefix.clone(),
            ends,
        })
    }

    /// Opens all that a topic holds now.
    ///
    /// # Errors
    /// When no broker answers, or the topic is not there.
    pub async fn all(config: &KafkaConfig, topic: &str) -> Result<Self, KafkaError> {
        Self::open(config, topic, |_, marks| (marks.low, marks.high)).await
    }

    /// The next record, in the order of its partition; `None` at the end.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn next(&mut self) -> Result<Option<Record>, KafkaError> {
        while !self.ends.is_empty() {
            let Ok(received) = timeout(PATIENCE, self.client.recv()).await else {
                return Err(KafkaError::MessageConsumption(
                    RDKafkaErrorCode::OperationTimedOut,
                ));
            };
            match received {
                Ok(message) => {
                    let record = Record::found(&message, &self.prefix);
                    let Some(end) = self.ends.get(&record.partition).copied() else {
                        continue;
                    };
                    if record.offset + 1 >= end {
                        self.ends.remove(&record.partition);
                    }
                    if record.offset < end {
                        return Ok(Some(record));
                    }
                }
                // Offsets need not be without gaps: what is to come may have been deleted a moment ago.
                Err(KafkaError::PartitionEOF(partition)) => {
                    self.ends.remove(&partition);
                }
                Err(
                    error @ (KafkaError::MessageConsumptionFatal(_)
                    | KafkaError::MessageConsumption(
                        RDKafkaErrorCode::TopicAuthorizationFailed
                        | RDKafkaErrorCode::UnknownTopicOrPartition,
                    )),
                ) => return Err(error),
                // News of what librdkafka tries again by itself.
                Err(error) => tracing::debug!(error = %error, "receiving failed"),
            }
        }
        Ok(None)
    }
}

/// The offsets of the first records that were written at or after `at`; of a partition that has none, its end.
///
/// # Errors
/// When no broker answers, or the topic is not there.
pub async fn offsets_at(
    config: &KafkaConfig,
    topic: &str,
    at: DateTime<Utc>,
) -> Result<BTreeMap<i32, i64>, KafkaError> {
    let client = client(config)?;
    let name = config.prefixed(topic);
    let marks = watermarks(&client, &name).await?;
    let mut list = TopicPartitionList::new();
    for partition in marks.keys() {
        list.add_partition_offset(&name, *partition, Offset::Offset(at.timestamp_millis()))?;
    }
    let found = blocking(move || client.offsets_for_times(list, PATIENCE)).await?;
    let found = found.elements_for_topic(&name);
    Ok(marks
        .into_iter()
        .map(|(partition, marks)| {
            let offset = found
                .iter()
                .find(|element| element.partition() == partition)
                .and_then(|element| match element.offset() {
                    Offset::Offset(offset) => Some(offset),
                    _ => None,
                });
            (partition, offset.unwrap_or(marks.high))
        })
        .collect())
}

/// A client that joins no group and commits nothing. (librdkafka wants a group's name from every consumer.)
pub(crate) fn client(config: &KafkaConfig) -> Result<Arc<StreamConsumer>, KafkaError> {
    let client: StreamConsumer = config
        .client("carillon")
        .set("group.id", config.prefixed(schemas::access::READER_GROUP))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("enable.partition.eof", "true")
        .set("queued.max.messages.kbytes", "16384")
        .create()?;
    Ok(Arc::new(client))
}

/// The watermarks of a topic's partitions; its name is with prefix.
pub(crate) async fn watermarks(
    client: &Arc<StreamConsumer>,
    name: &str,
) -> Result<BTreeMap<i32, Watermarks>, KafkaError> {
    let (client, name) = (Arc::clone(client), name.to_owned());
    blocking(move || {
        let since = Instant::now();
        loop {
            match ask_watermarks(&client, &name) {
                // A topic that was just made has no leaders yet, or others than librdkafka remembers.
                Err(error) if is_moving(&error) && since.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(200));
                }
                answer => return answer,
            }
        }
    })
    .await
}

fn ask_watermarks(client: &StreamConsumer, name: &str) -> Result<BTreeMap<i32, Watermarks>, KafkaError> {
    let metadata = client.fetch_metadata(Some(name), PATIENCE)?;
    let topic = metadata.topics().iter().find(|topic| topic.name() == name);
    let partitions = topic.map(|topic| topic.partitions()).unwrap_or_default();
    if partitions.is_empty() {
        return Err(KafkaError::MetadataFetch(
            RDKafkaErrorCode::UnknownTopicOrPartition,
        ));
    }
    partitions
        .iter()
        .map(|partition| {
            let (low, high) = client.fetch_watermarks(name, partition.id(), PATIENCE)?;
            Ok((partition.id(), Watermarks { low, high }))
        })
        .collect()
}

/// Whether a partition has another leader than the one asked, or none for the moment.
fn is_moving(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::NotLeaderForPartition | RDKafkaErrorCode::LeaderNotAvailable)
    )
}

/// librdkafka's answers to questions block.
pub(crate) async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, KafkaError> + Send + 'static,
) -> Result<T, KafkaError> {
    tokio::task::spawn_blocking(ask)
        .await
        .unwrap_or(Err(KafkaError::Canceled))
}
