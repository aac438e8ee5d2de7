//! The tables of what is to be mailed: everything that is asked of them and written to them. All times are the database's.
//! Reminders are in one, which Kafka fills; mails about accounts in another, which the API fills; digests in the third.
//!
//! How a claim holds a row is told in `common/delivery`.

mod account_mails;
mod aside;
mod claim;
mod claims;
mod digests;
mod outcomes;
mod reminders;
mod suppressed;

use std::collections::HashMap;

use kafka::{HandleError, trace_of};
use preferences::{Action, Kind};
use schemas::{
    Actor, EncodeError, Encoded, Event, Head, Notification, NotificationEvent, NotificationEventKind,
    ReminderEvent, Timestamp,
};
use service::trace::Trace;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

pub use claim::{AccountMail, Claim, Message, Outcome, Purpose, Recipient, Rung, What};
pub use claims::Claims;
pub use digests::open as open_digests;
pub use outcomes::record;
pub use suppressed::suppress_reported;

use digests::COLLECTED;

/// The channel that this sender works on.
pub const CHANNEL: &str = "email";

/// The name that events carry as their source.
const SOURCE: &str = "email-sender";

/// The namespace of delivery ids: never changed, or a replay would make other Message-IDs.
const NAMESPACE: Uuid = Uuid::from_u128(0x6d0e_6f0c_5b0b_4f0e_9c55_1f0a_6a1e_8003);

/// The id of a delivery. It follows from the firing, so that a replay, even into an empty database, makes the same one.
pub fn id(user_id: Uuid, reminder_id: Uuid, fire_at: Timestamp) -> Uuid {
    let name = format!("{user_id}/{reminder_id}/{}/{CHANNEL}", fire_at.timestamp_micros());
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

/// What is done about a notification.
#[derive(Debug)]
pub struct Arranged {
    pub event: ReminderEvent,
    pub kind: Kind,
    pub how: How,
}

/// How it is mailed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// By itself.
    AtOnce,
    /// By itself, when quiet hours are over.
    HeldUntil(Timestamp),
    /// In the digest of that time.
    Collected { at: Timestamp },
    /// Not, because of that.
    Not(&'static str),
}

impl Arranged {
    /// What follows from a decision; `None` for what the person does not want to be mailed about anyway: nobody looks for
    /// such a mail.
    pub fn of(event: ReminderEvent, kind: Kind, verdict: preferences::Verdict) -> Option<Self> {
        let how = match verdict.action {
            Action::Send => How::AtOnce,
            Action::Hold { until } => How::HeldUntil(until),
            Action::Digest { at } => How::Collected { at },
            Action::Drop if kind == Kind::Reminder => How::Not(verdict.reason.words()),
            Action::Drop => return None,
        };
        Some(Self { event, kind, how })
    }

    /// The id of its delivery.
    pub fn id(&self) -> Uuid {
        let ReminderEvent {
            user_id, reminder, ..
        } = &self.event;
        id(*user_id, reminder.id, reminder.fire_at)
    }

    fn state(&self) -> &'static str {
        match self.how {
            How::AtOnce | How::HeldUntil(_) => "pending",
            How::Collected { .. } => COLLECTED,
            How::Not(_) => "suppressed",
        }
    }

    fn held_until(&self) -> Option<Timestamp> {
        match self.how {
            How::HeldUntil(until) => Some(until),
            _ => None,
        }
    }

    fn digest(&self) -> Option<Uuid> {
        match self.how {
            How::Collected { at } => Some(digests::id(self.event.user_id, at)),
            _ => None,
        }
    }

    fn reason(&self) -> Option<&'static str> {
        match self.how {
            How::Not(reason) => Some(reason),
            _ => None,
        }
    }
}

