//! Events into armed reminders: a backlog of new tasks through the scanner, beside one connection that writes the same rows.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::ensure;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use support::{Database, Topics};
use uuid::Uuid;

use crate::process::Service;
use crate::producing::{self, Framer};
use crate::stats::Runs;
use crate::table::{Row, Target, Unit};
use crate::{events, load, machine, say};

/// The metric that tells how far it has come.
const SCHEDULED: &str = "reminders_scheduled_total";
/// Tasks of the backlog, each with one reminder.
const BACKLOG: u64 = 150_000;
/// Rows of one transaction: the scanner's default `BATCH_MAX_EVENTS`.
const BATCH: usize = 500;

/// Measures it.
pub async fn run(quick: bool) -> anyhow::Result<Vec<Row>> {
    let count = if quick { BACKLOG / 10 } else { BACKLOG };
    let (armed, rows) = arm(count).await?;
    let bare = write(&rows).await?;
    say(&format!("arming: {armed:?}, bare {bare:.0}/s"));
    Ok(vec![
        Row::new(
            "arming reminders, backlog of events",
            Unit::PerSecond,
            Runs::of([armed.rate]),
        )
        .bare(Runs::of([bare]))
        .target(Target::AtLeast(15_000.0))
        .details(json!({"events": count, "scanner_cpu_us_per_event": armed.cpu_us,
                            "postgres_cpu_us_per_event": armed.sessions_cpu_us})),
    ])
}

/// How a backlog was armed.
#[derive(Debug)]
struct Armed {
    rate: f64,
    cpu_us: f64,
    sessions_cpu_us: f64,
}

