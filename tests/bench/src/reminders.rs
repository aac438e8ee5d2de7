//! How late reminders fire while many others are armed, by the database's clock.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use schemas::{DecodeError, Event, Timestamp, WriterSchema};
use serde_json::json;
use sqlx::types::Json;
use support::{Database, Topics};
use uuid::Uuid;

use crate::load;
use crate::process::Service;
use crate::stats::{Latencies, Runs, Summary};
use crate::table::{Chart, Row, Target, Unit};
use crate::{arming, events, machine, say};

/// Reminders that are armed and not due for long: stage by stage more of them, in one database.
const ARMED: [u64; 3] = [10_000, 100_000, 1_000_000];
/// Reminders that fall due in each second.
const DUE_A_SECOND: u64 = 1_000;
/// For so many seconds.
const SECONDS: u64 = 20;
/// Reminders that fall due within a single second.
const BURST: u64 = 100_000;
/// Between the last reminder's arming and the first one's time: the scanner starts meanwhile.
const LEAD: Duration = Duration::from_secs(12);
/// Reminders that are armed in a second, at least, when they are to be due.
const ARMED_A_SECOND: u64 = 3_000;
/// How long the scanner is watched when nothing is due.
const IDLE: Duration = Duration::from_secs(10);
/// How many are armed by one statement.
const BATCH: usize = 2000;

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
    let part = if quick { 10 } else { 1 };
    let stage = Stage {
        database: Database::create().await,
        topics: Topics::create().await,
    };
    let mut rows = Vec::new();
    let mut p99 = Vec::new();
    let mut armed = 0;
    for level in ARMED.map(|level| level / part) {
        stage.arm_far(armed..level).await?;
        armed = level;
        let fired = stage
            .fire(DUE_A_SECOND, (SECONDS / part).max(4), Spread::Even)
            .await?;
        say(&format!("reminders, {level} armed: {fired:?}"));
        p99.push(fired.announced.p99_ms);
        let [mut p50, mut tail] = lateness(
            &format!("1 k/s, {} k armed", level / 1000),
            level,
            &fired,
            [10.0, 50.0],
        );
        p50.plot(Chart::Lateness, "p50", [(level as f64, fired.announced.p50_ms)]);
        tail.plot(Chart::Lateness, "p99", [(level as f64, fired.announced.p99_ms)]);
        rows.extend([p50, tail]);
        if level * part == 100_000 {
            let fired = stage
                .fire(DUE_A_SECOND, (SECONDS / part).max(4), Spread::AtOnce)
                .await?;
            say(&format!("reminders, {level} armed, at once: {fired:?}"));
            let [p50, tail] = lateness("1 k at one instant of each second", level, &fired, [10.0, 150.0]);
            rows.extend([p50.without_target(), tail]);
        }
    }
    if let [few, .., many] = p99[..] {
        rows.push(
            Row::new(
                "reminder lateness p99 with all armed, beside few",
                Unit::Milliseconds,
                Runs::of([many]),
            )
            .bare(Runs::of([few]))
            .target(Target::RatioAtMost(2.0)),
        );
    }
    let fired = stage.fire(BURST / part, 1, Spread::Even).await?;
    say(&format!("reminders, {} in one second: {fired:?}", BURST / part));
    // From the beginning of that second.
    let within_ms = fired.last_ms;
    rows.push(
        Row::new(
            format!("{} k reminders due in one second, all fired after", BURST / part / 1000),
            Unit::Milliseconds,
            Runs::of([within_ms]),
        )
        .target(Target::AtMost(5000.0))
        .details(json!({"a_second": BURST as f64 / part as f64 / within_ms * 1e3, "until_event_written": fired.announced,
                        "scanner_cpu_us_per_reminder": fired.cpu_us, "postgres_cpu_us_per_reminder": fired.sessions_cpu_us})),
    );
    let idle_ms = stage.idle().await?;
    rows.push(
        Row::new(
            format!(
                "reminder-scanner, {} k armed and none due, CPU in 10 s",
                armed / 1000
            ),
            Unit::Milliseconds,
            Runs::of([idle_ms]),
        )
        .target(Target::AtMost(100.0)),
    );
    load::discard(stage.database).await?;
    rows.extend(arming::run(quick).await?);
    Ok(rows)
}

/// The rows of p50 and p99, to be below so many milliseconds.
fn lateness(what: &str, armed: u64, fired: &Fired, [p50, p99]: [f64; 2]) -> [Row; 2] {
    let row = |percentile: &str, value: f64, limit: f64| {
        Row::new(
            format!("reminder lateness {percentile}, {what}"),
            Unit::Milliseconds,
            Runs::of([value]),
        )
        .target(Target::Below(limit))
        .details(
            json!({"armed": armed, "due": fired.announced.count, "until_decided": fired.decided,
                        "until_event_written": fired.announced,
                        "scanner_cpu_us_per_reminder": fired.cpu_us,
                        "postgres_cpu_us_per_reminder": fired.sessions_cpu_us}),
        )
    };
    [
        row("p50", fired.announced.p50_ms, p50),
        row("p99", fired.announced.p99_ms, p99),
    ]
}

/// How late they were.
#[derive(Debug)]
struct Fired {
    /// Until the transaction began that fired it: `fired_at`, which the mail will say.
    decided: Summary,
    /// Until its event was in the outbox: `created_at`, later than the above by what firing a batch takes.
    announced: Summary,
    /// From the time of the first to the last event.
    last_ms: f64,
    cpu_us: f64,
    sessions_cpu_us: f64,
}

