//! The table of the list in the page.

use delivery::Occasion;
use preferences::Kind;
use schemas::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

/// The namespace of ids: never changed, or a replay would list everything again.
const NAMESPACE: Uuid = Uuid::from_u128(0x51c7_42e9_8f0d_4b33_9e61_7a20_6a1e_8009);

/// The id of a row. It follows from what it tells of, and for what was not sent from the channel.
pub fn id(occasion: &Occasion, channel: &str) -> Uuid {
    let name = format!(
        "{}/{}/{}/{}/{channel}",
        occasion.user_id,
        occasion.reminder_id,
        occasion.fire_at.timestamp_micros(),
        occasion.kind.name()
    );
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

/// A row of a person's list.
#[derive(Debug)]
pub struct Notification {
    pub id: Uuid,
    pub user_id: Uuid,
    pub kind: Kind,
    pub reminder_id: Uuid,
    pub task_id: Uuid,
    /// The task's title as it was; `None` where the event does not say it: then it is that of another row about the same ring.
    pub title: Option<String>,
    pub fire_at: Timestamp,
    pub detail: Option<String>,
    pub at: Timestamp,
}

/// Lists those that are not there. Returns how many.
pub async fn insert(tx: &mut PgConnection, notifications: &[Notification]) -> Result<u64, sqlx::Error> {
    if notifications.is_empty() {
        return Ok(0);
    }
    let done = sqlx::query(
        "insert into notifications.notifications (user_id, id, kind, reminder_id, task_id, title, fire_at, detail, at)
         select n.user_id, n.id, n.kind, n.reminder_id, n.task_id,
                coalesce(n.title, (select o.title from notifications.notifications o
                                   where o.user_id = n.user_id and o.reminder_id = n.reminder_id and o.fire_at = n.fire_at
                                   limit 1), ''),
                n.fire_at, n.detail, n.at
         from unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::uuid[], $6::text[], $7::timestamptz[],
                     $8::text[], $9::timestamptz[]) as n (user_id, id, kind, reminder_id, task_id, title, fire_at, detail, at)
         on conflict do nothing",
    )
    .bind(notifications.iter().map(|n| n.user_id).collect::<Vec<_>>())
    .bind(notifications.iter().map(|n| n.id).collect::<Vec<_>>())
    .bind(notifications.iter().map(|n| n.kind.name()).collect::<Vec<_>>())
    .bind(notifications.iter().map(|n| n.reminder_id).collect::<Vec<_>>())
    .bind(notifications.iter().map(|n| n.task_id).collect::<Vec<_>>())
    .bind(notifications.iter().map(|n| n.title.as_deref()).collect::<Vec<_>>())
    .bind(notifications.iter().map(|n| n.fire_at).collect::<Vec<_>>())
    .bind(notifications.iter().map(|n| n.detail.as_deref()).collect::<Vec<_>>())
    .bind(notifications.iter().map(|n| n.at).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}
