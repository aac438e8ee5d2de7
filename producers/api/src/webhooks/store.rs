//! SQL of the schema `webhooks`, as far as it is the API's. Times of deliveries are the database's.

use std::collections::{BTreeMap, HashMap};

use ::webhooks::{Secret, TEST, delivery_id, wake};
use chrono::TimeDelta;
use schemas::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor, Row};
use uuid::Uuid;

use super::{MAX_WEBHOOKS, Replay, Rotation, Webhook};
use crate::problem::{Kind, Problem};

/// Old secrets of a webhook that sign along at most.
const MAX_OLD_SECRETS: i64 = 3;
/// Deliveries that one request replays at most.
const MAX_REPLAYED: i64 = 10_000;
/// Requests of a delivery that are shown.
const SHOWN_ATTEMPTS: i64 = 20;

macro_rules! columns {
    () => {
        "id, version, url, description, event_types, disabled_reason, disabled_at, created_at, updated_at"
    };
}

fn from_row(row: &PgRow) -> Result<Webhook, sqlx::Error> {
    let reason: Option<String> = row.try_get("disabled_reason")?;
    let at: Option<Timestamp> = row.try_get("disabled_at")?;
    Ok(Webhook {
        id: row.try_get("id")?,
        version: row.try_get("version")?,
        url: row.try_get("url")?,
        description: row.try_get("description")?,
        event_types: row.try_get("event_types")?,
        disabled: reason.zip(at),
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

/// Writes a new webhook and its secret, if there is room for one more.
///
/// # Errors
/// [`Kind::TooManyWebhooks`]; otherwise when the database does not answer or refuses.
pub async fn insert(
    tx: &mut PgConnection,
    user_id: Uuid,
    webhook: &Webhook,
    secret: &Secret,
) -> Result<(), Problem> {
    // Locked, so that two at once do not both find room for one more.
    let person =
        sqlx::query("select from accounts.users where id = $1 and deleted_at is null for no key update")
            .bind(user_id)
            .fetch_optional(&mut *tx)
            .await?;
    person.ok_or_else(Problem::no_such_account)?;
    let count: i64 = sqlx::query_scalar("select count(*) from webhooks.endpoints where user_id = $1")
        .bind(user_id)
        .fetch_one(&mut *tx)
        .await?;
    if count >= MAX_WEBHOOKS {
        let detail = format!("A person may have {MAX_WEBHOOKS} webhooks: delete one first.");
        return Err(Problem::new(Kind::TooManyWebhooks, detail));
    }
    sqlx::query(
        "insert into webhooks.endpoints (user_id, id, version, url, description, event_types, enabled, disabled_reason,
                                         disabled_at, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7 is null, $7, $8, $9, $10)",
    )
    .bind(user_id)
    .bind(webhook.id)
    .bind(webhook.version)
    .bind(&webhook.url)
    .bind(&webhook.description)
    .bind(&webhook.event_types)
    .bind(webhook.disabled.as_ref().map(|(reason, _)| reason))
    .bind(webhook.disabled.as_ref().map(|(_, at)| at))
    .bind(webhook.created_at)
    .bind(webhook.updated_at)
    .execute(&mut *tx)
    .await?;
    insert_secret(tx, user_id, webhook.id, secret).await?;
    Ok(())
}

async fn insert_secret(
    tx: &mut PgConnection,
    user_id: Uuid,
    id: Uuid,
    secret: &Secret,
) -> Result<(), sqlx::Error> {
    sqlx::query("insert into webhooks.secrets (user_id, endpoint_id, secret) values ($1, $2, $3)")
        .bind(user_id)
        .bind(id)
        .bind(secret.bytes())
        .execute(tx)
        .await?;
    Ok(())
}

/// The person's webhook of that id.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn get(db: impl PgExecutor<'_>, user_id: Uuid, id: Uuid) -> Result<Option<Webhook>, sqlx::Error> {
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        " from webhooks.endpoints where user_id = $1 and id = $2"
    ))
    .bind(user_id)
    .bind(id)
    .fetch_optional(db)
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// The same, locked until the transaction ends.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn lock(tx: &mut PgConnection, user_id: Uuid, id: Uuid) -> Result<Option<Webhook>, sqlx::Error> {
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        " from webhooks.endpoints where user_id = $1 and id = $2 for update"
    ))
    .bind(user_id)
    .bind(id)
    .fetch_optional(tx)
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// A page of the person's webhooks, newest first, those made before `before` only.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn list(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Webhook>, sqlx::Error> {
    let rows = sqlx::query(concat!(
        "select ",
        columns!(),
        " from webhooks.endpoints
         where user_id = $1 and id < coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
         order by id desc limit $3"
    ))
    .bind(user_id)
    .bind(before)
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.iter().map(from_row).collect()
}

