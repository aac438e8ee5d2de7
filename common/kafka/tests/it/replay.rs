//! Dead letters are given again to the group that refused them, and have their effect once; what an operator did about each is
//! remembered beside it.

use std::sync::Mutex;

use kafka::letters::{Letter, OpenLetters, Operator, Replayer, record_at};
use kafka::{LEFT_OUT_HEADER, Place};
use rdkafka::message::Header;
use schemas::topics::retry;
use schemas::{Actor, Head, Reminder, ReminderEvent, ReminderEventKind, Timestamp};
use support::poison::{self, noise, unknown_schema_id};
use support::{LearningRegistry, Topics};

use super::*;

/// Another group that reads the same topic.
const OTHER: &str = "recurrence-generator";

/// Large enough for a letter of 5 MiB not to be the second in its batch.
const WIDE: BatchConfig = BatchConfig {
    max_bytes: 4 << 20,
    ..BATCH
};

fn operator() -> Operator {
    Operator {
        name: "ada".to_owned(),
        because: "it is mended".to_owned(),
    }
}

async fn open_letters(config: &KafkaConfig, topic: &str) -> Vec<Letter> {
    let mut stream = OpenLetters::of(config, topic).await.unwrap();
    let mut open = Vec::new();
    while let Some(letter) = stream.next().await.unwrap() {
        open.push(letter);
    }
    open
}

async fn replay(config: &KafkaConfig, topic: &str, letters: &[Letter]) -> usize {
    let replayer = Replayer::new(config).unwrap();
    replayer
        .replay(topic, letters, &operator(), |_| {})
        .await
        .unwrap()
}

fn reasons(letters: &[Letter]) -> Vec<&str> {
    letters.iter().map(|letter| letter.reason.as_str()).collect()
}

/// Keeps what it is given, and refuses nothing.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Record>>>);

impl Processor for Seen {
    async fn process(&mut self, batch: &[Record]) -> Result<Vec<Rejection>, ProcessError> {
        self.0.lock().unwrap().extend_from_slice(batch);
        Ok(Vec::new())
    }
}

fn elsewhere(user_id: Uuid) -> Event {
    let reminder = Reminder {
        id: Uuid::now_v7(),
        fire_at: Timestamp::UNIX_EPOCH,
        ring: 0,
        fired_at: None,
        snoozed_until: None,
        reason: None,
    };
    let head = Head::new(user_id, Actor::User, schemas::now());
    ReminderEvent::new(ReminderEventKind::Scheduled, head, reminder, samples::task()).into()
}

/// Writes a record with headers, and tells where it lies.
async fn put(
    config: &KafkaConfig,
    topic: &str,
    key: &[u8],
    value: Option<&[u8]>,
    headers: &[(&str, &[u8])],
) -> Place {
    let producer = kafka::Producer::new(config, "test").unwrap();
    let headers = headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| {
        all.insert(Header {
            key,
            value: Some(*value),
        })
    });
    let name = config.prefixed(topic);
    let sent = producer.enqueue(&name, Some(key), value, headers).await.unwrap();
    let delivered = sent.await.unwrap().unwrap();
    Place {
        topic: topic.to_owned(),
        partition: delivered.partition,
        offset: delivered.offset,
    }
}

