//! Deliveries that are over are kept for a while, for whoever asks what became of a mail, and then removed.

use db::sweep::{self, BITE};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

/// Removes what ended longer ago than that, every hour until `shutdown`. What is pending stays, however old it is.
pub async fn sweep_hourly(pool: PgPool, retention_days: i32, shutdown: CancellationToken) {
    sweep::hourly("deliveries", pool, shutdown, move |pool| async move {
        let done = sqlx::query(
            "delete from delivery.deliveries where id in (
                 select id from delivery.deliveries
                 where state <> 'pending' and finished_at < now() - make_interval(days => $1)
                 limit $2)",
        )
        .bind(retention_days)
        .bind(BITE.cast_signed())
        .execute(&pool)
        .await?;
        Ok(done.rows_affected())
    })
    .await;
}
