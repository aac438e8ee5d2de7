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

/// What is wrong with a topic as the cluster has it.
pub(crate) fn difference(declared: &Topic, state: Option<&TopicState>) -> Option<String> {
    let Some(state) = state else {
        return Some("is missing: carillon topics ensure".to_owned());
    };
    let retention_ms = i64::try_from(declared.retention.as_millis()).ok();
    let least_bytes = i64::try_from(declared.max_record_bytes).ok();
    if i32::try_from(state.partitions).ok() != Some(declared.partitions) {
        Some(format!(
            "has {} partitions, declared are {}",
            state.partitions, declared.partitions
        ))
    } else if state.retention_ms != retention_ms {
        Some(format!(
            "keeps records for {}, declared are {} (retention.ms)",
            number(state.retention_ms),
            number(retention_ms)
        ))
    } else if state.max_record_bytes != least_bytes {
        Some(format!(
            "takes records of {} bytes, declared are {} (max.message.bytes)",
            number(state.max_record_bytes),
            number(least_bytes)
        ))
    } else {
        None
    }
}

fn number(value: Option<i64>) -> String {
    value.map_or_else(|| "unknown".to_owned(), |value| value.to_string())
}

async fn describe(config: &KafkaConfig, format: Format) -> anyhow::Result<Verdict> {
    let topics = schemas::topics::all();
    let described = describe_topics(config, &topics)
        .await
        .context("cannot describe the topics")?;
    let rows: Vec<(String, Option<TopicState>, Option<String>)> = topics
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
                        "difference": difference,
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
        note(format_args!("{differing} topics differ from their declaration"));
    }
    Ok(Verdict::wrong_if(differing > 0))
}
