//! Events: what their rows hold, and that each has one.

use std::collections::BTreeMap;

use kafka::Processor;
use schemas::{
    Actor, Event, FieldChange, Head, Notification, NotificationEvent, NotificationEventKind, Reminder,
    ReminderEvent, ReminderEventKind, TaskEventKind, now,
};
use serde_json::Value;
use sqlx::Row;
use support::{Database, Topics, samples};
use uuid::Uuid;

use crate::{records, rows, sink};

/// One event of each kind.
pub(crate) fn every_kind(user_id: Uuid) -> Vec<Event> {
    let task = samples::task_with_reminder(now());
    let mut events: Vec<Event> = TaskEventKind::ALL
        .into_iter()
        .map(|kind| {
            let mut event = samples::event(kind, user_id, &task);
            if kind == TaskEventKind::Updated {
                event.changes = vec![FieldChange {
                    field: "title".to_owned(),
                    old: Some("\"Water\"".to_owned()),
                    new: Some("\"Water the plants\"".to_owned()),
                }];
            }
            event.into()
        })
        .collect();
    let head = || Head::new(user_id, Actor::System, now());
    events.extend(ReminderEventKind::ALL.map(|kind| {
        let reminder = Reminder {
            id: Uuid::now_v7(),
            fire_at: now(),
            ring: 0,
            fired_at: (kind == ReminderEventKind::Fired).then(now),
            snoozed_until: None,
            reason: None,
        };
        Event::from(ReminderEvent::new(kind, head(), reminder, task.clone()))
    }));
    events.extend(NotificationEventKind::ALL.map(|kind| {
        let notification = Notification {
            id: Uuid::now_v7(),
            reminder_id: Uuid::now_v7(),
            task_id: task.id,
            channel: "email".to_owned(),
            fire_at: now(),
            attempts: 1,
            message_id: Some("<1@example.com>".to_owned()),
            sent_at: (kind == NotificationEventKind::Sent).then(now),
            reason: None,
        };
        Event::from(NotificationEvent::new(kind, head(), notification))
    }));
    events
}

