//! Kafka: whether it answers, has the topics, and whether the groups handle what is in them.

use anyhow::Context;
use kafka::KafkaConfig;
use kafka::admin::describe_topics;
use kafka::letters::open_letters;
use schemas::topics::{GROUPS, Topic};

use super::{Check, Finding};
use crate::lag::{by_topic, measure};
use crate::output::duration;
use crate::topics::difference;

/// A group that is further behind is behind.
const BEHIND_SECONDS: f64 = 300.0;

pub(super) async fn look(config: &KafkaConfig) -> Vec<Check> {
    let topics = schemas::topics::all();
    let described = match describe_topics(config, &topics).await {
        Ok(described) => described,
        Err(error) => {
            let finding = Finding::new(
                format!(
                    "no broker answers at {}, or none lets us in: {error}",
                    config.bootstrap_servers
                ),
                "Nothing rings, recurs or is mailed: events wait in the outbox until Kafka is back.",
                "start Kafka, or mend KAFKA_BOOTSTRAP_SERVERS, KAFKA_SECURITY_PROTOCOL and KAFKA_SASL_…",
            );
            let skipped = |name| Check::skipped(name, "Kafka must be there first");
            let mut checks = vec![Check::done("kafka", vec![finding])];
            checks.extend(["topics", "consumers", "dead letters"].map(skipped));
            return checks;
        }
    };
    let mut findings = Vec::new();
    let mut there: Vec<&Topic> = Vec::new();
    for (topic, (name, state)) in topics.iter().zip(&described) {
        if state.is_some() {
            there.push(topic);
        }
        if let Some(difference) = difference(topic, state.as_ref()) {
            let mend = match state {
                None => "carillon topics ensure".to_owned(),
                Some(_) => format!(
                    "kafka-configs.sh or kafka-topics.sh --alter --topic {name}, or declare it otherwise"
                ),
            };
            let why = "Whoever writes there waits, and whoever reads there gets nothing; partitions decide who reads what.";
            findings.push(Finding::new(format!("{name} {difference}"), why, mend));
        }
    }
    vec![
        Check::done("kafka", Vec::new()),
        Check::done("topics", findings),
        Check::done("consumers", answer(consumers(config).await)),
        Check::done("dead letters", answer(dead_letters(config, &there).await)),
    ]
}

fn answer(looked: anyhow::Result<Vec<Finding>>) -> Vec<Finding> {
    looked.unwrap_or_else(|error| {
        vec![Finding::new(
            format!("Kafka refuses to tell: {error:#}"),
            "What cannot be looked at may be wrong.",
            "let the operator describe and read topics and groups",
        )]
    })
}

async fn consumers(config: &KafkaConfig) -> anyhow::Result<Vec<Finding>> {
    const WHY: &str = "What the group is there for does not happen, or happens late.";
    let rows = by_topic(&measure(config, &GROUPS).await?);
    let mut findings = Vec::new();
    for group in GROUPS {
        let of_group = || rows.iter().filter(|row| row.group == group.name);
        let messages: i64 = of_group().map(|row| row.messages).sum();
        if of_group().all(|row| row.members == 0) {
            findings.push(Finding::new(
                format!("nobody is in the group {}; {messages} messages wait", group.name),
                WHY,
                format!("start {}, and read its log", group.name),
            ));
            continue;
        }
        for row in of_group().filter(|row| row.seconds > BEHIND_SECONDS) {
            findings.push(Finding::new(
                format!(
                    "{} is {} behind in {}: {} messages",
                    group.name,
                    duration(row.seconds),
                    row.topic,
                    row.messages
                ),
                WHY,
                format!("/readyz of {} says what it waits for; more replicas, up to the partitions, make it faster", group.name),
            ));
        }
    }
    Ok(findings)
}

async fn dead_letters(config: &KafkaConfig, there: &[&Topic]) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for topic in there {
        if !topic.name.ends_with(schemas::topics::DEAD_LETTER_SUFFIX) {
            continue;
        }
        let open = open_letters(config, &topic.name)
            .await
            .with_context(|| format!("cannot read {}", topic.name))?;
        if let Some(oldest) = open.first() {
            findings.push(Finding::new(
                format!(
                    "{} letters are open in {}, the oldest for {}",
                    open.len(),
                    topic.name,
                    oldest.reason
                ),
                "Each is an event that had no effect in that group.",
                format!("carillon dlq list {}", topic.name),
            ));
        }
    }
    Ok(findings)
}
