//! The inbox: which events a consumer has handled. A row goes in with the effect, in one transaction, so an event that
//! comes again (a redelivery, a replay, a rebalance) finds its row and has no second effect.

use std::collections::HashSet;
use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::sweep::{self, BITE};

/// The inbox table of one consumer, named with its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inbox(&'static str);

/// The reminder scanner's.
pub const REMINDER_SCANNER: Inbox = Inbox("reminders.inbox");
/// The recurrence generator's.
pub const RECURRENCE_GENERATOR: Inbox = Inbox("recurrence.inbox");
/// The email sender's.
pub const EMAIL_SENDER: Inbox = Inbox("delivery.inbox");
/// The webhook sender's.
pub const WEBHOOK_SENDER: Inbox = Inbox("webhooks.inbox");
/// The notification inbox's.
pub const NOTIFICATION_INBOX: Inbox = Inbox("notifications.inbox");

/// How long rows are kept: twice the retention of the topics, so that nothing a topic can still deliver is forgotten.
/// What is replayed from elsewhere later than that meets the natural keys of the state tables.
pub const RETENTION: Duration = Duration::from_hours(14 * 24);

impl Inbox {
    /// Writes the events down and returns those that were not there: the ones to handle in this transaction.
    ///
    /// # Errors
    /// When the database does not answer or refuses.
    pub async fn claim(
        self,
        tx: &mut PgConnection,
        event_ids: &[Uuid],
    ) -> Result<HashSet<Uuid>, sqlx::Error> {
        // Sorted, so that two consumers that were given the same events by a rebalance wait and do not deadlock.
        let mut event_ids = event_ids.to_vec();
        event_ids.sort_unstable();
        // The table's name is one of the constants above.
        let fresh: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(format!(
            "insert into {} (event_id) select unnest($1::uuid[]) on conflict do nothing returning event_id",
            self.0
        )))
        .bind(event_ids)
        .fetch_all(tx)
        .await?;
        Ok(fresh.into_iter().collect())
    }

    /// Forgets what is older than [`RETENTION`], every hour until `shutdown`.
    pub async fn sweep_hourly(self, pool: PgPool, shutdown: CancellationToken) {
        sweep::hourly(self.0, pool, shutdown, move |pool| async move {
            self.sweep(&pool).await
        })
        .await;
    }

    /// Forgets at most [`BITE`] events older than [`RETENTION`]. Ids are UUIDv7, so age is a range of the primary key.
    /// Returns how many.
    ///
    /// # Errors
    /// When the database does not answer or refuses.
    pub async fn sweep(self, pool: &PgPool) -> Result<u64, sqlx::Error> {
        let oldest_ms = (chrono::Utc::now() - RETENTION).timestamp_millis();
        let Ok(oldest_ms) = u128::try_from(oldest_ms) else {
            return Ok(0);
        };
        let done = sqlx::query(AssertSqlSafe(format!(
            "delete from {0} where event_id in (select event_id from {0} where event_id < $1 order by event_id limit {BITE})",
            self.0
        )))
        .bind(Uuid::from_u128(oldest_ms << 80))
        .execute(pool)
        .await?;
        Ok(done.rows_affected())
    }
}