/// The event as the column `payload` is meant to hold it.
pub(crate) fn payload(event: &Event) -> Value {
    match event {
        Event::Task(event) => serde_json::to_value(event),
        Event::Reminder(event) => serde_json::to_value(event),
        Event::Notification(event) => serde_json::to_value(event),
    }
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_event_has_its_row_and_a_second_delivery_adds_none() {
    let (database, topics) = tokio::join!(Database::create(), Topics::create());
    let user_id = Uuid::now_v7();
    let events = every_kind(user_id);
    assert_eq!(events.len(), schemas::all_schemas().len());
    topics.publish(&events).await;
    let batch = records(&topics, events.len()).await;

    let mut sink = sink(&database, &topics.registry());
    assert_eq!(sink.process(&batch).await.unwrap(), []);
    let first = rows(&database).await;
    // Again whole, in pieces, and twice in one batch.
    sink.process(&batch).await.unwrap();
    for record in &batch {
        sink.process(std::slice::from_ref(record)).await.unwrap();
    }
    sink.process(&[batch.clone(), batch].concat()).await.unwrap();
    let rows = rows(&database).await;
    assert_eq!(rows.len(), first.len());
    assert_eq!(rows.len(), events.len());

    let by_id: BTreeMap<Uuid, _> = rows.iter().map(|row| (row.get("event_id"), row)).collect();
    for (event, schema) in events.iter().zip(schemas::all_schemas()) {
        let head = event.head();
        let row = by_id.get(&head.event_id).expect("the event has a row");
        assert_eq!(row.get::<&str, _>("event_type"), schema.event_type);
        assert_eq!(row.get::<&str, _>("topic"), schema.topic);
        assert_eq!(row.get::<schemas::Timestamp, _>("occurred_at"), head.occurred_at);
        assert_eq!(row.get::<Option<Uuid>, _>("user_id"), Some(user_id));
        assert_eq!(row.get::<Option<Uuid>, _>("task_id"), Some(event.task_id()));
        let actor = serde_json::to_value(head.actor).unwrap();
        assert_eq!(row.get::<Option<&str>, _>("actor"), actor.as_str());
        assert_eq!(row.get::<Option<Value>, _>("payload"), Some(payload(event)));
        assert_eq!(row.get::<Option<Vec<u8>>, _>("raw"), None);
        assert_eq!(row.get::<&str, _>("part"), "audit.events_default");
    }
    // `publish` sets no headers; an empty object then, never null.
    assert_eq!(rows[0].get::<Value, _>("headers"), serde_json::json!({}));
    let metrics = service::metrics::render();
    let line = "events_persisted_total{event_type=\"com.carillon.notification.suppressed.v1\"}";
    assert!(metrics.contains(line), "{line} is not in:\n{metrics}");
    // Each under its own topic, whatever else is in the batch.
    for topic in ["task-events", "task-reminders", "notification-events"] {
        for outcome in ["handled", "duplicate"] {
            let line = format!(
                "kafka_consumer_events_total{{group=\"audit-sink\",outcome=\"{outcome}\",topic=\"{topic}\"}}"
            );
            assert!(metrics.contains(&line), "{line} is not in:\n{metrics}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_jsonb_cannot_hold_is_kept_raw_and_takes_no_other_with_it() {
    let (database, topics) = tokio::join!(Database::create(), Topics::create());
    let user_id = Uuid::now_v7();
    let titles = ["before", "with \0 in it", "spelled \\u0000 only", "after"];
    let events: Vec<Event> = titles
        .into_iter()
        .map(|title| {
            let task = schemas::Task {
                title: title.to_owned(),
                ..samples::task()
            };
            samples::event(TaskEventKind::Created, user_id, &task).into()
        })
        .collect();
    topics.publish(&events).await;
    let batch = records(&topics, events.len()).await;
    let rejections = sink(&database, &topics.registry()).process(&batch).await.unwrap();
    assert_eq!(rejections, []);

    let rows = rows(&database).await;
    assert_eq!(rows.len(), titles.len());
    for (row, event) in rows.iter().zip(&events) {
        assert_eq!(row.get::<Uuid, _>("event_id"), event.head().event_id);
        assert_eq!(row.get::<&str, _>("event_type"), "com.carillon.task.created.v1");
        assert_eq!(row.get::<Option<Uuid>, _>("user_id"), Some(user_id));
    }
    let kept: Vec<_> = rows
        .iter()
        .map(|row| row.get::<Option<Value>, _>("payload"))
        .collect();
    assert_eq!(kept[0], Some(payload(&events[0])));
    assert_eq!(kept[1], None);
    assert_eq!(kept[2], Some(payload(&events[2])));
    assert_eq!(kept[3], Some(payload(&events[3])));
    assert_eq!(rows[1].get::<Option<Vec<u8>>, _>("raw"), batch[1].value);
    let why: Value = rows[1].get("headers");
    let why = why["__connect.errors.exception.message"].as_str().unwrap();
    assert!(why.contains("U+0000"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_the_database_refuses_is_rejected_alone() {
    let (database, topics) = tokio::join!(Database::create(), Topics::create());
    let user_id = Uuid::now_v7();
    let events = every_kind(user_id);
    topics.publish(&events).await;
    let batch = records(&topics, events.len()).await;
    sqlx::query("alter table audit.events add constraint refused check (event_type not like '%.snoozed.%')")
        .execute(database.admin())
        .await
        .unwrap();
    let rejections = sink(&database, &topics.registry()).process(&batch).await.unwrap();
    assert_eq!(rejections.len(), 1);
    let snoozed = events
        .iter()
        .find(|event| event.record_name() == "ReminderSnoozed")
        .unwrap();
    let rejected = &batch[rejections[0].index];
    let (_, body) = schemas::unframe(rejected.value.as_deref()).unwrap();
    assert_eq!(body, snoozed.encode("test").unwrap().body);
    assert_eq!(rows(&database).await.len(), events.len() - 1);
}
