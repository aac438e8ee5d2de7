#![doc = include_str!("../README.md")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot be set up should fail at once"
)]

pub mod again;
pub mod check;
pub mod disk;
pub mod inject;
pub mod journal;
pub mod load;
pub mod plan;
pub mod proxy;
pub mod receiver;
pub mod report;
pub mod upgrade;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use e2e::{Ledger, Platform, SERVICES, run_stack, say};
use futures::FutureExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::{Database, Topics, stack};
use tokio::task::JoinHandle;
use tokio::time::interval;

use crate::check::{Evidence, check};
use crate::disk::SmallDisk;
use crate::inject::{Proxies, World, mourn, strike_parts, strike_services};
use crate::journal::{Journal, Sample};
use crate::load::{Load, PEOPLE, Person};
use crate::plan::{Plan, replicas};
use crate::receiver::Receiver;

/// How long everything may take to come to its end when all is well again.
const PATIENCE: Duration = Duration::from_mins(10);

/// Rings that are not in their person's list in the page yet.
const NOT_LISTED: &str = "select count(*) from reminders.reminders r where state = 'fired' and not exists (
    select from notifications.notifications n where n.reminder_id = r.id)";

/// How services are set beside what tests usually set.
const SETTINGS: [(&str, &str); 1] = [
    // A token is good for the whole run.
    ("JWT_TTL_SECONDS", "86400"),
];

/// Runs the plan of that seed for about so long, checks what came of it, and writes the report. Returns what is not as it must be.
///
/// # Panics
/// When the stack is not there.
pub async fn run(seed: u64, lasting: Duration) -> Vec<String> {
    say(&format!("CHAOS_SEED={seed} CHAOS_SECONDS={}", lasting.as_secs()));
    let journal = Journal::new();
    // Whatever happens, the report is written.
    let course = AssertUnwindSafe(course(seed, lasting, journal.clone()));
    if let Err(panic) = course.catch_unwind().await {
        journal.finding(format!("the run broke off: {}", said(&*panic)));
    }
    let report = report::write(&journal, seed, lasting);
    say(&format!("report: {}", report.display()));
    journal.findings()
}

async fn course(seed: u64, lasting: Duration, journal: Journal) {
    let plan = Plan::of(seed, lasting);
    let mut random = StdRng::seed_from_u64(seed);
    // Before anybody is connected to Postgres.
    let disk = tokio::task::block_in_place(SmallDisk::make);
    if disk.is_none() {
        journal.figure("Full disks", "skipped: no file system can be mounted here");
    }
    let proxies = Proxies::start().await;
    let (database, topics) = tokio::join!(Database::create(), Topics::create());
    let receiver = Receiver::start().await;
    let names: Vec<&'static str> = SERVICES
        .into_iter()
        .flat_map(|name| std::iter::repeat_n(name, replicas(name)))
        .collect();
    let mut platform = Platform::through(
        database.clone(),
        topics.clone(),
        &names,
        &SETTINGS,
        &proxies.parts(),
    )
    .await;
    let ledger = Ledger::new(&database);

    let run = database.name().replace('_', "-");
    let load = Load::default();
    let people = people(&mut platform, &run, &receiver, &load, &mut random).await;
    let sampling = tokio::spawn(sample(journal.clone(), load.clone(), receiver.clone()));

    let world = World {
        proxies,
        disk,
        receiver: receiver.clone(),
        topics: topics.clone(),
        admin: database.admin().clone(),
        seed: random.random(),
    };
    let until = journal.at() + lasting;
    let ((), (again, world)) = tokio::join!(
        strike_services(&mut platform, &plan.services, &journal, until),
        strike_parts(world, &plan.parts, &journal, until)
    );
    journal.figure("Faults", journal.faults().len());

    let mut settled = come_to_rest(&load, people, &mut platform, &ledger, &journal).await;
    sampling.abort();
    let evidence = Evidence {
        admin: database.admin(),
        ledger: &ledger,
        topics: &topics,
        receiver: &receiver,
        again,
    };
    check(&evidence, &mut settled, &journal).await;
    drop(platform);
    database.admin().close().await;
    tokio::task::block_in_place(|| drop(world));
}

/// Registers people, who use the platform from then on.
async fn people(
    platform: &mut Platform,
    run: &str,
    receiver: &Receiver,
    load: &Load,
    random: &mut StdRng,
) -> Vec<JoinHandle<Person>> {
    let mut people = Vec::new();
    for n in 0..PEOPLE {
        let address = format!("person-{n}@{run}.example");
        let person = Person::new(platform.client(), address, &receiver.url(n)).await;
        people.push(tokio::spawn(
            person.live(load.clone(), StdRng::seed_from_u64(random.random())),
        ));
    }
    people
}

/// Lets people stop, and waits until everything has come to its end.
async fn come_to_rest(
    load: &Load,
    people: Vec<JoinHandle<Person>>,
    platform: &mut Platform,
    ledger: &Ledger,
    journal: &Journal,
) -> Vec<Person> {
    load.end();
    let mut settled = Vec::new();
    let mut refusals = 0;
    for person in people {
        match person.await {
            Ok(person) => {
                refusals += person.client.refusals();
                settled.push(person);
            }
            Err(error) => {
                let why = error.into_panic();
                journal.finding(format!("a client gave up: {}", said(&*why)));
            }
        }
    }
    journal.figure("Requests that were tried again", refusals);
    for service in platform.services() {
        mourn(service, journal);
        service.ready().await;
    }
    let from = journal.at();
    if let Some(waiting) = ledger.unsettled(PATIENCE).await {
        journal.finding(format!("lost: after {PATIENCE:?} there are still {waiting}"));
    }
    while ledger.count(NOT_LISTED).await > 0 && journal.at() - from < PATIENCE {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    journal.figure(
        "Seconds until everything had come to its end",
        format!("{:.1}", (journal.at() - from).as_secs_f64()),
    );
    settled
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("nothing").to_owned()
}

/// Notes each second how far things have come.
async fn sample(journal: Journal, load: Load, receiver: Receiver) {
    let url = format!("{}/api/count", stack("MAIL_INBOX_URL"));
    let http = reqwest::Client::builder()
        .timeout(Duration::from_millis(500))
        .build()
        .unwrap();
    let mut seconds = interval(Duration::from_secs(1));
    let mut before = None;
    loop {
        seconds.tick().await;
        let count = async {
            let answer: serde_json::Value = http.get(&url).send().await.ok()?.json().await.ok()?;
            answer["count"].as_u64()
        };
        let mails = count.await;
        // The catcher has mails of earlier runs.
        before = before.or(mails);
        journal.sample(Sample {
            at: journal.at(),
            answers: load.answers(),
            mails: mails.map(|mails| mails - before.unwrap_or(0)),
            webhooks: receiver.count(),
        });
    }
}

/// Whether the stack runs, whatever a run that broke off has left of it.
pub fn start_parts() {
    run_stack(&["start", "postgres", "kafka", "registry", "mail"]);
}
