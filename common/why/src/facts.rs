//! What is known of a reminder: its task, the scanner's row, the events of both, and what is still to be sent. All of it is
//! read owner first.

use db::{reminders, tasks};
use schemas::{Actor, Notification, Reminder, Task, TaskReminder, Timestamp};
use sqlx::types::Json;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

/// The most events of one reminder that are told: the latest ones.
const MAX_HAPPENINGS: i64 = 200;

/// Everything that is known of one reminder.
#[derive(Debug, Clone)]
pub struct Fate {
    /// Which.
    pub reminder_id: Uuid,
    /// Its task as it is now, deleted or not.
    pub task: Task,
    /// The scanner's row of it; `None` where it was never armed.
    pub standing: Option<reminders::Reminder>,
    /// The version of the task up to which the scanner has seen it.
    pub seen_version: Option<i64>,
    /// What happened, oldest first.
    pub happenings: Vec<Happening>,
    /// Whether more happened before.
    pub more_before: bool,
    /// What is to be sent and has not been yet.
    pub deliveries: Vec<Delivery>,
    /// How late a reminder may ring that says nothing about it, in seconds.
    pub send_late_within_seconds: i64,
    /// When all this was read, by the database's clock.
    pub now: Timestamp,
}

impl Fate {
    /// What the person asked for; `None` once the reminder is removed from its task.
    #[must_use]
    pub fn asked(&self) -> Option<&TaskReminder> {
        self.task
            .reminders
            .iter()
            .find(|asked| asked.id == self.reminder_id)
    }
}

/// An event of a reminder.
#[derive(Debug, Clone)]
pub struct Happening {
    /// When.
    pub at: Timestamp,
    /// Who caused it.
    pub actor: Actor,
    /// What.
    pub what: What,
}

/// What happened to a reminder.
#[derive(Debug, Clone)]
pub enum What {
    /// It was armed.
    Scheduled(Reminder),
    /// It rang.
    Fired(Reminder),
    /// It was put off.
    Snoozed(Reminder),
    /// It was not to ring any more, or too late to.
    Cancelled(Reminder),
    /// A notification of it was accepted by the channel's server.
    Sent(Notification),
    /// A notification of it was given up.
    Failed(Notification),
    /// A notification of it was held back on purpose.
    Suppressed(Notification),
}

/// A notification that is to be sent.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// How.
    pub channel: String,
    /// Of which ring.
    pub fire_at: Timestamp,
    /// How often that was tried.
    pub attempts: i32,
    /// When it is tried next.
    pub next_attempt_at: Timestamp,
    /// What went wrong the last time.
    pub last_error: Option<String>,
    /// Whether it waits for a digest, which is tried then.
    pub collected: bool,
    /// What was decided about it.
    pub verdict: Option<preferences::Verdict>,
}

/// What is known of the person's reminder; `None` where the person has none of that id.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn of_reminder(
    db: &mut PgConnection,
    user_id: Uuid,
    reminder_id: Uuid,
) -> Result<Option<Fate>, sqlx::Error> {
    // By the scanner's row where there is one; a reminder that was never armed is only in its task.
    let standing = reminders::get(&mut *db, user_id, reminder_id).await?;
    let task = match &standing {
        Some(known) => tasks::get_or_deleted(&mut *db, user_id, known.task_id).await?,
        None => tasks::with_reminder(&mut *db, user_id, reminder_id).await?,
    };
    let Some(task) = task else { return Ok(None) };
    Ok(Some(fate(db, user_id, task, reminder_id, standing).await?))
}

/// What is known of each reminder of the person's task, those that were removed from it too; `None` where the person has no
/// such task.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn of_task(
    db: &mut PgConnection,
    user_id: Uuid,
    task_id: Uuid,
) -> Result<Option<(Task, Vec<Fate>)>, sqlx::Error> {
    let Some(task) = tasks::get_or_deleted(&mut *db, user_id, task_id).await? else {
        return Ok(None);
    };
    let mut ids: Vec<Uuid> = task.reminders.iter().map(|reminder| reminder.id).collect();
    let held: Vec<Uuid> = sqlx::query_scalar(
        "select id from reminders.reminders where user_id = $1 and task_id = $2 order by id limit 100",
    )
    .bind(user_id)
    .bind(task_id)
    .fetch_all(&mut *db)
    .await?;
    for id in held {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let mut fates = Vec::with_capacity(ids.len());
    for id in ids {
        let standing = reminders::get(&mut *db, user_id, id).await?;
        fates.push(fate(db, user_id, task.clone(), id, standing).await?);
    }
    Ok(Some((task, fates)))
}

/// Whose task or reminder that is: for operators, who know no owner. Looks through everybody's tasks.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn owner_of(db: &mut PgConnection, id: Uuid) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "select user_id from tasks.tasks where id = $1
         union all select user_id from reminders.reminders where id = $1
         union all (select user_id from tasks.tasks
                    where reminders @> jsonb_build_array(jsonb_build_object('id', $1)) limit 1)
         limit 1",
    )
    .bind(id)
    .fetch_optional(db)
    .await
}

