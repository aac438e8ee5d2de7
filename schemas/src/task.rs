//! Task events: the whole task after each change.

use chrono::NaiveDate;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use crate::event::require;
use crate::{Actor, Event, Head, InvariantError, Timestamp};

/// How urgent a task is, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Can wait.
    Low,
    /// The default.
    #[default]
    Medium,
    /// Before the others.
    High,
    /// Now.
    Urgent,
}

impl Priority {
    /// The name on the wire, in the API and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Urgent => "urgent",
        }
    }

    /// The priority of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Low, Self::Medium, Self::High, Self::Urgent]
            .into_iter()
            .find(|p| p.as_str() == name)
    }
}

/// How a reminder repeats until its task is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nag {
    /// ISO 8601 duration from one ring to the next, such as `PT10M`.
    pub every: String,
    /// How often it repeats at most, after the first ring.
    pub times: i32,
}

/// A reminder as the person asked for it: exactly one of `offset` and `at` is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReminder {
    /// Stable while the task lives.
    pub id: Uuid,
    /// Signed ISO 8601 duration relative to the task's due time, such as `-PT10M`.
    #[serde(default)]
    pub offset: Option<String>,
    /// Absolute instant.
    #[serde(default, with = "chrono::serde::ts_microseconds_option")]
    pub at: Option<Timestamp>,
    /// How it repeats until the task is done.
    #[serde(default)]
    pub nag: Option<Nag>,
    /// ISO 8601 duration: how late it may still ring when it could not on time; `PT0S` drops it. `None` leaves it to the
    /// person's setting.
    #[serde(default)]
    pub send_late_within: Option<String>,
    /// When it rings instead, put off by the person.
    #[serde(default, with = "chrono::serde::ts_microseconds_option")]
    pub snoozed_until: Option<Timestamp>,
    /// Since when the person wants no ring of it.
    #[serde(default, with = "chrono::serde::ts_microseconds_option")]
    pub dismissed_at: Option<Timestamp>,
}

impl TaskReminder {
    /// A new one that rings so far from the task's due time, as an ISO 8601 duration.
    #[must_use]
    pub fn relative(offset: String) -> Self {
        Self::new(Some(offset), None)
    }

    /// A new one that rings at an instant.
    #[must_use]
    pub fn absolute(at: Timestamp) -> Self {
        Self::new(None, Some(at))
    }

    fn new(offset: Option<String>, at: Option<Timestamp>) -> Self {
        Self {
            id: Uuid::now_v7(),
            offset,
            at,
            nag: None,
            send_late_within: None,
            snoozed_until: None,
            dismissed_at: None,
        }
    }
}

/// The minute of a whole day from which offsets of reminders count, unless the person has chosen another: nine o'clock.
pub const WHOLE_DAY_MINUTE: i32 = 9 * 60;

fn whole_day_minute() -> i32 {
    WHOLE_DAY_MINUTE
}

/// A task as it stands after a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Identity of the task.
    pub id: Uuid,
    /// Grows by one with every change, taken under the task's row lock.
    pub version: i64,
    /// 1 to 500 characters.
    pub title: String,
    /// Up to 10,000 characters, Markdown kept as is.
    #[serde(default)]
    pub description: Option<String>,
    /// How urgent it is.
    pub priority: Priority,
    /// At most 20, in the person's order.
    pub tags: Vec<String>,
    /// When it is due. At most one of `due_at` and `due_on` is set.
    #[serde(default, with = "chrono::serde::ts_microseconds_option")]
    pub due_at: Option<Timestamp>,
    /// The whole day on which it is due, in its zone.
    #[serde(default, with = "days")]
    pub due_on: Option<NaiveDate>,
    /// IANA zone in which the due time, offsets and the recurrence are meant.
    pub timezone: String,
    /// Whether `due_at` is a time on the wall that follows the person: kept when their zone changes. A whole day always
    /// follows.
    #[serde(default)]
    pub floating: bool,
    /// Of a task due on a whole day: the minute of that day from which offsets of reminders count.
    #[serde(default = "whole_day_minute")]
    pub whole_day_minute: i32,
    /// At most 20.
    pub reminders: Vec<TaskReminder>,
    /// Tasks of the same person that are to be done before this one, at most 20.
    #[serde(default)]
    pub depends_on: Vec<Uuid>,
    /// The recurring series that it is an instance of.
    #[serde(default)]
    pub series_id: Option<Uuid>,
    /// Which occurrence of the series it is: its original due time (RFC 5545 RECURRENCE-ID).
    #[serde(default, with = "chrono::serde::ts_microseconds_option")]
    pub occurrence: Option<Timestamp>,
    /// The series' RRULE (RFC 5545 section 3.3.10) at the time of the change.
    #[serde(default)]
    pub recurrence: Option<String>,
    /// When it was created.
    #[serde(with = "chrono::serde::ts_microseconds")]
    pub created_at: Timestamp,
    /// When it last changed.
    #[serde(with = "chrono::serde::ts_microseconds")]
    pub updated_at: Timestamp,
    /// When it was completed, `None` while it is open.
    #[serde(default, with = "chrono::serde::ts_microseconds_option")]
    pub completed_at: Option<Timestamp>,
    /// When it was deleted, `None` while it exists.
    #[serde(default, with = "chrono::serde::ts_microseconds_option")]
    pub deleted_at: Option<Timestamp>,
}

