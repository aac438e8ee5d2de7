//! `carillon replay`: a group handles a part of the past again. docs/adr/0016 says how.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use chrono::Utc;
use clap::Args;
use kafka::groups;
use kafka::letters::{Replayer, acknowledged};
use kafka::reader::{Reader, offsets_at};
use kafka::{KafkaConfig, Record};
use schemas::topics::retry;
use serde_json::json;

use crate::arguments::When;
use crate::lag::groups_named;
use crate::output::{self, Format, Usage, Verdict, duration, note, say};

/// How many records are given before it is waited until the brokers have them.
const BUNDLE: usize = 500;
/// How often it is told how far it is.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// Has a group handle a part of the past again.
///
/// Gives it all that was written to one of its topics in a range of time, and waits until it has handled that. What it has
/// handled before has no second effect: this mends what is missing. Other groups see nothing of it, and what is new goes on
/// meanwhile.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The topic, such as task-events.
    #[arg(long)]
    topic: String,
    /// The group that is to handle it again.
    #[arg(long)]
    group: String,
    /// From when on: a time, or how long ago (6h).
    #[arg(long)]
    from: When,
    /// Until when. Without it, until now.
    #[arg(long)]
    to: Option<When>,
    /// Says how much it would be, and does nothing.
    #[arg(long)]
    dry_run: bool,
    /// Does not wait until the group has handled it.
    #[arg(long)]
    no_wait: bool,
}

pub(crate) async fn run(arguments: &Replay, format: Format) -> anyhow::Result<Verdict> {
    let topic = &arguments.topic;
    for group in groups_named(std::slice::from_ref(&arguments.group))? {
        if !group.topics.contains(&topic.as_str()) {
            let reads = group.topics.join(", ");
            return Err(Usage(format!("{} does not read {topic:?}, but {reads}", group.name)).into());
        }
    }
    let When(from) = arguments.from;
    let to = arguments.to.map_or_else(Utc::now, |When(to)| to);
    if from >= to {
        return Err(Usage("--from is not before --to".to_owned()).into());
    }
    let config = service::config::load(KafkaConfig::from_env)?;
    let unreadable = || format!("cannot read {topic}");
    let first = offsets_at(&config, topic, from).await.with_context(unreadable)?;
    let end = offsets_at(&config, topic, to).await.with_context(unreadable)?;
    let range = |partition: i32| {
        let at =
            |offsets: &std::collections::BTreeMap<i32, i64>| offsets.get(&partition).copied().unwrap_or(0);
        (at(&first), at(&end))
    };
    let total: i64 = first
        .keys()
        .map(|p| range(*p))
        .map(|(from, to)| (to - from).max(0))
        .sum();
    if arguments.dry_run {
        match format {
            Format::Json => output::json(&json!({"records": total}))?,
            Format::Table => say(format_args!(
                "It would be given to {} again: {}.",
                arguments.group,
                output::count(total, "record")
            )),
        }
        return Ok(Verdict::Fine);
    }
    let mut reader = Reader::open(&config, topic, |partition, _| range(partition))
        .await
        .with_context(unreadable)?;
    let replayer = Replayer::new(&config)?;
    let mut progress = Progress::new(total);
    let mut given = 0;
    loop {
        let bundle = next_bundle(&mut reader).await.with_context(unreadable)?;
        if bundle.is_empty() {
            break;
        }
        let mut sent = Vec::with_capacity(bundle.len());
        for record in &bundle {
            sent.push(replayer.give_again(&arguments.group, record).await?);
        }
        acknowledged(sent).await.context("a broker refuses a record")?;
        given += bundle.len();
        progress.tell("given", i64::try_from(given)?);
    }
    let handled = wait(&config, arguments, progress).await?;
    match format {
        Format::Json => output::json(&json!({"given": given, "handled": handled}))?,
        Format::Table => say(format_args!(
            "Given to {} again{}: {}.",
            arguments.group,
            if handled { ", and handled" } else { "" },
            output::count(given, "record")
        )),
    }
    Ok(Verdict::Fine)
}

async fn next_bundle(reader: &mut Reader) -> Result<Vec<Record>, kafka::reader::KafkaError> {
    let mut bundle = Vec::new();
    while bundle.len() < BUNDLE
        && let Some(record) = reader.next().await?
    {
        bundle.push(record);
    }
    Ok(bundle)
}

/// Waits until the group has handled what it was given; false when nobody waits for that.
async fn wait(config: &KafkaConfig, arguments: &Replay, mut progress: Progress) -> anyhow::Result<bool> {
    if arguments.no_wait {
        return Ok(false);
    }
    progress.started = Instant::now();
    let topics = [retry(&arguments.topic, &arguments.group)];
    loop {
        let lags = groups::lag(config, &arguments.group, &topics).await?;
        if lags.is_empty() {
            bail!("{} is missing: carillon topics ensure", topics[0]);
        }
        let left: i64 = lags.iter().map(|lag| lag.messages).sum();
        if left == 0 {
            return Ok(true);
        }
        let state = groups::state(config, &arguments.group).await?;
        if state.is_none_or(|state| state.members == 0) {
            note(format_args!(
                "Nobody is in the group {}. Waiting until somebody is: {}.",
                arguments.group,
                output::count(left, "record")
            ));
            return Ok(false);
        }
        progress.tell("handled", (progress.total - left).max(0));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// How far it is, and how long it will take at the pace that it has.
struct Progress {
    total: i64,
    started: Instant,
    told: Instant,
}

impl Progress {
    fn new(total: i64) -> Self {
        let now = Instant::now();
        Self {
            total,
            started: now,
            told: now,
        }
    }

    fn tell(&mut self, what: &str, done: i64) {
        if self.told.elapsed() < TELL_EVERY {
            return;
        }
        self.told = Instant::now();
        let left = estimate(done, self.total, self.started.elapsed());
        note(format_args!(
            "{done} of {} {what}{}",
            self.total,
            left.map_or_else(String::new, |left| format!(
                ", about {} left",
                duration(left.as_secs_f64())
            ))
        ));
    }
}

/// How long the rest takes at the pace so far; `None` when nothing is done yet.
fn estimate(done: i64, total: i64, elapsed: Duration) -> Option<Duration> {
    let done = u32::try_from(done).ok().filter(|done| *done > 0)?;
    let left = u32::try_from(total).ok()?.saturating_sub(done);
    Some(elapsed.mul_f64(f64::from(left) / f64::from(done)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_the_pace_says() {
        let second = Duration::from_secs(1);
        assert_eq!(estimate(25, 100, second), Some(3 * second));
        assert_eq!(estimate(100, 100, second), Some(Duration::ZERO));
        assert_eq!(estimate(0, 100, second), None);
    }
}
