//! What cannot be handled goes to the dead-letter topic as it was, and what is around it goes on.

use chrono::{DateTime, Utc};
use kafka::DEAD_LETTER_HEADERS;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, Headers, OwnedMessage};
use rdkafka::{Offset, TopicPartitionList};
use schema_registry_converter::async_impl::schema_registry::{SrSettings, post_schema};
use schema_registry_converter::schema_registry_common::{SchemaType, SuppliedSchema};
use schemas::{Actor, Head, Reminder, ReminderEvent, ReminderEventKind};

use super::*;

/// What stands in a dead-letter topic, bytes and all.
async fn read(config: &KafkaConfig, topic: &str, count: usize) -> Vec<OwnedMessage> {
    let topic = config.prefixed(topic);
    let consumer: BaseConsumer = config.consumer("reader").create().unwrap();
    tokio::task::spawn_blocking(move || {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, 0, Offset::Beginning).unwrap();
        consumer.assign(&list).unwrap();
        (0..count)
            .map(|_| consumer.poll(support::PATIENCE).unwrap().unwrap().detach())
            .collect()
    })
    .await
    .unwrap()
}

fn header<'a>(message: &'a OwnedMessage, name: &str) -> Option<&'a str> {
    let headers = message.headers()?;
    let found = headers.iter().find(|h| h.key == name)?;
    std::str::from_utf8(found.value?).ok()
}

/// Registers a schema that no build knows, and gives its id.
async fn foreign_schema(world: &World, name: &str, kind: SchemaType, json: &str) -> u32 {
    let settings = SrSettings::new(world.topics.registry().url);
    let subject = world.topics.config().prefixed(name);
    post_schema(
        &settings,
        subject,
        SuppliedSchema::new(None, kind, json.to_owned()),
    )
    .await
    .unwrap()
    .id
}

