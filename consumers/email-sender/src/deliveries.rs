//! The tables of what is to be mailed: everything that is asked of them and written to them. All times are the database's.
//! Reminders are in one, which Kafka fills; mails about accounts in the other, which the API fills.
//!
//! How a claim holds a row is told in `common/delivery`.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use delivery::{Outcomes, RecordError, Recorded, Verdict, milliseconds, since};
use schemas::{
    Actor, Event, Head, Notification, NotificationEvent, NotificationEventKind, ReminderEvent, Timestamp,
};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool, Row};
use uuid::Uuid;

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

/// Writes a delivery for each firing that has none.
pub async fn insert(tx: &mut PgConnection, fired: &[ReminderEvent]) -> Result<u64, sqlx::Error> {
    if fired.is_empty() {
        return Ok(0);
    }
    let done = sqlx::query(
        "insert into delivery.deliveries (id, user_id, channel, reminder_id, task_id, fire_at, fired_at, task)
         select id, user_id, $1, reminder_id, task_id, fire_at, fired_at, task
         from unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::timestamptz[], $7::timestamptz[], $8::jsonb[])
              as fired (id, user_id, reminder_id, task_id, fire_at, fired_at, task)
         on conflict do nothing",
    )
    .bind(CHANNEL)
    .bind(fired.iter().map(|e| id(e.user_id, e.reminder.id, e.reminder.fire_at)).collect::<Vec<_>>())
    .bind(fired.iter().map(|e| e.user_id).collect::<Vec<_>>())
    .bind(fired.iter().map(|e| e.reminder.id).collect::<Vec<_>>())
    .bind(fired.iter().map(|e| e.task.id).collect::<Vec<_>>())
    .bind(fired.iter().map(|e| e.reminder.fire_at).collect::<Vec<_>>())
    // A ReminderFired without it is refused when it is decoded.
    .bind(fired.iter().map(|e| e.reminder.fired_at.unwrap_or(e.occurred_at)).collect::<Vec<_>>())
    .bind(fired.iter().map(|e| Json(&e.task)).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

/// A delivery that is ours until the lease ends.
pub type Claim = delivery::Claim<Message>;
/// What became of it.
pub type Outcome = delivery::Outcome<Message>;

/// What is to be mailed.
#[derive(Debug, Clone)]
pub struct Message {
    pub what: What,
    /// Whom to write to; `None` when there is no such user.
    pub recipient: Option<Recipient>,
}

/// What is to be written.
#[derive(Debug, Clone)]
pub enum What {
    /// That a reminder rang.
    Reminder(Rung),
    /// Something about the account.
    Account(AccountMail),
}

/// A reminder that rang.
#[derive(Debug, Clone)]
pub struct Rung {
    pub reminder_id: Uuid,
    pub task_id: Uuid,
    pub fire_at: Timestamp,
    /// The task when it rang.
    pub task: serde_json::Value,
    /// How long ago it was due, when it was claimed.
    pub late: Duration,
}

/// A mail about the account: a notice, or a link that is good once.
#[derive(Clone)]
pub struct AccountMail {
    pub purpose: Purpose,
    /// The secret in the link; `None` when it has expired, or there is none.
    pub token: Option<String>,
    /// How long it is good for, when it was claimed.
    pub good_for: Duration,
    /// What a notice is about, in words.
    pub detail: Option<String>,
}

impl AccountMail {
    /// Whether it is a link that nobody can use any more.
    pub fn has_expired(&self) -> bool {
        self.purpose.has_link() && self.token.is_none()
    }
}

// Not derived: the token is a secret.
impl std::fmt::Debug for AccountMail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccountMail")
            .field("purpose", &self.purpose)
            .finish_non_exhaustive()
    }
}

/// What a mail about the account is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Showing that the address is one's own.
    VerifyEmail,
    /// Setting a forgotten password.
    ResetPassword,
    /// Giving the account this address. It goes to that one.
    ChangeEmail,
    /// Saying so to the address that the account still has.
    EmailChanging,
    /// Saying to an address that it cannot be given to another account, for it has one.
    AddressTaken,
    /// Saying that nothing is sent to a webhook any more.
    WebhookDisabled,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::VerifyEmail,
        Self::ResetPassword,
        Self::ChangeEmail,
        Self::EmailChanging,
        Self::AddressTaken,
        Self::WebhookDisabled,
    ];

    /// The columns `kind` of those that this version knows. It leaves others to a newer one.
    fn names() -> Vec<&'static str> {
        Self::ALL.iter().map(|purpose| purpose.name()).collect()
    }

    /// The column `kind`, and the names of templates.
    pub fn name(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::ResetPassword => "reset_password",
            Self::ChangeEmail => "change_email",
            Self::EmailChanging => "email_changing",
            Self::AddressTaken => "address_taken",
            Self::WebhookDisabled => "webhook_disabled",
        }
    }

    /// Whether the mail is good for nothing without its link.
    pub fn has_link(self) -> bool {
        match self {
            Self::VerifyEmail | Self::ResetPassword | Self::ChangeEmail => true,
            Self::EmailChanging | Self::AddressTaken | Self::WebhookDisabled => false,
        }
    }
}