/// Writes a changed webhook, locked before in the same transaction. `afresh`: what failed before counts no more.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn update(
    tx: &mut PgConnection,
    user_id: Uuid,
    webhook: &Webhook,
    afresh: bool,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update webhooks.endpoints
         set version = $3, url = $4, description = $5, event_types = $6, enabled = $7 is null, disabled_reason = $7,
             disabled_at = $8, updated_at = $9
         where user_id = $1 and id = $2",
    )
    .bind(user_id)
    .bind(webhook.id)
    .bind(webhook.version)
    .bind(&webhook.url)
    .bind(&webhook.description)
    .bind(&webhook.event_types)
    .bind(webhook.disabled.as_ref().map(|(reason, _)| reason))
    .bind(webhook.disabled.as_ref().map(|(_, at)| at))
    .bind(webhook.updated_at)
    .execute(&mut *tx)
    .await?;
    if afresh {
        sqlx::query(
            "update webhooks.queues
             set failures = 0, failing_since = null, open_until = null, due_at = least(due_at, now())
             where user_id = $1 and endpoint_id = $2",
        )
        .bind(user_id)
        .bind(webhook.id)
        .execute(tx)
        .await?;
    }
    Ok(())
}

/// Removes a webhook and its secrets, locked before in the same transaction. What waits is not sent any more; the log goes
/// when its time has come.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn delete(tx: &mut PgConnection, user_id: Uuid, id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("delete from webhooks.endpoints where user_id = $1 and id = $2")
        .bind(user_id)
        .bind(id)
        .execute(tx)
        .await?;
    Ok(())
}

/// A secret of a webhook.
#[derive(Debug)]
pub struct KeptSecret {
    /// It.
    pub secret: Secret,
    /// Until when it signs along; `None` when it is the current one.
    pub expires_at: Option<Timestamp>,
}

/// What requests of a webhook are signed with, newest first.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn secrets(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    id: Uuid,
) -> Result<Vec<KeptSecret>, sqlx::Error> {
    let rows: Vec<(Vec<u8>, Option<Timestamp>)> = sqlx::query_as(
        "select secret, expires_at from webhooks.secrets
         where user_id = $1 and endpoint_id = $2 and (expires_at is null or expires_at > now())
         order by expires_at desc nulls first, created_at desc",
    )
    .bind(user_id)
    .bind(id)
    .fetch_all(db)
    .await?;
    let kept = rows.into_iter().filter_map(|(bytes, expires_at)| {
        // The table takes no others.
        let secret = Secret::from_bytes(bytes).ok()?;
        Some(KeptSecret { secret, expires_at })
    });
    Ok(kept.collect())
}

/// Gives a webhook, locked before in the same transaction, another secret. Those before sign along for a while.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn rotate(
    tx: &mut PgConnection,
    user_id: Uuid,
    id: Uuid,
    secret: &Secret,
    rotation: &Rotation,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update webhooks.secrets
         set expires_at = least(coalesce(expires_at, 'infinity'), now() + make_interval(hours => $3))
         where user_id = $1 and endpoint_id = $2",
    )
    .bind(user_id)
    .bind(id)
    .bind(rotation.old_valid_hours)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "delete from webhooks.secrets where ctid in (
             select ctid from webhooks.secrets where user_id = $1 and endpoint_id = $2
             order by expires_at desc, created_at desc offset $3)",
    )
    .bind(user_id)
    .bind(id)
    .bind(MAX_OLD_SECRETS)
    .execute(&mut *tx)
    .await?;
    insert_secret(tx, user_id, id, secret).await
}

