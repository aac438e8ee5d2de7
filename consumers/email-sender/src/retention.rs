//! Deliveries, digests, decisions and mails about accounts that are over are kept for a while, for whoever asks what became of
//! one, and then removed.

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

/// A bite out of each table.
static SWEEPS: [&str; 4] = [
    "delete from delivery.deliveries where id in (
         select id from delivery.deliveries
         where state <> 'pending' and finished_at < now() - make_interval(days => $1)
         limit $2)",
    "delete from delivery.digests where id in (
         select id from delivery.digests
         where state <> 'pending' and finished_at < now() - make_interval(days => $1)
         limit $2)",
    "delete from delivery.decisions where (user_id, reminder_id, fire_at, kind) in (
         select user_id, reminder_id, fire_at, kind from delivery.decisions
         where decided_at < now() - make_interval(days => $1)
         limit $2)",
    "delete from delivery.account_mails where id in (
         select id from delivery.account_mails
         where state <> 'pending' and finished_at < now() - make_interval(days => $1)
         limit $2)",
];

/// Removes what ended longer ago than that, every hour until `shutdown`. What is pending stays, however old it is.
pub async fn sweep_hourly(pool: PgPool, retention_days: i32, shutdown: CancellationToken) {
    delivery::sweep_hourly("deliveries", &SWEEPS, pool, retention_days, shutdown).await;
}
