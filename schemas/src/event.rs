//! What every event has in common, and the one type that stands for any of them.

use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{NotificationEvent, ReminderEvent, TaskEvent};

/// An instant as it travels: UTC, whole microseconds (Avro `timestamp-micros`).
pub type Timestamp = DateTime<Utc>;

/// The current time, cut to the microseconds that an event and Postgres can hold, so that what was written compares
/// equal to what is read back.
#[must_use]
pub fn now() -> Timestamp {
    Utc::now().trunc_subsecs(6)
}

/// Who caused a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Actor {
    /// The person, through a page or the HTTP API.
    User,
    /// An AI assistant on the person's behalf.
    Assistant,
    /// The recurrence generator.
    Recurrence,
    /// Any other service of the platform.
    System,
}

/// The fields that every event starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Identity of the event, a UUIDv7: consumers deduplicate by it.
    pub event_id: Uuid,
    /// When the change was made.
    pub occurred_at: Timestamp,
    /// Whose it is; the partition key.
    pub user_id: Uuid,
    /// Who caused the change.
    pub actor: Actor,
}

impl Head {
    /// The head of a new event that happens at `occurred_at`.
    #[must_use]
    pub fn new(user_id: Uuid, actor: Actor, occurred_at: Timestamp) -> Self {
        Self {
            event_id: Uuid::now_v7(),
            occurred_at,
            user_id,
            actor,
        }
    }
}

/// A well-formed record that says something that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct InvariantError {
    /// The field, as a path from the record.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

pub(crate) fn require(holds: bool, field: &'static str, problem: &'static str) -> Result<(), InvariantError> {
    if holds {
        Ok(())
    } else {
        Err(InvariantError { field, problem })
    }
}

/// Any event of the platform.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Something happened to a task.
    Task(TaskEvent),
    /// Something happened to a reminder.
    Reminder(ReminderEvent),
    /// Something happened to a notification.
    Notification(NotificationEvent),
}

impl Event {
    /// The fields that every event starts with.
    #[must_use]
    pub fn head(&self) -> Head {
        match self {
            Self::Task(e) => Head {
                event_id: e.event_id,
                occurred_at: e.occurred_at,
                user_id: e.user_id,
                actor: e.actor,
            },
            Self::Reminder(e) => Head {
                event_id: e.event_id,
                occurred_at: e.occurred_at,
                user_id: e.user_id,
                actor: e.actor,
            },
            Self::Notification(e) => Head {
                event_id: e.event_id,
                occurred_at: e.occurred_at,
                user_id: e.user_id,
                actor: e.actor,
            },
        }
    }

    /// The name of the Avro record, such as `TaskCreated`.
    #[must_use]
    pub fn record_name(&self) -> &'static str {
        match self {
            Self::Task(e) => e.kind.record_name(),
            Self::Reminder(e) => e.kind.record_name(),
            Self::Notification(e) => e.kind.record_name(),
        }
    }

    /// The task that the event is about.
    #[must_use]
    pub fn task_id(&self) -> Uuid {
        match self {
            Self::Task(e) => e.task.id,
            Self::Reminder(e) => e.task.id,
            Self::Notification(e) => e.notification.task_id,
        }
    }

    /// What must hold in every event, whoever wrote it. A record that breaks it is dead-lettered, not guessed at.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn check(&self) -> Result<(), InvariantError> {
        require(!self.head().event_id.is_nil(), "event_id", "is nil")?;
        require(!self.head().user_id.is_nil(), "user_id", "is nil")?;
        match self {
            Self::Task(e) => e.task.check(),
            Self::Reminder(e) => e.task.check().and_then(|()| e.check()),
            Self::Notification(e) => e.check(),
        }
    }
}
