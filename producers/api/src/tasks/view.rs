//! A task as the API shows it.

use chrono::SecondsFormat;
use schemas::{Task, TaskReminder, Timestamp};
use serde::{Serialize, Serializer};
use uuid::Uuid;

/// The JSON of a task.
#[derive(Debug, Serialize)]
pub struct TaskView<'a> {
    id: Uuid,
    version: i64,
    title: &'a str,
    description: Option<&'a str>,
    priority: &'static str,
    tags: &'a [String],
    #[serde(serialize_with = "optional_timestamp")]
    due_at: Option<Timestamp>,
    timezone: &'a str,
    reminders: Vec<ReminderView<'a>>,
    recurrence: Option<&'a str>,
    series_id: Option<Uuid>,
    #[serde(serialize_with = "optional_timestamp")]
    occurrence: Option<Timestamp>,
    status: &'static str,
    #[serde(serialize_with = "timestamp")]
    created_at: Timestamp,
    #[serde(serialize_with = "timestamp")]
    updated_at: Timestamp,
    #[serde(serialize_with = "optional_timestamp")]
    completed_at: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
struct ReminderView<'a> {
    id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<&'a str>,
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "optional_timestamp"
    )]
    at: Option<Timestamp>,
}

impl<'a> From<&'a Task> for TaskView<'a> {
    fn from(task: &'a Task) -> Self {
        Self {
            id: task.id,
            version: task.version,
            title: &task.title,
            description: task.description.as_deref(),
            priority: task.priority.as_str(),
            tags: &task.tags,
            due_at: task.due_at,
            timezone: &task.timezone,
            reminders: task.reminders.iter().map(ReminderView::from).collect(),
            recurrence: task.recurrence.as_deref(),
            series_id: task.series_id,
            occurrence: task.occurrence,
            status: if task.completed_at.is_some() {
                "completed"
            } else {
                "open"
            },
            created_at: task.created_at,
            updated_at: task.updated_at,
            completed_at: task.completed_at,
        }
    }
}

impl<'a> From<&'a TaskReminder> for ReminderView<'a> {
    fn from(reminder: &'a TaskReminder) -> Self {
        Self {
            id: reminder.id,
            offset: reminder.offset.as_deref(),
            at: reminder.at,
        }
    }
}

/// RFC 3339 in UTC with microseconds: one instant has one text, and texts sort like instants.
///
/// # Errors
/// Those of the serializer.
pub fn timestamp<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&at.to_rfc3339_opts(SecondsFormat::Micros, true))
}

fn optional_timestamp<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => timestamp(at, serializer),
        None => serializer.serialize_none(),
    }
}
