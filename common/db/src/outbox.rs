//! The outbox, the writers' side: events go into the transaction of the change that they tell of. And what waits in it. The
//! other side is producers/outbox-relay; docs/adr/0002 says why the table looks as it does.

use schemas::Encoded;
use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

/// Writes events, in their order, into the caller's transaction.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn insert(tx: &mut PgConnection, events: &[Encoded]) -> Result<(), sqlx::Error> {
    if events.is_empty() {
        return Ok(());
    }
    let columns = Columns::of(events);
    sqlx::query(
        "insert into outbox.events (event_id, topic, user_id, event_type, fingerprint, body, headers)
         select event_id, topic, user_id, event_type, fingerprint, body, headers::jsonb
         from unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::uuid[], $6::bytea[], $7::text[])
              with ordinality as e (event_id, topic, user_id, event_type, fingerprint, body, headers, n)
         order by n",
    )
    .bind(columns.event_ids)
    .bind(columns.topics)
    .bind(columns.user_ids)
    .bind(columns.event_types)
    .bind(columns.fingerprints)
    .bind(columns.bodies)
    .bind(columns.headers)
    .execute(tx)
    .await?;
    Ok(())
}

/// The first key of the advisory lock that a shard's relay holds; the second is the shard.
pub const RELAY_LOCK_CLASS: i32 = 0x0b07;

/// What waits of one topic in one shard.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct Waiting {
    /// The shard.
    pub shard: i16,
    /// The topic; `None` where nothing waits in the shard.
    pub topic: Option<String>,
    /// How many events are committed and not published.
    pub rows: i64,
    /// The age of the oldest of them.
    pub oldest_seconds: f64,
}

/// What is committed and not published, by shard and topic. At most 100,000 events of a shard are counted: beyond that the
/// exact number helps nobody.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn waiting(executor: impl PgExecutor<'_>) -> Result<Vec<Waiting>, sqlx::Error> {
    sqlx::query_as(
        "select c.shard, w.topic, count(w.topic) as rows,
                greatest(coalesce(extract(epoch from clock_timestamp() - min(w.created_at)), 0), 0)::float8
                    as oldest_seconds
         from outbox.cursors c
              left join lateral (
                  select topic, created_at from outbox.events e
                  where e.shard = c.shard and e.seq > greatest(c.done_seq, c.published_seq)
                    and not pg_visible_in_snapshot(e.xid, c.done)
                  order by seq limit 100000) w on true
         group by c.shard, w.topic order by c.shard, w.topic",
    )
    .fetch_all(executor)
    .await
}

struct Columns<'a> {
    event_ids: Vec<Uuid>,
    topics: Vec<&'static str>,
    user_ids: Vec<Uuid>,
    event_types: Vec<&'static str>,
    fingerprints: Vec<Uuid>,
    bodies: Vec<&'a [u8]>,
    headers: Vec<String>,
}

impl<'a> Columns<'a> {
    fn of(events: &'a [Encoded]) -> Self {
        Self {
            event_ids: events.iter().map(|e| e.event_id).collect(),
            topics: events.iter().map(|e| e.topic).collect(),
            user_ids: events.iter().map(|e| e.user_id).collect(),
            event_types: events.iter().map(|e| e.event_type).collect(),
            fingerprints: events.iter().map(|e| e.fingerprint).collect(),
            bodies: events.iter().map(|e| e.body.as_slice()).collect(),
            headers: events.iter().map(headers_json).collect(),
        }
    }
}

/// The headers as the JSON object that the column holds.
pub(crate) fn headers_json(event: &Encoded) -> String {
    let object: serde_json::Map<String, serde_json::Value> = event
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), value.clone().into()))
        .collect();
    serde_json::Value::Object(object).to_string()
}
