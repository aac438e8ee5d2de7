//! Records into `audit.events`, a batch by one statement.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use kafka::{Outcome, ProcessError, Processor, Record, Registry, RegistryError, Rejection, count_events};
use prometheus::IntCounterVec;
use schemas::topics::AUDIT_SINK;
use schemas::{DecodeError, Event, WriterSchema};
use service::{failpoint, metrics};
use sqlx::{PgConnection, PgPool};

use crate::rows::{Rows, Unreadable};
use crate::seals::Added;

static PERSISTED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counter_vec(
        "events_persisted_total",
        "Rows added to the audit trail",
        &["event_type"],
    )
});

macro_rules! insert {
    ($filter:literal) => {
        concat!(
            "with fresh as (
                 insert into audit.events (event_id, occurred_at, topic, partition_id, offset_id, event_type, user_id,
                                           task_id, actor, payload, raw, headers, segment)
                 select event_id, occurred_at, topic, partition_id, offset_id, event_type, user_id, task_id, actor,
                        payload::jsonb, raw, headers::jsonb, $13
                 from unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::integer[], $5::bigint[], $6::text[],
                             $7::uuid[], $8::uuid[], $9::text[], $10::text[], $11::bytea[], $12::text[])
                      as r (event_id, occurred_at, topic, partition_id, offset_id, event_type, user_id, task_id, actor,
                            payload, raw, headers) ",
            $filter,
            " on conflict do nothing
                 returning event_type, topic
             )
             select event_type, topic, count(*) from fresh group by event_type, topic"
        )
    };
}

/// The natural key keeps events single.
const INSERT_EVENTS: &str = insert!("");

/// Of a dead letter written twice the ids agree and the times do not, so the natural key alone would keep both.
const INSERT_DEAD_LETTERS: &str =
    insert!("where not exists (select from audit.events e where e.event_id = r.event_id)");

/// Appends every record to the audit trail.
#[derive(Debug)]
pub struct Sink {
    pool: PgPool,
    registry: Arc<Registry>,
    added: Arc<Added>,
}

/// How many rows of each type and topic a statement added.
type Counts = Vec<(String, String, i64)>;

impl Sink {
    /// A sink that writes through `pool`, and notes how much in `added`.
    #[must_use]
    pub fn new(pool: PgPool, registry: Arc<Registry>, added: Arc<Added>) -> Self {
        LazyLock::force(&PERSISTED);
        Self {
            pool,
            registry,
            added,
        }
    }

    /// The batch as rows: those of events and unreadable records, and those of dead letters.
    async fn read<'a>(&self, batch: &'a [Record]) -> Result<(Rows<'a>, Rows<'a>), ProcessError> {
        let mut schemas = Schemas {
            registry: &self.registry,
            known: HashMap::new(),
        };
        let mut rows = Rows::with_capacity(batch.len());
        let mut dead_letters = Rows::default();
        for (index, record) in batch.iter().enumerate() {
            if record.topic.ends_with(".dlq") {
                dead_letters.push_dead_letter(index, record);
                continue;
            }
            match schemas.decode(record).await? {
                Ok((event_type, event)) => rows.push_event(index, record, event_type, &event),
                Err(why) => rows.push_unreadable(index, record, &why),
            }
        }
        Ok((rows, dead_letters))
    }

    /// Adds the rows that are not there yet, all in one transaction or none.
    async fn store(
        &self,
        rows: &Rows<'_>,
        events: Range<usize>,
        dead: &Rows<'_>,
        dead_letters: Range<usize>,
    ) -> Result<(), sqlx::Error> {
        failpoint!("events: decoded");
        let mut tx = self.pool.begin().await?;
        // Not closed before this transaction has ended: see docs/adr/0017.
        let segment: i64 = sqlx::query_scalar("select audit.open_segment()")
            .fetch_one(&mut *tx)
            .await?;
        let mut added = Counts::new();
        let mut given: HashMap<&str, u64> = HashMap::new();
        for topic in slice(&rows.topics, &events)
            .iter()
            .chain(slice(&dead.topics, &dead_letters))
        {
            *given.entry(topic).or_default() += 1;
        }
        if !events.is_empty() {
            added.extend(insert(&mut tx, INSERT_EVENTS, rows, events, segment).await?);
        }
        if !dead_letters.is_empty() {
            // Two sinks have the same record for a moment after a rebalance. The second must see what the first added.
            sqlx::query("select pg_advisory_xact_lock(hashtextextended('audit dead letters', 0))")
                .execute(&mut *tx)
                .await?;
            // One by one, so that each sees those before it; they are few.
            for n in dead_letters {
                added.extend(insert(&mut tx, INSERT_DEAD_LETTERS, dead, n..n + 1, segment).await?);
            }
        }
        failpoint!("events: applied");
        tx.commit().await?;
        failpoint!("events: committed");
        for (event_type, topic, count) in added {
            let count = u64::try_from(count).unwrap_or(0);
            PERSISTED.with_label_values(&[event_type]).inc_by(count);
            self.added.note(count);
            count_events(AUDIT_SINK.name, &topic, Outcome::Handled, count);
            if let Some(given) = given.get_mut(topic.as_str()) {
                *given = given.saturating_sub(count);
            }
        }
        for (topic, there_already) in given {
            count_events(AUDIT_SINK.name, topic, Outcome::Duplicate, there_already);
        }
        Ok(())
    }
}

