//! Kafka: whether it answers, has the topics, and whether the groups handle what is in them.

use anyhow::Context;
use kafka::KafkaConfig;
use kafka::admin::describe_topics;
use kafka::letters::OpenLetters;
use schemas::topics::{GROUPS, Topic};

use super::{Check, Finding};
use crate::lag::{by_topic, measure};
use crate::output::{count, duration};
use crate::topics::{Difference, difference};

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
                "start Kafka, or mend KAFKA_BOOTSTRAP_SERVERS, KAFKA_SECURITY_PROTOCOL, KAFKA_SSL_CA_LOCATION and KAFKA_SASL_…",
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
            findings.push(Finding::new(
                format!("{name} {difference}"),
                "Whoever writes there waits, or whoever reads there gets less than is meant for it.",
                mend(name, &difference),
            ));
        }
    }
    vec![
        Check::done("kafka", Vec::new()),
        Check::done("topics", findings),
        Check::done("consumers", answer(consumers(config).await)),
        Check::done("dead letters", answer(dead_letters(config, &there).await)),
    ]
}

fn mend(name: &str, difference: &Difference) -> String {
    let alter = |setting: &str, value: String| {
        format!(
            "kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config {setting}={value}"
        )
    };
    match difference {
        Difference::Missing => "carillon topics ensure".to_owned(),
        Difference::Partitions { has, declared } if has < declared => {
            format!("kafka-topics.sh --alter --topic {name} --partitions {declared}, when nothing waits in it: it moves keys")
        }
        Difference::Partitions { .. } => {
            "partitions cannot be taken away: make the topic anew, or declare as many in schemas/src/topics.rs".to_owned()
        }
        Difference::Retention { declared_ms, .. } => alter("retention.ms", declared_ms.to_string()),
        Difference::RecordBytes { declared, .. } => alter("max.message.bytes", declared.to_string()),
    }
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
                format!(
                    "nobody is in the group {}; waiting: {}",
                    group.name,
                    count(messages, "message")
                ),
                WHY,
                format!("start {}, and read its log", group.name),
            ));
            continue;
        }
        for row in of_group().filter(|row| row.seconds > BEHIND_SECONDS) {
            findings.push(Finding::new(
                format!(
                    "{} is {} behind in {}: {}", group.name, duration(row.seconds), row.topic, count(row.messages, "message")
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
        let unreadable = || format!("cannot read {}", topic.name);
        let mut letters = OpenLetters::of(config, &topic.name)
            .await
            .with_context(unreadable)?;
        let (mut open, mut oldest) = (0_u64, None);
        while let Some(letter) = letters.next().await.with_context(unreadable)? {
            open += 1;
            oldest.get_or_insert(letter.reason);
        }
        if let Some(reason) = oldest {
            findings.push(Finding::new(
                format!(
                    "{} open in {}, the oldest for {reason}",
                    count(open, "letter"),
                    topic.name
                ),
                "Each is an event that had no effect in that group.",
                format!("carillon dlq list {}", topic.name),
            ));
        }
    }
    Ok(findings)
}