/// Lets a scanner arm a backlog. Returns what it wrote.
async fn arm(count: u64) -> anyhow::Result<(Armed, Rows)> {
    let (database, topics) = (Database::create().await, Topics::create().await);
    let framer = Framer::new(&topics).await?;
    let config = topics.config();
    let first = Utc::now() + TimeDelta::days(30);
    tokio::task::spawn_blocking(move || {
        let records = (0..count)
            .map(|n| {
                let at = first + TimeDelta::seconds(i64::try_from(n)?);
                framer.frame(&events::created_to_ring(n, at)?)
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        producing::produce(&config, records)
    })
    .await??;
    machine::settle().await?;
    let scanner = Service::start("reminder-scanner", &database, &topics)?;
    let (seen, began) = scanner.counts(SCHEDULED, 1).await?;
    let (cpu, sessions) = (scanner.cpu()?, scanner.sessions_cpu(&database).await?);
    let (last, ended) = scanner.counts(SCHEDULED, count).await?;
    let armed = (last - seen) as f64;
    let sessions: Duration = scanner
        .sessions_cpu(&database)
        .await?
        .iter()
        .map(|(process, cpu)| cpu.saturating_sub(sessions.get(process).copied().unwrap_or_default()))
        .sum();
    let armed = Armed {
        rate: armed / (ended - began).as_secs_f64(),
        cpu_us: (scanner.cpu()? - cpu).as_secs_f64() * 1e6 / armed,
        sessions_cpu_us: sessions.as_secs_f64() * 1e6 / armed,
    };
    scanner.stop().await?;
    let rows = Rows::load(&database).await?;
    ensure!(
        u64::try_from(rows.task_ids.len())? == count,
        "{} reminders are armed, not {count}",
        rows.task_ids.len()
    );
    load::discard(database).await?;
    Ok((armed, rows))
}

/// What arming wrote, column by column, the way `unnest` takes them.
#[derive(Debug, Default)]
struct Rows {
    user_ids: Vec<Uuid>,
    task_ids: Vec<Uuid>,
    snapshots: Vec<String>,
    ids: Vec<Uuid>,
    fire_at: Vec<DateTime<Utc>>,
    urgencies: Vec<i16>,
    event_ids: Vec<Uuid>,
    topics: Vec<String>,
    event_types: Vec<String>,
    fingerprints: Vec<Uuid>,
    bodies: Vec<Vec<u8>>,
    headers: Vec<String>,
}

impl Rows {
    async fn load(database: &Database) -> anyhow::Result<Self> {
        let mut rows = Self::default();
        type Kept = (Uuid, Uuid, String, Uuid, DateTime<Utc>, i16);
        let kept: Vec<Kept> = sqlx::query_as(
            "select user_id, task_id, snapshot::text, id, fire_at, urgency
             from reminders.reminders join reminders.tasks using (user_id, task_id) order by fire_at",
        )
        .fetch_all(database.admin())
        .await?;
        for (user_id, task_id, snapshot, id, fire_at, urgency) in kept {
            rows.user_ids.push(user_id);
            rows.task_ids.push(task_id);
            rows.snapshots.push(snapshot);
            rows.ids.push(id);
            rows.fire_at.push(fire_at);
            rows.urgencies.push(urgency);
        }
        type Said = (Uuid, String, String, Uuid, Vec<u8>, String);
        let said: Vec<Said> = sqlx::query_as(
            "select event_id, topic, event_type, fingerprint, body, headers::text from outbox.events order by seq",
        )
        .fetch_all(database.admin())
        .await?;
        for (event_id, topic, event_type, fingerprint, body, headers) in said {
            rows.event_ids.push(event_id);
            rows.topics.push(topic);
            rows.event_types.push(event_type);
            rows.fingerprints.push(fingerprint);
            rows.bodies.push(body);
            rows.headers.push(headers);
        }
        Ok(rows)
    }

    async fn insert(&self, connection: &mut PgConnection, range: Range<usize>) -> Result<(), sqlx::Error> {
        let mut tx = connection.begin().await?;
        sqlx::query(
            "insert into reminders.inbox (event_id) select unnest($1::uuid[]) on conflict do nothing",
        )
        .bind(&self.event_ids[range.clone()])
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "insert into reminders.tasks (user_id, task_id, version, snapshot)
             select user_id, task_id, 1, snapshot::jsonb
             from unnest($1::uuid[], $2::uuid[], $3::text[]) as t (user_id, task_id, snapshot)",
        )
        .bind(&self.user_ids[range.clone()])
        .bind(&self.task_ids[range.clone()])
        .bind(&self.snapshots[range.clone()])
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "insert into reminders.reminders (user_id, task_id, id, fire_at, first_at, urgency, state, armed_at, handled_at)
             select user_id, task_id, id, fire_at, fire_at, urgency, 'armed', now(), now()
             from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::smallint[])
                  as r (user_id, task_id, id, fire_at, urgency)",
        )
        .bind(&self.user_ids[range.clone()])
        .bind(&self.task_ids[range.clone()])
        .bind(&self.ids[range.clone()])
        .bind(&self.fire_at[range.clone()])
        .bind(&self.urgencies[range.clone()])
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "insert into outbox.events (event_id, topic, user_id, event_type, fingerprint, body, headers)
             select event_id, topic, user_id, event_type, fingerprint, body, headers::jsonb
             from unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::uuid[], $6::bytea[], $7::text[])
                  as e (event_id, topic, user_id, event_type, fingerprint, body, headers)",
        )
        .bind(&self.event_ids[range.clone()])
        .bind(&self.topics[range.clone()])
        .bind(&self.user_ids[range.clone()])
        .bind(&self.event_types[range.clone()])
        .bind(&self.fingerprints[range.clone()])
        .bind(&self.bodies[range.clone()])
        .bind(&self.headers[range])
        .execute(&mut *tx)
        .await?;
        tx.commit().await
    }
}

/// Writes the same rows into an empty database, as the same role, by one connection that has nothing else to do.
async fn write(rows: &Rows) -> anyhow::Result<f64> {
    let database = Database::create().await;
    let mut connection = PgConnection::connect(&database.url("reminder-scanner")).await?;
    machine::settle().await?;
    // The scanner's clock also starts after its first batch.
    let (mut next, mut began) = (0, None);
    while next < rows.task_ids.len() {
        let end = (next + BATCH).min(rows.task_ids.len());
        rows.insert(&mut connection, next..end).await?;
        began.get_or_insert_with(Instant::now);
        next = end;
    }
    let took = began.map_or(Duration::ZERO, |began| began.elapsed());
    connection.close().await?;
    load::discard(database).await?;
    Ok(rows.task_ids.len().saturating_sub(BATCH) as f64 / took.as_secs_f64())
}
