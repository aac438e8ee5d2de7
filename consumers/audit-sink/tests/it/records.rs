//! Records that are no events, or are dead letters: kept as they are. And what happens while something is away.

use std::time::Duration;

use kafka::{KafkaConfig, ProcessError, Processor, RegistryConfig};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use schemas::topics::{TASK_EVENTS, TASK_REMINDERS, dead_letter};
use schemas::{Event, TaskEventKind};
use serde_json::Value;
use sqlx::Row;
use sqlx::postgres::PgPoolOptions;
use support::{Database, Topics, samples};
use uuid::Uuid;

use crate::{records, rows, sink, sink_into};

/// Writes a record with headers, dated.
async fn produce_dated(
    config: &KafkaConfig,
    topic: &str,
    key: &str,
    value: &[u8],
    headers: &[(&str, &str)],
    timestamp_ms: i64,
) {
    let producer: FutureProducer = config.producer("test").create().unwrap();
    let topic = config.prefixed(topic);
    let headers = headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| {
        all.insert(Header {
            key,
            value: Some(value.as_bytes()),
        })
    });
    producer
        .send(
            FutureRecord::to(&topic)
                .key(key)
                .payload(value)
                .headers(headers)
                .timestamp(timestamp_ms),
            Duration::from_secs(30),
        )
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_cannot_be_read_are_kept_raw_with_the_reason() {
    let (database, topics) = tokio::join!(Database::create(), Topics::create());
    let user_id = Uuid::now_v7();
    let key = user_id.to_string();
    let event: Event = samples::event(TaskEventKind::Created, user_id, &samples::task()).into();
    topics.publish(std::slice::from_ref(&event)).await;
    let good = topics.read(TASK_EVENTS).await.remove(0).value.unwrap();

    // An event in a topic that it does not belong to, one cut short, a schema that nobody registered, no Avro at all,
    // nothing at all.
    let mut unknown = good.clone();
    unknown[1..5].copy_from_slice(&0x7fff_fff0_u32.to_be_bytes());
    let cut = &good[..good.len() - 3];
    topics.produce(TASK_REMINDERS, key.as_bytes(), Some(&good)).await;
    topics.produce(TASK_EVENTS, key.as_bytes(), Some(cut)).await;
    topics.produce(TASK_EVENTS, key.as_bytes(), Some(&unknown)).await;
    topics
        .produce(TASK_EVENTS, b"\xff no uuid", Some(b"plain text"))
        .await;
    topics.produce(TASK_EVENTS, key.as_bytes(), None).await;
    let batch = records(&topics, 6).await;

    let mut sink = sink(&database, &topics.registry());
    assert_eq!(sink.process(&batch).await.unwrap(), []);
    sink.process(&batch).await.unwrap();
    let rows = rows(&database).await;
    assert_eq!(rows.len(), 6, "one each, however often they come");

    let mut reasons = Vec::new();
    for row in rows
        .iter()
        .filter(|row| row.get::<&str, _>("event_type") == "undecodable")
    {
        let (topic, offset): (&str, i64) = (row.get("topic"), row.get("offset_id"));
        let record = batch
            .iter()
            .find(|r| {
                r.topic == topic && r.offset == offset && r.partition == row.get::<i32, _>("partition_id")
            })
            .unwrap();
        assert_eq!(row.get::<Option<Vec<u8>>, _>("raw"), record.value);
        assert_eq!(row.get::<Option<Value>, _>("payload"), None);
        assert_eq!(
            Some(row.get::<schemas::Timestamp, _>("occurred_at")),
            record.timestamp
        );
        let known_user = record.key.as_deref() == Some(key.as_bytes());
        assert_eq!(
            row.get::<Option<Uuid>, _>("user_id"),
            known_user.then_some(user_id)
        );
        let headers: Value = row.get("headers");
        let reason = headers["__connect.errors.exception.class.name"].as_str();
        reasons.push(reason.unwrap().to_owned());
        assert!(headers["__connect.errors.exception.message"].is_string());
    }
    reasons.sort();
    assert_eq!(
        reasons,
        [
            "empty",
            "not_framed",
            "undecodable",
            "unknown_schema_id",
            "wrong_topic"
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_is_kept_raw_once_however_often_it_was_written() {
    let (database, topics) = tokio::join!(Database::create(), Topics::create());
    let user_id = Uuid::now_v7();
    let key = user_id.to_string();
    let by_scanner = dead_letter(TASK_EVENTS, "reminder-scanner");
    let by_generator = dead_letter(TASK_EVENTS, "recurrence-generator");
    let why = |offset: &'static str, group: &'static str| {
        [
            ("ce_id", "6"),
            ("__connect.errors.topic", TASK_EVENTS),
            ("__connect.errors.partition", "3"),
            ("__connect.errors.offset", offset),
            ("__connect.errors.connector.name", group),
            ("__connect.errors.stage", "VALUE_CONVERTER"),
            ("__connect.errors.exception.class.name", "not_framed"),
            ("__connect.errors.exception.message", "no Avro"),
        ]
    };
    let config = topics.config();
    let noon = 1_795_000_000_000;
    // Twice, as after a crash between writing it and committing the offset; another; and the same source given up by
    // another group.
    for (topic, offset, group, at) in [
        (&by_scanner, "17", "reminder-scanner", noon),
        (&by_scanner, "17", "reminder-scanner", noon + 5000),
        (&by_scanner, "18", "reminder-scanner", noon + 5001),
        (&by_generator, "17", "recurrence-generator", noon),
    ] {
        produce_dated(&config, topic, &key, b"poison", &why(offset, group), at).await;
    }
    // By hand, without any header.
    topics.produce(&by_generator, b"", Some(b"by hand")).await;
    let batch = records(&topics, 5).await;

    let mut sink = sink(&database, &topics.registry());
    // All at once, and each again alone.
    assert_eq!(sink.process(&batch).await.unwrap(), []);
    for record in &batch {
        sink.process(std::slice::from_ref(record)).await.unwrap();
    }
    let rows = rows(&database).await;
    let found: Vec<_> = rows
        .iter()
        .map(|row| {
            let headers: Value = row.get("headers");
            (
                row.get::<String, _>("topic"),
                headers["__connect.errors.offset"].as_str().map(str::to_owned),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            (by_generator.clone(), Some("17".to_owned())),
            (by_generator, None),
            (by_scanner.clone(), Some("17".to_owned())),
            (by_scanner, Some("18".to_owned())),
        ]
    );
    for row in &rows {
        assert_eq!(row.get::<&str, _>("event_type"), "dead_letter");
        assert_eq!(row.get::<Option<Value>, _>("payload"), None);
    }
    assert_eq!(rows[0].get::<Option<Vec<u8>>, _>("raw").unwrap(), b"poison");
    assert_eq!(rows[0].get::<Option<Uuid>, _>("user_id"), Some(user_id));
    assert_eq!(rows[1].get::<Option<Uuid>, _>("user_id"), None);
    let headers: Value = rows[0].get("headers");
    assert_eq!(headers["ce_id"], "6");
    assert_eq!(headers["__connect.errors.exception.message"], "no Avro");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_or_a_database_that_is_away_is_waited_for() {
    let (database, topics) = tokio::join!(Database::create(), Topics::create());
    let event: Event = samples::event(TaskEventKind::Created, Uuid::now_v7(), &samples::task()).into();
    topics.publish(&[event]).await;
    let batch = records(&topics, 1).await;

    // Port 9 is the discard service; nothing listens there.
    let nowhere = RegistryConfig {
        url: "http://127.0.0.1:9".to_owned(),
        username: None,
        password: None,
        ca_file: None,
    };
    let error = sink(&database, &nowhere).process(&batch).await.unwrap_err();
    let ProcessError::Away { what, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(what, "the schema registry");

    let pool = PgPoolOptions::new()
        .acquire_timeout(Duration::from_millis(500))
        .connect_lazy("postgres://nobody@127.0.0.1:9/nothing")
        .unwrap();
    let error = sink_into(pool, &topics.registry())
        .process(&batch)
        .await
        .unwrap_err();
    let ProcessError::Away { what, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(what, "Postgres");
    assert_eq!(rows(&database).await.len(), 0);
}
