//! How late reminders fire while many others are armed, by the database's clock.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use schemas::{DecodeError, Event, Timestamp, WriterSchema};
use serde_json::json;
use sqlx::types::Json;
use support::{Database, Topics};
use tokio::time::Instant;
use uuid::Uuid;

use crate::load;
use crate::process::Service;
use crate::stats::{Latencies, Runs, Summary};
use crate::table::{Row, Target, Unit};
use crate::{events, machine, say};

/// Reminders that are armed and not due for long.
const ARMED: u64 = 100_000;
/// Reminders that fall due in each second.
const DUE_A_SECOND: u64 = 1_000;
/// For so many seconds.
const SECONDS: u64 = 25;
/// Between the last reminder's arming and the first one's time: the scanner starts meanwhile.
const LEAD: Duration = Duration::from_secs(15);
/// How many are armed by one statement.
const BATCH: usize = 2000;
/// How long after the last reminder's time all must have fired.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the reminders of a second lie in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spread {
    /// One every millisecond.
    Even,
    /// All at the same instant, as people set them: on the full hour.
    AtOnce,
}

/// Measures it.
pub async fn run(quick: bool) -> anyhow::Result<Vec<Row>> {
    let (armed, seconds) = if quick {
        (ARMED / 10, SECONDS / 5)
    } else {
        (ARMED, SECONDS)
    };
    let mut rows = Vec::new();
    for (spread, what) in [
        (Spread::Even, "spread over each second"),
        (Spread::AtOnce, "all at one instant of each second"),
    ] {
        let fired = fire(armed, seconds, spread).await?;
        say(&format!("reminders, {what}: {fired:?}"));
        let row = |percentile: &str, of: fn(&Summary) -> f64| {
            Row::new(
                format!("reminder lateness {percentile}, 1 k/s {what}"),
                Unit::Milliseconds,
                Runs::of([of(&fired.announced)]),
            )
            .details(
                json!({"armed": armed, "due": fired.announced.count, "until_decided": fired.decided,
                            "until_event_written": fired.announced,
                            "scanner_cpu_us_per_reminder": fired.cpu_us}),
            )
        };
        rows.push(row("p50", |summary| summary.p50_ms));
        rows.push(row("p99", |summary| summary.p99_ms).target(Target::Below(150.0)));
    }
    Ok(rows)
}

/// How late they were.
#[derive(Debug)]
struct Fired {
    /// Until the transaction began that fired it: `fired_at`, which the mail will say.
    decided: Summary,
    /// Until its event was in the outbox: `created_at`, later than the above by what firing a batch takes.
    announced: Summary,
    cpu_us: f64,
}

async fn fire(armed: u64, seconds: u64, spread: Spread) -> anyhow::Result<Fired> {
    let (database, topics) = (Database::create().await, Topics::create().await);
    let now = clock(&database).await?;
    let far = (0..armed).map(|n| {
        (
            n,
            now + TimeDelta::days(30) + TimeDelta::seconds(n.try_into().unwrap_or(0)),
        )
    });
    arm(&database, far).await?;

    let first = clock(&database).await? + LEAD;
    let due = (0..seconds * DUE_A_SECOND).map(|n| {
        let after = match spread {
            Spread::Even => Duration::from_secs(n) / u32::try_from(DUE_A_SECOND).unwrap_or(u32::MAX),
            Spread::AtOnce => Duration::from_secs(n / DUE_A_SECOND),
        };
        (armed + n, first + after)
    });
    let due = arm(&database, due).await?;
    sqlx::query("vacuum (analyze) reminders.reminders, reminders.tasks")
        .execute(database.admin())
        .await?;
    machine::settle().await?;

    let mut scanner = Service::start("reminder-scanner", &database, &topics)?;
    scanner.ready().await?;
    let left = first - clock(&database).await?;
    ensure!(
        left > TimeDelta::seconds(2),
        "arming took so long that the first reminders are due already: {left}"
    );
    tokio::time::sleep(left.to_std()? / 2).await;
    let cpu = scanner.cpu()?;
    tokio::time::sleep(left.to_std()? / 2 + Duration::from_secs(seconds)).await;
    all_fired(&database, due.len()).await?;
    let cpu = scanner.cpu()? - cpu;
    drop(scanner);

    let fired = judge(&database, &due, cpu).await?;
    load::discard(database).await?;
    Ok(fired)
}

async fn clock(database: &Database) -> anyhow::Result<Timestamp> {
    Ok(sqlx::query_scalar("select clock_timestamp()")
        .fetch_one(database.admin())
        .await?)
}

