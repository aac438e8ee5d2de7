//! One event as the history shows it.

use chrono::{DateTime, Utc};
use schemas::{FieldChange, Notification, Reminder, Task, short_type};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::Row;
use sqlx::postgres::PgRow;
use utoipa::ToSchema;
use uuid::Uuid;

use super::query::Position;
use crate::tasks::view::{self, TaskView};

/// An event: who changed what from which to which.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HistoryEntry)]
pub struct Entry {
    id: Uuid,
    #[schema(example = "task.updated")]
    r#type: String,
    #[serde(serialize_with = "view::timestamp")]
    occurred_at: DateTime<Utc>,
    /// `user`, `assistant`, `recurrence` or `system`.
    #[schema(example = "user")]
    actor: String,
    #[schema(required)]
    task_id: Option<Uuid>,
    /// The task's version after it, or, of what happens to a reminder, when that was armed.
    #[schema(required)]
    task_version: Option<i64>,
    changes: Vec<ChangeView>,
    /// Of events about a reminder.
    #[schema(required)]
    reminder: Option<ReminderView>,
    /// Of events about a notification.
    #[schema(required)]
    notification: Option<NotificationView>,
}

/// One field that changed, with its values as the API shows them.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = HistoryChange)]
struct ChangeView {
    #[schema(example = "title")]
    field: String,
    old: Value,
    new: Value,
}

/// What an event of a reminder says about it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HistoryReminder)]
struct ReminderView {
    id: Uuid,
    #[serde(serialize_with = "view::timestamp")]
    fire_at: DateTime<Utc>,
    /// Which ring that is: 0 the first, k the k-th repetition.
    ring: i32,
    #[schema(required)]
    #[serde(serialize_with = "view::optional_timestamp")]
    fired_at: Option<DateTime<Utc>>,
    #[schema(required)]
    #[serde(serialize_with = "view::optional_timestamp")]
    snoozed_until: Option<DateTime<Utc>>,
    /// Why it was cancelled.
    #[schema(required)]
    reason: Option<String>,
}

/// What an event of a notification says about it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HistoryNotification)]
struct NotificationView {
    id: Uuid,
    reminder_id: Uuid,
    #[schema(example = "email")]
    channel: String,
    /// How often sending was tried.
    attempts: i32,
    #[schema(required)]
    #[serde(serialize_with = "view::optional_timestamp")]
    sent_at: Option<DateTime<Utc>>,
    /// Why it was not sent.
    #[schema(required)]
    reason: Option<String>,
}

impl Entry {
    /// Reads a row of `audit.events`. What this build does not understand of its content is left out: a newer one may
    /// have written it.
    ///
    /// # Errors
    /// When the row lacks a column.
    pub fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let event_type: &str = row.try_get("event_type")?;
        let r#type = short_type(event_type).to_owned();
        let completed: Option<bool> = row.try_get("completed")?;
        let changes = match r#type.as_str() {
            "task.created" => {
                content::<Task>(row, "created")?.map_or_else(Vec::new, |task| first_values(&task))
            }
            "task.updated" => content::<Vec<FieldChange>>(row, "changes")?
                .unwrap_or_default()
                .into_iter()
                .map(ChangeView::from)
                .collect(),
            // The others change nothing but where the task is in its life.
            other => status_change(other, completed.unwrap_or_default())
                .into_iter()
                .collect(),
        };
        Ok(Self {
            id: row.try_get("event_id")?,
            r#type,
            occurred_at: row.try_get("occurred_at")?,
            actor: row.try_get("actor")?,
            task_id: row.try_get("task_id")?,
            task_version: row.try_get("task_version")?,
            changes,
            reminder: content::<Reminder>(row, "reminder")?.map(ReminderView::from),
            notification: content::<Notification>(row, "notification")?.map(NotificationView::from),
        })
    }

    /// The place of this event in the history.
    pub fn position(&self) -> Position {
        Position {
            occurred_at: self.occurred_at,
            event_id: self.id,
        }
    }
}

