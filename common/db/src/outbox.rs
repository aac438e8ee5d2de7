//! The outbox, the writers' side: events go into the transaction of the change that they tell of. The other side is
//! producers/outbox-relay; docs/adr/0002 says why the table looks as it does.

use schemas::Encoded;
use sqlx::PgConnection;
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
