//! Consumer groups from outside: how far they are behind, and whether somebody is in them. By plain protocol calls that Kafka
//! and Redpanda both answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rdkafka::consumer::{BaseConsumer, Consumer as _, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use crate::KafkaConfig;
use crate::reader::{Reader, blocking, client, watermarks};

/// How long a broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How far a group is behind in a partition.
#[derive(Debug, Clone)]
pub struct PartitionLag {
    /// The topic, without prefix.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The next offset that the group handles; `None` when it has never committed one.
    pub committed: Option<i64>,
    /// The offset of the next record to come.
    pub end: i64,
    /// How many it has not handled. A group that has committed nothing begins with the first that is there.
    pub messages: i64,
    /// When the first of them was written.
    pub oldest_at: Option<DateTime<Utc>>,
}

/// How far a group is behind in each partition of the topics (names without prefix) that exist.
///
/// # Errors
/// When no broker answers, or one refuses.
pub async fn lag(
    config: &KafkaConfig,
    group: &str,
    topics: &[String],
) -> Result<Vec<PartitionLag>, KafkaError> {
    let member: BaseConsumer = config.consumer(group).create()?;
    let member = Arc::new(member);
    let reader = client(config)?;
    let there = topic_names(&reader).await?;
    let mut lags = Vec::new();
    for topic in topics {
        let name = config.prefixed(topic);
        if !there.contains(&name) {
            continue;
        }
        let marks = watermarks(&reader, &name).await?;
        let mut list = TopicPartitionList::new();
        for partition in marks.keys() {
            list.add_partition(&name, *partition);
        }
        let asking = Arc::clone(&member);
        let committed = blocking(move || asking.committed_offsets(list, PATIENCE)).await?;
        let mut behind = BTreeMap::new();
        for element in committed.elements_for_topic(&name) {
            let Some(marks) = marks.get(&element.partition()) else {
                continue;
            };
            let committed = match element.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            };
            // What retention has taken is behind it, too: it will go on with the first that is there.
            let next = committed.unwrap_or(marks.low).max(marks.low);
            behind.insert(
                element.partition(),
                (
                    next,
                    PartitionLag {
                        topic: topic.clone(),
                        partition: element.partition(),
                        committed,
                        end: marks.high,
                        messages: (marks.high - next).max(0),
                        oldest_at: None,
                    },
                ),
            );
        }
        let mut first = Reader::open(config, topic, |partition, _| {
            behind
                .get(&partition)
                .map_or((0, 0), |(next, _)| (*next, next.saturating_add(1)))
        })
        .await?;
        let mut oldest = BTreeMap::new();
        while let Some(record) = first.next().await? {
            oldest.insert(record.partition, record.timestamp);
        }
        lags.extend(behind.into_iter().map(|(partition, (_, lag))| PartitionLag {
            oldest_at: oldest.get(&partition).copied().flatten(),
            ..lag
        }));
    }
    Ok(lags)
}

/// A group as the brokers know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupState {
    /// The broker's word: Stable, Empty, PreparingRebalance, Dead.
    pub state: String,
    /// How many are in it.
    pub members: usize,
}

/// A group as the brokers know it; `None` when they don't.
///
/// # Errors
/// When no broker answers.
pub async fn state(config: &KafkaConfig, group: &str) -> Result<Option<GroupState>, KafkaError> {
    let client = client(config)?;
    let group = config.prefixed(group);
    blocking(move || {
        let list = client.fetch_group_list(Some(&group), PATIENCE)?;
        Ok(list
            .groups()
            .iter()
            .find(|found| found.name() == group)
            .map(|found| GroupState {
                state: found.state().to_owned(),
                members: found.members().len(),
            }))
    })
    .await
}

async fn topic_names(client: &Arc<StreamConsumer>) -> Result<Vec<String>, KafkaError> {
    let client = Arc::clone(client);
    blocking(move || {
        let metadata = client.fetch_metadata(None, PATIENCE)?;
        Ok(metadata
            .topics()
            .iter()
            .filter(|topic| topic.error().is_none())
            .map(|topic| topic.name().to_owned())
            .collect())
    })
    .await
}
