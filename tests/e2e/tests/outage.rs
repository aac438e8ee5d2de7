//! Under load, each part that the platform stands on goes away for a while and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use e2e::{Created, Ledger, Platform, say};
use serde_json::json;

const PEOPLE: usize = 6;
/// How long each part is away.
const AWAY: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn kafka_registry_postgres_and_smtp_may_each_go_away_and_nothing_is_lost_or_doubled() {
    let mut platform = Platform::start().await;
    let run = platform.database().name().replace('_', "-");
    let addresses: Vec<String> = (0..PEOPLE).map(|n| format!("person-{n}@{run}.example")).collect();
    let loading = Arc::new(AtomicBool::new(true));
    let answered = Arc::new(AtomicU64::new(0));
    let mut people = Vec::new();
    for address in addresses.clone() {
        let mut client = platform.client();
        let (loading, answered) = (Arc::clone(&loading), Arc::clone(&answered));
        people.push(tokio::spawn(async move {
            client = client.register(&address).await;
            let mut created = Vec::new();
            while loading.load(Ordering::Relaxed) {
                let n = created.len();
                let task = if n % 5 == 4 {
                    let due = Utc::now() + TimeDelta::hours(20);
                    let task = client
                        .create(
                            json!({"title": format!("Water the plants {n}"), "due_at": due.to_rfc3339(),
                                       "recurrence": "FREQ=DAILY", "reminders": [{"offset": "-PT10M"}]}),
                        )
                        .await;
                    client.complete(task.id).await;
                    task
                } else {
                    let at = Utc::now() + TimeDelta::seconds(3);
                    let reminders = json!([{"at": at.to_rfc3339()}]);
                    client
                        .create(json!({"title": format!("Task {n}"), "reminders": reminders}))
                        .await
                };
                created.push(task);
                answered.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            (created, client.refusals())
        }));
    }

    for part in ["kafka", "registry", "postgres", "mail"] {
        tokio::time::sleep(Duration::from_secs(3)).await;
        tokio::task::block_in_place(|| platform.stop_part(part));
        let before = answered.load(Ordering::Relaxed);
        tokio::time::sleep(AWAY).await;
        let during = answered.load(Ordering::Relaxed) - before;
        tokio::task::block_in_place(|| platform.start_part(part));
        say(&format!(
            "{part} was away for {} s; meanwhile the API created {during} tasks",
            AWAY.as_secs()
        ));
        if part != "postgres" {
            assert!(during > 0, "the API does not need {part}");
        }
        for service in platform.services() {
            assert!(service.runs(), "{} lives through it", service.name());
        }
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    loading.store(false, Ordering::Relaxed);
    let mut created: Vec<Created> = Vec::new();
    let mut refusals = 0;
    for person in people {
        let (theirs, refused) = person.await.unwrap();
        created.extend(theirs);
        refusals += refused;
    }
    say(&format!(
        "{} tasks created; requests tried again {refusals} times",
        created.len()
    ));

    let ledger = Ledger::new(platform.database());
    ledger.settled(Duration::from_mins(5)).await;
    ledger.check().await;
    let firings = ledger.firings().await;
    for reminder in created.iter().flat_map(|task| &task.reminders) {
        assert_eq!(firings.get(reminder), Some(&1), "reminder {reminder} fires once");
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
    say(&format!(
        "{fired} reminders fired once each; {} duplicate mails",
        mails.duplicates()
    ));
}
