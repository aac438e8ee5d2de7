//! `carillon lag`.

use std::collections::BTreeMap;

use anyhow::Context;
use chrono::Utc;
use clap::Args;
use kafka::KafkaConfig;
use kafka::groups;
use schemas::topics::{GROUPS, Group, read_by};
use serde::Serialize;

use crate::output::{self, Format, Usage, Verdict};

/// How far the consumer groups are behind.
///
/// In messages, and in time since the oldest of them was written.
#[derive(Debug, Args)]
pub(crate) struct Lag {
    /// Only this group. May be given several times.
    #[arg(long)]
    group: Vec<String>,
    /// A row for each partition. JSON always has them.
    #[arg(long)]
    partitions: bool,
    /// Exit code 1 when a group is further behind than that.
    #[arg(long, value_name = "SECONDS")]
    max_seconds: Option<f64>,
    /// Exit code 1 when a group is further behind than that, in a topic.
    #[arg(long, value_name = "MESSAGES")]
    max_messages: Option<i64>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) group: String,
    pub(crate) members: usize,
    pub(crate) topic: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<i32>,
    pub(crate) messages: i64,
    pub(crate) seconds: f64,
}

/// The groups of those names; all of them, if none is given.
pub(crate) fn groups_named(names: &[String]) -> Result<Vec<Group>, Usage> {
    if names.is_empty() {
        return Ok(GROUPS.to_vec());
    }
    names
        .iter()
        .map(|name| {
            let declared = GROUPS.into_iter().find(|group| group.name == *name);
            declared.ok_or_else(|| {
                let names: Vec<&str> = GROUPS.iter().map(|group| group.name).collect();
                Usage(format!("{name:?} is no group. There are: {}", names.join(", ")))
            })
        })
        .collect()
}

/// How far these groups are behind, by partition.
pub(crate) async fn measure(config: &KafkaConfig, groups: &[Group]) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for group in groups {
        let state = groups::state(config, group.name)
            .await
            .with_context(|| format!("cannot ask for the group {}", group.name))?;
        let lags = groups::lag(config, group.name, &read_by(group))
            .await
            .with_context(|| format!("cannot measure the lag of {}", group.name))?;
        let now = Utc::now();
        rows.extend(lags.into_iter().map(|lag| {
            Row {
                group: group.name.to_owned(),
                members: state.as_ref().map_or(0, |state| state.members),
                topic: lag.topic,
                partition: Some(lag.partition),
                messages: lag.messages,
                seconds: lag
                    .oldest_at
                    .map_or(0.0, |at| (now - at).as_seconds_f64().max(0.0)),
            }
        }));
    }
    Ok(rows)
}

/// One row for each group and topic: the sum of the messages, and the most seconds.
pub(crate) fn by_topic(rows: &[Row]) -> Vec<Row> {
    let mut sums: BTreeMap<(String, String), Row> = BTreeMap::new();
    for row in rows {
        let sum = sums
            .entry((row.group.clone(), row.topic.clone()))
            .or_insert_with(|| Row {
                partition: None,
                messages: 0,
                seconds: 0.0,
                ..row.clone()
            });
        sum.messages += row.messages;
        sum.seconds = sum.seconds.max(row.seconds);
    }
    sums.into_values().collect()
}

pub(crate) async fn run(arguments: &Lag, format: Format) -> anyhow::Result<Verdict> {
    let groups = groups_named(&arguments.group)?;
    let config = service::config::load(KafkaConfig::from_env)?;
    let rows = measure(&config, &groups).await?;
    let sums = by_topic(&rows);
    let shown = if arguments.partitions || format == Format::Json {
        &rows
    } else {
        &sums
    };
    output::print(
        format,
        shown,
        ["group", "members", "topic", "partition", "messages", "behind"],
        |row| {
            [
                row.group.clone(),
                row.members.to_string(),
                row.topic.clone(),
                row.partition
                    .map_or_else(|| "all".to_owned(), |partition| partition.to_string()),
                row.messages.to_string(),
                output::duration(row.seconds),
            ]
        },
    )?;
    Ok(Verdict::wrong_if(sums.iter().any(|row| {
        arguments.max_seconds.is_some_and(|max| row.seconds > max)
            || arguments.max_messages.is_some_and(|max| row.messages > max)
    })))
}
