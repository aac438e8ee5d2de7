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
const SERVICES: [(&str, bool); 7] = [
    ("reminder-scanner", true),
    ("email-sender", true),
    ("recurrence-generator", true),
    ("audit-sink", true),
    ("webhook-sender", true),
    ("outbox-relay", false),
    ("api", false),
];
/// How often each is started.
const STARTS: usize = 3;
/// After it is ready, before anything is counted: first connections and metadata.
const CALM: Duration = Duration::from_secs(3);
/// How long it is watched.
const WATCH: Duration = Duration::from_secs(10);

/// "Near no CPU" as a number: one per cent of a core, in ten seconds, a service and its database sessions together.
const NEAR_NO_CPU_MS: f64 = 100.0;

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
        let (before, sessions_before) = (service.cpu()?, service.sessions_cpu(&database).await?);
        tokio::time::sleep(watch).await;
        let used = service.cpu()? - before;
        let sessions: Duration = service
            .sessions_cpu(&database)
            .await?
            .iter()
            .map(|(process, cpu)| *cpu - sessions_before.get(process).copied().unwrap_or_default())
            .sum();
        let resident = service.resident_mib()?;
        say(&format!(
            "idle: {name}: ready after {took:?}, {resident:.1} MiB, in {watch:?} {used:?} of CPU and {sessions:?} in Postgres"
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
        let consumer = |row: Row, target: Target| if is_consumer { row.target(target) } else { row };
        memory.push(consumer(
            Row::new(
                format!("{name}, idle, memory"),
                Unit::Mebibytes,
                Runs::of([resident]),
            ),
            Target::AtMost(25.0),
        ));
        let in_ten_seconds = |cpu: Duration| ms(cpu) * 10.0 / watch.as_secs_f64();
        cpu.push(consumer(
            Row::new(
                format!("{name}, idle, CPU in 10 s"),
                Unit::Milliseconds,
                Runs::of([in_ten_seconds(used + sessions)]),
            )
            .details(
                json!({"service_ms": in_ten_seconds(used), "its_database_sessions_ms": in_ten_seconds(sessions)}),
            ),
            Target::AtMost(NEAR_NO_CPU_MS),
        ));
    }
    load::discard(database).await?;
    Ok(ready.into_iter().chain(memory).chain(cpu).collect())
}
