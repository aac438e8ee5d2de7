//! The tables of what is to be mailed: everything that is asked of them and written to them. All times are the database's.
//! Reminders are in one, which Kafka fills; mails about accounts in the other, which the API fills.
//!
//! How a claim holds a row is told in `common/delivery`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use delivery::{Outcomes, RecordError, Recorded, Verdict, milliseconds, since};
use kafka::{HandleError, trace_of};
use preferences::{Action, Kind};
use schemas::{
    Actor, EncodeError, Encoded, Event, Head, Notification, NotificationEvent, NotificationEventKind,
    ReminderEvent, Timestamp,
};
use service::failpoint;
use service::trace::Trace;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool, Row};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::aside::{self, Aside, Place};
use crate::digests::{self, COLLECTED, Collection};
use crate::language::Language;
use crate::moot;

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
    /// Why it need not be sent any more.
    pub moot: Option<&'static str>,
    /// Its place among those that were set aside.
    pub place: Option<Arc<Place>>,
    /// What the mail server said when it refused the address for good, once it has.
    pub refused: Option<String>,
}

/// What is to be written.
#[derive(Debug, Clone)]
pub enum What {
    /// That a reminder rang.
    Reminder(Rung),
    /// Many of that.
    Digest(Collection),
    /// Something about the account.
    Account(AccountMail),
}

impl What {
    /// Whether the person has just asked for this mail, to this address, and waits for it. Such a one goes also to an address that
    /// mail did not arrive at: it may again, and there is no other way to show it.
    pub fn is_asked_for(&self) -> bool {
        match self {
            Self::Reminder(_) | Self::Digest(_) => false,
            Self::Account(mail) => mail.purpose.has_link(),
        }
    }
}

/// A reminder that rang.
#[derive(Debug, Clone)]
pub struct Rung {
    pub reminder_id: Uuid,
    pub task_id: Uuid,
    pub fire_at: Timestamp,
    pub fired_at: Timestamp,
    /// The task when it rang.
    pub task: serde_json::Value,
    /// How long ago it was due, when it was claimed.
    pub late: Duration,
    /// Whether it was too late to ring.
    pub missed: bool,
    /// Until when quiet hours held the mail.
    pub held_until: Option<Timestamp>,
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
    /// What the person wants to be written to in.
    pub language: Language,
    /// Whether the person wants what is due for the calendar.
    pub attach_ics: bool,
    /// Why mail does not arrive at the address.
    pub suppressed: Option<String>,
}

/// Where claims come from.
pub struct Claims {
    pool: PgPool,
    lease: Duration,
    aside: Aside,
    /// Told when a claim found as much as it might take: there may be a crowd.
    full: Notify,
    /// Whose mails are being set aside.
    crowd: Mutex<Vec<Uuid>>,
}

impl Claims {
    /// At most `aside` of those that are set aside are under way; `wake` is told when there is room for more.
    pub fn new(pool: PgPool, lease: Duration, aside: usize, wake: Arc<Notify>) -> Self {
        Self {
            pool,
            lease,
            aside: Aside::new(aside, wake),
            full: Notify::new(),
            crowd: Mutex::default(),
        }
    }

    /// Sets what crowds have aside, bite by bite beside the claims, for ever.
    pub async fn set_crowds_aside(&self) -> Result<(), sqlx::Error> {
        loop {
            let (began, known) = (Instant::now(), self.crowd().clone());
            let crowd = match aside::set_crowds_aside(&self.pool, &known).await {
                Err(error) if !db::classify(&error).is_retryable() => return Err(error),
                // The next full claim has it looked for again.
                found => found.unwrap_or_default(),
            };
            let done = crowd.is_empty();
            *self.crowd() = crowd;
            if done {
                self.full.notified().await;
            } else {
                // Half of the time is for the others' mails.
                tokio::time::sleep(began.elapsed()).await;
            }
        }
    }

    fn crowd(&self) -> MutexGuard<'_, Vec<Uuid>> {
        self.crowd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims what is due, at most `limit`, longest due first, mails about accounts before the others: somebody sits there and
    /// waits. Whom a mail goes to is read along with it, so that it is fresh at every attempt.
    pub async fn claim(&self, limit: usize) -> Result<Vec<Claim>, sqlx::Error> {
        let mut claims = claim_account_mails(&self.pool, self.lease, limit).await?;
        if claims.len() < limit {
            claims.extend(digests::claim(&self.pool, self.lease, limit - claims.len()).await?);
        }
        if claims.len() < limit {
            claims.extend(self.claim_reminders(limit - claims.len()).await?);
        }
        if claims.len() < limit {
            claims.extend(self.claim_aside(limit - claims.len()).await?);
        }
        Ok(claims)
    }

