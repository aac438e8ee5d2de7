//! `carillon topics`.

use anyhow::Context;
use clap::Subcommand;
use kafka::KafkaConfig;
use kafka::admin::{Ensured, TopicState, describe_topics, ensure_topics};
use schemas::topics::Topic;
use serde_json::json;

use crate::output::{self, Format, Verdict, note, say};

#[derive(Debug, Subcommand)]
pub(crate) enum Topics {
    /// Creates the topics that do not exist.
    Ensure {
        /// Copies of each partition.
        #[arg(long, env = "KAFKA_REPLICATION_FACTOR", default_value_t = 1)]
        replication_factor: i32,
    },
    /// Compares what the cluster has with what is declared. Exit code 1 when they differ.
    Describe,
}

pub(crate) async fn run(command: Topics, format: Format) -> anyhow::Result<Verdict> {
    let config = service::config::load(KafkaConfig::from_env)?;
    match command {
        Topics::Ensure { replication_factor } => ensure(&config, replication_factor, format).await,
        Topics::Describe => describe(&config, format).await,
    }
}

async fn ensure(config: &KafkaConfig, replication_factor: i32, format: Format) -> anyhow::Result<Verdict> {
    let topics = schemas::topics::all();
    let ensured = ensure_topics(config, &topics, replication_factor)
        .await
        .context("cannot create the topics")?;
    let word = |outcome: &Ensured| match outcome {
        Ensured::Created => "created",
        Ensured::Existed => "existed",
    };
    match format {
        Format::Json => {
            let rows: Vec<_> = ensured
                .iter()
                .map(|(name, outcome)| json!({"topic": name, "outcome": word(outcome)}))
                .collect();
            output::json(&rows)?;
        }
        Format::Table => output::table(
            ensured
                .iter()
                .map(|(name, outcome)| [word(outcome).to_owned(), name.clone()]),
        ),
    }
    Ok(Verdict::Fine)
}

/// How a topic of the cluster differs from its declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Difference {
    Missing,
    Partitions { has: usize, declared: usize },
    Retention { has_ms: Option<i64>, declared_ms: i64 },
    RecordBytes { has: Option<i64>, declared: i64 },
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = |value: &Option<i64>| value.map_or_else(|| "?".to_owned(), |value| value.to_string());
        match self {
            Self::Missing => f.write_str("is missing: carillon topics ensure"),
            Self::Partitions { has, declared } => write!(f, "has {has} partitions, declared are {declared}"),
            Self::Retention { has_ms, declared_ms } => {
                write!(
                    f,
                    "keeps records for {} ms, declared are {declared_ms} (retention.ms)",
                    number(has_ms)
                )
            }
            Self::RecordBytes { has, declared } => write!(
                f,
                "takes records of {} bytes, declared are {declared} (max.message.bytes)",
                number(has)
            ),
        }
    }
}

/// How a topic of the cluster differs from its declaration, if it does. One that takes larger records than it must is no harm:
/// what no dead-letter topic takes is passed by without its value.
pub(crate) fn difference(declared: &Topic, state: Option<&TopicState>) -> Option<Difference> {
    let Some(state) = state else {
        return Some(Difference::Missing);
    };
    let partitions = usize::try_from(declared.partitions).unwrap_or_default();
    let declared_ms = i64::try_from(declared.retention.as_millis()).unwrap_or(i64::MAX);
    let least_bytes = i64::try_from(declared.max_record_bytes).unwrap_or(i64::MAX);
    if state.partitions != partitions {
        Some(Difference::Partitions {
            has: state.partitions,
            declared: partitions,
        })
    } else if state.retention_ms != Some(declared_ms) {
        Some(Difference::Retention {
            has_ms: state.retention_ms,
            declared_ms,
        })
    } else if state.max_record_bytes.is_none_or(|bytes| bytes < least_bytes) {
        Some(Difference::RecordBytes {
            has: state.max_record_bytes,
            declared: least_bytes,
        })
    } else {
        None
    }
}

async fn describe(config: &KafkaConfig, format: Format) -> anyhow::Result<Verdict> {
    let topics = schemas::topics::all();
    let described = describe_topics(config, &topics)
        .await
        .context("cannot describe the topics")?;
    let rows: Vec<(String, Option<TopicState>, Option<Difference>)> = topics
        .iter()
        .zip(described)
        .map(|(topic, (name, state))| {
            let difference = difference(topic, state.as_ref());
            (name, state, difference)
        })
        .collect();
    let differing = rows
        .iter()
        .filter(|(.., difference)| difference.is_some())
        .count();
    match format {
        Format::Json => {
            let rows: Vec<_> = rows
                .iter()
                .map(|(name, state, difference)| {
                    json!({
                        "topic": name,
                        "partitions": state.as_ref().map(|state| state.partitions),
                        "replicas": state.as_ref().map(|state| state.replicas),
                        "retention_ms": state.as_ref().and_then(|state| state.retention_ms),
                        "max_record_bytes": state.as_ref().and_then(|state| state.max_record_bytes),
                        "difference": difference.as_ref().map(ToString::to_string),
                    })
                })
                .collect();
            output::json(&rows)?;
        }
        Format::Table => {
            for (name, _, difference) in &rows {
                match difference {
                    None => say(format_args!("ok       {name}")),
                    Some(difference) => say(format_args!("differs  {name} {difference}")),
                }
            }
        }
    }
    if differing > 0 {
        note(format_args!(
            "Different from the declaration: {}.",
            output::count(differing, "topic")
        ));
    }
    Ok(Verdict::wrong_if(differing > 0))
}
