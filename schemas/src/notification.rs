//! Notification events: what became of each notification on each channel.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::event::require;
use crate::{Actor, Event, Head, InvariantError, Timestamp};

/// One notification on one channel, after its last attempt. It names no address: the people who read topics need none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// Identity of the delivery.
    pub id: Uuid,
    /// The reminder that fired.
    pub reminder_id: Uuid,
    /// The task that it reminds of.
    pub task_id: Uuid,
    /// How it was sent: `email`.
    pub channel: String,
    /// When the reminder was due to fire.
    #[serde(with = "chrono::serde::ts_microseconds")]
    pub fire_at: Timestamp,
    /// How often sending was tried.
    pub attempts: i32,
    /// The Message-ID header of the mail, the same on every attempt.
    #[serde(default)]
    pub message_id: Option<String>,
    /// When the receiving server took responsibility.
    #[serde(default, with = "chrono::serde::ts_microseconds_option")]
    pub sent_at: Option<Timestamp>,
    /// Why it failed or was suppressed.
    #[serde(default)]
    pub reason: Option<String>,
}

/// What happened to a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NotificationEventKind {
    /// The channel's server accepted it.
    #[default]
    Sent,
    /// It was given up.
    Failed,
    /// It was held back on purpose.
    Suppressed,
}

impl NotificationEventKind {
    /// Every kind, in the order of the topics table in the README.
    pub const ALL: [Self; 3] = [Self::Sent, Self::Failed, Self::Suppressed];

    /// The name of the Avro record.
    #[must_use]
    pub fn record_name(self) -> &'static str {
        match self {
            Self::Sent => "NotificationSent",
            Self::Failed => "NotificationFailed",
            Self::Suppressed => "NotificationSuppressed",
        }
    }
}

/// Something happened to a notification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationEvent {
    /// What happened; on the wire it is the name of the record.
    #[serde(skip)]
    pub kind: NotificationEventKind,
    /// See [`Head`].
    pub event_id: Uuid,
    /// See [`Head`].
    #[serde(with = "chrono::serde::ts_microseconds")]
    pub occurred_at: Timestamp,
    /// See [`Head`].
    pub user_id: Uuid,
    /// See [`Head`].
    pub actor: Actor,
    /// The notification after the change.
    pub notification: Notification,
}

impl NotificationEvent {
    /// A new event of that kind.
    #[must_use]
    pub fn new(kind: NotificationEventKind, head: Head, notification: Notification) -> Self {
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
            notification,
        }
    }

    pub(crate) fn check(&self) -> Result<(), InvariantError> {
        require(!self.notification.id.is_nil(), "notification.id", "is nil")?;
        require(
            self.notification.attempts >= 0,
            "notification.attempts",
            "is negative",
        )?;
        require(
            (self.kind == NotificationEventKind::Sent) == self.notification.sent_at.is_some(),
            "notification.sent_at",
            "goes with NotificationSent",
        )
    }
}

impl From<NotificationEvent> for Event {
    fn from(event: NotificationEvent) -> Self {
        Self::Notification(event)
    }
}
