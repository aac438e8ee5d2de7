//! A task as the API shows it.

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use schemas::{Nag, Task, TaskReminder, Timestamp};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;
use uuid::Uuid;

/// A task.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Task)]
pub struct TaskView<'a> {
    id: Uuid,
    /// Grows by one with every change; the ETag is this number in quotes.
    #[schema(minimum = 1)]
    version: i64,
    title: &'a str,
    /// Markdown.
    #[schema(required)]
    description: Option<&'a str>,
    #[schema(value_type = PriorityName)]
    priority: &'static str,
    tags: &'a [String],
    /// At most one of `due_at` and `due_on` is set.
    #[schema(required)]
    #[serde(serialize_with = "optional_timestamp")]
    due_at: Option<DateTime<Utc>>,
    /// The whole day on which it is due.
    #[schema(required)]
    due_on: Option<NaiveDate>,
    /// IANA zone in which `due_on`, offsets and the recurrence are meant.
    #[schema(example = "Europe/Berlin")]
    timezone: &'a str,
    /// Whether `due_at` is a time on the wall that follows the person to another zone. A whole day always does.
    floating: bool,
    /// On a whole day: the time of that day from which offsets of reminders count.
    #[schema(required, example = "09:00")]
    whole_day_time: Option<String>,
    reminders: Vec<ReminderView<'a>>,
    /// Tasks that are to be done before this one.
    depends_on: &'a [Uuid],
    /// Those of them that are still to be done.
    blocked_by: Vec<Uuid>,
    /// RRULE (RFC 5545) of the series that the task is an occurrence of.
    #[schema(required, example = "FREQ=WEEKLY;BYDAY=MO")]
    recurrence: Option<&'a str>,
    #[schema(required)]
    series_id: Option<Uuid>,
    /// Its place in the series: when it was due before anybody moved it.
    #[schema(required)]
    #[serde(serialize_with = "optional_timestamp")]
    occurrence: Option<DateTime<Utc>>,
    #[schema(value_type = Status)]
    status: &'static str,
    #[serde(serialize_with = "timestamp")]
    created_at: DateTime<Utc>,
    #[serde(serialize_with = "timestamp")]
    updated_at: DateTime<Utc>,
    #[schema(required)]
    #[serde(serialize_with = "optional_timestamp")]
    completed_at: Option<DateTime<Utc>>,
    #[schema(required)]
    #[serde(serialize_with = "optional_timestamp")]
    deleted_at: Option<DateTime<Utc>>,
}

/// How urgent a task is.
#[derive(ToSchema)]
#[schema(as = Priority, rename_all = "lowercase")]
#[expect(dead_code, reason = "a description of names that are written elsewhere")]
pub enum PriorityName {
    Low,
    Medium,
    High,
    Urgent,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "a description of names that are written elsewhere")]
enum Status {
    Open,
    Completed,
}

/// When to remind: `offset` from the due time, or `at` an instant.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Reminder)]
pub struct ReminderView<'a> {
    id: Uuid,
    /// ISO 8601 duration; on a whole day it counts from `whole_day_time`.
    #[schema(example = "-PT10M")]
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<&'a str>,
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "optional_timestamp"
    )]
    at: Option<DateTime<Utc>>,
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    nag: Option<NagView<'a>>,
    /// How late it may still ring, as an ISO 8601 duration; absent where the account's setting counts.
    #[schema(nullable = false, example = "PT2H")]
    #[serde(skip_serializing_if = "Option::is_none")]
    send_late_within: Option<&'a str>,
    /// When it rings instead of its own time; absent where it was not put off.
    #[schema(nullable = false)]
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "optional_timestamp"
    )]
    snoozed_until: Option<DateTime<Utc>>,
    /// Since when no ring of it is wanted; absent where it was not dismissed.
    #[schema(nullable = false)]
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "optional_timestamp"
    )]
    dismissed_at: Option<DateTime<Utc>>,
}

/// How a reminder repeats until its task is done.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Nag)]
pub struct NagView<'a> {
    /// ISO 8601 duration from one ring to the next.
    #[schema(example = "PT10M")]
    every: &'a str,
    /// How often it repeats at most, after the first ring.
    #[schema(minimum = 1, maximum = 100)]
    times: i32,
}

impl<'a> From<&'a Nag> for NagView<'a> {
    fn from(nag: &'a Nag) -> Self {
        Self {
            every: &nag.every,
            times: nag.times,
        }
    }
}

/// A minute of the day as clocks show it, such as `09:00`.
pub fn time_of_day(minute: i32) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

impl<'a> TaskView<'a> {
    /// Shows a task. `open` holds those of the tasks that it depends on that are still to be done, and may hold others.
    pub fn new(task: &'a Task, open: &[Uuid]) -> Self {
        let blocks = |id: &&Uuid| open.contains(id);
        Self {
            id: task.id,
            version: task.version,
            title: &task.title,
            description: task.description.as_deref(),
            priority: task.priority.as_str(),
            tags: &task.tags,
            due_at: task.due_at,
            due_on: task.due_on,
            timezone: &task.timezone,
            floating: task.floating,
            whole_day_time: task.due_on.map(|_| time_of_day(task.whole_day_minute)),
            reminders: task.reminders.iter().map(ReminderView::from).collect(),
            depends_on: &task.depends_on,
            blocked_by: task.depends_on.iter().filter(blocks).copied().collect(),
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
            deleted_at: task.deleted_at,
        }
    }
}

impl<'a> From<&'a TaskReminder> for ReminderView<'a> {
    fn from(reminder: &'a TaskReminder) -> Self {
        Self {
            id: reminder.id,
            offset: reminder.offset.as_deref(),
            at: reminder.at,
            nag: reminder.nag.as_ref().map(NagView::from),
            send_late_within: reminder.send_late_within.as_deref(),
            snoozed_until: reminder.snoozed_until,
            dismissed_at: reminder.dismissed_at,
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

/// The same, or null.
///
/// # Errors
/// Those of the serializer.
pub fn optional_timestamp<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => timestamp(at, serializer),
        None => serializer.serialize_none(),
    }
}
