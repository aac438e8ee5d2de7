//! Events into the audit trail: a backlog through the sink, beside one connection that inserts the very same rows.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::ensure;
use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use serde_json::json;
use sqlx::{Connection as _, PgConnection, Row as _};
use support::{Database, Topics};
use uuid::Uuid;

use crate::load;
use crate::process::Service;
use crate::producing::{self, Framer};
use crate::stats::Runs;
use crate::table::{Row, Target, Unit};
use crate::{events, machine, say};

/// The metric that tells how far it has come.
const PERSISTED: &str = "events_persisted_total";
/// Events of the backlog.
const BACKLOG: u64 = 500_000;
/// Rows of one statement: the sink's default `BATCH_MAX_EVENTS`.
const BATCH: usize = 2000;
/// Runs of each side, in turns.
const ROUNDS: usize = 2;

/// Measures it.
pub async fn run(quick: bool) -> anyhow::Result<Vec<Row>> {
    let (count, rounds) = if quick {
        (BACKLOG / 10, 1)
    } else {
        (BACKLOG, ROUNDS)
    };
    let (mut ours, mut bare, mut details) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        let (sunk, rows) = sink(count).await?;
        let limit = unnest(&rows).await?;
        say(&format!(
            "audit: round {round} of {rounds}: {:.0}/s, bare {limit:.0}/s",
            sunk.rate
        ));
        ours.push(sunk.rate);
        bare.push(limit);
        details.push(json!({"sink_cpu_us_per_event": sunk.cpu_us, "sink_resident_mib": sunk.resident_mib}));
    }
    Ok(vec![
        Row::new("audit ingest, backlog", Unit::PerSecond, Runs::of(ours))
            .bare(Runs::of(bare))
            .target(Target::RatioAtLeast(0.5))
            .details(json!({"events": count, "runs": details})),
    ])
}

/// How a backlog was ingested.
struct Sunk {
    rate: f64,
    cpu_us: f64,
    resident_mib: f64,
}

/// Lets the sink ingest a backlog. Returns its rows, in the order in which it added them.
async fn sink(count: u64) -> anyhow::Result<(Sunk, Columns)> {
    let (database, topics) = (Database::create().await, Topics::create().await);
    publish(&topics, count).await?;
    let sink = Service::start("audit-sink", &database, &topics)?;
    let (first, began) = sink.counts(PERSISTED, 1).await?;
    let cpu = sink.cpu()?;
    let (last, ended) = sink.counts(PERSISTED, count).await?;
    let events = (last - first) as f64;
    let sunk = Sunk {
        rate: events / (ended - began).as_secs_f64(),
        cpu_us: (sink.cpu()? - cpu).as_secs_f64() * 1e6 / events,
        resident_mib: sink.resident_mib()?,
    };
    drop(sink);
    let rows = Columns::load(&database).await?;
    ensure!(
        u64::try_from(rows.len())? == count,
        "the trail holds {} rows, not {count}",
        rows.len()
    );
    load::discard(database).await?;
    Ok((sunk, rows))
}

async fn publish(topics: &Topics, count: u64) -> anyhow::Result<()> {
    let framer = Framer::new(topics).await?;
    let config = topics.config();
    tokio::task::spawn_blocking(move || {
        let records = (0..count)
            .map(|n| framer.frame(&events::mixed(n)?))
            .collect::<anyhow::Result<Vec<_>>>()?;
        producing::produce(&config, records)
    })
    .await??;
    machine::settle().await
}

/// Rows of the trail, column by column, the way `unnest` takes them.
#[derive(Debug, Default)]
struct Columns {
    event_ids: Vec<Uuid>,
    occurred_at: Vec<DateTime<Utc>>,
    topics: Vec<String>,
    partitions: Vec<i32>,
    offsets: Vec<i64>,
    event_types: Vec<String>,
    user_ids: Vec<Option<Uuid>>,
    task_ids: Vec<Option<Uuid>>,
    actors: Vec<Option<String>>,
    payloads: Vec<Option<String>>,
    raws: Vec<Option<Vec<u8>>>,
    headers: Vec<String>,
}

