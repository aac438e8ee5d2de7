//! Poison in front of every real consumer, and what an operator makes of it with `carillon dlq`.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use chrono::{TimeDelta, Utc};
use e2e::Platform;
use schemas::topics::{NOTIFICATION_EVENTS, TASK_EVENTS, TASK_REMINDERS, dead_letter};
use schemas::{Actor, Event, Head, Reminder, ReminderEvent, ReminderEventKind, TaskEventKind};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use support::poison::{eight, unknown_schema_id};
use support::{Database, LearningRegistry, Topics, eventually, samples};
use uuid::Uuid;

/// Every consumer, with its inbox; the audit sink needs none.
const CONSUMERS: [(&str, &str, &str); 6] = [
    ("reminder-scanner", TASK_EVENTS, "reminders.inbox"),
    ("recurrence-generator", TASK_EVENTS, "recurrence.inbox"),
    ("email-sender", TASK_REMINDERS, "delivery.inbox"),
    ("notification-inbox", TASK_REMINDERS, "notifications.inbox"),
    ("webhook-sender", TASK_EVENTS, "webhooks.inbox"),
    ("webhook-sender", TASK_REMINDERS, "webhooks.inbox"),
];

/// A task that rings tomorrow.
fn created(user_id: Uuid) -> Event {
    let task = samples::task_with_reminder(schemas::now() + TimeDelta::days(1));
    samples::event(TaskEventKind::Created, user_id, &task).into()
}

/// A reminder that rang a moment ago.
fn rang(user_id: Uuid) -> Event {
    let now = schemas::now();
    let reminder = Reminder {
        id: Uuid::now_v7(),
        fire_at: now,
        ring: 0,
        fired_at: Some(now),
        snoozed_until: None,
        reason: None,
    };
    let head = Head::new(user_id, Actor::System, now);
    ReminderEvent::new(ReminderEventKind::Fired, head, reminder, samples::task()).into()
}

/// What one topic is given: good events with poison between them, one of which the registry's learning mends, and one that a
/// constraint refuses, until somebody drops it.
struct Dose {
    topic: &'static str,
    good: Vec<Event>,
    poison: [(&'static str, Vec<u8>); 8],
    /// In the poison with the unknown schema.
    late: Event,
    refused: Event,
}

impl Dose {
    fn new(topic: &'static str, registry: &LearningRegistry, user_id: Uuid) -> Self {
        let event = |user_id| {
            if topic == TASK_EVENTS {
                created(user_id)
            } else {
                rang(user_id)
            }
        };
        let elsewhere = if topic == TASK_EVENTS {
            rang(user_id)
        } else {
            created(user_id)
        };
        let late = event(user_id);
        Self {
            topic,
            good: (0..10).map(|_| event(user_id)).collect(),
            poison: eight(registry, &late, &elsewhere),
            refused: event(user_id),
            late,
        }
    }

    async fn give(&self, topics: &Topics, registry: &LearningRegistry, user_id: Uuid) {
        topics.widen(self.topic, 8 << 20).await;
        let key = user_id.to_string();
        let refused = registry.frame(&self.refused);
        let bad: Vec<&[u8]> = self
            .poison
            .iter()
            .map(|(_, value)| value.as_slice())
            .chain([refused.as_slice()])
            .collect();
        for (n, good) in self.good.iter().enumerate() {
            topics
                .produce(self.topic, key.as_bytes(), Some(&registry.frame(good)))
                .await;
            if let Some(bad) = bad.get(n) {
                topics.produce(self.topic, key.as_bytes(), Some(bad)).await;
            }
        }
    }

    /// Its events in an inbox, which may have those of another topic, too.
    fn handled(&self, inbox: &str) -> String {
        let events = self.good.iter().chain([&self.late, &self.refused]);
        let ids: Vec<String> = events
            .map(|event| format!("'{}'", event.head().event_id))
            .collect();
        format!("{inbox} where event_id in ({})", ids.join(", "))
    }

    /// The reasons of the letters, in their order.
    fn reasons(&self) -> Vec<&'static str> {
        let poison = self.poison.iter().map(|(reason, _)| *reason);
        poison.chain(["invalid_event"]).collect()
    }
}

struct World {
    platform: Platform,
    registry: LearningRegistry,
}

impl World {
    /// Runs `carillon`, and tells its exit code and its answer.
    fn carillon(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let url = self.registry.config().url;
        let output = self.platform.carillon(
            &[("SCHEMA_REGISTRY_URL", &url)],
            &[arguments, &["--format", "json"]].concat(),
        );
        let answer = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (output.status.code(), answer)
    }

