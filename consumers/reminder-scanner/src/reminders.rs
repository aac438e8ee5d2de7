//! The scanner's tables. All times are compared by the database's clock.

use std::collections::HashMap;

use schemas::{Priority, Task, Timestamp};
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor, Row};
use uuid::Uuid;

use crate::plan::{Known, State};

/// Keeps the newest version of each task. Returns which of `tasks` were newer than what was kept; the others are old news.
/// Each task comes at most once in `tasks`.
pub(crate) async fn keep_newest(
    tx: &mut PgConnection,
    user_ids: &[Uuid],
    tasks: &[&Task],
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "insert into reminders.tasks as kept (user_id, task_id, version, snapshot)
         select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::jsonb[])
         on conflict (user_id, task_id) do update
             set version = excluded.version, snapshot = excluded.snapshot
             where kept.version < excluded.version
         returning task_id",
    )
    .bind(user_ids)
    .bind(tasks.iter().map(|task| task.id).collect::<Vec<_>>())
    .bind(tasks.iter().map(|task| task.version).collect::<Vec<_>>())
    .bind(tasks.iter().map(|task| Json(*task)).collect::<Vec<_>>())
    .fetch_all(tx)
    .await
}

/// The reminders of these tasks, by task, locked against being fired meanwhile.
pub(crate) async fn lock(
    tx: &mut PgConnection,
    user_ids: &[Uuid],
    tasks: &[&Task],
) -> Result<HashMap<Uuid, Vec<Known>>, sqlx::Error> {
    let rows = sqlx::query(
        "select r.task_id, r.id, r.state, r.fire_at
         from unnest($1::uuid[], $2::uuid[]) as t (user_id, task_id)
         join reminders.reminders r using (user_id, task_id)
         for update of r",
    )
    .bind(user_ids)
    .bind(tasks.iter().map(|task| task.id).collect::<Vec<_>>())
    .fetch_all(tx)
    .await?;
    let mut known: HashMap<Uuid, Vec<Known>> = HashMap::new();
    for row in rows {
        let reminder = Known {
            id: row.try_get(1)?,
            state: match row.try_get(2)? {
                "armed" => State::Armed,
                "fired" => State::Fired,
                _ => State::Cancelled,
            },
            fire_at: row.try_get(3)?,
        };
        known.entry(row.try_get(0)?).or_default().push(reminder);
    }
    Ok(known)
}

/// A reminder to write.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) user_id: Uuid,
    pub(crate) task_id: Uuid,
    pub(crate) id: Uuid,
    pub(crate) fire_at: Timestamp,
    pub(crate) priority: Priority,
    /// `None` arms it.
    pub(crate) cancelled: Option<&'static str>,
}

/// Arms and cancels.
pub(crate) async fn write(tx: &mut PgConnection, writes: &[Write]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into reminders.reminders as r (user_id, task_id, id, fire_at, urgency, reason, state)
         select *, case when reason is null then 'armed' else 'cancelled' end
         from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::smallint[], $6::text[])
              as w (user_id, task_id, id, fire_at, urgency, reason)
         on conflict (user_id, task_id, id) do update
             set state = excluded.state, fire_at = excluded.fire_at, urgency = excluded.urgency,
                 reason = excluded.reason, fired_at = null",
    )
    .bind(writes.iter().map(|w| w.user_id).collect::<Vec<_>>())
    .bind(writes.iter().map(|w| w.task_id).collect::<Vec<_>>())
    .bind(writes.iter().map(|w| w.id).collect::<Vec<_>>())
    .bind(writes.iter().map(|w| w.fire_at).collect::<Vec<_>>())
    .bind(writes.iter().map(|w| urgency(w.priority)).collect::<Vec<_>>())
    .bind(writes.iter().map(|w| w.cancelled).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// Keeps the urgency of armed reminders that of their tasks: another priority is no other time, so nothing else changes
/// these rows.
pub(crate) async fn rank(
    tx: &mut PgConnection,
    user_ids: &[Uuid],
    tasks: &[&Task],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update reminders.reminders r set urgency = t.urgency
         from unnest($1::uuid[], $2::uuid[], $3::smallint[]) as t (user_id, task_id, urgency)
         where r.user_id = t.user_id and r.task_id = t.task_id and r.state = 'armed' and r.urgency <> t.urgency",
    )
    .bind(user_ids)
    .bind(tasks.iter().map(|task| task.id).collect::<Vec<_>>())
    .bind(tasks.iter().map(|task| urgency(task.priority)).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// Of those that are due in one instant the urgent ones ring first: 0 before 3.
fn urgency(priority: Priority) -> i16 {
    match priority {
        Priority::Urgent => 0,
        Priority::High => 1,
        Priority::Medium => 2,
        Priority::Low => 3,
    }
}

/// A reminder that was marked as fired.
#[derive(Debug)]
pub(crate) struct Fired {
    pub(crate) user_id: Uuid,
    pub(crate) id: Uuid,
    pub(crate) fire_at: Timestamp,
    pub(crate) fired_at: Timestamp,
    pub(crate) task: Task,
}

/// Marks up to `limit` due reminders as fired and returns them. This is where "fire now" is decided: due is what the
/// database's clock says, and `now()` is when the transaction began, so never ahead of it. Rows that another replica is
/// firing, or an event is changing, are passed by.
pub(crate) async fn fire_due(tx: &mut PgConnection, limit: i64) -> Result<Vec<Fired>, sqlx::Error> {
    let rows = sqlx::query(
        "with due as materialized (
             select user_id, task_id, id from reminders.reminders
             where state = 'armed' and fire_at <= now()
             order by fire_at, urgency limit $1
             for update skip locked
         )
         update reminders.reminders r set state = 'fired', fired_at = now()
         from due join reminders.tasks t using (user_id, task_id)
         where r.user_id = due.user_id and r.task_id = due.task_id and r.id = due.id
         returning r.user_id, r.id, r.fire_at, r.fired_at, r.urgency, t.snapshot",
    )
    .bind(limit)
    .fetch_all(tx)
    .await?;
    let mut fired = rows
        .into_iter()
        .map(|row| {
            let Json(task): Json<Task> = row.try_get(5)?;
            Ok(Fired {
                user_id: row.try_get(0)?,
                id: row.try_get(1)?,
                fire_at: row.try_get(2)?,
                fired_at: row.try_get(3)?,
                task,
            })
        })
        .collect::<Result<Vec<_>, sqlx::Error>>()?;
    // UPDATE … RETURNING promises no order.
    fired.sort_by_key(|f| (f.fire_at, urgency(f.task.priority)));
    Ok(fired)
}

/// When the next armed reminder is due, and how long that is from now by the database's clock, in seconds; negative when
/// it is overdue.
pub(crate) async fn next_due(db: impl PgExecutor<'_>) -> Result<Option<(Timestamp, f64)>, sqlx::Error> {
    sqlx::query_as(
        "select fire_at, extract(epoch from fire_at - clock_timestamp())::float8
         from reminders.reminders where state = 'armed' order by fire_at limit 1",
    )
    .fetch_optional(db)
    .await
}
