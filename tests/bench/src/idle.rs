//! What a service takes that has nothing to do, and how soon after its start it is ready.

use std::time::Duration;

use serde_json::json;
use support::{Database, Topics};

use crate::load;
use crate::process::Service;
use crate::stats::Runs;
use crate::table::{Row, Target, Unit};
use crate::{machine, say};

/// Every service, and whether it is a consumer.
const SERVICES: [(&str, bool); 6] = [
    ("reminder-scanner", true),
    ("email-sender", true),
    ("recurrence-generator", true),
    ("audit-sink", true),
    ("outbox-relay", false),
    ("api", false),
];
/// How often each is started.
const STARTS: usize = 3;
/// After it is ready, before anything is counted: first connections and metadata.
const CALM: Duration = Duration::from_secs(3);
/// How long it is watched.
const WATCH: Duration = Duration::from_secs(10);

/// Measures it.
pub async fn run(quick: bool) -> anyhow::Result<Vec<Row>> {
    let (starts, watch) = if quick { (1, WATCH / 5) } else { (STARTS, WATCH) };
    let (database, topics) = (Database::create().await, Topics::create().await);
    let (mut ready, mut memory, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for (name, is_consumer) in SERVICES {
        let mut took = Vec::new();
        let mut service = Service::start(name, &database, &topics)?;
        took.push(service.ready().await?);
        for _ in 1..starts {
            service.stop().await?;
            service = Service::start(name, &database, &topics)?;
            took.push(service.ready().await?);
        }
        tokio::time::sleep(CALM).await;
        let before = service.cpu()?;
        tokio::time::sleep(watch).await;
        let used = service.cpu()? - before;
        let resident = service.resident_mib()?;
        say(&format!(
            "idle: {name}: ready after {took:?}, {resident:.1} MiB, {used:?} of CPU in {watch:?}"
        ));
        service.stop().await?;
        machine::settle().await?;

        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        ready.push(
            Row::new(
                format!("{name}, start → ready"),
                Unit::Milliseconds,
                Runs::of(took.into_iter().map(ms)),
            )
            .target(Target::Below(1000.0)),
        );
        let row = Row::new(
            format!("{name}, idle, memory"),
            Unit::Mebibytes,
            Runs::of([resident]),
        );
        memory.push(if is_consumer {
            row.target(Target::AtMost(25.0))
        } else {
            row
        });
        cpu.push(
            Row::new(
                format!("{name}, idle, CPU in 10 s"),
                Unit::Milliseconds,
                Runs::of([ms(used) * WATCH.as_secs_f64() / watch.as_secs_f64()]),
            )
            .details(json!({"share_of_a_core": used.as_secs_f64() / watch.as_secs_f64()})),
        );
    }
    load::discard(database).await?;
    Ok(ready.into_iter().chain(memory).chain(cpu).collect())
}
