//! The table of digests: many notifications in one mail. A delivery that waits for its digest is 'collected', and ends as the
//! digest does.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use delivery::milliseconds;
use schemas::Timestamp;
use service::trace::Trace;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool, Row};
use uuid::Uuid;

use super::claim::{claimed_with_recipient, from_row, recipient_columns, trace};
use super::{Arranged, CHANNEL, Claim, How, Outcome, What};
use crate::moot;

/// The state of a delivery that waits for its digest.
pub const COLLECTED: &str = "collected";
/// How many are told of in one digest; of more it says how many there are.
pub const MAX_LINES: usize = 100;

/// The namespace of ids: never changed, or a replay would make other digests.
const NAMESPACE: Uuid = Uuid::from_u128(0x3b9f_5d0a_7c1e_4f6b_8a2d_52e0_6a1e_8003);

/// The id of a digest. It follows from the person and the time.
pub fn id(user_id: Uuid, at: Timestamp) -> Uuid {
    let name = format!("{user_id}/{}/{CHANNEL}", at.timestamp_micros());
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

/// Opens the digests that these are collected for, and holds them until the caller's transaction ends, so that none is written
/// down as sent meanwhile. What is late for a digest that went out is mailed by itself.
pub async fn open(tx: &mut PgConnection, arranged: &mut [Arranged]) -> Result<(), sqlx::Error> {
    let mut digests: Vec<(Uuid, Uuid, Timestamp)> = arranged
        .iter()
        .filter_map(|a| match a.how {
            How::Collected { at } => Some((id(a.event.user_id, at), a.event.user_id, at)),
            _ => None,
        })
        .collect();
    if digests.is_empty() {
        return Ok(());
    }
    // In one order for all, or two transactions would wait for each other.
    digests.sort_unstable();
    digests.dedup();
    let states: HashMap<Uuid, String> = sqlx::query_as(
        "insert into delivery.digests as d (id, user_id, channel, due_at, next_attempt_at)
         select id, user_id, $1, due_at, due_at from unnest($2::uuid[], $3::uuid[], $4::timestamptz[]) as n (id, user_id, due_at)
         on conflict (id) do update set due_at = excluded.due_at
         returning d.id, d.state",
    )
    .bind(CHANNEL)
    .bind(digests.iter().map(|(id, _, _)| *id).collect::<Vec<_>>())
    .bind(digests.iter().map(|(_, user_id, _)| *user_id).collect::<Vec<_>>())
    .bind(digests.iter().map(|(_, _, at)| *at).collect::<Vec<_>>())
    .fetch_all(tx)
    .await?
    .into_iter()
    .collect();
    for a in arranged {
        if let How::Collected { at } = a.how
            && states
                .get(&id(a.event.user_id, at))
                .is_some_and(|state| state != "pending")
        {
            a.how = How::AtOnce;
        }
    }
    Ok(())
}

/// A digest, as it is when it is claimed.
#[derive(Debug, Clone)]
pub struct Collection {
    /// When it was due.
    pub due_at: Timestamp,
    /// What is in it, the oldest first.
    pub items: Vec<Item>,
    /// What was to be in it and is moot, and why.
    pub moot: Vec<(Item, &'static str)>,
}

/// A notification in a digest.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its delivery.
    pub id: Uuid,
    pub reminder_id: Uuid,
    pub task_id: Uuid,
    pub fire_at: Timestamp,
    /// Whether the reminder was too late to ring.
    pub missed: bool,
    /// The task when it rang; `None` behind the first [`MAX_LINES`].
    pub task: Option<serde_json::Value>,
    pub trace: Option<Trace>,
}

/// Claims digests that are due, longest due first.
pub async fn claim(pool: &PgPool, lease: Duration, limit: usize) -> Result<Vec<Claim>, sqlx::Error> {
    let claimed = Instant::now();
    let rows = sqlx::query(concat!(
        "with due as (
             select id from delivery.digests
             where channel = $1 and state = 'pending' and next_attempt_at <= now()
             order by next_attempt_at limit $2
             for update skip locked
         ), claimed as (
             update delivery.digests d
             set next_attempt_at = now() + $3 * interval '1 millisecond', attempts = attempts + 1
             from due where d.id = due.id
             returning d.id, d.user_id, d.attempts, d.due_at
         )
         select c.*, ",
        recipient_columns!(),
        ", extract(epoch from now() - c.due_at)::float8 as age
         from ",
        claimed_with_recipient!(),
    ))
    .bind(CHANNEL)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .bind(milliseconds(lease))
    .fetch_all(pool)
    .await?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let ids = rows
        .iter()
        .map(|row| row.try_get("id"))
        .collect::<Result<Vec<Uuid>, _>>()?;
    // After the claims: what comes later finds them under way, and is seen when they are written down.
    let mut all = items(pool, &ids).await?;
    let collected: Vec<Uuid> = all.values().flatten().map(|item| item.id).collect();
    let reasons = moot::find(pool, &collected).await?;
    rows.iter()
        .zip(ids)
        .map(|(row, id)| {
            let (mut items, mut moot) = (Vec::new(), Vec::new());
            for item in all.remove(&id).unwrap_or_default() {
                match reasons.get(&item.id) {
                    Some(why) => moot.push((item, *why)),
                    None => items.push(item),
                }
            }
            let due_at = row.try_get("due_at")?;
            let traces = items.iter().filter_map(|item| item.trace).collect();
            let collection = Collection { due_at, items, moot };
            from_row(row, What::Digest(collection), traces, claimed)
        })
        .collect()
}

