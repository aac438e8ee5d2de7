//! What is over is kept for a while, for whoever asks what became of it, and then removed.

use db::sweep::{self, BITE};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

/// Removes what ended longer ago than that, every hour until `shutdown`. Each of `sweeps` takes a bite out of a table: `$1` are
/// the days, `$2` is how many rows it may remove. `what` is for the log.
pub async fn sweep_hourly(
    what: &'static str,
    sweeps: &'static [&'static str],
    pool: PgPool,
    retention_days: i32,
    shutdown: CancellationToken,
) {
    sweep::hourly(what, pool, shutdown, move |pool| async move {
        let mut largest = 0;
        for sweep in sweeps {
            let done = sqlx::query(*sweep)
                .bind(retention_days)
                .bind(BITE.cast_signed())
                .execute(&pool)
                .await?;
            largest = largest.max(done.rows_affected());
        }
        Ok(largest)
    })
    .await;
}
