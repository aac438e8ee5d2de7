//! Coming back: what a service does a second before something it stands on is killed, and from ten seconds after that answers
//! again.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::ensure;
use chrono::{TimeDelta, Utc};
use serde_json::json;
use support::{Database, Topics};

use crate::process::Service;
use crate::producing::{self, Framer};
use crate::stats::Runs;
use crate::table::{Row, Target, Unit};
use crate::{events, load, machine, mail, say};

/// Mails that wait when it begins: more than can be sent until it ends.
const MAILS: u64 = 60_000;
/// Tasks that wait: more than can be armed until it ends.
const TASKS: u64 = 700_000;
/// How many of them are in memory at a time on their way into the topic.
const BITE: u64 = 100_000;
/// In five seconds a rate is what it is give or take a tenth: the row is the median of so many.
const ROUNDS: usize = 3;
/// How long a rate is looked at.
const WINDOW: Duration = Duration::from_secs(5);
/// How long a part is away.
const AWAY: Duration = Duration::from_secs(3);
/// How long a service has, from when the part answers, to be as fast as before.
const GRACE: Duration = Duration::from_secs(10);

/// Measures it.
pub async fn run(quick: bool) -> anyhow::Result<Vec<Row>> {
    if quick {
        say("recovery: takes as long as it takes, so it is left out");
        return Ok(Vec::new());
    }
    Ok(vec![
        row("email-sender", "notifications_sent_total", "mail").await?,
        row("email-sender", "notifications_sent_total", "postgres").await?,
        row("reminder-scanner", "reminders_scheduled_total", "kafka").await?,
    ])
}

/// Kills a part of the stack under a service that is busy, time and again.
async fn row(service: &'static str, metric: &str, part: &str) -> anyhow::Result<Row> {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (database, topics) = (Database::create().await, Topics::create().await);
        if service == "email-sender" {
            mail::arm(&database, MAILS).await?;
        } else {
            publish(&topics).await?;
        }
        let rates = rates(service, metric, part, &database, &topics).await?;
        load::discard(database).await?;
        say(&format!(
            "recovery: {service} without {part}: {:.0}/s after {:.0}/s",
            rates.after, rates.before
        ));
        before.push(rates.before);
        after.push(rates.after);
    }
    Ok(Row::new(
        format!("{service}, 10 s after {part} is back, beside before"),
        Unit::PerSecond,
        Runs::of(after),
    )
    .bare(Runs::of(before))
    .target(Target::RatioAtLeast(0.95))
    .details(json!({"away_seconds": AWAY.as_secs(), "window_seconds": WINDOW.as_secs()})))
}

async fn publish(topics: &Topics) -> anyhow::Result<()> {
    let framer = Framer::new(topics).await?;
    let config = topics.config();
    let first = Utc::now() + TimeDelta::days(30);
    tokio::task::spawn_blocking(move || {
        for bite in 0..TASKS / BITE {
            let records = (bite * BITE..(bite + 1) * BITE)
                .map(|n| {
                    let at = first + TimeDelta::seconds(i64::try_from(n)?);
                    framer.frame(&events::created_to_ring(n, at)?)
                })
                .collect::<anyhow::Result<Vec<_>>>()?;
            producing::produce(&config, records)?;
        }
        anyhow::Ok(())
    })
    .await?
}

/// What a service does in a second.
struct Rates {
    before: f64,
    after: f64,
}

async fn rates(
    service: &'static str,
    metric: &str,
    part: &str,
    database: &Database,
    topics: &Topics,
) -> anyhow::Result<Rates> {
    machine::settle().await?;
    let running = Service::start(service, database, topics)?;
    running.counts(metric, 1).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = rate(&running, metric).await?;
    stack(&["stop", part, "--kill"])?;
    tokio::time::sleep(AWAY).await;
    stack(&["start", part])?;
    tokio::time::sleep(GRACE).await;
    let after = rate(&running, metric).await?;
    running.stop().await?;
    Ok(Rates { before, after })
}

async fn rate(service: &Service, metric: &str) -> anyhow::Result<f64> {
    let (first, began) = service.counts(metric, 0).await?;
    tokio::time::sleep(WINDOW).await;
    let (last, ended): (u64, Instant) = service.counts(metric, first + 1).await?;
    Ok((last - first) as f64 / (ended - began).as_secs_f64())
}

/// Calls `scripts/stack` for the stack that this runs on.
fn stack(arguments: &[&str]) -> anyhow::Result<()> {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../scripts/stack");
    let status = Command::new(script)
        .args(arguments)
        .stdout(Stdio::null())
        .status()?;
    ensure!(status.success(), "scripts/stack {arguments:?} failed");
    Ok(())
}
