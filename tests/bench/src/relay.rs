//! The relay: how fast it publishes a backlog, and how soon after its commit an event is acknowledged. Both again while
//! another transaction is held open, which is what most queues in a table do not survive.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use schemas::Encoded;
use schemas::topics::TASK_EVENTS;
use serde_json::{Value, json};
use support::{Database, Topics};
use uuid::Uuid;

use crate::load::{self, Commit, HeldOpen};
use crate::process::Service;
use crate::producing::{self, Framer, Probe};
use crate::stats::{Latencies, Runs, Summary};
use crate::table::{Row, Target, Unit};
use crate::{events, machine, say};

/// The metric that tells how far it has come.
const PUBLISHED: &str = "events_published_total";
/// Events of a backlog.
const BACKLOG: u64 = 1_000_000;
/// The pace at which latencies are taken.
const INTERVAL: Duration = Duration::from_millis(1);
/// How many events are sent before latencies count.
const WARM_UP: u64 = 3_000;
/// How many latencies are taken.
const SAMPLES: u64 = 20_000;

/// Measures it.
pub async fn run(quick: bool) -> anyhow::Result<Vec<Row>> {
    let mut rows = backlogs(quick).await?;
    rows.extend(latencies(quick).await?);
    Ok(rows)
}

async fn backlogs(quick: bool) -> anyhow::Result<Vec<Row>> {
    let (count, rounds) = if quick { (BACKLOG / 10, 1) } else { (BACKLOG, 2) };
    let (mut bare, mut plain, mut open) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        bare.push(bare_backlog(count).await?);
        plain.push(backlog(count, false).await?);
        open.push(backlog(count, true).await?);
        say(&format!(
            "relay: backlog, round {round} of {rounds}: bare {:?}, ours {:?}, with a transaction open {:?}",
            bare.last(),
            plain.last(),
            open.last()
        ));
    }
    let row = |path: &str, ours: Vec<Drained>| {
        let row = Row::new(path, Unit::PerSecond, Runs::of(ours.iter().map(|run| run.rate)));
        row.bare(Runs::of(bare.iter().copied()))
            .target(Target::AtLeast(40_000.0))
            .details(json!({
                "events": count,
                "relay_cpu_us_per_event": ours.iter().map(|run| run.cpu_us).collect::<Vec<_>>(),
                "relay_resident_mib": ours.iter().map(|run| run.resident_mib).collect::<Vec<_>>(),
            }))
    };
    Ok(vec![
        row("relay, backlog", plain),
        row("relay, backlog, a transaction held open", open),
    ])
}

/// The same events as records, sent by nothing but librdkafka.
async fn bare_backlog(count: u64) -> anyhow::Result<f64> {
    let topics = Topics::create().await;
    let framer = Framer::new(&topics).await?;
    let config = topics.config();
    let rate = tokio::task::spawn_blocking(move || {
        let records = (0..count)
            .map(|n| framer.frame(&events::created(n)?))
            .collect::<anyhow::Result<Vec<_>>>()?;
        producing::produce(&config, records)
    })
    .await??;
    let held = producing::records(&topics, TASK_EVENTS).await?;
    ensure!(held == count, "the topic holds {held} records, not {count}");
    Ok(rate)
}

/// How a backlog was published.
#[derive(Debug)]
struct Drained {
    rate: f64,
    cpu_us: f64,
    resident_mib: f64,
}

async fn backlog(count: u64, held_open: bool) -> anyhow::Result<Drained> {
    let (database, topics) = (Database::create().await, Topics::create().await);
    let held = if held_open {
        Some(HeldOpen::begin(&database).await?)
    } else {
        None
    };
    load::fill(&database, count).await?;

    let relay = Service::start("outbox-relay", &database, &topics)?;
    let drained = drain(&relay, count).await?;
    let mut expected = count;
    if let Some(held) = held {
        held.commit().await?;
        expected += 1;
        relay.counts(PUBLISHED, expected).await?;
    }
    let in_topic = producing::records(&topics, TASK_EVENTS).await?;
    ensure!(
        in_topic == expected,
        "the topic holds {in_topic} records, not {expected}"
    );
    drop(relay);
    load::discard(database).await?;
    Ok(drained)
}

/// Waits for the first and for the last acknowledgement, which the relay counts.
async fn drain(relay: &Service, count: u64) -> anyhow::Result<Drained> {
    let (first, began) = relay.counts(PUBLISHED, 1).await?;
    let cpu = relay.cpu()?;
    let (last, ended) = relay.counts(PUBLISHED, count).await?;
    let cpu = relay.cpu()? - cpu;
    let events = (last - first) as f64;
    Ok(Drained {
        rate: events / (ended - began).as_secs_f64(),
        cpu_us: cpu.as_secs_f64() * 1e6 / events,
        resident_mib: relay.resident_mib()?,
    })
}