/// One event for one webhook.
#[derive(Debug)]
pub struct Delivery {
    /// The `webhook-id`.
    pub id: Uuid,
    /// The event.
    pub event_id: Uuid,
    /// Its type.
    pub event_type: String,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// The beginning of what is sent.
    pub body: String,
    /// See `webhooks.deliveries`.
    pub state: String,
    /// How often it was sent.
    pub attempts: i32,
    /// When it is sent (again), while it is pending.
    pub next_attempt_at: Option<Timestamp>,
    /// Why it was not accepted.
    pub last_error: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Its requests, newest first.
    pub log: Vec<Attempt>,
}

/// A request and its answer.
#[derive(Debug)]
pub struct Attempt {
    /// Counts from 1.
    pub number: i32,
    /// When it was sent.
    pub at: Timestamp,
    /// Where to.
    pub url: String,
    /// With these.
    pub request_headers: BTreeMap<String, String>,
    /// What was answered, if anything was.
    pub status: Option<i32>,
    /// Likewise.
    pub response_headers: Option<BTreeMap<String, String>>,
    /// Its beginning.
    pub response_body: Option<String>,
    /// How long it took.
    pub duration_ms: i64,
    /// Why nothing was answered.
    pub error: Option<String>,
}

/// A place in the log: what comes after it is older.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// When the delivery was made.
    #[serde(with = "chrono::serde::ts_microseconds")]
    pub created_at: Timestamp,
    /// Which of those of that instant.
    pub id: Uuid,
}

macro_rules! delivery_columns {
    () => {
        "id, event_id, event_type, occurred_at, left(body, 4096) as body, state, attempts,
         case when state = 'pending' then next_attempt_at end as next_attempt_at, last_error, created_at, finished_at"
    };
}

fn delivery(row: &PgRow) -> Result<Delivery, sqlx::Error> {
    Ok(Delivery {
        id: row.try_get("id")?,
        event_id: row.try_get("event_id")?,
        event_type: row.try_get("event_type")?,
        occurred_at: row.try_get("occurred_at")?,
        body: row.try_get("body")?,
        state: row.try_get("state")?,
        attempts: row.try_get("attempts")?,
        next_attempt_at: row.try_get("next_attempt_at")?,
        last_error: row.try_get("last_error")?,
        created_at: row.try_get("created_at")?,
        finished_at: row.try_get("finished_at")?,
        log: Vec::new(),
    })
}

