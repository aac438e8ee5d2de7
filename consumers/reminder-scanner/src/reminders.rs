//! The scanner's tables. All times are compared by the database's clock.

use std::collections::HashMap;

use schemas::{Priority, Task, Timestamp};
use service::trace::Trace;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgConnection, PgExecutor, Row};
use uuid::Uuid;

use crate::plan::{Known, Next, State};
use crate::rings::{Repeat, Rings};

/// Keeps the newest version of each task. Returns which of `tasks` were newer than what was kept, and whether there was any;
/// the others are old news. Each task comes at most once in `tasks`.
pub(crate) async fn keep_newest(
    tx: &mut PgConnection,
    user_ids: &[Uuid],
    tasks: &[&Task],
) -> Result<HashMap<Uuid, bool>, sqlx::Error> {
    // A row that this statement inserted has no xmax; one that it updated was locked by it first.
    let newer: Vec<(Uuid, bool)> = sqlx::query_as(
        "insert into reminders.tasks as kept (user_id, task_id, version, snapshot)
         select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::jsonb[])
         on conflict (user_id, task_id) do update
             set version = excluded.version, snapshot = excluded.snapshot
             where kept.version < excluded.version
         returning task_id, xmax <> 0",
    )
    .bind(user_ids)
    .bind(tasks.iter().map(|task| task.id).collect::<Vec<_>>())
    .bind(tasks.iter().map(|task| task.version).collect::<Vec<_>>())
    .bind(tasks.iter().map(|task| Json(*task)).collect::<Vec<_>>())
    .fetch_all(tx)
    .await?;
    Ok(newer.into_iter().collect())
}

/// The reminders of these tasks, by task, locked against being fired meanwhile.
pub(crate) async fn lock(
    tx: &mut PgConnection,
    user_ids: &[Uuid],
    tasks: &[&Task],
) -> Result<HashMap<Uuid, Vec<Known>>, sqlx::Error> {
    let rows = sqlx::query(
        "select r.task_id, r.id, r.state, r.fire_at, r.first_at, r.ring, r.nag_every_seconds, r.nag_times,
                r.last_fire_at, r.send_late_within_seconds
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
        known.entry(row.try_get(0)?).or_default().push(read(&row)?);
    }
    Ok(known)
}

fn read(row: &PgRow) -> Result<Known, sqlx::Error> {
    // The table knows no other names.
    let state = State::from_name(row.try_get(2)?).unwrap_or(State::Cancelled);
    let fire_at: Timestamp = row.try_get(3)?;
    let first_at: Option<Timestamp> = row.try_get(4)?;
    let ring = row.try_get(5)?;
    let every: Option<i64> = row.try_get(6)?;
    let times: Option<i32> = row.try_get(7)?;
    let rings = Rings {
        first_at: first_at.unwrap_or(fire_at),
        repeat: every
            .zip(times)
            .map(|(every_seconds, times)| Repeat { every_seconds, times }),
    };
    // A scanner of before these columns moves `fire_at` and nothing else: then it is the first ring, and the only one.
    let of_before = rings.at(ring) != Some(fire_at);
    let last_fire_at: Option<Timestamp> = row.try_get(8)?;
    Ok(Known {
        id: row.try_get(1)?,
        state,
        rings: if of_before {
            Rings {
                first_at: fire_at,
                repeat: None,
            }
        } else {
            rings
        },
        ring: if of_before { 0 } else { ring },
        fire_at,
        // A scanner of before these columns wrote none.
        last_fire_at: match state {
            State::Fired | State::Missed => last_fire_at.max(Some(fire_at)),
            State::Armed | State::Cancelled => last_fire_at,
        },
        send_late_within_seconds: row.try_get(9)?,
    })
}

/// A reminder to arm.
#[derive(Debug)]
pub(crate) struct Arm {
    pub(crate) user_id: Uuid,
    pub(crate) task_id: Uuid,
    pub(crate) next: Next,
    pub(crate) priority: Priority,
    /// When the change was made that arms it.
    pub(crate) changed_at: Timestamp,
    /// The trace of that change.
    pub(crate) trace: Option<Trace>,
}

