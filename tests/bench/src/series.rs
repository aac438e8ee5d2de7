//! Instances made ahead: ten thousand series that pile up, a month of each in one run of the generator, beside one connection
//! that inserts the very same rows.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use support::{Database, Topics};

use crate::process::Service;
use crate::stats::Runs;
use crate::table::{Row, Target, Unit};
use crate::{load, machine, say};

/// Series, ten of each person.
const SERIES: i32 = 10_000;
/// Rows of one statement: the generator's own.
const BATCH: usize = 2000;
/// Runs of each side, in turns.
const ROUNDS: usize = 2;
/// How often the memory of the generator is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Measures it.
pub async fn run(quick: bool) -> anyhow::Result<Vec<Row>> {
    let (series, rounds) = if quick { (SERIES / 10, 1) } else { (SERIES, ROUNDS) };
    let (mut ours, mut bare, mut memory, mut details) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        let (made, instances) = ahead(series).await?;
        let limit = insert(series, &instances).await?;
        say(&format!(
            "series: round {round} of {rounds}: {:.0}/s, bare {limit:.0}/s",
            made.rate
        ));
        ours.push(made.rate);
        bare.push(limit);
        memory.push(made.resident_mib);
        details.push(json!({"instances": made.instances, "seconds": made.seconds}));
    }
    let details = json!({"series": series, "runs": details});
    Ok(vec![
        Row::new("instances made ahead, --once", Unit::PerSecond, Runs::of(ours))
            .bare(Runs::of(bare))
            .target(Target::AtLeast(10_000.0))
            .details(details),
        Row::new(
            "instances made ahead, --once, memory",
            Unit::Mebibytes,
            Runs::of(memory),
        )
        .target(Target::AtMost(100.0)),
    ])
}

/// What a run of the generator made.
struct Made {
    instances: usize,
    seconds: f64,
    rate: f64,
    resident_mib: f64,
}

/// People and their series, the same in every database; each has its first instance behind it.
async fn seed(database: &Database, series: i32) -> anyhow::Result<()> {
    sqlx::query(
        "insert into accounts.users (id, email, name, timezone, created_at)
         select md5('user' || n)::uuid, n || '@example.org', 'n', 'Europe/Berlin', now()
         from generate_series(0, ($1 - 1) / 10) n",
    )
    .bind(series)
    .execute(database.admin())
    .await?;
    sqlx::query(
        r#"insert into tasks.series (user_id, id, rrule, starts_at, timezone, created_at, content, overlap, made_through, attend_at)
           select md5('user' || n / 10)::uuid, md5('series' || n)::uuid, 'FREQ=DAILY', starts_at, 'Europe/Berlin', now(),
                  '{"title": "Water the plants on the balcony", "description": "All of *them*", "priority": "high",
                    "tags": ["home", "green"], "reminders": ["-PT10M"]}',
                  'pile_up', starts_at, starts_at + interval '1 day'
           from generate_series(0, $1 - 1) n, date_trunc('day', now() at time zone 'UTC') today,
                lateral (select (today + n % 1440 * interval '1 minute') at time zone 'UTC' as starts_at) s"#,
    )
    .bind(series)
    .execute(database.admin())
    .await?;
    machine::settle().await
}

/// Lets the generator make a month of each series. Returns what it wrote: tasks and their events, as rows of JSON.
async fn ahead(series: i32) -> anyhow::Result<(Made, Vec<(String, String)>)> {
    let (database, topics) = (Database::create().await, Topics::create().await);
    seed(&database, series).await?;
    let began = Instant::now();
    let mut once = Service::start_with("recurrence-generator", &["--once"], &database, &topics)?;
    let mut resident_mib = 0.0_f64;
    while !once.ended()? {
        resident_mib = once.resident_mib().unwrap_or_default().max(resident_mib);
        tokio::time::sleep(POLL).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    let instances: Vec<(String, String)> = sqlx::query_as(
        "select (to_jsonb(t) - 'search' - 'due_key')::text, (to_jsonb(e) - 'seq' - 'xid')::text
         from (select *, row_number() over (order by user_id, series_id, occurrence) n from tasks.tasks) t
         join (select *, row_number() over (order by seq) n from outbox.events) e using (n)
         order by n",
    )
    .fetch_all(database.admin())
    .await?;
    ensure!(
        instances.len() >= usize::try_from(series)? * 29,
        "{} instances were made",
        instances.len()
    );
    load::discard(database).await?;
    let made = Made {
        instances: instances.len(),
        seconds,
        rate: instances.len() as f64 / seconds,
        resident_mib,
    };
    Ok((made, instances))
}

/// Inserts the same rows into tables like the generator's: same indexes, same role, one connection, nothing else to do.
async fn insert(series: i32, instances: &[(String, String)]) -> anyhow::Result<f64> {
    let database = Database::create().await;
    seed(&database, series).await?;
    let mut connection = PgConnection::connect(&database.url("recurrence-generator")).await?;
    let mut took = Duration::ZERO;
    let mut next = 0;
    while next < instances.len() {
        let range = next..(next + BATCH).min(instances.len());
        next = range.end;
        took += insert_batch(&mut connection, instances, range).await?;
    }
    connection.close().await?;
    let tasks: i64 = sqlx::query_scalar("select count(*) from tasks.tasks")
        .fetch_one(database.admin())
        .await?;
    ensure!(
        usize::try_from(tasks)? == instances.len(),
        "{tasks} rows were added"
    );
    load::discard(database).await?;
    Ok(instances.len() as f64 / took.as_secs_f64())
}

/// One transaction; what it takes to write the rows down as a parameter is not counted.
async fn insert_batch(
    connection: &mut PgConnection,
    instances: &[(String, String)],
    range: Range<usize>,
) -> anyhow::Result<Duration> {
    let batch = &instances[range];
    let array = |rows: Vec<&str>| format!("[{}]", rows.join(","));
    let tasks = array(batch.iter().map(|(task, _)| task.as_str()).collect());
    let events = array(batch.iter().map(|(_, event)| event.as_str()).collect());
    let began = Instant::now();
    let mut tx = connection.begin().await?;
    sqlx::query(
        "insert into tasks.tasks (user_id, id, version, title, description, priority, tags, due_at, timezone, reminders,
                                  series_id, occurrence, recurrence, created_at, updated_at)
         select user_id, id, version, title, description, priority, tags, due_at, timezone, reminders, series_id, occurrence,
                recurrence, created_at, updated_at
         from jsonb_to_recordset($1::text::jsonb) r (user_id uuid, id uuid, version bigint, title text, description text, priority text,
              tags text[], due_at timestamptz, timezone text, reminders jsonb, series_id uuid, occurrence timestamptz,
              recurrence text, created_at timestamptz, updated_at timestamptz)",
    )
    .bind(tasks)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "insert into outbox.events (event_id, topic, user_id, event_type, fingerprint, body, headers)
         select event_id, topic, user_id, event_type, fingerprint, body, headers
         from jsonb_to_recordset($1::text::jsonb) r (event_id uuid, topic text, user_id uuid, event_type text, fingerprint uuid,
              body bytea, headers jsonb)",
    )
    .bind(events)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(began.elapsed())
}
