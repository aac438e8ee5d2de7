//! Fairness: how late others' reminders, mails and webhooks are while one person has a hundred thousand that are due, beside how
//! late they are without. All times are the database's.

use std::time::Duration;

use anyhow::ensure;
use chrono::TimeDelta;
use schemas::Timestamp;
use serde_json::json;
use sqlx::types::Json;
use support::{Database, Topics, samples};
use uuid::Uuid;

use crate::process::Service;
use crate::stats::Runs;
use crate::table::{Row, Target, Unit};
use crate::webhooks::{self, Receiver};
use crate::{events, load, machine, say};

/// What the one person has, all of it due at the same instant.
const BACKLOG: i64 = 100_000;
/// A moment in which commits stand still is the 99th percentile of a run by itself: the row is the median of so many.
const ROUNDS: usize = 3;
/// From the preparation's end to that instant: the service starts meanwhile.
const LEAD: Duration = Duration::from_secs(8);
/// How long all of the others' may take after the last one's time.
const PATIENCE: Duration = Duration::from_secs(60);

/// A path, and what the others have on it: one each, at even distances from that instant on.
struct Path {
    what: &'static str,
    service: &'static str,
    others: i64,
    every: Duration,
    /// Makes the backlog of `$1`, due at `$2`: `$3` of them. `$4` is a task, and a text in it.
    backlog: &'static [&'static str],
    /// Makes one for each of the others.
    probes: &'static [&'static str],
    /// How late each of them was, in milliseconds; of which it is not known yet, null.
    lateness: &'static str,
    /// How many of the backlog are left.
    left: &'static str,
}

/// A backlog of reminders is through in some seconds, so the others' come close together.
const REMINDERS: Path = Path {
    what: "reminders",
    service: "reminder-scanner",
    others: 600,
    every: Duration::from_millis(5),
    backlog: &[
        "insert into reminders.tasks (user_id, task_id, version, snapshot)
         select $1, id, 1, $4::jsonb || jsonb_build_object('id', id) from (select gen_random_uuid() as id from generate_series(1, $3)) t
         where $2 is not null",
        "insert into reminders.reminders (user_id, task_id, id, fire_at, state, urgency)
         select user_id, task_id, task_id, $2, 'armed', 2 from reminders.tasks where user_id = $1 and $3 > 0 and $4 is not null",
    ],
    probes: &[
        "insert into reminders.tasks (user_id, task_id, version, snapshot)
         select id, id, 1, $3::jsonb || jsonb_build_object('id', id) from others where $1 is not null and $2 is not null",
        "insert into reminders.reminders (user_id, task_id, id, fire_at, state, urgency)
         select id, id, id, $1 + n * $2, 'armed', 2 from others where $3 is not null",
    ],
    lateness: "select (extract(epoch from e.created_at - r.fire_at) * 1000)::float8
               from others o join reminders.reminders r on r.user_id = o.id
                    left join outbox.events e on e.user_id = o.id and e.event_type = 'com.carillon.reminder.fired.v1'",
    left: "select count(*) from reminders.reminders where state = 'armed'",
};

const MAILS: Path = Path {
    what: "mails",
    service: "email-sender",
    others: 400,
    every: Duration::from_millis(50),
    backlog: &[
        "insert into delivery.deliveries (id, user_id, channel, reminder_id, task_id, fire_at, fired_at, task, next_attempt_at)
         select gen_random_uuid(), $1, 'email', gen_random_uuid(), gen_random_uuid(), $2, $2, $4, $2 from generate_series(1, $3)",
    ],
    probes: &[
        "insert into delivery.deliveries (id, user_id, channel, reminder_id, task_id, fire_at, fired_at, task, next_attempt_at)
         select id, id, 'email', id, id, $1 + n * $2, $1 + n * $2, $3, $1 + n * $2 from others",
    ],
    lateness: "select (extract(epoch from d.finished_at - d.fired_at) * 1000)::float8
               from others o join delivery.deliveries d on d.id = o.id",
    left: "select count(*) from delivery.deliveries where state in ('pending', 'aside')",
};

const WEBHOOKS: Path = Path {
    what: "webhooks",
    service: "webhook-sender",
    others: 400,
    every: Duration::from_millis(50),
    backlog: &[
        "insert into webhooks.deliveries (id, user_id, endpoint_id, event_id, event_type, occurred_at, body, next_attempt_at)
         select gen_random_uuid(), $1, $1, gen_random_uuid(), 'task.created', $2, $4::text, $2 from generate_series(1, $3)",
        "insert into webhooks.queues (endpoint_id, user_id, due_at) select $1, $1, $2 where $3 > 0 and $4 is not null",
    ],
    probes: &[
        "insert into webhooks.deliveries (id, user_id, endpoint_id, event_id, event_type, occurred_at, body, next_attempt_at)
         select id, id, id, id, 'task.created', $1 + n * $2, $3::text, $1 + n * $2 from others",
        "insert into webhooks.queues (endpoint_id, user_id, due_at) select id, id, $1 + n * $2 from others where $3 is not null",
    ],
    lateness: "select (extract(epoch from d.finished_at - d.occurred_at) * 1000)::float8
               from others o join webhooks.deliveries d on d.id = o.id",
    left: "select count(*) from webhooks.deliveries where state = 'pending'",
};