/// The same bytes with one text in place of another of the same length.
fn replaced(mut value: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    let at = value
        .windows(from.len())
        .position(|window| window == from.as_bytes())
        .unwrap();
    value[at..at + to.len()].copy_from_slice(to.as_bytes());
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_read_is_kept_as_it_was_and_those_around_it_pass_in_order() {
    let world = World::create().await;
    let config = world.topics.config();
    let registry = Registry::new(&world.topics.registry()).unwrap();
    let user_id = Uuid::now_v7();
    let good = events(&[user_id], 1..=12);
    let valid = framed(&config, &registry, &good[0]).await;
    let reminder = Reminder {
        id: Uuid::now_v7(),
        fire_at: DateTime::<Utc>::UNIX_EPOCH,
        ring: 0,
        fired_at: None,
        snoozed_until: None,
        reason: None,
    };
    let head = Head::new(user_id, Actor::User, schemas::now());
    let elsewhere = ReminderEvent::new(ReminderEventKind::Scheduled, head, reminder, samples::task());
    let painted = r#"{"type":"record","name":"TaskPainted","namespace":"com.carillon.task","fields":[]}"#;
    let painted = foreign_schema(&world, "painted", SchemaType::Avro, painted).await;
    let json = foreign_schema(
        &world,
        "json",
        SchemaType::Json,
        r#"{"$schema":"http://json-schema.org/draft-07/schema#","type":"object"}"#,
    )
    .await;
    let event_id = good[0].head().event_id.to_string();
    let bad: Vec<(&str, Option<Vec<u8>>)> = vec![
        ("empty", None),
        ("not_framed", Some(b"{\"title\":\"Water the plants\"}".to_vec())),
        ("not_framed", Some(vec![0, 0, 0])),
        ("not_framed", Some(Vec::new())),
        ("too_large", Some(vec![0; schemas::MAX_EVENT_BYTES + 100])),
        ("unknown_schema_id", Some(schemas::frame(2_000_000_000, b"body"))),
        ("bad_schema", Some(schemas::frame(json, b"body"))),
        ("unknown_record", Some(schemas::frame(painted, b""))),
        (
            "wrong_topic",
            Some(framed(&config, &registry, &elsewhere.into()).await),
        ),
        ("undecodable", Some(valid[..valid.len() - 3].to_vec())),
        ("undecodable", Some(valid[..schemas::FRAME_HEADER_BYTES].to_vec())),
        ("trailing_bytes", Some([&valid[..], b"xy"].concat())),
        (
            "invalid_event",
            Some(replaced(valid.clone(), &event_id, &Uuid::nil().to_string())),
        ),
    ];

    // One bad record after each good one, all in one partition, with headers that a text would not survive.
    let producer = kafka::Producer::new(&config, "test").unwrap();
    let topic = config.prefixed(TASK_EVENTS);
    let key = user_id.to_string();
    let source_headers = [
        ("ce_id", Some(&b"1"[..])),
        ("twice", Some(&b"a"[..])),
        ("twice", Some(&b"b"[..])),
        ("bytes", Some(&[0, 0xff, 0xfe][..])),
        ("nothing", None),
    ];
    for n in 0..good.len().max(bad.len()) {
        if let Some(event) = good.get(n) {
            world.publish(std::slice::from_ref(event)).await;
        }
        if let Some((_, value)) = bad.get(n) {
            let headers = source_headers
                .iter()
                .fold(OwnedHeaders::new(), |all, (key, value)| {
                    all.insert(Header { key, value: *value })
                });
            let ack = producer
                .enqueue(&topic, Some(key.as_bytes()), value.as_deref(), headers)
                .await
                .unwrap();
            ack.await.unwrap().unwrap();
        }
    }

    let member = world.member(
        GROUP,
        BatchConfig {
            max_bytes: 4 << 20,
            ..BATCH
        },
        world.counting(GROUP),
    );
    world.wait_for(GROUP, good.len()).await;
    member.stop().await;
    world.assert_once_and_in_order(&good).await;

    let letters = read(&config, &dead_letters(), bad.len()).await;
    let source = world.topics.read(TASK_EVENTS).await;
    let bad_offsets: Vec<_> = source
        .iter()
        .filter(|r| r.header("twice").is_some())
        .map(|r| (r.partition, r.offset))
        .collect();
    for (letter, ((reason, value), (partition, offset))) in letters.iter().zip(bad.iter().zip(bad_offsets)) {
        assert_eq!(
            letter.payload(),
            value.as_deref(),
            "{reason}: the value is untouched"
        );
        assert_eq!(
            letter.key(),
            Some(key.as_bytes()),
            "{reason}: the key is untouched"
        );
        let headers = letter.headers().unwrap();
        assert_eq!(
            headers.count(),
            source_headers.len() + DEAD_LETTER_HEADERS.len(),
            "{reason}"
        );
        for (header, (key, value)) in headers.iter().zip(source_headers) {
            assert_eq!(
                (header.key, header.value),
                (key, value),
                "{reason}: the headers are untouched"
            );
        }
        let why: Vec<_> = DEAD_LETTER_HEADERS
            .iter()
            .map(|name| header(letter, name).unwrap())
            .collect();
        let (partition, offset) = (partition.to_string(), offset.to_string());
        assert_eq!(
            why[..6],
            [TASK_EVENTS, &partition, &offset, GROUP, "VALUE_CONVERTER", reason]
        );
        assert!(!why[6].is_empty(), "{reason}: it says what exactly is wrong");
    }
    assert_eq!(
        world.topics.read(&dead_letters()).await.len(),
        bad.len(),
        "and nothing else is there"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_the_database_refuses_is_dead_lettered_alone_and_its_neighbours_are_applied_once() {
    let world = World::create().await;
    let user_id = Uuid::now_v7();
    let mut all = events(&[user_id], 1..=30);
    // By a constraint, by the handler itself, and by a text that Postgres cannot hold; neighbours of each other, too.
    let refused = [5, 14, 15, 29];
    for n in refused {
        let title = if n == 15 { "not \0 a text" } else { "refused" };
        all[n] = event(user_id, i64::try_from(n).unwrap() + 1, title);
    }
    world.publish(&all).await;
    let member = world.member(GROUP, BATCH, world.counting(GROUP));
    world.wait_for(GROUP, all.len() - refused.len()).await;
    member.stop().await;
    let good: Vec<Event> = (0..)
        .zip(&all)
        .filter(|(n, _)| !refused.contains(n))
        .map(|(_, event)| event.clone())
        .collect();
    world.assert_once_and_in_order(&good).await;

    let letters = read(&world.topics.config(), &dead_letters(), refused.len()).await;
    let registry = Registry::new(&world.topics.registry()).unwrap();
    for (letter, n) in letters.iter().zip(refused) {
        assert_eq!(
            letter.payload(),
            Some(&framed(&world.topics.config(), &registry, &all[n]).await[..])
        );
        assert_eq!(header(letter, "__connect.errors.stage"), Some("TASK_PUT"));
        assert_eq!(
            header(letter, "__connect.errors.exception.class.name"),
            Some("invalid_event")
        );
        let expected = if n == 15 { "0x00" } else { "effects_title_check" };
        let message = header(letter, "__connect.errors.exception.message").unwrap();
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(world.topics.read(&dead_letters()).await.len(), refused.len());
    let seen: i64 = sqlx::query_scalar("select count(*) from reminders.inbox")
        .fetch_one(world.database.admin())
        .await
        .unwrap();
    assert_eq!(
        usize::try_from(seen).unwrap(),
        good.len(),
        "what was refused was not handled"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_nothing_but_poison_is_passed_by() {
    let world = World::create().await;
    let records: Vec<_> = (0..120_u8).map(|n| (vec![n], Some(vec![n + 1]))).collect();
    produce(&world.topics.config(), &records).await;
    let member = world.member(GROUP, BATCH, world.counting(GROUP));
    world.wait_for_commits(GROUP).await;
    member.stop().await;
    assert_eq!(world.topics.read(&dead_letters()).await.len(), records.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_dead_letter_topic_a_bad_record_waits_for_one_and_a_stop_is_still_obeyed() {
    let topics = Topics::named(&format!("t{}.", Uuid::new_v4().simple()));
    let config = topics.config();
    // The topics of events alone; whoever set this up forgot the others.
    kafka::admin::ensure_topics(&config, &schemas::topics::event_topics(), 1)
        .await
        .unwrap();
    let database = Database::create().await;
    make_effects(database.admin()).await;
    let world = World { database, topics };
    let user_id = Uuid::now_v7();
    let good = events(&[user_id], 1..=2);
    world.publish(&good[..1]).await;
    produce(
        &config,
        &[(user_id.to_string().into_bytes(), Some(b"poison".to_vec()))],
    )
    .await;
    world.publish(&good[1..]).await;

    let batch = BatchConfig {
        max_events: 1,
        ..BATCH
    };
    let member = world.member(GROUP, batch, world.counting(GROUP));
    eventually("it says what it waits for", async || {
        let report = serde_json::to_string(&member.health.report()).unwrap();
        report.contains("dead-letter topic").then_some(())
    })
    .await;
    assert_eq!(world.effects().await.len(), 1, "what is behind it waits, too");
    let committed: Vec<i64> = world
        .topics
        .committed(GROUP, TASK_EVENTS)
        .await
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(committed, [1], "it is not passed by");
    // A stop must not wait for the letter, which may never be taken.
    tokio::time::timeout(Duration::from_secs(15), member.stop())
        .await
        .unwrap();

    kafka::admin::ensure_topics(&config, &schemas::topics::dead_letter_topics(), 1)
        .await
        .unwrap();
    let member = world.member(GROUP, batch, world.counting(GROUP));
    world.wait_for(GROUP, good.len()).await;
    member.stop().await;
    assert_eq!(world.topics.read(&dead_letters()).await.len(), 1);
    world.assert_once_and_in_order(&good).await;
}
