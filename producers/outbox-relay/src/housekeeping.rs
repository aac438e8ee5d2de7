//! What the relay does beside publishing: how much is waiting, and emptying the parts of the ring that are published.

use std::collections::BTreeMap;
use std::time::Duration;

use service::Component;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::metrics;

/// How often the backlog is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(5);
/// After how many measurements the ring is looked at.
const TRUNCATE_EVERY: u32 = 12;
/// The parts of the ring, one for each hour: the migration of the outbox made them.
const SLOTS: i16 = 6;

pub(crate) async fn run(
    pool: PgPool,
    component: Component,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut rounds = 0_u32;
    loop {
        component.progress();
        match measure(&pool).await {
            Ok(()) => component.ready(),
            Err(error) => component.not_ready(format!("Postgres does not answer: {error}")),
        }
        if rounds.is_multiple_of(TRUNCATE_EVERY) {
            for slot in 0..SLOTS {
                match truncate(&pool, slot).await {
                    Ok(true) => {
                        metrics::TRUNCATED.with_label_values(&[&slot.to_string()]).inc();
                        tracing::info!(outbox.slot = slot, "a published part of the outbox is emptied");
                    }
                    Ok(false) => {}
                    // A writer is in it, or the database is away: another minute will do.
                    Err(error) => tracing::debug!(outbox.slot = slot, error = %error, "slot left as it is"),
                }
            }
        }
        rounds = rounds.wrapping_add(1);
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = sleep(MEASURE_EVERY) => {}
        }
    }
}

/// Sets the gauges of what waits.
async fn measure(pool: &PgPool) -> Result<(), sqlx::Error> {
    let mut shards: BTreeMap<i16, (i64, f64)> = BTreeMap::new();
    for waiting in db::outbox::waiting(pool).await? {
        let (rows, oldest_seconds) = shards.entry(waiting.shard).or_default();
        *rows += waiting.rows;
        *oldest_seconds = oldest_seconds.max(waiting.oldest_seconds);
    }
    for (shard, (rows, oldest_seconds)) in shards {
        let shard = shard.to_string();
        metrics::BACKLOG_ROWS.with_label_values(&[&shard]).set(rows);
        metrics::OLDEST_SECONDS
            .with_label_values(&[&shard])
            .set(oldest_seconds);
    }
    Ok(())
}

/// Empties a slot of the ring if every row in it is published and it is neither this hour's nor the last one's. Returns
/// whether it did.
async fn truncate(pool: &PgPool, slot: i16) -> Result<bool, sqlx::Error> {
    let mut tx = pool.begin().await?;
    // The slot's name is made of a number of ours.
    let table = format!("outbox.events_{slot}");
    let due: bool = sqlx::query_scalar(AssertSqlSafe(format!(
        "select ((extract(epoch from now())::bigint / 3600) % {SLOTS} - $1 + {SLOTS}) % {SLOTS} >= 2
            and exists (select from {table})"
    )))
    .bind(i64::from(slot))
    .fetch_one(&mut *tx)
    .await?;
    if !due {
        return Ok(false);
    }
    // A transaction that began hours ago may still write here; we don't wait for it, and nobody waits for us.
    sqlx::query("set local lock_timeout = '100ms'")
        .execute(&mut *tx)
        .await?;
    sqlx::query(AssertSqlSafe(format!(
        "lock table only {table} in access exclusive mode"
    )))
    .execute(&mut *tx)
    .await?;
    let published: bool = sqlx::query_scalar(AssertSqlSafe(format!(
        "select not exists (
             select from outbox.cursors c join {table} e on e.shard = c.shard
             where e.xid >= pg_snapshot_xmin(c.done) and not pg_visible_in_snapshot(e.xid, c.done))"
    )))
    .fetch_one(&mut *tx)
    .await?;
    if published {
        sqlx::query(AssertSqlSafe(format!("truncate table only {table}")))
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    Ok(published)
}