impl Task {
    /// Neither completed nor deleted: its reminders may ring.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.completed_at.is_none() && self.deleted_at.is_none()
    }

    pub(crate) fn check(&self) -> Result<(), InvariantError> {
        require(!self.id.is_nil(), "task.id", "is nil")?;
        require(self.version >= 1, "task.version", "is below 1")?;
        require(!self.title.is_empty(), "task.title", "is empty")?;
        require(
            self.due_at.is_none() || self.due_on.is_none(),
            "task.due_on",
            "stands beside due_at",
        )?;
        require(
            (0..24 * 60).contains(&self.whole_day_minute),
            "task.whole_day_minute",
            "is no minute of a day",
        )?;
        require(self.reminders.len() <= 20, "task.reminders", "holds more than 20")?;
        require(
            self.depends_on.len() <= 20,
            "task.depends_on",
            "holds more than 20",
        )?;
        require(
            self.reminders
                .iter()
                .all(|r| r.offset.is_some() != r.at.is_some()),
            "task.reminders",
            "holds one without exactly one of offset and at",
        )?;
        require(
            self.series_id.is_some() == self.occurrence.is_some(),
            "task.occurrence",
            "goes with series_id, and only with it",
        )
    }
}

/// A date as Avro has it: days since 1970-01-01.
mod days {
    use chrono::NaiveDate;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(date: &Option<NaiveDate>, serializer: S) -> Result<S::Ok, S::Error> {
        date.map(|date| date.to_epoch_days()).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NaiveDate>, D::Error> {
        let days = Option::<i32>::deserialize(deserializer)?;
        days.map(|days| {
            NaiveDate::from_epoch_days(days).ok_or_else(|| D::Error::custom("a date outside of the calendar"))
        })
        .transpose()
    }
}

/// One field that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// The field as the HTTP API spells it.
    pub field: String,
    /// JSON text of the value before.
    #[serde(default)]
    pub old: Option<String>,
    /// JSON text of the value after.
    #[serde(default)]
    pub new: Option<String>,
}

/// What happened to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TaskEventKind {
    /// It came to be.
    #[default]
    Created,
    /// Fields of it changed.
    Updated,
    /// It was completed.
    Completed,
    /// It was opened again.
    Reopened,
    /// It was deleted.
    Deleted,
    /// It was restored from deletion.
    Restored,
}

impl TaskEventKind {
    /// Every kind, in the order of the topics table in the README.
    pub const ALL: [Self; 6] = [
        Self::Created,
        Self::Updated,
        Self::Completed,
        Self::Reopened,
        Self::Deleted,
        Self::Restored,
    ];

    /// The name of the Avro record.
    #[must_use]
    pub fn record_name(self) -> &'static str {
        match self {
            Self::Created => "TaskCreated",
            Self::Updated => "TaskUpdated",
            Self::Completed => "TaskCompleted",
            Self::Reopened => "TaskReopened",
            Self::Deleted => "TaskDeleted",
            Self::Restored => "TaskRestored",
        }
    }
}

/// Something happened to a task. One Rust type for the six records: they differ in name, and in `changes`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TaskEvent {
    /// What happened; on the wire it is the name of the record.
    #[serde(skip)]
    pub kind: TaskEventKind,
    /// See [`Head`].
    pub event_id: Uuid,
    /// See [`Head`].
    #[serde(with = "chrono::serde::ts_microseconds")]
    pub occurred_at: Timestamp,
    /// See [`Head`].
    pub user_id: Uuid,
    /// See [`Head`].
    pub actor: Actor,
    /// The whole task after the change.
    pub task: Task,
    /// What changed; always empty in records other than `TaskUpdated`, whose schema alone has the field.
    #[serde(default)]
    pub changes: Vec<FieldChange>,
}

impl TaskEvent {
    /// A new event of that kind, happening when the task was last updated.
    #[must_use]
    pub fn new(kind: TaskEventKind, user_id: Uuid, actor: Actor, task: Task) -> Self {
        let Head {
            event_id,
            occurred_at,
            user_id,
            actor,
        } = Head::new(user_id, actor, task.updated_at);
        Self {
            kind,
            event_id,
            occurred_at,
            user_id,
            actor,
            task,
            changes: Vec::new(),
        }
    }
}

/// By hand, since only one of the records has `changes`, and a derived "skip" asks the schema for the skipped field.
impl Serialize for TaskEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let updated = self.kind == TaskEventKind::Updated;
        let mut record = serializer.serialize_struct(self.kind.record_name(), 5 + usize::from(updated))?;
        record.serialize_field("event_id", &self.event_id)?;
        record.serialize_field("occurred_at", &self.occurred_at.timestamp_micros())?;
        record.serialize_field("user_id", &self.user_id)?;
        record.serialize_field("actor", &self.actor)?;
        record.serialize_field("task", &self.task)?;
        if updated {
            record.serialize_field("changes", &self.changes)?;
        }
        record.end()
    }
}

impl From<TaskEvent> for Event {
    fn from(event: TaskEvent) -> Self {
        Self::Task(event)
    }
}