/// A page of a webhook's deliveries in these states (all, where there are none), newest first, with their requests.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn deliveries(
    tx: &mut PgConnection,
    user_id: Uuid,
    id: Uuid,
    states: &[&str],
    after: Option<Position>,
    limit: i64,
) -> Result<Vec<Delivery>, sqlx::Error> {
    let rows = sqlx::query(concat!(
        "select ",
        delivery_columns!(),
        " from webhooks.deliveries
         where user_id = $1 and endpoint_id = $2 and (cardinality($3::text[]) = 0 or state = any($3))
           and (created_at, id) < (coalesce($4, 'infinity'), coalesce($5, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
         order by created_at desc, id desc limit $6"
    ))
    .bind(user_id)
    .bind(id)
    .bind(states)
    .bind(after.map(|after| after.created_at))
    .bind(after.map(|after| after.id))
    .bind(limit)
    .fetch_all(&mut *tx)
    .await?;
    let mut found: Vec<Delivery> = rows.iter().map(delivery).collect::<Result<_, _>>()?;
    let places: HashMap<Uuid, usize> = found.iter().enumerate().map(|(n, found)| (found.id, n)).collect();
    let rows = sqlx::query(
        "select a.* from unnest($2::uuid[]) as d (id)
         cross join lateral (
             select * from webhooks.attempts a where a.delivery_id = d.id and a.user_id = $1
             order by a.number desc limit $3
         ) a order by a.number desc",
    )
    .bind(user_id)
    .bind(places.keys().copied().collect::<Vec<_>>())
    .bind(SHOWN_ATTEMPTS)
    .fetch_all(tx)
    .await?;
    for row in &rows {
        let delivery_id: Uuid = row.try_get("delivery_id")?;
        let Some(delivery) = places.get(&delivery_id).and_then(|place| found.get_mut(*place)) else {
            continue;
        };
        let Json(request_headers) = row.try_get("request_headers")?;
        let response_headers: Option<Json<_>> = row.try_get("response_headers")?;
        delivery.log.push(Attempt {
            number: row.try_get("number")?,
            at: row.try_get("at")?,
            url: row.try_get("url")?,
            request_headers,
            status: row.try_get("status")?,
            response_headers: response_headers.map(|Json(headers)| headers),
            response_body: row.try_get("response_body")?,
            duration_ms: row.try_get("duration_ms")?,
            error: row.try_get("error")?,
        });
    }
    Ok(found)
}

/// Has a request sent that only shows that it arrives.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn test(
    tx: &mut PgConnection,
    user_id: Uuid,
    id: Uuid,
    now: Timestamp,
) -> Result<Delivery, sqlx::Error> {
    let event_id = Uuid::now_v7();
    let body = serde_json::json!({
        "type": TEST,
        "timestamp": now.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
        "data": {"event_id": event_id, "webhook_id": id},
    });
    let row = sqlx::query(concat!(
        "insert into webhooks.deliveries (id, user_id, endpoint_id, event_id, event_type, occurred_at, body)
         values ($1, $2, $3, $4, $5, $6, $7) returning ",
        delivery_columns!()
    ))
    .bind(delivery_id(id, event_id))
    .bind(user_id)
    .bind(id)
    .bind(event_id)
    .bind(TEST)
    .bind(now)
    .bind(body.to_string())
    .fetch_one(&mut *tx)
    .await?;
    wake(tx, &[(user_id, id)]).await?;
    delivery(&row)
}

/// Has a delivery sent again, or at once if it waits to be. One that is being sent is left as it is.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn replay(
    tx: &mut PgConnection,
    user_id: Uuid,
    id: Uuid,
    delivery_id: Uuid,
) -> Result<Option<Delivery>, sqlx::Error> {
    wake(&mut *tx, &[(user_id, id)]).await?;
    let row = sqlx::query(concat!(
        "update webhooks.deliveries
         set state = 'pending', finished_at = null,
             attempts_before = case when claimed and next_attempt_at > now() then attempts_before else attempts end,
             next_attempt_at = case when claimed and next_attempt_at > now() then next_attempt_at else now() end
         where user_id = $1 and endpoint_id = $2 and id = $3 returning ",
        delivery_columns!()
    ))
    .bind(user_id)
    .bind(id)
    .bind(delivery_id)
    .fetch_optional(tx)
    .await?;
    row.as_ref().map(delivery).transpose()
}

/// Has the deliveries of a time sent again that have ended, oldest first, as many as one request may. Returns how many, and
/// from when on there are more.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn replay_all(
    tx: &mut PgConnection,
    user_id: Uuid,
    id: Uuid,
    asked: &Replay,
) -> Result<(usize, Option<Timestamp>), sqlx::Error> {
    wake(&mut *tx, &[(user_id, id)]).await?;
    // The instant at which one too many was made is left for the next request, whole.
    let stop: Option<Timestamp> = sqlx::query_scalar(
        "select created_at from webhooks.deliveries
         where user_id = $1 and endpoint_id = $2 and created_at >= $3 and created_at < $4
           and state = any($5)
         order by created_at, id offset $6 limit 1",
    )
    .bind(user_id)
    .bind(id)
    .bind(asked.from)
    .bind(asked.to)
    .bind(states(asked))
    .bind(MAX_REPLAYED)
    .fetch_optional(&mut *tx)
    .await?;
    // All of one instant are of one batch of events, which is far smaller; each request gets on in any case.
    let stop = stop.map(|stop| stop.max(asked.from + TimeDelta::microseconds(1)));
    let done = sqlx::query(
        "update webhooks.deliveries
         set state = 'pending', finished_at = null, attempts_before = attempts, next_attempt_at = now()
         where user_id = $1 and endpoint_id = $2 and created_at >= $3 and created_at < $4 and state = any($5)",
    )
    .bind(user_id)
    .bind(id)
    .bind(asked.from)
    .bind(stop.unwrap_or(asked.to))
    .bind(states(asked))
    .execute(tx)
    .await?;
    Ok((usize::try_from(done.rows_affected()).unwrap_or(usize::MAX), stop))
}

/// Which deliveries a replay is about.
fn states(asked: &Replay) -> Vec<&'static str> {
    if asked.only_failed {
        vec!["failed", "suppressed"]
    } else {
        vec!["failed", "suppressed", "sent"]
    }
}