/// Who gets the mail.
#[derive(Debug, Clone)]
pub struct Recipient {
    pub email: String,
    pub name: String,
    pub timezone: String,
    /// Whether the person has shown that the address is the own one.
    pub verified: bool,
}

/// Claims what is due, at most `limit`, longest due first, mails about accounts before reminders: somebody sits there and
/// waits. Whom a mail goes to is read along with it, so that it is fresh at every attempt.
pub async fn claim(pool: PgPool, lease: Duration, limit: usize) -> Result<Vec<Claim>, sqlx::Error> {
    let mut claims = claim_account_mails(&pool, lease, limit).await?;
    if claims.len() < limit {
        claims.extend(claim_reminders(&pool, lease, limit - claims.len()).await?);
    }
    Ok(claims)
}

async fn claim_account_mails(
    pool: &PgPool,
    lease: Duration,
    limit: usize,
) -> Result<Vec<Claim>, sqlx::Error> {
    let claimed = Instant::now();
    let rows = sqlx::query(
        "with due as (
             select id from delivery.account_mails
             where state = 'pending' and next_attempt_at <= now() and kind = any($3)
             order by next_attempt_at limit $1
             for update skip locked
         ), claimed as (
             update delivery.account_mails m
             set next_attempt_at = now() + $2 * interval '1 millisecond', attempts = attempts + 1
             from due where m.id = due.id
             returning m.id, m.user_id, m.kind, m.link_token, m.attempts, m.created_at, m.expires_at,
                       m.email as address, m.detail
         )
         select c.*, case when u.id is not null then coalesce(c.address, u.email) end as email, u.name, u.timezone,
                u.email_verified_at is not null and coalesce(c.address = u.email, true) as verified,
                extract(epoch from c.expires_at - now())::float8 as good_for,
                extract(epoch from now() - c.created_at)::float8 as age
         from claimed c left join accounts.users u on u.id = c.user_id and u.deleted_at is null",
    )
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .bind(milliseconds(lease))
    .bind(Purpose::names())
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            let kind: &str = row.try_get("kind")?;
            let good_for = since(row.try_get("good_for")?);
            let token: Option<String> = row.try_get("link_token")?;
            let purpose = Purpose::ALL.into_iter().find(|purpose| purpose.name() == kind);
            let mail = AccountMail {
                purpose: purpose.ok_or_else(|| sqlx::Error::ColumnDecode {
                    index: "kind".to_owned(),
                    source: format!("{kind:?} is no purpose").into(),
                })?,
                token: token.filter(|_| !good_for.is_zero()),
                good_for,
                detail: row.try_get("detail")?,
            };
            from_row(row, What::Account(mail), claimed)
        })
        .collect()
}

async fn claim_reminders(pool: &PgPool, lease: Duration, limit: usize) -> Result<Vec<Claim>, sqlx::Error> {
    let claimed = Instant::now();
    let rows = sqlx::query(
        "with due as (
             select id from delivery.deliveries
             where channel = $1 and state = 'pending' and next_attempt_at <= now()
             order by next_attempt_at limit $2
             for update skip locked
         ), claimed as (
             update delivery.deliveries d
             set next_attempt_at = now() + $3 * interval '1 millisecond', attempts = attempts + 1
             from due where d.id = due.id
             returning d.id, d.user_id, d.reminder_id, d.task_id, d.fire_at, d.fired_at, d.attempts, d.task
         )
         select c.*, u.email, u.name, u.timezone, u.email_verified_at is not null as verified,
                extract(epoch from now() - c.fire_at)::float8 as late,
                extract(epoch from now() - c.fired_at)::float8 as age
         from claimed c left join accounts.users u on u.id = c.user_id and u.deleted_at is null",
    )
    .bind(CHANNEL)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .bind(milliseconds(lease))
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            let Json(task) = row.try_get("task")?;
            let rung = Rung {
                reminder_id: row.try_get("reminder_id")?,
                task_id: row.try_get("task_id")?,
                fire_at: row.try_get("fire_at")?,
                task,
                late: since(row.try_get("late")?),
            };
            from_row(row, What::Reminder(rung), claimed)
        })
        .collect()
}

fn from_row(row: &PgRow, what: What, claimed: Instant) -> Result<Claim, sqlx::Error> {
    let email: Option<String> = row.try_get("email")?;
    let recipient = match email {
        Some(email) => Some(Recipient {
            email,
            name: row.try_get("name")?,
            timezone: row.try_get("timezone")?,
            verified: row.try_get("verified")?,
        }),
        None => None,
    };
    Ok(Claim {
        id: row.try_get("id")?,
        user_id: row.try_get("user_id")?,
        attempt: row.try_get("attempts")?,
        age: since(row.try_get("age")?),
        claimed,
        message: Message { what, recipient },
    })
}

