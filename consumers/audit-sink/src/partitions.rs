//! A partition for each day, made ahead and dropped after the retention.

use std::time::Duration;

use chrono::{Days, NaiveDate};
use sqlx::{PgConnection, PgPool};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// How often days that came near get their partition, and days that are over lose it.
const INTERVAL: Duration = Duration::from_hours(1);
/// How soon it is tried again when it did not work.
const RETRY: Duration = Duration::from_mins(1);
/// Days before today that get a partition: the oldest events that a topic still holds.
const BEHIND: u64 = 7;
/// Days after today that get a partition: so long may this not work before rows go to the default partition.
const AHEAD: u64 = 7;

/// Keeps the partitions as they should be until `shutdown`, and tells through `tried` when it was tried once.
///
/// # Errors
/// Never: what does not work is logged and tried again.
pub async fn maintain(
    pool: PgPool,
    retention_days: i32,
    tried: oneshot::Sender<()>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut tried = Some(tried);
    loop {
        let pause = match round(&pool, retention_days).await {
            Ok(dropped) => {
                for partition in dropped {
                    tracing::info!(audit.partition = partition, "dropped after its retention");
                }
                INTERVAL
            }
            Err(error) => {
                tracing::warn!(error = %error, "partitions of the audit trail could not be kept; tried again soon");
                RETRY
            }
        };
        if let Some(tried) = tried.take() {
            // Nobody listens any more when the service stops.
            tried.send(()).ok();
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Makes the partitions of the days around today, and drops those of the days before the retention, whose names it
/// returns.
///
/// # Errors
/// When the database does not answer or refuses, or a lock is not to be had at once.
pub async fn round(pool: &PgPool, retention_days: i32) -> Result<Vec<String>, sqlx::Error> {
    // The database's clock, as everywhere.
    let today: NaiveDate = sqlx::query_scalar("select (now() at time zone 'UTC')::date")
        .fetch_one(pool)
        .await?;
    let oldest = today - Days::new(retention_days.unsigned_abs().into());
    let mut day = (today - Days::new(BEHIND)).max(oldest);
    while day <= today + Days::new(AHEAD) {
        ensure(pool, day).await?;
        day = day + Days::new(1);
    }
    drop_before(pool, oldest).await
}

/// Makes the partition of a day unless it is there. Rows of that day that lie in the default partition move over.
///
/// # Errors
/// When the database does not answer or refuses, or a lock is not to be had at once.
pub async fn ensure(pool: &PgPool, day: NaiveDate) -> Result<(), sqlx::Error> {
    let mut tx = pool.begin().await?;
    wait_briefly(&mut tx).await?;
    // A day a transaction: none holds its locks for the others.
    sqlx::query("select audit.ensure_partitions($1, 1)")
        .bind(day)
        .execute(&mut *tx)
        .await?;
    tx.commit().await
}

/// Drops the partitions of days before that one, and returns their names.
///
/// # Errors
/// When the database does not answer or refuses, or a lock is not to be had at once.
pub async fn drop_before(pool: &PgPool, day: NaiveDate) -> Result<Vec<String>, sqlx::Error> {
    let mut tx = pool.begin().await?;
    wait_briefly(&mut tx).await?;
    let dropped = sqlx::query_scalar("select audit.drop_partitions($1)")
        .bind(day)
        .fetch_all(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(dropped)
}

/// Making and dropping take locks that a long query holds back; and whoever waits for them holds back the inserts behind.
async fn wait_briefly(tx: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("set local lock_timeout = '2s'").execute(tx).await?;
    Ok(())
}
