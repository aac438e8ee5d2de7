//! A release is replaced by this one, back, and again, one process after the other, while people use the platform.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::{Ledger, Parts, Platform, SERVICES, binaries, say};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use support::{Database, Topics};

use crate::check::{Evidence, check};
use crate::inject::mourn;
use crate::journal::Journal;
use crate::load::Load;
use crate::plan::replicas;
use crate::receiver::Receiver;
use crate::{SETTINGS, come_to_rest, people};

/// How long people use the platform as it is after each step.
const USE: Duration = Duration::from_secs(15);

/// Rehearses the upgrade from the release whose binaries are in that folder. Returns what is not as it must be.
///
/// # Panics
/// When the stack is not there, or a step of it fails.
pub async fn upgrade(before: &Path, seed: u64) -> Vec<String> {
    say(&format!("CHAOS_SEED={seed}"));
    let journal = Journal::new();
    let mut random = StdRng::seed_from_u64(seed);
    let (database, topics) = (Database::empty().await, Topics::to_be_made());
    let now = binaries();
    let step = |what: &str| say(&format!("{:6.1} s {what}", journal.at().as_secs_f64()));

    step("the release before");
    put_in_place(before, &database, &topics);
    let names: Vec<&'static str> = SERVICES
        .into_iter()
        .flat_map(|name| std::iter::repeat_n(name, replicas(name)))
        .collect();
    let mut platform = Platform::stopped(
        database.clone(),
        topics.clone(),
        &names,
        &SETTINGS,
        &Parts::of_the_stack(),
    );
    replace(&mut platform, before, &mut random, &journal).await;
    let receiver = Receiver::start().await;
    let run = database.name().replace('_', "-");
    let load = Load::default();
    let people = people(&mut platform, &run, &receiver, &load, &mut random).await;
    tokio::time::sleep(USE).await;

    step("the migrations, topics and schemas of this one, under the services of the one before");
    tokio::task::block_in_place(|| put_in_place(&now, &database, &topics));
    tokio::time::sleep(USE).await;
    for (what, release) in [
        ("this release", now.as_path()),
        ("back to the one before", before),
        ("this release again", now.as_path()),
    ] {
        step(what);
        replace(&mut platform, release, &mut random, &journal).await;
        tokio::time::sleep(USE).await;
    }

    step("the end");
    let ledger = Ledger::new(&database);
    let mut settled = come_to_rest(&load, people, &mut platform, &ledger, &journal).await;
    let evidence = Evidence {
        admin: database.admin(),
        ledger: &ledger,
        topics: &topics,
        receiver: &receiver,
        again: 0,
    };
    check(&evidence, &mut settled, &journal).await;
    journal.findings()
}

/// What the jobs of a deployment do.
fn put_in_place(binaries: &Path, database: &Database, topics: &Topics) {
    for arguments in [&["migrate"][..], &["topics", "ensure"], &["schemas", "register"]] {
        let done = Command::new(binaries.join("carillon"))
            .args(arguments)
            .env("DATABASE_URL", database.owner_url())
            .env("KAFKA_TOPIC_PREFIX", topics.config().topic_prefix)
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", binaries.display()));
        assert!(
            done.status.success(),
            "carillon {arguments:?}: {}{}",
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        );
    }
}

/// Replaces every process by that of a release, one after the other, in any order. A service that the release does not have does
/// not run afterwards.
async fn replace(platform: &mut Platform, release: &Path, random: &mut StdRng, journal: &Journal) {
    let mut order: Vec<usize> = (0..platform.services().len()).collect();
    order.shuffle(random);
    let from = journal.at();
    for n in order {
        let service = &mut platform.services()[n];
        mourn(service, journal);
        if service.runs() {
            service.stop().await;
        }
        if service.of_release(release) {
            service.start();
            service.ready().await;
        }
    }
    journal.figure(
        "Seconds in which every process was replaced",
        format!("{:.1}", (journal.at() - from).as_secs_f64()),
    );
}