async fn items(pool: &PgPool, digests: &[Uuid]) -> Result<HashMap<Uuid, Vec<Item>>, sqlx::Error> {
    let rows = sqlx::query(
        "select digest_id, id, reminder_id, task_id, fire_at, kind, traceparent,
                case when n <= $3 then task end as task
         from (select *, row_number() over (partition by digest_id order by fire_at, id) as n
               from delivery.deliveries where digest_id = any($1) and state = $2) d
         order by digest_id, n",
    )
    .bind(digests)
    .bind(COLLECTED)
    .bind(i64::try_from(MAX_LINES).unwrap_or(i64::MAX))
    .fetch_all(pool)
    .await?;
    let mut items: HashMap<Uuid, Vec<Item>> = HashMap::new();
    for row in rows {
        let task: Option<Json<serde_json::Value>> = row.try_get("task")?;
        let kind: &str = row.try_get("kind")?;
        items.entry(row.try_get("digest_id")?).or_default().push(Item {
            id: row.try_get("id")?,
            reminder_id: row.try_get("reminder_id")?,
            task_id: row.try_get("task_id")?,
            fire_at: row.try_get("fire_at")?,
            missed: kind == preferences::Kind::ReminderMissed.name(),
            task: task.map(|Json(task)| task),
            trace: trace(&row)?,
        });
    }
    Ok(items)
}

/// Writes outcomes of digests, and those of what was in them.
pub async fn write(
    tx: &mut PgConnection,
    outcomes: &[(usize, &Outcome)],
) -> Result<Vec<(usize, PgRow)>, sqlx::Error> {
    let query = delivery::outcome_update!(
        update "delivery.digests",
        set "message_id = coalesce(o.message_id, d.message_id)",
        returning "d.id, d.attempts, d.finished_at, extract(epoch from d.finished_at - d.due_at)::float8 as took"
    );
    let written = delivery::write(tx, query, outcomes).await?;
    let given: HashMap<usize, &Outcome> = outcomes.iter().copied().collect();
    for (index, row) in &written {
        let (Some(outcome), Some(finished_at)) = (
            given.get(index),
            row.try_get::<Option<Timestamp>, _>("finished_at")?,
        ) else {
            continue;
        };
        let What::Digest(collection) = &outcome.claim.message.what else {
            continue;
        };
        sqlx::query(
            "update delivery.deliveries
             set state = $2, attempts = $3, finished_at = $4, message_id = $5, last_error = $6
             where id = any($1) and state = $7",
        )
        .bind(collection.items.iter().map(|item| item.id).collect::<Vec<_>>())
        .bind(outcome.verdict.state())
        .bind(row.try_get::<i32, _>("attempts")?)
        .bind(finished_at)
        .bind(outcome.verdict.message_id())
        .bind(outcome.verdict.reason())
        .bind(COLLECTED)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "update delivery.deliveries d set state = 'suppressed', finished_at = $3, last_error = m.why
             from unnest($1::uuid[], $2::text[]) as m (id, why) where d.id = m.id and d.state = $4",
        )
        .bind(
            collection
                .moot
                .iter()
                .map(|(item, _)| item.id)
                .collect::<Vec<_>>(),
        )
        .bind(collection.moot.iter().map(|(_, why)| *why).collect::<Vec<_>>())
        .bind(finished_at)
        .bind(COLLECTED)
        .execute(&mut *tx)
        .await?;
        // What came while it was under way is mailed by itself.
        sqlx::query(
            "update delivery.deliveries set state = 'pending', next_attempt_at = now(), digest_id = null
             where digest_id = $1 and state = $2",
        )
        .bind(outcome.claim.id)
        .bind(COLLECTED)
        .execute(&mut *tx)
        .await?;
    }
    Ok(written)
}
