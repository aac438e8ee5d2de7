//! What is old is removed from people's lists.

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

/// A bite out of the table.
static SWEEPS: [&str; 1] = ["delete from notifications.notifications where (user_id, id) in (
         select user_id, id from notifications.notifications
         where at < now() - make_interval(days => $1)
         limit $2)"];

/// Removes what is older than that, every hour until `shutdown`.
pub async fn sweep_hourly(pool: PgPool, retention_days: i32, shutdown: CancellationToken) {
    delivery::sweep_hourly("notifications", &SWEEPS, pool, retention_days, shutdown).await;
}
