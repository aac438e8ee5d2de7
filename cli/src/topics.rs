//! `carillon topics`.

use anyhow::{Context, bail};
use kafka::KafkaConfig;
use kafka::admin::{Ensured, describe_topics, ensure_topics};

use crate::say;

pub(crate) async fn ensure(replication_factor: i32) -> anyhow::Result<()> {
    let config = service::config::load(KafkaConfig::from_env)?;
    let topics = schemas::topics::all();
    let ensured = ensure_topics(&config, &topics, replication_factor)
        .await
        .context("cannot create the topics")?;
    for (name, outcome) in ensured {
        say(match outcome {
            Ensured::Created => format!("created  {name}"),
            Ensured::Existed => format!("existed  {name}"),
        });
    }
    Ok(())
}

pub(crate) async fn describe() -> anyhow::Result<()> {
    let config = service::config::load(KafkaConfig::from_env)?;
    let topics = schemas::topics::all();
    let mut differences = 0;
    for (topic, (name, state)) in topics.iter().zip(describe_topics(&config, &topics).await?) {
        let declared_ms = i64::try_from(topic.retention.as_millis())?;
        let verdict = match state {
            None => "is missing: carillon topics ensure".to_owned(),
            Some(state) if i32::try_from(state.partitions)? != topic.partitions => {
                format!(
                    "has {} partitions, declared are {}",
                    state.partitions, topic.partitions
                )
            }
            Some(state) if state.retention_ms != Some(declared_ms) => {
                format!(
                    "keeps records for {:?} ms, declared are {declared_ms}",
                    state.retention_ms
                )
            }
            Some(_) => {
                say(format_args!("ok       {name}"));
                continue;
            }
        };
        differences += 1;
        say(format_args!("differs  {name} {verdict}"));
    }
    if differences > 0 {
        bail!("{differences} topics differ from their declaration");
    }
    Ok(())
}
