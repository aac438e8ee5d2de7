//! Topics: made as they are declared, by plain admin calls that Kafka and Redpanda both answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use schemas::topics::Topic;

use crate::KafkaConfig;
use crate::reader::blocking;

/// How long the cluster may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What became of a topic that was to exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ensured {
    /// It was made.
    Created,
    /// It was there.
    Existed,
}

/// Creates the topics that do not exist, and waits until they can be used. A topic that exists is left as it is.
///
/// # Errors
/// When the cluster does not answer within 30 s, or refuses a topic.
pub async fn ensure_topics(
    config: &KafkaConfig,
    topics: &[Topic],
    replication_factor: i32,
) -> Result<Vec<(String, Ensured)>, KafkaError> {
    let admin: AdminClient<DefaultClientContext> = config.client("carillon-admin").create()?;
    let names: Vec<String> = topics.iter().map(|topic| config.prefixed(&topic.name)).collect();
    let retentions: Vec<String> = topics
        .iter()
        .map(|t| t.retention.as_millis().to_string())
        .collect();
    let max_bytes: Vec<String> = topics.iter().map(|t| t.max_record_bytes.to_string()).collect();
    let new: Vec<NewTopic<'_>> = topics
        .iter()
        .zip(names.iter().zip(retentions.iter().zip(&max_bytes)))
        .map(|(topic, (name, (retention_ms, max_bytes)))| {
            NewTopic::new(
                name,
                topic.partitions,
                TopicReplication::Fixed(replication_factor),
            )
            .set("cleanup.policy", "delete")
            .set("retention.ms", retention_ms)
            .set("max.message.bytes", max_bytes)
        })
        .collect();
    let options = AdminOptions::new()
        .request_timeout(Some(PATIENCE))
        .operation_timeout(Some(PATIENCE));
    let ensured: Vec<_> = admin
        .create_topics(&new, &options)
        .await?
        .into_iter()
        .map(|result| match result {
            Ok(name) => Ok((name, Ensured::Created)),
            Err((name, RDKafkaErrorCode::TopicAlreadyExists)) => Ok((name, Ensured::Existed)),
            Err((name, code)) => {
                tracing::error!(
                    kafka.topic = name,
                    "the cluster refuses to create the topic: {code}"
                );
                Err(KafkaError::AdminOp(code))
            }
        })
        .collect::<Result<_, _>>()?;
    if ensured.iter().any(|(_, outcome)| *outcome == Ensured::Created) {
        blocking(move || wait_for_leaders(&admin, &names)).await?;
    }
    Ok(ensured)
}

/// The controller says that topics are made before the brokers know of them.
fn wait_for_leaders(admin: &AdminClient<DefaultClientContext>, names: &[String]) -> Result<(), KafkaError> {
    let began = Instant::now();
    loop {
        let metadata = admin.inner().fetch_metadata(None, PATIENCE)?;
        let led = |name: &String| {
            metadata.topics().iter().any(|topic| {
                topic.name() == name
                    && !topic.partitions().is_empty()
                    && topic.partitions().iter().all(|partition| partition.leader() >= 0)
            })
        };
        if names.iter().all(led) {
            return Ok(());
        }
        if began.elapsed() > 2 * PATIENCE {
            return Err(KafkaError::AdminOp(RDKafkaErrorCode::LeaderNotAvailable));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What the cluster has of the declared topics: name, partitions, and the settings that are declared, or `None` where the
/// topic does not exist.
///
/// # Errors
/// When the cluster does not answer within 30 s.
pub async fn describe_topics(
    config: &KafkaConfig,
    topics: &[Topic],
) -> Result<Vec<(String, Option<TopicState>)>, KafkaError> {
    let admin: AdminClient<DefaultClientContext> = config.client("carillon-admin").create()?;
    let admin = Arc::new(admin);
    let asking = Arc::clone(&admin);
    let metadata = blocking(move || asking.inner().fetch_metadata(None, PATIENCE)).await?;
    let mut states = Vec::new();
    for topic in topics {
        let name = config.prefixed(&topic.name);
        let Some(found) = metadata
            .topics()
            .iter()
            .find(|t| t.name() == name && t.error().is_none())
        else {
            states.push((name, None));
            continue;
        };
        let resource = ResourceSpecifier::Topic(&name);
        let described = admin.describe_configs([&resource], &AdminOptions::new()).await?;
        let settings: Vec<_> = described.into_iter().filter_map(Result::ok).collect();
        let number = |setting: &str| -> Option<i64> {
            let entry = settings.iter().find_map(|c| c.get(setting))?;
            entry.value.as_ref()?.parse().ok()
        };
        let state = TopicState {
            partitions: found.partitions().len(),
            replicas: found
                .partitions()
                .iter()
                .map(|p| p.replicas().len())
                .min()
                .unwrap_or(0),
            retention_ms: number("retention.ms"),
            max_record_bytes: number("max.message.bytes"),
        };
        states.push((name, Some(state)));
    }
    Ok(states)
}

/// A topic as the cluster has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicState {
    /// How many partitions it has.
    pub partitions: usize,
    /// How many copies the partition with the fewest has.
    pub replicas: usize,
    /// How long it keeps records, in milliseconds.
    pub retention_ms: Option<i64>,
    /// The largest record that it takes.
    pub max_record_bytes: Option<i64>,
}
