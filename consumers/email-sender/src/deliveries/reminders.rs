//! Reminders that are mailed by themselves: rows of the table that Kafka fills become claims, and their outcomes are written.

use std::time::{Duration, Instant};

use delivery::{milliseconds, since};
use preferences::Kind;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool, Row};

use super::claim::{from_row, trace};
use super::{CHANNEL, Claim, Outcome, Rung, What};
use crate::moot;

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
            $crate::deliveries::claim::recipient_columns!(),
            ", extract(epoch from now() - c.fire_at)::float8 as late,
               extract(epoch from now() - c.fired_at)::float8 as waited,
               extract(epoch from now() - coalesce(c.held_until, c.fired_at))::float8 as age
             from ",
            $crate::deliveries::claim::claimed_with_recipient!(),
        )
    };
}
pub(crate) use claimed_rung;

/// Claims what is due, longest due first.
pub async fn claim(pool: &PgPool, lease: Duration, limit: usize) -> Result<Vec<PgRow>, sqlx::Error> {
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

/// The claims of these rows.
pub async fn rung(pool: &PgPool, rows: &[PgRow], claimed: Instant) -> Result<Vec<Claim>, sqlx::Error> {
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

/// Writes outcomes of reminders.
pub async fn write(
    tx: &mut PgConnection,
    outcomes: &[(usize, &Outcome)],
) -> Result<Vec<(usize, PgRow)>, sqlx::Error> {
    let query = delivery::outcome_update!(
        update "delivery.deliveries",
        set "message_id = coalesce(o.message_id, d.message_id)",
        returning "d.attempts, d.finished_at, extract(epoch from d.finished_at - coalesce(d.held_until, d.fired_at))::float8 as took"
    );
    delivery::write(tx, query, outcomes).await
}