impl Columns {
    async fn load(database: &Database) -> anyhow::Result<Self> {
        let mut columns = Self::default();
        // As they lie in the table is as they were added.
        let mut rows = sqlx::query(
            "select event_id, occurred_at, topic, partition_id, offset_id, event_type, user_id, task_id, actor,
                    payload::text, raw, headers::text
             from audit.events order by tableoid, ctid",
        )
        .fetch(database.admin());
        while let Some(row) = rows.try_next().await? {
            columns.event_ids.push(row.try_get(0)?);
            columns.occurred_at.push(row.try_get(1)?);
            columns.topics.push(row.try_get(2)?);
            columns.partitions.push(row.try_get(3)?);
            columns.offsets.push(row.try_get(4)?);
            columns.event_types.push(row.try_get(5)?);
            columns.user_ids.push(row.try_get(6)?);
            columns.task_ids.push(row.try_get(7)?);
            columns.actors.push(row.try_get(8)?);
            columns.payloads.push(row.try_get(9)?);
            columns.raws.push(row.try_get(10)?);
            columns.headers.push(row.try_get(11)?);
        }
        Ok(columns)
    }

    fn len(&self) -> usize {
        self.event_ids.len()
    }

    async fn insert(&self, connection: &mut PgConnection, range: Range<usize>) -> Result<(), sqlx::Error> {
        sqlx::query(
            "insert into audit.events (event_id, occurred_at, topic, partition_id, offset_id, event_type, user_id,
                                       task_id, actor, payload, raw, headers)
             select event_id, occurred_at, topic, partition_id, offset_id, event_type, user_id, task_id, actor,
                    payload::jsonb, raw, headers::jsonb
             from unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::integer[], $5::bigint[], $6::text[],
                         $7::uuid[], $8::uuid[], $9::text[], $10::text[], $11::bytea[], $12::text[])
                  as r (event_id, occurred_at, topic, partition_id, offset_id, event_type, user_id, task_id, actor,
                        payload, raw, headers)
             on conflict do nothing",
        )
        .bind(&self.event_ids[range.clone()])
        .bind(&self.occurred_at[range.clone()])
        .bind(&self.topics[range.clone()])
        .bind(&self.partitions[range.clone()])
        .bind(&self.offsets[range.clone()])
        .bind(&self.event_types[range.clone()])
        .bind(&self.user_ids[range.clone()])
        .bind(&self.task_ids[range.clone()])
        .bind(&self.actors[range.clone()])
        .bind(&self.payloads[range.clone()])
        .bind(&self.raws[range.clone()])
        .bind(&self.headers[range])
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// Inserts the same rows into an empty table like the sink's: same partitions, same indexes, same role, one connection,
/// nothing else to do.
async fn unnest(rows: &Columns) -> anyhow::Result<f64> {
    let database = Database::create().await;
    let mut connection = PgConnection::connect(&database.url("audit-sink")).await?;
    sqlx::query("select audit.ensure_partitions((now() at time zone 'UTC')::date - 7, 15)")
        .execute(&mut connection)
        .await?;
    machine::settle().await?;
    // The sink's clock also starts after its first batch.
    let (mut next, mut began) = (0, None);
    while next < rows.len() {
        let end = (next + BATCH).min(rows.len());
        rows.insert(&mut connection, next..end).await?;
        began.get_or_insert_with(Instant::now);
        next = end;
    }
    let took = began.map_or(Duration::ZERO, |began| began.elapsed());
    let added: i64 = sqlx::query_scalar("select count(*) from audit.events")
        .fetch_one(database.admin())
        .await?;
    ensure!(usize::try_from(added)? == rows.len(), "{added} rows were added");
    connection.close().await?;
    load::discard(database).await?;
    Ok(rows.len().saturating_sub(BATCH) as f64 / took.as_secs_f64())
}