/// Arms them, or says anew how those that are armed go on. When one last rang stays written down.
pub(crate) async fn arm(tx: &mut PgConnection, arms: &[Arm]) -> Result<(), sqlx::Error> {
    if arms.is_empty() {
        return Ok(());
    }
    let repeat = |a: &Arm| a.next.rings.repeat;
    sqlx::query(
        "insert into reminders.reminders as r (user_id, task_id, id, fire_at, urgency, first_at, ring, nag_every_seconds,
             nag_times, send_late_within_seconds, armed_at, traceparent, state, handled_at)
         select *, 'armed', now()
         from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::smallint[], $6::timestamptz[], $7::integer[],
             $8::bigint[], $9::integer[], $10::bigint[], $11::timestamptz[], $12::text[])
         on conflict (user_id, task_id, id) do update
             set state = excluded.state, fire_at = excluded.fire_at, urgency = excluded.urgency,
                 first_at = excluded.first_at, ring = excluded.ring, nag_every_seconds = excluded.nag_every_seconds,
                 nag_times = excluded.nag_times, send_late_within_seconds = excluded.send_late_within_seconds,
                 armed_at = excluded.armed_at, traceparent = excluded.traceparent, handled_at = excluded.handled_at, reason = null,
                 last_fire_at = case when r.state in ('fired', 'missed') then greatest(r.fire_at, r.last_fire_at)
                     else r.last_fire_at end",
    )
    .bind(arms.iter().map(|a| a.user_id).collect::<Vec<_>>())
    .bind(arms.iter().map(|a| a.task_id).collect::<Vec<_>>())
    .bind(arms.iter().map(|a| a.next.id).collect::<Vec<_>>())
    .bind(arms.iter().map(|a| a.next.fire_at).collect::<Vec<_>>())
    .bind(arms.iter().map(|a| urgency(a.priority)).collect::<Vec<_>>())
    .bind(arms.iter().map(|a| a.next.rings.first_at).collect::<Vec<_>>())
    .bind(arms.iter().map(|a| a.next.ring).collect::<Vec<_>>())
    .bind(arms.iter().map(|a| repeat(a).map(|r| r.every_seconds)).collect::<Vec<_>>())
    .bind(arms.iter().map(|a| repeat(a).map(|r| r.times)).collect::<Vec<_>>())
    .bind(arms.iter().map(|a| a.next.send_late_within_seconds).collect::<Vec<_>>())
    .bind(arms.iter().map(|a| a.changed_at).collect::<Vec<_>>())
    .bind(arms.iter().map(|a| a.trace.map(|trace| trace.to_string())).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// A reminder that waits to ring and will not.
#[derive(Debug)]
pub(crate) struct Cancel {
    pub(crate) user_id: Uuid,
    pub(crate) task_id: Uuid,
    pub(crate) id: Uuid,
    pub(crate) reason: &'static str,
}

/// Cancels them.
pub(crate) async fn cancel(tx: &mut PgConnection, cancels: &[Cancel]) -> Result<(), sqlx::Error> {
    if cancels.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update reminders.reminders r set state = 'cancelled', reason = c.reason, handled_at = now()
         from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[]) as c (user_id, task_id, id, reason)
         where r.user_id = c.user_id and r.task_id = c.task_id and r.id = c.id",
    )
    .bind(cancels.iter().map(|c| c.user_id).collect::<Vec<_>>())
    .bind(cancels.iter().map(|c| c.task_id).collect::<Vec<_>>())
    .bind(cancels.iter().map(|c| c.id).collect::<Vec<_>>())
    .bind(cancels.iter().map(|c| c.reason).collect::<Vec<_>>())
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

/// One reminder's ring, made or missed.
#[derive(Debug, Clone)]
pub struct Rung {
    /// Which reminder.
    pub id: Uuid,
    /// The number of the ring: 0 is the first.
    pub ring: i32,
    /// Its place among the others, with the time at which it was due.
    pub place: Place,
    /// When it was decided about, by the database's clock; never before `fire_at`.
    pub at: Timestamp,
    /// It was too late to be made.
    pub missed: bool,
    /// The task as it is now.
    pub task: Task,
    /// The trace of the change that armed it.
    pub trace: Option<Trace>,
}

/// A row that [`ring_due`] has marked. The task in it is read later, and elsewhere: the session goes on meanwhile.
pub(crate) struct Marked {
    pub(crate) place: Place,
    row: PgRow,
}

impl Marked {
    fn of(row: PgRow) -> Result<Self, sqlx::Error> {
        let place = Place {
            fire_at: row.try_get(0)?,
            urgency: row.try_get(1)?,
            user_id: row.try_get(2)?,
        };
        Ok(Self { place, row })
    }

    /// All of it.
    pub(crate) fn read(&self) -> Result<Rung, sqlx::Error> {
        let Json(task): Json<Task> = self.row.try_get(7)?;
        let trace: Option<&str> = self.row.try_get(8)?;
        Ok(Rung {
            place: self.place,
            id: self.row.try_get(3)?,
            ring: self.row.try_get(4)?,
            at: self.row.try_get(5)?,
            missed: self.row.try_get(6)?,
            task,
            trace: trace.and_then(Trace::parse),
        })
    }
}