    /// Reminders that are not set aside, nor about to be.
    async fn claim_reminders(&self, limit: usize) -> Result<Vec<Claim>, sqlx::Error> {
        let (claimed, crowd) = (Instant::now(), self.crowd().clone());
        let rows = if crowd.is_empty() {
            claim_reminders(&self.pool, self.lease, limit).await?
        } else {
            aside::claim_of_others(&self.pool, self.lease, limit, &crowd).await?
        };
        if rows.len() >= limit {
            self.full.notify_one();
        }
        rung(&self.pool, &rows, claimed).await
    }

    async fn claim_aside(&self, limit: usize) -> Result<Vec<Claim>, sqlx::Error> {
        let claimed = Instant::now();
        let (rows, places): (Vec<PgRow>, Vec<Place>) = self
            .aside
            .claim(&self.pool, self.lease, limit)
            .await?
            .into_iter()
            .unzip();
        let mut claims = rung(&self.pool, &rows, claimed).await?;
        for (claim, place) in claims.iter_mut().zip(places) {
            claim.message.place = Some(Arc::new(place));
        }
        Ok(claims)
    }

    /// How long until something is due: zero when something is, `None` when nothing is pending.
    pub async fn next_due(&self) -> Result<Option<Duration>, sqlx::Error> {
        let seconds: Option<f64> = sqlx::query_scalar(
            "select case when $3 and exists (select from delivery.deliveries where channel = $1 and state = 'aside') then 0.0
                    else extract(epoch from least(
             (select min(next_attempt_at) from delivery.deliveries where channel = $1 and state = 'pending'),
             (select min(next_attempt_at) from delivery.digests where channel = $1 and state = 'pending'),
             (select min(next_attempt_at) from delivery.account_mails where state = 'pending' and kind = any($2))
         ) - now())::float8 end",
        )
        .bind(CHANNEL)
        .bind(Purpose::names())
        .bind(self.aside.has_room())
        .fetch_one(&self.pool)
        .await?;
        Ok(seconds.map(since))
    }
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
         select c.*, case when u.id is not null then coalesce(c.address, u.email) end as email, u.name, u.timezone, u.language, u.attach_ics,
                s.reason as suppressed, u.email_verified_at is not null and coalesce(c.address = u.email, true) as verified,
                extract(epoch from c.expires_at - now())::float8 as good_for,
                extract(epoch from now() - c.created_at)::float8 as age
         from claimed c left join accounts.users u on u.id = c.user_id and u.deleted_at is null
         left join delivery.suppressed_addresses s on s.address = lower(coalesce(c.address, u.email))",
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
            from_row(row, What::Account(mail), Vec::new(), claimed)
        })
        .collect()
}

/// Whom a claim `c` of a notification goes to: what [`from_row`] reads of it.
macro_rules! recipient_columns {
    () => {
        "u.email, u.name, u.timezone, u.language, u.attach_ics, s.reason as suppressed,
         u.email_verified_at is not null as verified"
    };
}
pub(crate) use recipient_columns;

/// Where these columns come from.
macro_rules! claimed_with_recipient {
    () => {
        "claimed c left join accounts.users u on u.id = c.user_id and u.deleted_at is null
         left join delivery.suppressed_addresses s on s.address = lower(u.email)"
    };
}
pub(crate) use claimed_with_recipient;

/// The end of a claim of reminders, of those in `due`: what [`rung`] reads. `$3` is the lease in milliseconds.
macro_rules! claimed_rung {
    () => {
        concat!(
            ", claimed as (
                update delivery.deliveries d
                set state = 'pending', next_attempt_at = now() + $3 * interval '1 millisecond', attempts = attempts + 1
                from due where d.id = due.id
                returning d.id, d.user_id, d.reminder_id, d.task_id, d.fire_at, d.fired_at, d.attempts, d.task, d.kind,
                       d.held_until, d.traceparent
             ) select c.*, ",
            $crate::deliveries::recipient_columns!(),
            ", extract(epoch from now() - c.fire_at)::float8 as late,
               extract(epoch from now() - c.fired_at)::float8 as waited,
               extract(epoch from now() - coalesce(c.held_until, c.fired_at))::float8 as age
             from ",
            $crate::deliveries::claimed_with_recipient!(),
        )
    };
}
pub(crate) use claimed_rung;

async fn claim_reminders(pool: &PgPool, lease: Duration, limit: usize) -> Result<Vec<PgRow>, sqlx::Error> {
    sqlx::query(concat!(
        "with due as (
             select id from delivery.deliveries
             where channel = $1 and state = 'pending' and next_attempt_at <= now()
             order by next_attempt_at limit $2
             for update skip locked
         )",
        claimed_rung!(),
    ))
    .bind(CHANNEL)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .bind(milliseconds(lease))
    .fetch_all(pool)
    .await
}