    fn answer(&self, arguments: &[&str]) -> Value {
        let (code, answer) = self.carillon(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {answer}");
        answer
    }

    async fn count(&self, sql: &str) -> usize {
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {sql}")))
            .fetch_one(self.platform.database().admin())
            .await
            .unwrap();
        usize::try_from(rows).unwrap()
    }

    async fn comes_to(&self, sql: &str, rows: usize) {
        eventually(&format!("{rows} of {sql}"), async || {
            (self.count(sql).await == rows).then_some(())
        })
        .await;
    }

    /// Waits until so many letters are open in a topic, and gives them.
    async fn open(&self, topic: &str, letters: usize) -> Vec<Value> {
        eventually(&format!("{letters} open letters in {topic}"), async || {
            let open = self.answer(&["dlq", "list", topic]).as_array().unwrap().clone();
            (open.len() == letters).then_some(open)
        })
        .await
    }
}

async fn execute(database: &Database, sql: String) {
    sqlx::query(AssertSqlSafe(sql))
        .execute(database.admin())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_consumer_is_held_up_by_poison_and_what_an_operator_gives_again_has_its_effect_once() {
    let (database, topics) = tokio::join!(Database::create(), Topics::create());
    let registry = LearningRegistry::start().await;
    let user_id = database.user("ada@poison.example").await;
    let doses = [
        Dose::new(TASK_EVENTS, &registry, user_id),
        Dose::new(TASK_REMINDERS, &registry, user_id),
    ];
    let refused: Vec<String> = doses
        .iter()
        .map(|d| format!("'{}'", d.refused.head().event_id))
        .collect();
    let inboxes = CONSUMERS.iter().map(|(_, _, inbox)| *inbox);
    let tables: BTreeSet<&str> = inboxes.chain(["audit.events"]).collect();
    for table in &tables {
        let check = format!("event_id not in ({})", refused.join(", "));
        execute(
            &database,
            format!("alter table {table} add constraint refused check ({check})"),
        )
        .await;
    }
    for dose in &doses {
        dose.give(&topics, &registry, user_id).await;
    }
    let url = registry.config().url;
    let names = [
        "reminder-scanner",
        "recurrence-generator",
        "email-sender",
        "webhook-sender",
        "notification-inbox",
        "audit-sink",
    ];
    let platform = Platform::upon(database, topics, &names, &[("SCHEMA_REGISTRY_URL", &url)]).await;
    let world = World { platform, registry };
    let of = |topic: &str| doses.iter().find(|dose| dose.topic == topic).unwrap();

    // All that is good passes, and all that is not is kept, with its reason.
    for (group, topic, inbox) in CONSUMERS {
        let dose = of(topic);
        world.comes_to(&dose.handled(inbox), dose.good.len()).await;
        let letters = world.open(&dead_letter(topic, group), 9).await;
        let reasons: Vec<&str> = letters.iter().map(|l| l["reason"].as_str().unwrap()).collect();
        assert_eq!(reasons, dose.reasons(), "{group}");
        for (letter, (reason, value)) in letters.iter().zip(&dose.poison) {
            let file = std::env::temp_dir().join(format!("carillon-{}", Uuid::now_v7()));
            let offset = letter["offset"].as_str().unwrap();
            let path = file.to_str().unwrap();
            let letters = dead_letter(topic, group);
            let shown = world.answer(&["dlq", "show", &letters, "--offset", offset, "--raw", path]);
            assert_eq!(shown["letter"]["reason"], *reason);
            assert_eq!(&std::fs::read(&file).unwrap(), value, "{group} {reason}");
            std::fs::remove_file(&file).unwrap();
            let decoded = matches!(*reason, "trailing_bytes" | "invalid_event" | "wrong_topic");
            assert_eq!(shown["value"].is_object(), decoded, "{group} {reason}");
        }
    }
    world.comes_to("reminders.tasks", 10).await;
    world.comes_to("delivery.deliveries", 10).await;
    // The audit sink keeps what cannot be read as it is, and every dead letter of the others, bytes and headers.
    world
        .comes_to("audit.events where event_type = 'undecodable'", 16)
        .await;
    world
        .comes_to("audit.events where event_type = 'dead_letter'", 54)
        .await;
    world
        .comes_to("audit.events where event_type like 'com.carillon.%'", 20)
        .await;
    let kept: Vec<(Vec<u8>, Value)> = sqlx::query_as(
        "select raw, headers from audit.events where event_type = 'dead_letter' and topic = $1 order by offset_id",
    )
    .bind(dead_letter(TASK_REMINDERS, "email-sender"))
    .fetch_all(world.platform.database().admin())
    .await
    .unwrap();
    for ((raw, headers), (reason, value)) in kept.iter().zip(&of(TASK_REMINDERS).poison) {
        assert_eq!(raw, value, "{reason}");
        assert_eq!(headers["__connect.errors.exception.class.name"], *reason);
        assert_eq!(headers["__connect.errors.topic"], TASK_REMINDERS);
    }
    let summary = world.answer(&["dlq", "list"]);
    let row = |topic: String| {
        summary
            .as_array()
            .unwrap()
            .iter()
            .find(|r| r["topic"] == topic)
            .unwrap()
            .clone()
    };
    for topic in [TASK_EVENTS, TASK_REMINDERS] {
        assert_eq!(
            row(dead_letter(topic, "audit-sink"))["reasons"],
            json!({"invalid_event": 1})
        );
    }
    assert_eq!(row(dead_letter(NOTIFICATION_EVENTS, "audit-sink"))["open"], 0);
    assert_eq!(
        row(dead_letter(TASK_REMINDERS, "email-sender"))["reasons"]["undecodable"],
        2
    );

    // Somebody mends what can be mended.
    for table in tables {
        execute(
            world.platform.database(),
            format!("alter table {table} drop constraint refused"),
        )
        .await;
    }
    for dose in &doses {
        world.registry.learn(unknown_schema_id(&dose.late), &dose.late);
        for (group, topic, inbox) in CONSUMERS.into_iter().filter(|(_, topic, _)| *topic == dose.topic) {
            let letters = dead_letter(topic, group);
            let would = world.answer(&["dlq", "replay", &letters, "--dry-run"]);
            assert_eq!(would.as_array().unwrap().len(), 9);
            let handled = dose.handled(inbox);
            assert_eq!(world.count(&handled).await, 10, "a dry run does nothing");
            let replayed = |reasons: &[&str]| {
                world.answer(&[&["dlq", "replay", &letters], reasons].concat())["replayed"].clone()
            };
            assert_eq!(replayed(&["--reason", "unknown_schema_id"]), 1);
            assert_eq!(
                replayed(&["--reason", "unknown_schema_id"]),
                0,
                "it is remembered"
            );
            assert_eq!(replayed(&["--offset", "0:8"]), 1);
            world.comes_to(&handled, 12).await;
            world.open(&letters, 7).await;
        }
        let letters = dead_letter(dose.topic, "audit-sink");
        assert_eq!(world.answer(&["dlq", "replay", &letters])["replayed"], 1);
        world.open(&letters, 0).await;
    }
    world.comes_to("reminders.tasks", 12).await;
    world.comes_to("delivery.deliveries", 12).await;
    world
        .comes_to("audit.events where event_type like 'com.carillon.task.%'", 11)
        .await;

    // The rest is beyond help: given again, it comes back, and is dropped.
    let (group, topic, inbox) = CONSUMERS[2];
    let letters = dead_letter(topic, group);
    assert_eq!(world.answer(&["dlq", "replay", &letters])["replayed"], 7);
    let again = world.open(&letters, 7).await;
    assert!(
        again.iter().all(|letter| letter["refused_again"] == true),
        "{again:?}"
    );
    let (code, _) = world.carillon(&["dlq", "drop", &letters]);
    assert_eq!(code, Some(2), "it must be meant");
    assert_eq!(
        world.answer(&["dlq", "drop", &letters, "--yes", "--because", "beyond help"])["dropped"],
        7
    );
    world.open(&letters, 0).await;
    assert_eq!(world.count(inbox).await, 12);
    let dropped = "audit.events where headers->>'carillon-dead-letter-resolution' = 'dropped' \
                   and headers->>'carillon-operator' = 'ada' and headers->>'carillon-because' = 'beyond help'";
    world.comes_to(dropped, 7).await;

    // History is run again in the same way, and has no second effect.
    let before = Utc::now();
    let (group, topic, inbox) = CONSUMERS[0];
    let given = world.answer(&["replay", "--topic", topic, "--group", group, "--from", "1h"]);
    assert_eq!(given, json!({"given": 19, "handled": true}));
    let refused = world.open(&dead_letter(topic, group), 14).await;
    let late = |letter: &Value| {
        letter["written_at"]
            .as_str()
            .unwrap()
            .parse::<chrono::DateTime<Utc>>()
            .unwrap()
            > before
    };
    assert_eq!(
        refused.into_iter().filter(late).count(),
        7,
        "what cannot be read cannot be read now"
    );
    assert_eq!(
        (world.count(inbox).await, world.count("reminders.tasks").await),
        (12, 12)
    );
    let lag = world.answer(&["lag", "--group", group, "--max-messages", "0"]);
    assert!(
        lag.as_array().unwrap().iter().all(|row| row["members"] == 1),
        "{lag}"
    );
}