async fn fate(
    db: &mut PgConnection,
    user_id: Uuid,
    task: Task,
    reminder_id: Uuid,
    standing: Option<reminders::Reminder>,
) -> Result<Fate, sqlx::Error> {
    let (now, seen_version, send_late_within_seconds) = sqlx::query_as(
        "select now(),
                (select version from reminders.tasks where user_id = $1 and task_id = $2),
                coalesce((select send_late_within_seconds from accounts.users where id = $1), 86400)",
    )
    .bind(user_id)
    .bind(task.id)
    .fetch_one(&mut *db)
    .await?;
    let (happenings, more_before) = happenings(db, user_id, task.id, reminder_id).await?;
    let deliveries = deliveries(db, user_id, reminder_id).await?;
    Ok(Fate {
        reminder_id,
        task,
        standing,
        seen_version,
        happenings,
        more_before,
        deliveries,
        send_late_within_seconds,
        now,
    })
}

async fn happenings(
    db: &mut PgConnection,
    user_id: Uuid,
    task_id: Uuid,
    reminder_id: Uuid,
) -> Result<(Vec<Happening>, bool), sqlx::Error> {
    let rows = sqlx::query(
        "select occurred_at, event_type, payload ->> 'actor' as actor,
                coalesce(payload -> 'reminder', payload -> 'notification') as said
         from audit.events
         where user_id = $1 and task_id = $2 and actor is not null
           and $3 in (payload #>> '{reminder,id}', payload #>> '{notification,reminder_id}')
         order by occurred_at desc, event_id desc limit $4",
    )
    .bind(user_id)
    .bind(task_id)
    .bind(reminder_id.to_string())
    .bind(MAX_HAPPENINGS + 1)
    .fetch_all(db)
    .await?;
    let more_before = i64::try_from(rows.len()).is_ok_and(|rows| rows > MAX_HAPPENINGS);
    let mut happenings = Vec::with_capacity(rows.len());
    for row in rows
        .iter()
        .take(usize::try_from(MAX_HAPPENINGS).unwrap_or(usize::MAX))
        .rev()
    {
        let event_type: &str = row.try_get("event_type")?;
        let Json(said): Json<serde_json::Value> = row.try_get("said")?;
        let actor: &str = row.try_get("actor")?;
        // What this build does not understand was written by a newer one: it is left out.
        let Some(what) = what(event_type, said) else {
            continue;
        };
        happenings.push(Happening {
            at: row.try_get("occurred_at")?,
            actor: serde_json::from_value(actor.into()).unwrap_or(Actor::System),
            what,
        });
    }
    Ok((happenings, more_before))
}

fn what(event_type: &str, said: serde_json::Value) -> Option<What> {
    let kind = event_type.strip_prefix("com.carillon.")?.strip_suffix(".v1")?;
    let reminder = |said| serde_json::from_value(said).ok();
    let notification = |said| serde_json::from_value(said).ok();
    match kind {
        "reminder.scheduled" => reminder(said).map(What::Scheduled),
        "reminder.fired" => reminder(said).map(What::Fired),
        "reminder.snoozed" => reminder(said).map(What::Snoozed),
        "reminder.cancelled" => reminder(said).map(What::Cancelled),
        "notification.sent" => notification(said).map(What::Sent),
        "notification.failed" => notification(said).map(What::Failed),
        "notification.suppressed" => notification(said).map(What::Suppressed),
        _ => None,
    }
}

async fn deliveries(
    db: &mut PgConnection,
    user_id: Uuid,
    reminder_id: Uuid,
) -> Result<Vec<Delivery>, sqlx::Error> {
    let rows = sqlx::query(
        "select d.channel, d.fire_at, d.attempts, coalesce(g.due_at, d.next_attempt_at) as next_attempt_at, d.last_error,
                d.digest_id is not null as collected, m.decision -> d.channel as verdict
         from delivery.deliveries d
              left join delivery.digests g on g.id = d.digest_id
              left join delivery.decisions m
                  on (m.user_id, m.reminder_id, m.fire_at, m.kind) = (d.user_id, d.reminder_id, d.fire_at, d.kind)
         where d.user_id = $1 and d.reminder_id = $2 and d.state in ('pending', 'collected', 'aside')
         order by d.fire_at, d.channel limit 100",
    )
    .bind(user_id)
    .bind(reminder_id)
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Delivery {
                channel: row.try_get(0)?,
                fire_at: row.try_get(1)?,
                attempts: row.try_get(2)?,
                next_attempt_at: row.try_get(3)?,
                last_error: row.try_get(4)?,
                collected: row.try_get(5)?,
                verdict: row
                    .try_get::<Option<Json<serde_json::Value>>, _>(6)?
                    .and_then(|Json(verdict)| serde_json::from_value(verdict).ok()),
            })
        })
        .collect()
}