/// Measures it.
pub async fn run(quick: bool) -> anyhow::Result<Vec<Row>> {
    let receiver = Receiver::start(Duration::ZERO).await?;
    let rounds = if quick { 1 } else { ROUNDS };
    let mut rows = Vec::new();
    for path in [REMINDERS, MAILS, WEBHOOKS] {
        // The backlog is what this is about: `--quick` only looks for a shorter time.
        let others = if quick { path.others / 4 } else { path.others };
        let (mut idle, mut beside) = (Vec::new(), Vec::new());
        for round in 1..=rounds {
            idle.push(lateness(&path, others, 0, &receiver).await?);
            beside.push(lateness(&path, others, BACKLOG, &receiver).await?);
            say(&format!(
                "fairness, {}, round {round} of {rounds}: idle {:?}, beside a backlog {:?}",
                path.what,
                idle.last(),
                beside.last()
            ));
        }
        rows.push(
            Row::new(
                format!("others' {}, p99, beside 100 k of one person's", path.what),
                Unit::Milliseconds,
                p99(&beside),
            )
            .bare(p99(&idle))
            .target(Target::RatioAtMost(2.0))
            .details(
                json!({"others": others, "every_ms": path.every.as_millis(), "p50_ms": p50(&beside),
                            "idle_p50_ms": p50(&idle), "backlog_left": beside.iter().map(|run| run.left).collect::<Vec<_>>()}),
            ),
        );
    }
    Ok(rows)
}

/// How late the others' were.
#[derive(Debug)]
struct Lateness {
    p50_ms: f64,
    p99_ms: f64,
    /// Of the backlog, when the last of theirs was done.
    left: i64,
}

fn p50(runs: &[Lateness]) -> Vec<f64> {
    runs.iter().map(|run| run.p50_ms).collect()
}

fn p99(runs: &[Lateness]) -> Runs {
    Runs::of(runs.iter().map(|run| run.p99_ms))
}

async fn lateness(path: &Path, others: i64, backlog: i64, receiver: &Receiver) -> anyhow::Result<Lateness> {
    let (database, topics) = (Database::create().await, Topics::create().await);
    let flood = people(&database, others, receiver).await?;
    let task = match path.service {
        "reminder-scanner" => Json(serde_json::to_value(
            events::task_to_ring(0, clock(&database).await?).1,
        )?),
        "email-sender" => Json(serde_json::to_value(samples::task())?),
        _ => Json(serde_json::from_str(&webhooks::body())?),
    };
    // What is written takes its time: it is due only when all of it stands there and the service waits for it.
    let writing = Duration::from_millis(u64::try_from(backlog)? / 5);
    let first = clock(&database).await? + LEAD + writing;
    if backlog > 0 {
        for statement in path.backlog {
            sqlx::query(*statement)
                .bind(flood)
                .bind(first)
                .bind(backlog)
                .bind(&task)
                .execute(database.admin())
                .await?;
        }
    }
    for statement in path.probes {
        sqlx::query(*statement)
            .bind(first)
            .bind(path.every)
            .bind(&task)
            .execute(database.admin())
            .await?;
    }
    sqlx::query("vacuum (analyze)").execute(database.admin()).await?;
    machine::settle().await?;
    let mut service = Service::start(path.service, &database, &topics)?;
    service.ready().await?;
    let left = first - clock(&database).await?;
    ensure!(
        left > TimeDelta::seconds(1),
        "writing took so long that the first are due already: {left}"
    );
    tokio::time::sleep(left.to_std()? + path.every * u32::try_from(others)?).await;
    let began = std::time::Instant::now();
    let mut late = loop {
        let late: Vec<Option<f64>> = sqlx::query_scalar(path.lateness)
            .fetch_all(database.admin())
            .await?;
        let known: Vec<f64> = late.iter().copied().flatten().collect();
        if known.len() == usize::try_from(others)? {
            break known;
        }
        ensure!(
            began.elapsed() < PATIENCE,
            "{} of {others} {} are done",
            known.len(),
            path.what
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let left: i64 = sqlx::query_scalar(path.left).fetch_one(database.admin()).await?;
    service.stop().await?;
    load::discard(database).await?;
    late.sort_by(f64::total_cmp);
    let least = late.first().copied().unwrap_or_default();
    ensure!(least >= 0.0, "one was early by {} ms", -least);
    let at = |share: f64| {
        let index = (late.len() as f64 * share).ceil() as usize;
        late.get(index.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    };
    Ok(Lateness {
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        left,
    })
}

/// The others, each with an endpoint that is named like the person, and the one who has the backlog.
async fn people(database: &Database, others: i64, receiver: &Receiver) -> anyhow::Result<Uuid> {
    let flood = Uuid::new_v4();
    sqlx::query(
        "insert into accounts.users (id, email, name, timezone, created_at)
         select gen_random_uuid(), n || '@example.org', 'Ada Lovelace', 'Europe/London', now()
         from generate_series(1, $1) n",
    )
    .bind(others)
    .execute(database.admin())
    .await?;
    sqlx::query("create table others as select id, row_number() over () as n from accounts.users")
        .execute(database.admin())
        .await?;
    sqlx::query(
        "insert into accounts.users (id, email, name, timezone, created_at)
         values ($1, 'flood@example.org', 'Ada Lovelace', 'Europe/London', now())",
    )
    .bind(flood)
    .execute(database.admin())
    .await?;
    sqlx::query(
        "with made as (
             insert into webhooks.endpoints (user_id, id, url, created_at, updated_at)
             select id, id, $1 || '/' || id, now(), now() from accounts.users returning user_id, id)
         insert into webhooks.secrets (user_id, endpoint_id, secret) select user_id, id, sha256(id::text::bytea) from made",
    )
    .bind(&receiver.url)
    .execute(database.admin())
    .await?;
    Ok(flood)
}

async fn clock(database: &Database) -> anyhow::Result<Timestamp> {
    Ok(sqlx::query_scalar("select clock_timestamp()")
        .fetch_one(database.admin())
        .await?)
}