async fn caught_up(topics: &Topics, group: &str) {
    for topic in [TASK_EVENTS.to_owned(), retry(TASK_EVENTS, group)] {
        eventually("no lag", async || {
            (topics.lag(group, &topic).await == 0).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_given_again_to_that_group_alone_and_has_its_effect_once_however_often() {
    let world = World::create().await;
    let config = world.topics.config();
    let user_id = Uuid::now_v7();
    let mut all = events(&[user_id], 1..=6);
    // One of these is read by everybody and refused by one, which cannot store it.
    all[3] = event(user_id, 4, "refused");
    world.publish(&all).await;
    let member = world.member(GROUP, BATCH, world.counting(GROUP));
    let seen = Seen::default();
    let other = world.member(OTHER, BATCH, seen.clone());
    world.wait_for(GROUP, 5).await;

    let letters = open_letters(&config, &dead_letters()).await;
    assert_eq!(reasons(&letters), ["invalid_event"]);
    sqlx::query("alter table public.effects drop constraint effects_title_check")
        .execute(world.database.admin())
        .await
        .unwrap();
    assert_eq!(replay(&config, &dead_letters(), &letters).await, 1);
    assert!(open_letters(&config, &dead_letters()).await.is_empty());
    // As one that was ended between the replay and its note would be run again.
    for _ in 0..3 {
        assert_eq!(replay(&config, &dead_letters(), &letters).await, 1);
    }
    world.wait_for(GROUP, 6).await;
    caught_up(&world.topics, GROUP).await;
    let effects = world.effects().await;
    let versions: Vec<i64> = effects.iter().map(|effect| effect.version).collect();
    assert_eq!(versions, [1, 2, 3, 5, 6, 4], "once, and when it was given again");

    caught_up(&world.topics, OTHER).await;
    member.stop().await;
    other.stop().await;
    assert_eq!(
        seen.0.lock().unwrap().len(),
        all.len(),
        "nobody else sees it again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_again_looks_to_its_consumer_as_its_source_did_byte_for_byte() {
    let world = World::create().await;
    let config = world.topics.config();
    // Headers that look like ours, and bytes that are no text.
    let headers: [(&str, &[u8]); 5] = [
        ("ce_id", b"1"),
        ("carillon-replay-of", b"task-events/5/9999"),
        ("__connect.errors.topic", b"elsewhere"),
        ("carillon-dead-letter-resolution", b"dropped"),
        ("bytes", &[0, 0xff, 0xfe]),
    ];
    let source = put(&config, TASK_EVENTS, b"key", Some(b"poison"), &headers).await;
    let refusing = world.member(GROUP, BATCH, world.counting(GROUP));
    caught_up(&world.topics, GROUP).await;
    refusing.stop().await;
    // Refused a second time: the letter of it says where it came from all the same.
    let letters = open_letters(&config, &dead_letters()).await;
    assert_eq!(letters[0].source.as_ref(), Some(&source));
    assert!(!letters[0].refused_again);
    replay(&config, &dead_letters(), &letters).await;
    let refusing = world.member(GROUP, BATCH, world.counting(GROUP));
    let again = eventually("a second letter", async || {
        let letters = open_letters(&config, &dead_letters()).await;
        (!letters.is_empty()).then_some(letters)
    })
    .await;
    caught_up(&world.topics, GROUP).await;
    refusing.stop().await;
    assert_eq!(again.len(), 1);
    assert_eq!(
        (again[0].source.as_ref(), again[0].refused_again),
        (Some(&source), true)
    );
    assert_ne!(again[0].place, letters[0].place);

    let seen = Seen::default();
    let mended = world.member(GROUP, BATCH, seen.clone());
    replay(&config, &dead_letters(), &again).await;
    caught_up(&world.topics, GROUP).await;
    mended.stop().await;
    let seen = seen.0.lock().unwrap();
    assert_eq!(seen.len(), 1);
    let record = &seen[0];
    assert_eq!(
        (record.topic.as_str(), record.partition, record.offset),
        (source.topic.as_str(), source.partition, source.offset)
    );
    assert_eq!(
        (record.key.as_deref(), record.value.as_deref()),
        (Some(&b"key"[..]), Some(&b"poison"[..]))
    );
    let got: Vec<_> = record
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_deref().unwrap()))
        .collect();
    assert_eq!(got, headers);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_put_into_a_retry_topic_by_hand_is_handled_or_refused_like_any_other_and_holds_up_nothing()
 {
    let world = World::create().await;
    let config = world.topics.config();
    let registry = Registry::new(&world.topics.registry()).unwrap();
    let (user_id, topic) = (Uuid::now_v7(), retry(TASK_EVENTS, GROUP));
    let good = events(&[user_id], 1..=2);
    put(&config, &topic, b"key", Some(b"poison"), &[]).await;
    put(
        &config,
        &topic,
        b"key",
        Some(b"poison"),
        &[("carillon-replay-of", b"elsewhere/0/1")],
    )
    .await;
    put(
        &config,
        &topic,
        b"key",
        Some(b"poison"),
        &[("carillon-replay-of", &[0xff])],
    )
    .await;
    for event in &good {
        let value = framed(&config, &registry, event).await;
        put(&config, &topic, b"key", Some(&value), &[]).await;
    }
    let member = world.member(GROUP, BATCH, world.counting(GROUP));
    world.wait_for(GROUP, good.len()).await;
    caught_up(&world.topics, GROUP).await;
    member.stop().await;
    world.assert_once_and_in_order(&good).await;
    let letters = open_letters(&config, &dead_letters()).await;
    assert_eq!(reasons(&letters), ["not_framed"; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_is_open_no_more_and_lies_where_it_lay() {
    let world = World::create().await;
    let config = world.topics.config();
    let records: Vec<_> = (0..5_u8).map(|n| (vec![n], Some(vec![n + 1]))).collect();
    produce(&config, &records).await;
    let member = world.member(GROUP, BATCH, world.counting(GROUP));
    caught_up(&world.topics, GROUP).await;
    member.stop().await;
    let letters = open_letters(&config, &dead_letters()).await;
    assert_eq!(letters.len(), 5);
    let replayer = Replayer::new(&config).unwrap();
    assert_eq!(
        replayer
            .drop_letters(&dead_letters(), &letters[1..3], &operator())
            .await
            .unwrap(),
        2
    );
    let open = open_letters(&config, &dead_letters()).await;
    let offsets = |letters: &[Letter]| letters.iter().map(|l| l.place.offset).collect::<Vec<_>>();
    assert_eq!(offsets(&open), [0, 3, 4]);
    let dropped = record_at(&config, &dead_letters(), 0, 1).await.unwrap().unwrap();
    assert_eq!(
        dropped.value,
        record_at(
            &config,
            TASK_EVENTS,
            letters[1].source.as_ref().unwrap().partition,
            letters[1].source.as_ref().unwrap().offset
        )
        .await
        .unwrap()
        .unwrap()
        .value
    );
    let notes = world.topics.read(&dead_letters()).await;
    let note = notes.last().unwrap();
    assert_eq!(note.key, dropped_key(&notes, 2), "it is of the same person");
    assert_eq!(note.header("carillon-dead-letter-resolution"), Some("dropped"));
    assert_eq!(note.header("carillon-operator"), Some("ada"));
    assert_eq!(note.header("carillon-because"), Some("it is mended"));
    assert_eq!(
        note.header("carillon-dead-letter-place"),
        Some(format!("{}/0/2", dead_letters()).as_str())
    );
    assert!(
        record_at(&config, &dead_letters(), 0, 999)
            .await
            .unwrap()
            .is_none()
    );
}

fn dropped_key(records: &[support::ReadRecord], offset: i64) -> Option<Vec<u8>> {
    records.iter().find(|record| record.offset == offset)?.key.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_kinds_of_poison_pass_and_what_can_be_mended_has_its_effect_once_when_it_is_given_again() {
    let world = World::create().await;
    let config = world.topics.config();
    let registry = LearningRegistry::start().await;
    world.topics.widen(TASK_EVENTS, 8 << 20).await;
    let user_id = Uuid::now_v7();
    let key = user_id.to_string();
    let late = event(user_id, 100, "Written by a newer version");
    let poison = poison::eight(&registry, &late, &elsewhere(user_id));
    let good = events(&[user_id], 1..=9);
    for (n, event) in good.iter().enumerate() {
        world
            .topics
            .produce(TASK_EVENTS, key.as_bytes(), Some(&registry.frame(event)))
            .await;
        if let Some((_, value)) = poison.get(n) {
            world
                .topics
                .produce(TASK_EVENTS, key.as_bytes(), Some(value))
                .await;
        }
    }
    let handler = || counting(GROUP, world.database.admin().clone(), &registry.config());
    let member = world.member(GROUP, WIDE, handler());
    world.wait_for(GROUP, good.len()).await;
    world.assert_once_and_in_order(&good).await;
    let letters = open_letters(&config, &dead_letters()).await;
    let expected: Vec<&str> = poison.iter().map(|(reason, _)| *reason).collect();
    assert_eq!(reasons(&letters), expected);
    for (letter, (reason, value)) in letters.iter().zip(&poison) {
        let at = &letter.place;
        let kept = record_at(&config, &at.topic, at.partition, at.offset)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(kept.value.as_ref(), Some(value), "{reason}");
        assert!(letter.obstacle().is_none(), "{reason}");
    }

    // The registry learns the schema, which mends one; the others come back.
    registry.learn(unknown_schema_id(&late), &late);
    assert_eq!(replay(&config, &dead_letters(), &letters).await, 8);
    let open = eventually("seven are refused again", async || {
        let open = open_letters(&config, &dead_letters()).await;
        (open.len() == 7).then_some(open)
    })
    .await;
    assert!(open.iter().all(|letter| letter.refused_again));
    let mut sources: Vec<_> = open.iter().map(|letter| letter.source.clone()).collect();
    sources.sort();
    let mut first: Vec<_> = letters
        .iter()
        .filter(|letter| letter.reason != "unknown_schema_id")
        .map(|letter| letter.source.clone())
        .collect();
    first.sort();
    assert_eq!(sources, first);
    caught_up(&world.topics, GROUP).await;
    member.stop().await;
    world
        .assert_once_and_in_order(&[&good[..], &[late]].concat())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_no_dead_letter_topic_takes_is_passed_by_with_a_letter_that_says_how_large_it_was() {
    let world = World::create().await;
    world.topics.widen(TASK_EVENTS, 40 << 20).await;
    let config = world.topics.config();
    let user_id = Uuid::now_v7();
    let good = events(&[user_id], 1..=2);
    world.publish(&good[..1]).await;
    let huge = noise(12 << 20);
    let producer: rdkafka::producer::FutureProducer = config
        .producer("test")
        .set("message.max.bytes", "50000000")
        .create()
        .unwrap();
    let (topic, key) = (config.prefixed(TASK_EVENTS), user_id.to_string());
    let record = rdkafka::producer::FutureRecord::to(&topic)
        .key(&key)
        .payload(&huge);
    let source = producer.send(record, Duration::from_secs(30)).await.unwrap();
    world.publish(&good[1..]).await;

    let member = world.member(GROUP, WIDE, world.counting(GROUP));
    world.wait_for(GROUP, good.len()).await;
    member.stop().await;
    let letters = open_letters(&config, &dead_letters()).await;
    assert_eq!(reasons(&letters), ["too_large"]);
    assert_eq!(letters[0].left_out_bytes, Some(12 << 20));
    let found = letters[0].source.as_ref().unwrap();
    assert_eq!((found.partition, found.offset), (source.partition, source.offset));
    let letter = world.topics.read(&dead_letters()).await;
    assert_eq!(letter[0].value, None);
    assert_eq!(letter[0].header(LEFT_OUT_HEADER), Some("12582912"));
    // There is nothing to give again.
    assert!(letters[0].obstacle().is_some());
    assert_eq!(replay(&config, &dead_letters(), &letters).await, 0);
    assert_eq!(open_letters(&config, &dead_letters()).await.len(), 1);
}