async fn latencies(quick: bool) -> anyhow::Result<Vec<Row>> {
    let samples = if quick { SAMPLES / 10 } else { SAMPLES };
    let bare = bare_latency(samples).await?;
    say(&format!("relay: latency, bare: {bare:?}"));
    let plain = latency(samples, false).await?;
    say(&format!("relay: latency: {plain:?}"));
    let open = latency(samples, true).await?;
    say(&format!("relay: latency with a transaction open: {open:?}"));
    let mut rows = Vec::new();
    for (what, ours) in [("", plain), (", a transaction held open", open)] {
        let row = |percentile: &str, of: fn(&Summary) -> f64| {
            Row::new(
                format!("relay, commit → acknowledged {percentile} at 1 k/s{what}"),
                Unit::Milliseconds,
                Runs::of([of(&ours.from_commit)]),
            )
            .bare(Runs::of([of(&bare)]))
            .details(ours.details(&bare))
        };
        rows.push(row("p50", |summary| summary.p50_ms));
        rows.push(row("p99", |summary| summary.p99_ms).target(Target::Below(25.0)));
    }
    Ok(rows)
}

/// The events to send, and of which of them the latencies count: those after the warm-up.
fn prepared(samples: u64) -> anyhow::Result<(Vec<Encoded>, Vec<Uuid>)> {
    let events = (0..WARM_UP + samples)
        .map(events::created)
        .collect::<anyhow::Result<Vec<_>>>()?;
    let counted = events
        .iter()
        .skip(usize::try_from(WARM_UP)?)
        .map(|event| event.event_id)
        .collect();
    Ok((events, counted))
}

/// From handing a record to librdkafka to its arrival.
async fn bare_latency(samples: u64) -> anyhow::Result<Summary> {
    let topics = Topics::create().await;
    let framer = Framer::new(&topics).await?;
    let config = topics.config();
    let (events, counted) = prepared(samples)?;
    let records = events
        .iter()
        .map(|event| framer.frame(event))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let probe = Probe::start(&config, TASK_EVENTS).await?;
    machine::settle().await?;
    let sent =
        tokio::task::spawn_blocking(move || producing::produce_paced(&config, records, INTERVAL)).await??;
    let arrived = probe.finish(events.len()).await?;
    summary(&counted, &sent, &arrived)
}

/// What was seen at a steady pace.
#[derive(Debug)]
struct Paced {
    /// From the moment the writer knew that its event is committed to the event's arrival.
    from_commit: Summary,
    /// From the moment the writer sent its statement.
    from_insert: Summary,
    /// From the moment the event was due to be written: what a stalled database adds shows here.
    from_due: Summary,
    /// What the relay's own histogram says: the share of all events acknowledged within 25 ms of their insert.
    within_25_ms: f64,
}

impl Paced {
    fn details(&self, bare: &Summary) -> Value {
        json!({"from_commit": self.from_commit, "from_insert": self.from_insert, "from_due": self.from_due,
               "relay_says_within_25_ms": self.within_25_ms, "bare": bare})
    }
}

async fn latency(samples: u64, held_open: bool) -> anyhow::Result<Paced> {
    let (database, topics) = (Database::create().await, Topics::create().await);
    let config = topics.config();
    let (events, counted) = prepared(samples)?;
    let held = if held_open {
        Some(HeldOpen::begin(&database).await?)
    } else {
        None
    };
    let mut relay = Service::start("outbox-relay", &database, &topics)?;
    relay.ready().await?;
    let probe = Probe::start(&config, TASK_EVENTS).await?;
    machine::settle().await?;

    let commits = load::commit_paced(&database, events, INTERVAL).await?;
    let arrived = probe.finish(commits.len()).await?;
    if let Some(held) = held {
        held.commit().await?;
        relay.counts(PUBLISHED, u64::try_from(commits.len())? + 1).await?;
    }
    let metrics = relay.metrics().await?;
    let within = metrics.sum_where("outbox_publish_seconds_bucket", |labels| {
        labels.contains("le=\"0.025\"")
    });
    let all = metrics.sum("outbox_publish_seconds_count");
    drop(relay);
    load::discard(database).await?;

    let since = |moment: fn(&Commit) -> Instant| {
        let moments = commits
            .iter()
            .map(|(id, commit)| (*id, moment(commit)))
            .collect::<HashMap<_, _>>();
        summary(&counted, &moments, &arrived)
    };
    Ok(Paced {
        from_commit: since(|commit| commit.committed)?,
        from_insert: since(|commit| commit.sent)?,
        from_due: since(|commit| commit.due)?,
        within_25_ms: within / all,
    })
}

/// The latencies of the counted events.
fn summary(
    counted: &[Uuid],
    from: &HashMap<Uuid, Instant>,
    to: &HashMap<Uuid, Instant>,
) -> anyhow::Result<Summary> {
    let mut latencies = Latencies::new()?;
    for id in counted {
        let from = from.get(id).context("an event that was not sent")?;
        let to = to.get(id).context("an event that did not arrive")?;
        // The event may arrive before its writer hears from the database that it is committed.
        latencies.record(to.saturating_duration_since(*from));
    }
    Ok(latencies.summary())
}
