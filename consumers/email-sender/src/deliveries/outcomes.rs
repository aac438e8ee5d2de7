//! What became of claims: written down, and told to the rest of the platform.

use chrono::{DateTime, Utc};
use delivery::{Outcomes, RecordError, Recorded, Verdict, since};
use schemas::{Actor, Event, Head, Notification, NotificationEvent, NotificationEventKind, Timestamp};
use service::failpoint;
use sqlx::{PgPool, Row};

use super::{Message, Outcome, What, account_mails, digests, encode, notification, reminders, suppressed};

/// Writes outcomes and their events in one transaction. Those of claims that ended meanwhile are left out, and so are
/// missing in what is returned.
pub async fn record(pool: PgPool, outcomes: Outcomes<Message>) -> Result<Vec<Recorded>, RecordError> {
    let of = |wanted: fn(&What) -> bool| -> Vec<(usize, &Outcome)> {
        outcomes
            .iter()
            .enumerate()
            .filter(|(_, outcome)| wanted(&outcome.claim.message.what))
            .collect()
    };
    let reminders = of(|what| matches!(what, What::Reminder(_)));
    let digests = of(|what| matches!(what, What::Digest(_)));
    let account_mails = of(|what| matches!(what, What::Account(_)));
    let mut tx = pool.begin().await?;
    let mut written = Vec::with_capacity(outcomes.len());
    if !reminders.is_empty() {
        written.extend(reminders::write(&mut tx, &reminders).await?);
    }
    if !digests.is_empty() {
        written.extend(digests::write(&mut tx, &digests).await?);
    }
    let mut recorded = Vec::with_capacity(outcomes.len());
    let mut events = Vec::with_capacity(written.len());
    for (index, row) in written {
        let Some(outcome) = outcomes.get(index) else {
            continue;
        };
        let finished_at: Option<DateTime<Utc>> = row.try_get("finished_at")?;
        let took: Option<f64> = row.try_get("took")?;
        if let Some(at) = finished_at {
            let attempts = row.try_get("attempts")?;
            for event in ended(outcome, attempts, at) {
                events.push(encode(event, outcome.claim.trace())?);
            }
        }
        recorded.push(Recorded {
            index,
            took: took.map(since),
        });
    }
    if !account_mails.is_empty() {
        let written = account_mails::write(&mut tx, &account_mails).await?;
        recorded.extend(
            written
                .into_iter()
                .map(|(index, _)| Recorded { index, took: None }),
        );
    }
    suppressed::suppress_refused(&mut tx, &outcomes).await?;
    db::outbox::insert(&mut tx, &events).await?;
    failpoint!("record: written");
    tx.commit().await?;
    Ok(recorded)
}

/// What the rest of the platform learns of it: nothing while it may be tried again, and nothing of mails about accounts.
fn ended(outcome: &Outcome, attempts: i32, finished_at: Timestamp) -> Vec<Event> {
    let kind = match &outcome.verdict {
        Verdict::Sent { .. } => NotificationEventKind::Sent,
        Verdict::Failed(_) => NotificationEventKind::Failed,
        Verdict::Suppressed(_) => NotificationEventKind::Suppressed,
        Verdict::Retry { .. } | Verdict::GivenBack | Verdict::PutOff { .. } => return Vec::new(),
    };
    let claim = &outcome.claim;
    let reason = outcome.verdict.reason();
    let about = match &claim.message.what {
        What::Reminder(rung) => vec![(
            notification(claim.id, rung.reminder_id, rung.task_id, rung.fire_at),
            kind,
            reason,
        )],
        What::Digest(collection) => {
            let told = collection.items.iter().map(|item| (item, kind, reason));
            let moot = collection
                .moot
                .iter()
                .map(|(item, why)| (item, NotificationEventKind::Suppressed, Some(*why)));
            told.chain(moot)
                .map(|(item, kind, reason)| {
                    let about = notification(item.id, item.reminder_id, item.task_id, item.fire_at);
                    (about, kind, reason)
                })
                .collect()
        }
        What::Account(_) => Vec::new(),
    };
    about
        .into_iter()
        .map(|(about, kind, reason)| {
            let sent = kind == NotificationEventKind::Sent;
            let message_id = outcome.verdict.message_id().filter(|_| sent);
            let notification = Notification {
                attempts,
                message_id: message_id.map(ToOwned::to_owned),
                sent_at: sent.then_some(finished_at),
                reason: reason.map(ToOwned::to_owned),
                ..about
            };
            let head = Head::new(claim.user_id, Actor::System, finished_at);
            NotificationEvent::new(kind, head, notification).into()
        })
        .collect()
}
