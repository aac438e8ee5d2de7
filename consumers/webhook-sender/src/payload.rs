//! What is sent of an event: `{"type", "timestamp", "data"}` (Standard Webhooks), with fields as the HTTP API spells them.
//! It names no mail address.

use chrono::{NaiveDate, SecondsFormat};
use schemas::{Event, FieldChange, Notification, Reminder, Task, TaskReminder, Timestamp};
use serde_json::{Map, Value, json};

use crate::metrics;

/// No payload is larger. The largest events hold a long description three times.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// The text that is sent.
pub fn body(event_type: &str, event: &Event) -> String {
    let body = text(event_type, event, data(event));
    if body.len() <= MAX_BODY_BYTES {
        return body;
    }
    metrics::CUT.inc();
    text(
        event_type,
        event,
        json!({"task": {"id": event.task_id()}, "truncated": true}),
    )
}

fn text(event_type: &str, event: &Event, data: Value) -> String {
    let mut data = data;
    if let Value::Object(members) = &mut data {
        members.insert("event_id".to_owned(), json!(event.head().event_id));
        members.insert("actor".to_owned(), json!(event.head().actor));
    }
    json!({"type": event_type, "timestamp": time(event.head().occurred_at), "data": data}).to_string()
}

fn data(event: &Event) -> Value {
    match event {
        Event::Task(event) => {
            let mut data = Map::from_iter([("task".to_owned(), task(&event.task))]);
            if !event.changes.is_empty() {
                data.insert("changes".to_owned(), event.changes.iter().map(change).collect());
            }
            Value::Object(data)
        }
        Event::Reminder(event) => json!({"reminder": reminder(&event.reminder), "task": task(&event.task)}),
        Event::Notification(event) => json!({"notification": notification(&event.notification)}),
    }
}

fn task(task: &Task) -> Value {
    json!({
        "id": task.id,
        "version": task.version,
        "title": task.title,
        "description": task.description,
        "priority": task.priority.as_str(),
        "tags": task.tags,
        "due_at": task.due_at.map(time),
        "due_on": task.due_on.map(day),
        "timezone": task.timezone,
        "floating": task.floating,
        "reminders": task.reminders.iter().map(task_reminder).collect::<Vec<_>>(),
        "depends_on": task.depends_on,
        "recurrence": task.recurrence,
        "series_id": task.series_id,
        "occurrence": task.occurrence.map(time),
        "status": if task.completed_at.is_some() { "completed" } else { "open" },
        "created_at": time(task.created_at),
        "updated_at": time(task.updated_at),
        "completed_at": task.completed_at.map(time),
        "deleted_at": task.deleted_at.map(time),
    })
}

fn task_reminder(reminder: &TaskReminder) -> Value {
    json!({
        "id": reminder.id,
        "offset": reminder.offset,
        "at": reminder.at.map(time),
        "nag": reminder.nag,
        "send_late_within": reminder.send_late_within,
        "snoozed_until": reminder.snoozed_until.map(time),
        "dismissed_at": reminder.dismissed_at.map(time),
    })
}

fn reminder(reminder: &Reminder) -> Value {
    json!({
        "id": reminder.id,
        "fire_at": time(reminder.fire_at),
        "ring": reminder.ring,
        "fired_at": reminder.fired_at.map(time),
        "snoozed_until": reminder.snoozed_until.map(time),
        "reason": reminder.reason,
    })
}

/// Without the Message-ID, which is for mail servers.
fn notification(notification: &Notification) -> Value {
    json!({
        "id": notification.id,
        "reminder_id": notification.reminder_id,
        "task_id": notification.task_id,
        "channel": notification.channel,
        "fire_at": time(notification.fire_at),
        "attempts": notification.attempts,
        "sent_at": notification.sent_at.map(time),
        "reason": notification.reason,
    })
}

/// The values are JSON texts.
fn change(change: &FieldChange) -> Value {
    let value = |text: &Option<String>| {
        text.as_ref().map_or(Value::Null, |text| {
            serde_json::from_str(text).unwrap_or_else(|_| json!(text))
        })
    };
    json!({"field": change.field, "old": value(&change.old), "new": value(&change.new)})
}

fn time(at: Timestamp) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn day(day: NaiveDate) -> String {
    day.to_string()
}

#[cfg(test)]
mod tests {
    use schemas::{Actor, TaskEvent, TaskEventKind, now};
    use support::samples;

    use super::*;

    fn event(task: Task) -> Event {
        TaskEvent::new(TaskEventKind::Updated, uuid::Uuid::now_v7(), Actor::User, task).into()
    }

    #[test]
    fn a_payload_has_a_type_the_time_of_the_event_and_fields_as_the_api_spells_them() {
        let due = now();
        let event = event(Task {
            due_at: Some(due),
            ..samples::task()
        });
        let body: Value = serde_json::from_str(&body("task.updated", &event)).unwrap();
        let names: Vec<&String> = body.as_object().unwrap().keys().collect();
        assert_eq!(names, ["data", "timestamp", "type"]);
        assert_eq!(body["type"], "task.updated");
        assert_eq!(body["timestamp"], time(event.head().occurred_at));
        assert_eq!(body["data"]["task"]["due_at"], time(due));
        assert_eq!(body["data"]["task"]["id"], json!(event.task_id()));
        assert_eq!(body["data"]["actor"], "user");
    }

    #[test]
    fn what_is_too_large_tells_only_what_it_is_about() {
        let event = event(Task {
            // Three bytes a character, and every one written in six.
            description: Some("\u{1}".repeat(MAX_BODY_BYTES / 5)),
            ..samples::task()
        });
        let body = body("task.updated", &event);
        assert!(body.len() < 1000);
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["data"]["truncated"], true);
        assert_eq!(body["data"]["task"]["id"], json!(event.task_id()));
    }
}