/// A database with armed reminders.
struct Stage {
    database: Database,
    topics: Topics,
}

impl Stage {
    /// Arms as many that are due in a month or later. Their tasks are short, and made by the database: nobody reads them.
    async fn arm_far(&self, numbers: Range<u64>) -> anyhow::Result<()> {
        let (user, task) = events::task_to_ring(0, clock(&self.database).await? + TimeDelta::days(30));
        sqlx::query(
            "with far as materialized (
                 select gen_random_uuid() as user_id, gen_random_uuid() as task_id, n from generate_series($1, $2) n
             ), tasks as (
                 insert into reminders.tasks (user_id, task_id, version, snapshot)
                 select user_id, task_id, 1, $3 || jsonb_build_object('id', task_id) from far
             )
             insert into reminders.reminders (user_id, task_id, id, fire_at, first_at, state, urgency)
             select user_id, task_id, $4, now() + interval '30 days' + n * interval '1 s', now(), 'armed', n % 4 from far",
        )
        .bind(i64::try_from(numbers.start)?)
        .bind(i64::try_from(numbers.end)? - 1)
        .bind(Json(&task))
        .bind(user)
        .execute(self.database.admin())
        .await?;
        Ok(())
    }

    /// Arms so many for each of so many seconds, and lets a scanner fire them.
    async fn fire(&self, a_second: u64, seconds: u64, spread: Spread) -> anyhow::Result<Fired> {
        let Self { database, topics } = self;
        let count = a_second * seconds;
        let before: i64 = sqlx::query_scalar("select coalesce(max(seq), 0) from outbox.events")
            .fetch_one(database.admin())
            .await?;
        let first = clock(database).await? + LEAD + Duration::from_secs(count / ARMED_A_SECOND);
        let due = (0..count).map(|n| {
            let after = match spread {
                Spread::Even => Duration::from_secs(n) / u32::try_from(a_second).unwrap_or(u32::MAX),
                Spread::AtOnce => Duration::from_secs(n / a_second),
            };
            (n, first + after)
        });
        let due = arm(database, due).await?;
        sqlx::query("vacuum (analyze) reminders.reminders, reminders.tasks")
            .execute(database.admin())
            .await?;
        machine::settle().await?;

        let mut scanner = Service::start("reminder-scanner", database, topics)?;
        scanner.ready().await?;
        let left = first - clock(database).await?;
        ensure!(
            left > TimeDelta::seconds(2),
            "arming took so long that the first reminders are due already: {left}"
        );
        tokio::time::sleep(left.to_std()? - Duration::from_secs(1)).await;
        let (cpu, sessions) = (scanner.cpu()?, scanner.sessions_cpu(database).await?);
        tokio::time::sleep(Duration::from_secs(seconds + 1)).await;
        // What it counts is asked, and not the table: counting rows would take a core from those that fire.
        scanner.counts("reminders_fired_total", due.len() as u64).await?;
        let (cpu, sessions) = (
            scanner.cpu()? - cpu,
            used(&sessions, &scanner.sessions_cpu(database).await?),
        );
        scanner.stop().await?;
        judge(database, before, first, &due, [cpu, sessions]).await
    }

    /// What a scanner takes in ten seconds when nothing is due, with its sessions, in milliseconds.
    async fn idle(&self) -> anyhow::Result<f64> {
        machine::settle().await?;
        let mut scanner = Service::start("reminder-scanner", &self.database, &self.topics)?;
        scanner.ready().await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (cpu, sessions) = (scanner.cpu()?, scanner.sessions_cpu(&self.database).await?);
        tokio::time::sleep(IDLE).await;
        let sessions = used(&sessions, &scanner.sessions_cpu(&self.database).await?);
        let cpu = scanner.cpu()? - cpu;
        say(&format!("reminders: idle: {cpu:?} and {sessions:?} in Postgres"));
        scanner.stop().await?;
        Ok((cpu + sessions).as_secs_f64() * 1e3)
    }
}

/// What the sessions used since.
fn used(before: &HashMap<u32, Duration>, now: &HashMap<u32, Duration>) -> Duration {
    now.iter()
        .map(|(process, cpu)| cpu.saturating_sub(before.get(process).copied().unwrap_or_default()))
        .sum()
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

/// Reads the events in the outbox: each reminder that was due has exactly one, and none is early.
async fn judge(
    database: &Database,
    before: i64,
    first: Timestamp,
    due: &HashMap<Uuid, Timestamp>,
    cpu: [Duration; 2],
) -> anyhow::Result<Fired> {
    let [service, sessions] = cpu;
    let rows: Vec<(Uuid, String, Vec<u8>, DateTime<Utc>)> = sqlx::query_as(
        "select fingerprint, topic, body, created_at from outbox.events
         where event_type = 'com.carillon.reminder.fired.v1' and seq > $1",
    )
    .bind(before)
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
    let mut last = first;
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
        last = last.max(created_at);
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
        last_ms: (last - first).as_seconds_f64() * 1e3,
        cpu_us: service.as_secs_f64() * 1e6 / due.len() as f64,
        sessions_cpu_us: sessions.as_secs_f64() * 1e6 / due.len() as f64,
    })
}