/// Writes a delivery for each that has none, and the events of those that end here.
pub async fn insert(tx: &mut PgConnection, arranged: &[Arranged]) -> Result<(), HandleError> {
    if arranged.is_empty() {
        return Ok(());
    }
    let events = || arranged.iter().map(|a| &a.event);
    let written: Vec<(Uuid, Timestamp)> = sqlx::query_as(
        "insert into delivery.deliveries (id, user_id, channel, reminder_id, task_id, fire_at, fired_at, task, kind, state,
             held_until, next_attempt_at, digest_id, last_error, finished_at, traceparent)
         select id, user_id, $1, reminder_id, task_id, fire_at, fired_at, task, kind, state, held_until,
                coalesce(held_until, now()), digest_id, reason, case when state = 'suppressed' then now() end, traceparent
         from unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::timestamptz[], $7::timestamptz[], $8::jsonb[],
                     $9::text[], $10::text[], $11::timestamptz[], $12::uuid[], $13::text[], $14::text[])
              as a (id, user_id, reminder_id, task_id, fire_at, fired_at, task, kind, state, held_until, digest_id, reason,
                    traceparent)
         on conflict do nothing
         returning id, now()",
    )
    .bind(CHANNEL)
    .bind(arranged.iter().map(Arranged::id).collect::<Vec<_>>())
    .bind(events().map(|e| e.user_id).collect::<Vec<_>>())
    .bind(events().map(|e| e.reminder.id).collect::<Vec<_>>())
    .bind(events().map(|e| e.task.id).collect::<Vec<_>>())
    .bind(events().map(|e| e.reminder.fire_at).collect::<Vec<_>>())
    // One that was missed did not fire: it was given up then.
    .bind(events().map(|e| e.reminder.fired_at.unwrap_or(e.occurred_at)).collect::<Vec<_>>())
    .bind(events().map(|e| Json(&e.task)).collect::<Vec<_>>())
    .bind(arranged.iter().map(|a| a.kind.name()).collect::<Vec<_>>())
    .bind(arranged.iter().map(Arranged::state).collect::<Vec<_>>())
    .bind(arranged.iter().map(Arranged::held_until).collect::<Vec<_>>())
    .bind(arranged.iter().map(Arranged::digest).collect::<Vec<_>>())
    .bind(arranged.iter().map(Arranged::reason).collect::<Vec<_>>())
    .bind(events().map(|e| trace_of(e.event_id).map(|trace| trace.to_string())).collect::<Vec<_>>())
    .fetch_all(&mut *tx)
    .await?;
    let mut written: HashMap<Uuid, Timestamp> = written.into_iter().collect();
    let ended: Vec<Encoded> = arranged
        .iter()
        .filter_map(|a| {
            let (reason, id) = (a.reason()?, a.id());
            let at = written.remove(&id)?;
            let ReminderEvent { reminder, task, .. } = &a.event;
            let notification = Notification {
                reason: Some(reason.to_owned()),
                ..notification(id, reminder.id, task.id, reminder.fire_at)
            };
            let head = Head::new(a.event.user_id, Actor::System, at);
            let event = NotificationEvent::new(NotificationEventKind::Suppressed, head, notification);
            Some(encode(event.into(), trace_of(a.event.event_id)))
        })
        .collect::<Result<_, _>>()
        .map_err(|error| HandleError::Invalid(error.to_string()))?;
    db::outbox::insert(tx, &ended).await?;
    Ok(())
}

/// An event, in the trace of what it tells of.
fn encode(event: Event, trace: Option<Trace>) -> Result<Encoded, EncodeError> {
    let mut event = event.encode(SOURCE)?;
    event.headers.extend(trace.map(|trace| trace.header()));
    Ok(event)
}

/// The mail of a delivery, of which it is not said yet what became of it.
fn notification(id: Uuid, reminder_id: Uuid, task_id: Uuid, fire_at: Timestamp) -> Notification {
    Notification {
        id,
        reminder_id,
        task_id,
        channel: CHANNEL.to_owned(),
        fire_at,
        attempts: 0,
        message_id: None,
        sent_at: None,
        reason: None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::DateTime;

    use super::*;

    #[test]
    fn the_id_follows_from_the_firing() {
        let (user, reminder) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let at = DateTime::from_timestamp_micros(1_795_000_000_000_001).unwrap();
        // Written out: it must be the same in every version, for a replay must not make new mails of old ones.
        assert_eq!(
            id(user, reminder, at).to_string(),
            "958ffcec-4687-585e-990a-a964abd898ba"
        );
        assert_ne!(id(user, reminder, at), id(Uuid::from_u128(3), reminder, at));
        assert_ne!(id(user, reminder, at), id(user, Uuid::from_u128(3), at));
        assert_ne!(
            id(user, reminder, at),
            id(user, reminder, at + Duration::from_micros(1))
        );
    }
}
