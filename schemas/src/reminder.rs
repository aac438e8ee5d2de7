//! Reminder events: the whole reminder after each change, with its task as it was then.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::event::require;
use crate::{Actor, Event, Head, InvariantError, Task, Timestamp};

/// A reminder as the scanner holds it. `id` with `fire_at` names one firing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reminder {
    /// The one in `Task::reminders`.
    pub id: Uuid,
    /// When it is due to fire.
    #[serde(with = "chrono::serde::ts_microseconds")]
    pub fire_at: Timestamp,
    /// Which ring of it this is: 0 is the first, others repeat it until the task is done.
    #[serde(default)]
    pub ring: i32,
    /// When it fired, by the database's clock; never before `fire_at`.
    #[serde(default, with = "chrono::serde::ts_microseconds_option")]
    pub fired_at: Option<Timestamp>,
    /// When a snoozed reminder rings again.
    #[serde(default, with = "chrono::serde::ts_microseconds_option")]
    pub snoozed_until: Option<Timestamp>,
    /// Why it was cancelled.
    #[serde(default)]
    pub reason: Option<String>,
}

/// What happened to a reminder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ReminderEventKind {
    /// It was armed, or armed anew for another time.
    #[default]
    Scheduled,
    /// It fell due and rang.
    Fired,
    /// It was put off.
    Snoozed,
    /// It will not ring.
    Cancelled,
}

impl ReminderEventKind {
    /// Every kind, in the order of the topics table in the README.
    pub const ALL: [Self; 4] = [Self::Scheduled, Self::Fired, Self::Snoozed, Self::Cancelled];

    /// The name of the Avro record.
    #[must_use]
    pub fn record_name(self) -> &'static str {
        match self {
            Self::Scheduled => "ReminderScheduled",
            Self::Fired => "ReminderFired",
            Self::Snoozed => "ReminderSnoozed",
            Self::Cancelled => "ReminderCancelled",
        }
    }
}

/// Something happened to a reminder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReminderEvent {
    /// What happened; on the wire it is the name of the record.
    #[serde(skip)]
    pub kind: ReminderEventKind,
    /// See [`Head`].
    pub event_id: Uuid,
    /// See [`Head`].
    #[serde(with = "chrono::serde::ts_microseconds")]
    pub occurred_at: Timestamp,
    /// See [`Head`].
    pub user_id: Uuid,
    /// See [`Head`].
    pub actor: Actor,
    /// The whole reminder after the change.
    pub reminder: Reminder,
    /// The task it belongs to, as it was when the reminder was armed.
    pub task: Task,
}

impl ReminderEvent {
    /// A new event of that kind.
    #[must_use]
    pub fn new(kind: ReminderEventKind, head: Head, reminder: Reminder, task: Task) -> Self {
        let Head {
            event_id,
            occurred_at,
            user_id,
            actor,
        } = head;
        Self {
            kind,
            event_id,
            occurred_at,
            user_id,
            actor,
            reminder,
            task,
        }
    }

    pub(crate) fn check(&self) -> Result<(), InvariantError> {
        require(!self.reminder.id.is_nil(), "reminder.id", "is nil")?;
        require(self.reminder.ring >= 0, "reminder.ring", "is negative")?;
        let fired = self.kind == ReminderEventKind::Fired;
        require(
            fired == self.reminder.fired_at.is_some(),
            "reminder.fired_at",
            "goes with ReminderFired",
        )?;
        require(
            self.reminder
                .fired_at
                .is_none_or(|at| at >= self.reminder.fire_at),
            "reminder.fired_at",
            "is before fire_at",
        )
    }
}

impl From<ReminderEvent> for Event {
    fn from(event: ReminderEvent) -> Self {
        Self::Reminder(event)
    }
}
