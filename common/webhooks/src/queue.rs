//! Deliveries' ids, and what makes the sender look at an endpoint.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

/// The namespace of delivery ids: never changed, or a replay would bring receivers what they have under another id.
const NAMESPACE: Uuid = Uuid::from_u128(0x2b7d_4d60_93f4_4a3e_8a53_6c1f_0e5d_8007);

/// The states that a delivery can be in.
pub const STATES: [&str; 4] = ["pending", "sent", "failed", "suppressed"];

/// The id of a delivery, and the `webhook-id` of its requests. It follows from the endpoint and the event, so it is the
/// same however often either comes.
#[must_use]
pub fn delivery_id(endpoint_id: Uuid, event_id: Uuid) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{endpoint_id}/{event_id}").as_bytes())
}

/// Has the sender look at endpoints as soon as each may be sent to: to be called in the transaction of the deliveries that it
/// is to see, and before any of these is locked. Their places in line are locked until it commits, so the sender sees all
/// of it or nothing; and it locks them first, too.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn wake(db: impl PgExecutor<'_>, endpoints: &[(Uuid, Uuid)]) -> Result<(), sqlx::Error> {
    if endpoints.is_empty() {
        return Ok(());
    }
    // In their order, so that two who wake the same ones wait and do not deadlock.
    let mut endpoints = endpoints.to_vec();
    endpoints.sort_unstable_by_key(|(_, endpoint_id)| *endpoint_id);
    endpoints.dedup();
    let (user_ids, endpoint_ids): (Vec<Uuid>, Vec<Uuid>) = endpoints.into_iter().unzip();
    // A row that is due already is not written, only locked: a backlog that grows costs nothing here.
    sqlx::query(
        "insert into webhooks.queues as q (endpoint_id, user_id, due_at)
         select endpoint_id, user_id, now() from unnest($1::uuid[], $2::uuid[]) as e (endpoint_id, user_id)
         on conflict (endpoint_id) do update set due_at = greatest(now(), q.open_until)
         where q.due_at is null or q.due_at > greatest(now(), q.open_until)",
    )
    .bind(endpoint_ids)
    .bind(user_ids)
    .execute(db)
    .await?;
    Ok(())
}

/// Gives deliveries that failed, the oldest first, another try, on the schedule from its beginning: those of that person and not
/// older than that, as far as they are given. Returns their ids. For operators, who know no owner.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn retry(
    tx: &mut PgConnection,
    user_id: Option<Uuid>,
    since: Option<DateTime<Utc>>,
    limit: i64,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let chosen: Vec<(Uuid, Uuid, Uuid)> = sqlx::query_as(
        "select id, user_id, endpoint_id from webhooks.deliveries
         where state = 'failed' and ($1::uuid is null or user_id = $1) and ($2::timestamptz is null or created_at >= $2)
         order by created_at, id limit $3",
    )
    .bind(user_id)
    .bind(since)
    .bind(limit)
    .fetch_all(&mut *tx)
    .await?;
    let endpoints: Vec<(Uuid, Uuid)> = chosen.iter().map(|(_, user_id, id)| (*user_id, *id)).collect();
    wake(&mut *tx, &endpoints).await?;
    sqlx::query_scalar(
        "update webhooks.deliveries
         set state = 'pending', attempts_before = attempts, next_attempt_at = now(), last_error = null, finished_at = null
         where id = any($1) and state = 'failed'
         returning id",
    )
    .bind(chosen.iter().map(|(id, ..)| *id).collect::<Vec<_>>())
    .fetch_all(tx)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_follows_from_the_endpoint_and_the_event() {
        let (endpoint, event) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(delivery_id(endpoint, event), delivery_id(endpoint, event));
        assert_ne!(delivery_id(endpoint, event), delivery_id(event, endpoint));
        // Written out: it must be the same in every version.
        assert_eq!(
            delivery_id(endpoint, event).to_string(),
            "91758813-50fc-5c7e-a924-25a06e31b419"
        );
    }
}
