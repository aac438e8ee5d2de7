//! Replay: an operator has the audit sink handle a million events again that it has handled before.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::ensure;
use serde_json::json;
use support::{Database, Topics, stack};

use crate::process::Service;
use crate::producing::{self, Framer};
use crate::stats::Runs;
use crate::table::{Row, Target, Unit};
use crate::{events, load, machine, say};

/// Events that are handled again.
const EVENTS: u64 = 1_000_000;
/// How many are in memory at a time on their way into the topic.
const BITE: u64 = 100_000;
/// The metric that tells how far it has come.
const PERSISTED: &str = "events_persisted_total";

/// Measures it.
pub async fn run(quick: bool) -> anyhow::Result<Vec<Row>> {
    let count = if quick { EVENTS / 10 } else { EVENTS };
    let (database, topics) = (Database::create().await, Topics::create().await);
    let framer = Framer::new(&topics).await?;
    let config = topics.config();
    tokio::task::spawn_blocking(move || {
        let mut next = 0;
        while next < count {
            let records = (next..(next + BITE).min(count))
                .map(|n| framer.frame(&events::created_to_ring(n, chrono::Utc::now())?))
                .collect::<anyhow::Result<Vec<_>>>()?;
            producing::produce(&config, records)?;
            next += BITE;
        }
        anyhow::Ok(())
    })
    .await??;
    let sink = Service::start("audit-sink", &database, &topics)?;
    sink.counts(PERSISTED, count).await?;
    machine::settle().await?;
    let prefix = topics.config().topic_prefix;
    let began = Instant::now();
    let answer = tokio::task::spawn_blocking(move || {
        Command::new(std::env::current_exe()?.with_file_name("carillon"))
            .args([
                "replay",
                "--topic",
                "task-events",
                "--group",
                "audit-sink",
                "--from",
                "1d",
            ])
            .args(["--format", "json"])
            .env("KAFKA_BOOTSTRAP_SERVERS", stack("KAFKA_BOOTSTRAP_SERVERS"))
            .env("KAFKA_TOPIC_PREFIX", prefix)
            .stderr(Stdio::null())
            .output()
    })
    .await??;
    let took_ms = began.elapsed().as_secs_f64() * 1e3;
    let said: serde_json::Value = serde_json::from_slice(&answer.stdout)?;
    ensure!(
        said == json!({"given": count, "handled": true}),
        "the replay says {said}"
    );
    let rows: i64 = sqlx::query_scalar("select count(*) from audit.events")
        .fetch_one(database.admin())
        .await?;
    ensure!(u64::try_from(rows)? == count, "{rows} rows of {count} events");
    sink.stop().await?;
    load::discard(database).await?;
    say(&format!("replay: {count} events in {took_ms:.0} ms"));
    Ok(vec![
        Row::new(
            format!("replay of {} k events through audit-sink", count / 1000),
            Unit::Milliseconds,
            Runs::of([took_ms]),
        )
        .target(Target::Below(60_000.0))
        .details(json!({"events": count})),
    ])
}