/// How long until something is due: zero when something is, `None` when nothing is pending.
pub async fn next_due(pool: PgPool) -> Result<Option<Duration>, sqlx::Error> {
    let seconds: Option<f64> = sqlx::query_scalar(
        "select extract(epoch from least(
             (select min(next_attempt_at) from delivery.deliveries where channel = $1 and state = 'pending'),
             (select min(next_attempt_at) from delivery.account_mails where state = 'pending' and kind = any($2))
         ) - now())::float8",
    )
    .bind(CHANNEL)
    .bind(Purpose::names())
    .fetch_one(&pool)
    .await?;
    Ok(seconds.map(since))
}

/// Writes outcomes and their events in one transaction. Those of claims that ended meanwhile are left out, and so are
/// missing in what is returned.
pub async fn record(pool: PgPool, outcomes: Outcomes<Message>) -> Result<Vec<Recorded>, RecordError> {
    let is_reminder =
        |(_, outcome): &(usize, &Outcome)| matches!(outcome.claim.message.what, What::Reminder(_));
    let (reminders, account_mails): (Vec<_>, Vec<_>) = outcomes.iter().enumerate().partition(is_reminder);
    let mut tx = pool.begin().await?;
    let mut recorded = Vec::with_capacity(outcomes.len());
    let mut events = Vec::with_capacity(reminders.len());
    if !reminders.is_empty() {
        for (index, row) in write_reminders(&mut tx, &reminders).await? {
            let Some(outcome) = outcomes.get(index) else {
                continue;
            };
            let finished_at: Option<DateTime<Utc>> = row.try_get("finished_at")?;
            let took: Option<f64> = row.try_get("took")?;
            if let Some(event) = finished_at.and_then(|at| event(outcome, row.get("attempts"), at)) {
                events.push(event.encode(SOURCE)?);
            }
            recorded.push(Recorded {
                index,
                took: took.map(since),
            });
        }
    }
    if !account_mails.is_empty() {
        let written = write_account_mails(&mut tx, &account_mails).await?;
        recorded.extend(
            written
                .into_iter()
                .map(|(index, _)| Recorded { index, took: None }),
        );
    }
    db::outbox::insert(&mut tx, &events).await?;
    tx.commit().await?;
    Ok(recorded)
}

async fn write_reminders(
    tx: &mut PgConnection,
    outcomes: &[(usize, &Outcome)],
) -> Result<Vec<(usize, PgRow)>, sqlx::Error> {
    let query = concat!(
        "update delivery.deliveries d set ",
        delivery::outcome_changes!(),
        ", message_id = coalesce(o.message_id, d.message_id) from ",
        delivery::outcome_columns!(),
        " where ",
        delivery::outcome_holds!(),
        " returning o.n, d.attempts, d.finished_at, extract(epoch from d.finished_at - d.fired_at)::float8 as took"
    );
    delivery::write(tx, query, outcomes).await
}

async fn write_account_mails(
    tx: &mut PgConnection,
    outcomes: &[(usize, &Outcome)],
) -> Result<Vec<(usize, PgRow)>, sqlx::Error> {
    // The link, and an address that may be another person's, are nobody's business once the mail is out, or will not go out.
    let query = concat!(
        "update delivery.account_mails d set ",
        delivery::outcome_changes!(),
        ", message_id = coalesce(o.message_id, d.message_id),
             link_token = case when o.state = 'pending' then d.link_token end,
             email = case when o.state = 'pending' then d.email end,
             detail = case when o.state = 'pending' then d.detail end from ",
        delivery::outcome_columns!(),
        " where ",
        delivery::outcome_holds!(),
        " returning o.n"
    );
    delivery::write(tx, query, outcomes).await
}

/// What the rest of the platform learns of it: nothing while it may be tried again, and nothing of mails about accounts.
fn event(outcome: &Outcome, attempts: i32, finished_at: Timestamp) -> Option<Event> {
    let kind = match &outcome.verdict {
        Verdict::Sent { .. } => NotificationEventKind::Sent,
        Verdict::Failed(_) => NotificationEventKind::Failed,
        Verdict::Suppressed(_) => NotificationEventKind::Suppressed,
        Verdict::Retry { .. } | Verdict::GivenBack => return None,
    };
    let claim = &outcome.claim;
    let What::Reminder(rung) = &claim.message.what else {
        return None;
    };
    let notification = Notification {
        id: claim.id,
        reminder_id: rung.reminder_id,
        task_id: rung.task_id,
        channel: CHANNEL.to_owned(),
        fire_at: rung.fire_at,
        attempts,
        message_id: outcome.verdict.message_id().map(ToOwned::to_owned),
        sent_at: (kind == NotificationEventKind::Sent).then_some(finished_at),
        reason: outcome.verdict.reason().map(ToOwned::to_owned),
    };
    let head = Head::new(claim.user_id, Actor::System, finished_at);
    Some(NotificationEvent::new(kind, head, notification).into())
}

#[cfg(test)]
mod tests {
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