/// A place in the order in which reminders ring: by due time, the urgent first, those of one person together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When they are due.
    pub fire_at: Timestamp,
    /// Of those due in one instant the urgent ring first: 0 before 3.
    pub urgency: i16,
    /// Whose they are.
    pub user_id: Uuid,
}

impl Place {
    /// Behind all of that person's at that instant.
    pub(crate) fn behind(self) -> Self {
        Self {
            user_id: Uuid::from_u128(self.user_id.as_u128().saturating_add(1)),
            ..self
        }
    }
}

/// How late any reminder may ring, in seconds, over what it or its person says: "not late at all" allows for the time that
/// firing takes, and a restart.
pub const TOLERANCE_SECONDS: i64 = 60;

/// The setting of a person who is gone, as the column's default.
const SEND_LATE_WITHIN_SECONDS: i64 = 24 * 3600;

/// Decides about up to `limit` due reminders from a place on, in their order, and returns them. This is where "fire now" is
/// decided: due is what the database's clock says, and `now()` is when the transaction began, so never ahead of it. Rows
/// that another replica is firing, or an event is changing, are passed by.
///
/// One that repeats is armed for its first time after now by the same statement: what went by meanwhile is not made up, and is
/// remembered as what had its turn.
pub(crate) async fn ring_due(
    tx: &mut PgConnection,
    limit: usize,
    from: Option<Place>,
) -> Result<Vec<Marked>, sqlx::Error> {
    // The limit stands in the text, a number of ours: PostgreSQL then knows how few rows it is about, and plans once.
    // The locked rows are found again by where they lie, which spares another way through an index.
    let rows = sqlx::query(AssertSqlSafe(format!(
        "with due as materialized (
             select ctid as lies, user_id, task_id, id, urgency, fire_at, ring, nag_every_seconds, nag_times,
                 send_late_within_seconds
             from reminders.reminders
             where state = 'armed' and fire_at <= now() and (fire_at, urgency, user_id) >=
                 (coalesce($1, '-infinity'), coalesce($2, 0::smallint), coalesce($3, uuid '00000000-0000-0000-0000-000000000000'))
             order by fire_at, urgency, user_id limit {limit}
             for update skip locked
         ), decided as materialized (
             select *,
                 case when now() - fire_at <= interval '{TOLERANCE_SECONDS} s' then false
                     else now() - fire_at > interval '{TOLERANCE_SECONDS} s' + interval '1 s' * coalesce(
                         send_late_within_seconds,
                         (select u.send_late_within_seconds from accounts.users u where u.id = due.user_id),
                         {SEND_LATE_WITHIN_SECONDS})
                 end as missed,
                 floor(extract(epoch from now() - fire_at) / nag_every_seconds)::bigint + 1 as step
             from due
         )
         update reminders.reminders r set
             state = case when again then 'armed' when missed then 'missed' else 'fired' end,
             fire_at = case when again then d.fire_at + step * d.nag_every_seconds * interval '1 s' else d.fire_at end,
             ring = case when again then d.ring + step::integer else d.ring end,
             reason = case when missed and not again then 'missed' end,
             fired_at = case when missed then r.fired_at else now() end,
             last_fire_at = d.fire_at + coalesce(least(step - 1, d.nag_times - d.ring) * d.nag_every_seconds, 0) * interval '1 s',
             handled_at = now()
         from decided d
             join reminders.tasks t using (user_id, task_id)
             cross join lateral (values (coalesce(d.ring + step <= d.nag_times, false))) as n (again)
         where r.ctid = d.lies
         returning d.fire_at, d.urgency, d.user_id, d.id, d.ring, r.handled_at, missed, t.snapshot, r.traceparent"
    )))
    .bind(from.map(|place| place.fire_at))
    .bind(from.map(|place| place.urgency))
    .bind(from.map(|place| place.user_id))
    .fetch_all(tx)
    .await?;
    let mut marked = rows.into_iter().map(Marked::of).collect::<Result<Vec<_>, _>>()?;
    // UPDATE … RETURNING promises no order.
    marked.sort_by_key(|one| one.place);
    Ok(marked)
}

/// When the next armed reminder is due, and how long that is from now by the database's clock, in seconds; negative when
/// it is overdue.
pub(crate) async fn next_due(db: impl PgExecutor<'_>) -> Result<Option<(Timestamp, f64)>, sqlx::Error> {
    sqlx::query_as(
        "select fire_at, extract(epoch from fire_at - now())::float8
         from reminders.reminders where state = 'armed' order by fire_at limit 1",
    )
    .fetch_optional(db)
    .await
}
