//! What is to be sent, and what became of it, as an operator looks at it: notifications of every channel, and webhooks. Each
//! channel's sender does the work on its rows.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

/// The states that a delivery can be in; one that is collected waits for its digest, and one that is aside until others have had
/// their turn, because its person has very many.
pub const STATES: [&str; 6] = ["pending", "sent", "failed", "suppressed", "collected", "aside"];

/// What webhooks are called where channels are named. They have tables of their own.
pub const WEBHOOK: &str = "webhook";

/// Which deliveries. What is `None` does not matter.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this person's.
    pub user_id: Option<Uuid>,
    /// Only those in this state.
    pub state: Option<String>,
    /// Only those by this channel.
    pub channel: Option<String>,
    /// Only those that came to be since then.
    pub since: Option<DateTime<Utc>>,
    /// At most so many.
    pub limit: i64,
}

/// A delivery, without what it says.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct Delivery {
    /// Its identity.
    pub id: Uuid,
    /// Whose it is.
    pub user_id: Uuid,
    /// The way that it goes.
    pub channel: String,
    /// The reminder that rang; `None` for a webhook, as are the next two.
    pub reminder_id: Option<Uuid>,
    /// The reminder's task.
    pub task_id: Option<Uuid>,
    /// When it was due to ring.
    pub fire_at: Option<DateTime<Utc>>,
    /// The webhook that it goes to; `None` for any other channel, as is the next one.
    pub endpoint_id: Option<Uuid>,
    /// What it tells.
    pub event_type: Option<String>,
    /// One of [`STATES`].
    pub state: String,
    /// How often it was tried.
    pub attempts: i32,
    /// When it may be tried next, if it is pending.
    pub next_attempt_at: DateTime<Utc>,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// When it came to be.
    pub created_at: DateTime<Utc>,
    /// When it was over.
    pub finished_at: Option<DateTime<Utc>>,
}

/// Deliveries, the newest first.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn list(executor: impl PgExecutor<'_>, filter: &Filter) -> Result<Vec<Delivery>, sqlx::Error> {
    sqlx::query_as(
        "(select id, user_id, channel, reminder_id, task_id, fire_at, null::uuid as endpoint_id, null::text as event_type, state,
                 attempts, next_attempt_at, last_error, created_at, finished_at
          from delivery.deliveries
          where ($1::uuid is null or user_id = $1) and ($2::text is null or state = $2)
            and ($3::text is null or channel = $3) and ($4::timestamptz is null or created_at >= $4)
          order by created_at desc, id limit $5)
         union all
         (select id, user_id, $6, null, null, null, endpoint_id, event_type, state,
                 attempts, next_attempt_at, last_error, created_at, finished_at
          from webhooks.deliveries
          where ($1::uuid is null or user_id = $1) and ($2::text is null or state = $2)
            and ($3::text is null or $3 = $6) and ($4::timestamptz is null or created_at >= $4)
          order by created_at desc, id limit $5)
         order by created_at desc, id limit $5",
    )
    .bind(filter.user_id)
    .bind(&filter.state)
    .bind(&filter.channel)
    .bind(filter.since)
    .bind(filter.limit)
    .bind(WEBHOOK)
    .fetch_all(executor)
    .await
}

/// Gives notifications that failed, the oldest first, another try: they are pending as if they had never been tried. What was
/// sent, or is not to be sent, stays so whatever the filter's state says. Returns their ids. For webhooks `webhooks::retry` does it.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn retry(tx: &mut PgConnection, filter: &Filter) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "with chosen as (
             select id from delivery.deliveries
             where state = 'failed' and ($1::uuid is null or user_id = $1)
               and ($2::text is null or channel = $2) and ($3::timestamptz is null or created_at >= $3)
             order by created_at, id limit $4
             for update skip locked
         )
         update delivery.deliveries d
         set state = 'pending', attempts = 0, next_attempt_at = now(), last_error = null, finished_at = null
         from chosen where d.id = chosen.id
         returning d.id",
    )
    .bind(filter.user_id)
    .bind(&filter.channel)
    .bind(filter.since)
    .bind(filter.limit)
    .fetch_all(tx)
    .await
}