/// Arms reminders as the scanner would have, had it read of their tasks. Returns the time of each.
async fn arm(
    database: &Database,
    reminders: impl Iterator<Item = (u64, Timestamp)>,
) -> anyhow::Result<HashMap<Uuid, Timestamp>> {
    let tasks: Vec<_> = reminders.map(|(n, at)| events::task_to_ring(n, at)).collect();
    let mut times = HashMap::with_capacity(tasks.len());
    for batch in tasks.chunks(BATCH) {
        let mut tx = database.admin().begin().await?;
        sqlx::query(
            "insert into reminders.tasks (user_id, task_id, version, snapshot)
             select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::jsonb[])",
        )
        .bind(batch.iter().map(|(user, _)| *user).collect::<Vec<_>>())
        .bind(batch.iter().map(|(_, task)| task.id).collect::<Vec<_>>())
        .bind(batch.iter().map(|(_, task)| task.version).collect::<Vec<_>>())
        .bind(batch.iter().map(|(_, task)| Json(task)).collect::<Vec<_>>())
        .execute(&mut *tx)
        .await?;
        let reminders: Vec<_> = batch
            .iter()
            .flat_map(|(user, task)| {
                task.reminders
                    .iter()
                    .map(move |reminder| (user, task.id, reminder))
            })
            .filter_map(|(user, task, reminder)| Some((*user, task, reminder.id, reminder.at?)))
            .collect();
        sqlx::query(
            "insert into reminders.reminders (user_id, task_id, id, fire_at, state, urgency)
             select *, 'armed', 2 from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[])",
        )
        .bind(reminders.iter().map(|r| r.0).collect::<Vec<_>>())
        .bind(reminders.iter().map(|r| r.1).collect::<Vec<_>>())
        .bind(reminders.iter().map(|r| r.2).collect::<Vec<_>>())
        .bind(reminders.iter().map(|r| r.3).collect::<Vec<_>>())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        times.extend(reminders.into_iter().map(|(.., id, at)| (id, at)));
    }
    Ok(times)
}

async fn all_fired(database: &Database, count: usize) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let fired: i64 = sqlx::query_scalar("select count(*) from reminders.reminders where state = 'fired'")
            .fetch_one(database.admin())
            .await?;
        if usize::try_from(fired)? >= count {
            return Ok(());
        }
        ensure!(
            started.elapsed() < PATIENCE,
            "{fired} of {count} reminders have fired"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Reads the events in the outbox: each reminder that was due has exactly one, and none is early.
async fn judge(database: &Database, due: &HashMap<Uuid, Timestamp>, cpu: Duration) -> anyhow::Result<Fired> {
    let rows: Vec<(Uuid, String, Vec<u8>, DateTime<Utc>)> = sqlx::query_as(
        "select fingerprint, topic, body, created_at from outbox.events
         where event_type = 'com.carillon.reminder.fired.v1'",
    )
    .fetch_all(database.admin())
    .await?;
    ensure!(
        rows.len() == due.len(),
        "{} reminders were due and {} events tell of one that fired",
        due.len(),
        rows.len()
    );
    let mut readers: HashMap<Uuid, WriterSchema> = HashMap::new();
    for schema in schemas::all_schemas() {
        readers.insert(schema.fingerprint, WriterSchema::parse(&schema.json)?);
    }
    let (mut decided, mut announced) = (Latencies::new()?, Latencies::new()?);
    let mut missing = due.clone();
    for (fingerprint, topic, body, created_at) in rows {
        let reader = readers.get(&fingerprint).context("an unknown schema")?;
        let event: Result<Event, DecodeError> = schemas::decode(&topic, reader, &body);
        let Event::Reminder(event) = event? else {
            anyhow::bail!("an event that is none of a reminder");
        };
        let fire_at = missing
            .remove(&event.reminder.id)
            .context("a reminder that fired twice, or was not due")?;
        let fired_at = event.reminder.fired_at.context("a firing without a time")?;
        ensure!(
            event.reminder.fire_at == fire_at,
            "a reminder fired for another time"
        );
        // A negative difference is a reminder that fired early.
        decided.record((fired_at - fire_at).to_std().context("a reminder fired early")?);
        announced.record(
            (created_at - fire_at)
                .to_std()
                .context("a reminder fired early")?,
        );
    }
    Ok(Fired {
        decided: decided.summary(),
        announced: announced.summary(),
        cpu_us: cpu.as_secs_f64() * 1e6 / due.len() as f64,
    })
}
