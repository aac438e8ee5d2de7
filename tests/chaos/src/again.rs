//! Records that come again, byte for byte, older ones after newer ones.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use schemas::topics::{NOTIFICATION_EVENTS, TASK_EVENTS, TASK_REMINDERS};
use sqlx::{AssertSqlSafe, PgPool};
use support::Topics;
use uuid::Uuid;

/// Where consumers remember what they have handled. The audit sink asks its own table.
const INBOXES: [&str; 5] = [
    "reminders.inbox",
    "recurrence.inbox",
    "delivery.inbox",
    "webhooks.inbox",
    "notifications.inbox",
];

/// A header of ours, by which the checker knows them.
pub const AGAIN: &str = "chaos-again";

/// Writes so many records of the topics again, chosen and ordered at random. Returns how many there were.
///
/// # Panics
/// When Kafka does not take them.
pub async fn produce(
    topics: &Topics,
    admin: &PgPool,
    random: &mut StdRng,
    records: usize,
    forgotten: bool,
) -> usize {
    let mut all = Vec::new();
    for topic in [TASK_EVENTS, TASK_REMINDERS, NOTIFICATION_EVENTS] {
        let read = topics.read(topic).await;
        all.extend(read.into_iter().map(|record| (topic, record)));
    }
    let mut chosen: Vec<_> = all.choose_multiple(random, records).collect();
    chosen.shuffle(random);
    if forgotten {
        let ids: Vec<Uuid> = chosen
            .iter()
            .filter_map(|(_, record)| record.header("ce_id")?.parse().ok())
            .collect();
        for inbox in INBOXES {
            sqlx::query(AssertSqlSafe(format!(
                "delete from {inbox} where event_id = any($1)"
            )))
            .bind(&ids)
            .execute(admin)
            .await
            .unwrap();
        }
    }
    let config = topics.config();
    let producer: FutureProducer = config.producer("chaos").create().unwrap();
    for (topic, record) in &chosen {
        let mut headers = OwnedHeaders::new();
        for (key, value) in &record.headers {
            headers = headers.insert(Header {
                key,
                value: Some(value),
            });
        }
        headers = headers.insert(Header {
            key: AGAIN,
            value: Some("1"),
        });
        let topic = config.prefixed(topic);
        let mut copy = FutureRecord::<[u8], [u8]>::to(&topic).headers(headers);
        copy.key = record.key.as_deref();
        copy.payload = record.value.as_deref();
        producer
            .send(copy, Duration::from_secs(60))
            .await
            .expect("Kafka takes the record");
    }
    chosen.len()
}
