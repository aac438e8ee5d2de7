//! Deliveries that are over are kept for a while, for whoever asks what became of one, and then removed with the log of
//! their requests.

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

/// A bite out of each table: deliveries and their log, secrets that sign no more, places in line of endpoints that are no
/// more.
static SWEEPS: [&str; 3] = [
    "with old as (
         select id from webhooks.deliveries
         where state <> 'pending' and finished_at < now() - make_interval(days => $1)
         limit $2
     ), log as (
         delete from webhooks.attempts where delivery_id in (select id from old)
     )
     delete from webhooks.deliveries where id in (select id from old)",
    "delete from webhooks.secrets where ctid in (
         select ctid from webhooks.secrets
         where expires_at < now() - make_interval(days => least($1, 1)) limit $2)",
    "delete from webhooks.queues where endpoint_id in (
         select q.endpoint_id from webhooks.queues q
         where $1 > 0 and q.due_at is null
           and not exists (select from webhooks.endpoints e where e.user_id = q.user_id and e.id = q.endpoint_id)
         limit $2)",
];

/// Removes what ended longer ago than that, every hour until `shutdown`. What is pending stays, however old it is.
pub async fn sweep_hourly(pool: PgPool, retention_days: i32, shutdown: CancellationToken) {
    delivery::sweep_hourly("webhooks", &SWEEPS, pool, retention_days, shutdown).await;
}