/// The claims of reminders.
async fn rung(pool: &PgPool, rows: &[PgRow], claimed: Instant) -> Result<Vec<Claim>, sqlx::Error> {
    let mut waited = Vec::new();
    for row in rows {
        if row.try_get::<f64, _>("waited")? > moot::WAITED_SECONDS {
            waited.push(row.try_get("id")?);
        }
    }
    let moot = moot::find(pool, &waited).await?;
    rows.iter()
        .map(|row| {
            let Json(task) = row.try_get("task")?;
            let kind: &str = row.try_get("kind")?;
            let rung = Rung {
                reminder_id: row.try_get("reminder_id")?,
                task_id: row.try_get("task_id")?,
                fire_at: row.try_get("fire_at")?,
                fired_at: row.try_get("fired_at")?,
                task,
                late: since(row.try_get("late")?),
                missed: kind == Kind::ReminderMissed.name(),
                held_until: row.try_get("held_until")?,
            };
            let traces = trace(row)?.into_iter().collect();
            let mut claim = from_row(row, What::Reminder(rung), traces, claimed)?;
            claim.message.moot = moot.get(&claim.id).copied();
            Ok(claim)
        })
        .collect()
}

/// The trace of a delivery.
pub fn trace(row: &PgRow) -> Result<Option<Trace>, sqlx::Error> {
    let parent: Option<&str> = row.try_get("traceparent")?;
    Ok(parent.and_then(Trace::parse))
}

/// What the claims of all tables have in common.
pub fn from_row(row: &PgRow, what: What, traces: Vec<Trace>, claimed: Instant) -> Result<Claim, sqlx::Error> {
    let email: Option<String> = row.try_get("email")?;
    let recipient = match email {
        Some(email) => Some(Recipient {
            email,
            name: row.try_get("name")?,
            timezone: row.try_get("timezone")?,
            verified: row.try_get("verified")?,
            language: Language::of(row.try_get("language")?),
            attach_ics: row.try_get("attach_ics")?,
            suppressed: row.try_get("suppressed")?,
        }),
        None => None,
    };
    Ok(Claim {
        id: row.try_get("id")?,
        user_id: row.try_get("user_id")?,
        attempt: row.try_get("attempts")?,
        age: since(row.try_get("age")?),
        claimed,
        traces,
        message: Message {
            what,
            recipient,
            moot: None,
            place: None,
            refused: None,
        },
    })
}

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
        written.extend(write_reminders(&mut tx, &reminders).await?);
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
        let written = write_account_mails(&mut tx, &account_mails).await?;
        recorded.extend(
            written
                .into_iter()
                .map(|(index, _)| Recorded { index, took: None }),
        );
    }
    suppress_refused(&mut tx, &outcomes).await?;
    db::outbox::insert(&mut tx, &events).await?;
    failpoint!("record: written");
    tx.commit().await?;
    Ok(recorded)
}

/// Writes down the addresses that were refused for good. That holds whatever has become of the claim.
async fn suppress_refused(tx: &mut PgConnection, outcomes: &[Outcome]) -> Result<(), sqlx::Error> {
    let refused: Vec<(Uuid, &str, &str)> = outcomes
        .iter()
        .filter_map(|outcome| {
            let message = &outcome.claim.message;
            let address = &message.recipient.as_ref()?.email;
            Some((
                outcome.claim.user_id,
                address.as_str(),
                message.refused.as_deref()?,
            ))
        })
        .collect();
    if refused.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into delivery.suppressed_addresses (address, user_id, source, reason)
         select lower(address), user_id, 'refusal', left(reason, 500)
         from unnest($1::uuid[], $2::text[], $3::text[]) as refused (user_id, address, reason)
         on conflict do nothing",
    )
    .bind(refused.iter().map(|(user_id, ..)| *user_id).collect::<Vec<_>>())
    .bind(refused.iter().map(|(_, address, _)| *address).collect::<Vec<_>>())
    .bind(refused.iter().map(|(.., reason)| *reason).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// Writes down that the address of an account is dead, as a report about a delivery to it says: one of those `addresses`, and no
/// other. True when that is news.
pub async fn suppress_reported(
    pool: &PgPool,
    delivery: Uuid,
    addresses: &[String],
    reason: &str,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "insert into delivery.suppressed_addresses (address, user_id, source, reason)
         select lower(u.email), u.id, 'report', left($3, 500)
         from accounts.users u
         where u.id = (select user_id from delivery.deliveries where id = $1
                       union all select user_id from delivery.digests where id = $1
                       union all select user_id from delivery.account_mails where id = $1 limit 1)
           and u.deleted_at is null
           and lower(u.email) = any(select lower(address) from unnest($2::text[]) as reported (address))
         on conflict do nothing",
    )
    .bind(delivery)
    .bind(addresses)
    .bind(reason)
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
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
        " returning o.n, d.attempts, d.finished_at, extract(epoch from d.finished_at - coalesce(d.held_until, d.fired_at))::float8 as took"
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