impl Processor for Sink {
    async fn process(&mut self, batch: &[Record]) -> Result<Vec<Rejection>, ProcessError> {
        let (rows, dead) = self.read(batch).await?;
        match self.store(&rows, rows.all(), &dead, dead.all()).await {
            Ok(()) => return Ok(Vec::new()),
            Err(error) if db::classify(&error) == db::Failure::Data => {}
            Err(error) => return Err(failed(error)),
        }
        // A row is at fault and took the others with it: each alone finds out which.
        let mut rejections = Vec::new();
        for n in rows.all() {
            let result = self.store(&rows, n..n + 1, &dead, 0..0).await;
            rejections.extend(rejection(rows.indexes.get(n), result)?);
        }
        for n in dead.all() {
            let result = self.store(&rows, 0..0, &dead, n..n + 1).await;
            rejections.extend(rejection(dead.indexes.get(n), result)?);
        }
        Ok(rejections)
    }
}

async fn insert(
    tx: &mut PgConnection,
    sql: &'static str,
    rows: &Rows<'_>,
    range: Range<usize>,
    segment: i64,
) -> Result<Counts, sqlx::Error> {
    sqlx::query_as(sql)
        .bind(slice(&rows.event_ids, &range))
        .bind(slice(&rows.occurred_at, &range))
        .bind(slice(&rows.topics, &range))
        .bind(slice(&rows.partitions, &range))
        .bind(slice(&rows.offsets, &range))
        .bind(slice(&rows.event_types, &range))
        .bind(slice(&rows.user_ids, &range))
        .bind(slice(&rows.task_ids, &range))
        .bind(slice(&rows.actors, &range))
        .bind(slice(&rows.payloads, &range))
        .bind(slice(&rows.raws, &range))
        .bind(slice(&rows.headers, &range))
        .bind(segment)
        .fetch_all(tx)
        .await
}

fn slice<'a, T>(column: &'a [T], range: &Range<usize>) -> &'a [T] {
    column.get(range.clone()).unwrap_or_default()
}

fn rejection(
    index: Option<&usize>,
    result: Result<(), sqlx::Error>,
) -> Result<Option<Rejection>, ProcessError> {
    match (result, index) {
        (Err(error), Some(index)) if db::classify(&error) == db::Failure::Data => Ok(Some(Rejection {
            index: *index,
            stage: "TASK_PUT",
            reason: "invalid_event",
            message: error.to_string(),
        })),
        (Err(error), _) => Err(failed(error)),
        (Ok(()), _) => Ok(None),
    }
}

fn failed(error: sqlx::Error) -> ProcessError {
    if db::classify(&error).is_retryable() {
        ProcessError::Away {
            what: "Postgres",
            source: Box::new(error),
        }
    } else {
        ProcessError::Fatal(Box::new(error))
    }
}

/// The schemas that the records of one batch were written with. Known for the batch: a schema that the registry did not
/// have is asked for once a batch, not once a record.
struct Schemas<'a> {
    registry: &'a Registry,
    known: HashMap<u32, Result<Arc<WriterSchema>, Unreadable>>,
}

impl Schemas<'_> {
    /// Reads one record. The outer error is the registry's being away, the inner one is the record's fault.
    async fn decode(
        &mut self,
        record: &Record,
    ) -> Result<Result<(&'static str, Event), Unreadable>, ProcessError> {
        let (id, body) = match schemas::unframe(record.value.as_deref()) {
            Ok(parts) => parts,
            Err(error) => return Ok(Err(unreadable(&error))),
        };
        let schema = match self.known.get(&id) {
            Some(known) => known,
            None => {
                let schema = match self.registry.schema(id).await {
                    Ok(schema) => Ok(schema),
                    Err(RegistryError::Unusable(error)) => Err(unreadable(&error)),
                    Err(error) => {
                        return Err(ProcessError::Away {
                            what: "the schema registry",
                            source: Box::new(error),
                        });
                    }
                };
                self.known.entry(id).or_insert(schema)
            }
        };
        Ok(match schema {
            Ok(schema) => schemas::decode(&record.topic, schema, body)
                .map(|event| (event_type(&event), event))
                .map_err(|error| unreadable(&error)),
            Err(why) => Err(why.clone()),
        })
    }
}

/// The CloudEvents type of what was decoded. Not taken from the header, which could say anything.
fn event_type(event: &Event) -> &'static str {
    let name = event.record_name();
    schemas::all_schemas()
        .iter()
        .find(|schema| schema.name == name)
        .map_or(name, |schema| &schema.event_type)
}

fn unreadable(error: &DecodeError) -> Unreadable {
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    Unreadable {
        reason: error.reason(),
        message,
    }
}