fn content<T: DeserializeOwned>(row: &PgRow, column: &str) -> Result<Option<T>, sqlx::Error> {
    let value: Option<Value> = row.try_get(column)?;
    Ok(value.and_then(|value| serde_json::from_value(value).ok()))
}

/// What a new task was made with: every field that a person sets and that is not empty.
fn first_values(task: &Task) -> Vec<ChangeView> {
    let Ok(Value::Object(members)) = serde_json::to_value(TaskView::new(task, &[])) else {
        return Vec::new();
    };
    let own = [
        "id",
        "version",
        "status",
        "created_at",
        "updated_at",
        "whole_day_time",
    ];
    members
        .into_iter()
        .filter(|(field, new)| {
            let empty = [Value::Null, Value::Bool(false), Value::Array(Vec::new())];
            !own.contains(&field.as_str()) && !empty.contains(new)
        })
        .map(|(field, new)| ChangeView {
            field,
            old: Value::Null,
            new,
        })
        .collect()
}

fn status_change(r#type: &str, completed: bool) -> Option<ChangeView> {
    let standing = if completed { "completed" } else { "open" };
    let (old, new) = match r#type {
        "task.completed" => ("open", "completed"),
        "task.reopened" => ("completed", "open"),
        "task.deleted" => (standing, "deleted"),
        "task.restored" => ("deleted", standing),
        _ => return None,
    };
    Some(ChangeView {
        field: "status".to_owned(),
        old: old.into(),
        new: new.into(),
    })
}

impl From<FieldChange> for ChangeView {
    fn from(change: FieldChange) -> Self {
        // JSON texts, as the API writes them.
        let value = |text: Option<String>| {
            text.map_or(Value::Null, |text| {
                serde_json::from_str(&text).unwrap_or(Value::String(text))
            })
        };
        Self {
            field: change.field,
            old: value(change.old),
            new: value(change.new),
        }
    }
}

impl From<Reminder> for ReminderView {
    fn from(reminder: Reminder) -> Self {
        Self {
            id: reminder.id,
            fire_at: reminder.fire_at,
            ring: reminder.ring,
            fired_at: reminder.fired_at,
            snoozed_until: reminder.snoozed_until,
            reason: reminder.reason,
        }
    }
}

impl From<Notification> for NotificationView {
    fn from(notification: Notification) -> Self {
        Self {
            id: notification.id,
            reminder_id: notification.reminder_id,
            channel: notification.channel,
            attempts: notification.attempts,
            sent_at: notification.sent_at,
            reason: notification.reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_json_again_and_what_is_none_stays_a_text() {
        let change = |old: Option<&str>, new: Option<&str>| {
            ChangeView::from(FieldChange {
                field: "tags".to_owned(),
                old: old.map(ToOwned::to_owned),
                new: new.map(ToOwned::to_owned),
            })
        };
        let view = change(Some("null"), Some("[\"home\"]"));
        assert_eq!((view.old, view.new), (Value::Null, json!(["home"])));
        let view = change(None, Some("{not JSON"));
        assert_eq!((view.old, view.new), (Value::Null, json!("{not JSON")));
    }

    #[test]
    fn where_a_task_is_in_its_life_is_one_field() {
        for (r#type, completed, expected) in [
            ("task.completed", true, Some(("open", "completed"))),
            ("task.reopened", false, Some(("completed", "open"))),
            ("task.deleted", true, Some(("completed", "deleted"))),
            ("task.deleted", false, Some(("open", "deleted"))),
            ("task.restored", true, Some(("deleted", "completed"))),
            ("reminder.fired", false, None),
        ] {
            let change = status_change(r#type, completed).map(|change| (change.old, change.new));
            assert_eq!(
                change,
                expected.map(|(old, new)| (json!(old), json!(new))),
                "{type}"
            );
        }
    }
}
