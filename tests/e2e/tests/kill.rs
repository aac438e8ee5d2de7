//! Under load, every service is killed at random moments, again and again, and started anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use e2e::{Created, Ledger, Platform, say, seeded};
use rand::Rng;
use rand::seq::SliceRandom;
use serde_json::json;

const PEOPLE: usize = 20;
const ONE_OFF_EACH: usize = 75;
const RECURRING_EACH: usize = 25;
/// How often each service is killed.
const KILLS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn killing_every_service_at_random_loses_nothing_doubles_nothing_and_fires_nothing_early() {
    let mut random = seeded();
    let mut platform = Platform::start().await;
    let run = platform.database().name().replace('_', "-");
    let addresses: Vec<String> = (0..PEOPLE).map(|n| format!("person-{n}@{run}.example")).collect();

    // Each person creates tasks with reminders a few seconds ahead, and recurring ones that they complete.
    let loading = Arc::new(AtomicBool::new(true));
    let mut people = Vec::new();
    for address in addresses.clone() {
        let mut client = platform.client();
        let mut dice: u64 = random.random();
        people.push(tokio::spawn(async move {
            let mut next = move |below: u64| {
                dice = dice
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (dice >> 33) % below
            };
            client = client.register(&address).await;
            let mut created = Vec::new();
            for n in 0..ONE_OFF_EACH + RECURRING_EACH {
                if n % 4 == 3 {
                    let due = Utc::now() + TimeDelta::hours(20);
                    let task = client
                        .create(
                            json!({"title": format!("Water the plants {n}"), "due_at": due.to_rfc3339(),
                                       "recurrence": "FREQ=DAILY", "reminders": [{"offset": "-PT10M"}]}),
                        )
                        .await;
                    client.complete(task.id).await;
                    created.push(task);
                } else {
                    let at =
                        Utc::now() + TimeDelta::milliseconds(2000 + i64::try_from(next(15_000)).unwrap());
                    let reminders = json!([{"at": at.to_rfc3339()}]);
                    created.push(
                        client
                            .create(json!({"title": format!("Task {n}"), "reminders": reminders}))
                            .await,
                    );
                }
                tokio::time::sleep(Duration::from_millis(next(300))).await;
            }
            (created, client.refusals())
        }));
    }

    // Meanwhile: kill, wait a moment, start, wait a moment; every service in turn, in an order that changes.
    let killing = tokio::spawn({
        let loading = Arc::clone(&loading);
        async move {
            let mut kills = 0;
            let mut round = 0;
            while round < KILLS || loading.load(Ordering::Relaxed) {
                let mut names = e2e::SERVICES;
                names.shuffle(&mut random);
                for name in names {
                    tokio::time::sleep(Duration::from_millis(random.random_range(50..1500))).await;
                    platform.service(name).kill();
                    kills += 1;
                    tokio::time::sleep(Duration::from_millis(random.random_range(10..1000))).await;
                    platform.service(name).start();
                }
                round += 1;
            }
            (platform, kills)
        }
    });
    let mut created: Vec<Created> = Vec::new();
    let mut refusals = 0;
    for person in people {
        let (theirs, refused) = person.await.unwrap();
        created.extend(theirs);
        refusals += refused;
    }
    loading.store(false, Ordering::Relaxed);
    let (mut platform, kills) = killing.await.unwrap();
    for service in platform.services() {
        service.ready().await;
    }
    say(&format!(
        "{} tasks created; {kills} kills; requests tried again {refusals} times",
        created.len()
    ));
    assert!(created.len() >= 2000);

    // All that was acknowledged comes to its end.
    let ledger = Ledger::new(platform.database());
    ledger.settled(Duration::from_mins(5)).await;
    ledger.check().await;
    let (firings, instances) = (ledger.firings().await, ledger.instances().await);
    let acknowledged: Vec<_> = created.iter().flat_map(|task| &task.reminders).collect();
    for reminder in &acknowledged {
        assert_eq!(firings.get(reminder), Some(&1), "reminder {reminder} fires once");
    }
    for series in created.iter().filter_map(|task| task.series) {
        assert_eq!(
            instances.get(&series),
            Some(&2),
            "a completed instance has one successor"
        );
    }
    let fired = ledger
        .count("select count(*) from reminders.reminders where state = 'fired'")
        .await;
    let mails = ledger.mails(&addresses).await;
    assert_eq!(
        i64::try_from(mails.by_message_id.len()).unwrap(),
        fired,
        "each firing reached its person"
    );
    let audited = ledger.count("select count(*) from audit.events").await;
    say(&format!(
        "{} acknowledged reminders fired once each ({fired} with those whose answer was lost); {audited} events in audit, each once; {} duplicate mails",
        acknowledged.len(),
        mails.duplicates()
    ));
}
