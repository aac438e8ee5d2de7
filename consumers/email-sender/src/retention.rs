//! Deliveries and mails about accounts that are over are kept for a while, for whoever asks what became of one, and then
//! removed.

use db::sweep::{self, BITE};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

/// A bite out of each table.
const SWEEPS: [&str; 2] = [
    "delete from delivery.deliveries where id in (
         select id from delivery.deliveries
         where state <> 'pending' and finished_at < now() - make_interval(days => $1)
         limit $2)",
    "delete from delivery.account_mails where id in (
         select id from delivery.account_mails
         where state <> 'pending' and finished_at < now() - make_interval(days => $1)
         limit $2)",
];

/// Removes what ended longer ago than that, every hour until `shutdown`. What is pending stays, however old it is.
pub async fn sweep_hourly(pool: PgPool, retention_days: i32, shutdown: CancellationToken) {
    sweep::hourly("deliveries", pool, shutdown, move |pool| async move {
        let mut largest = 0;
        for sweep in SWEEPS {
            let done = sqlx::query(sweep)
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
