//! Every service is ended at every step between "received" and "offset committed", "claimed" and "sent", "sent" and "recorded":
//! it dies there, is started again, and what was under way has its effect once.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot be set up should fail at once"
)]

use std::collections::HashMap;
use std::os::unix::process::ExitStatusExt;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use chrono::{TimeDelta, Utc};
use e2e::{Client, Ledger, Platform, say};
use reqwest::Method;
use schemas::topics::{NOTIFICATION_EVENTS, TASK_EVENTS, TASK_REMINDERS};
use serde_json::json;
use support::within;
use tokio::net::TcpListener;
use uuid::Uuid;

const CONSUMERS: [&str; 6] = [
    "reminder-scanner",
    "email-sender",
    "webhook-sender",
    "recurrence-generator",
    "audit-sink",
    "notification-inbox",
];

/// Which services have which points. Those of one row are struck together, for they do not wait for each other for ever.
const POINTS: [(&[&str], &str); 19] = [
    (&CONSUMERS, "consumer: received"),
    (&CONSUMERS, "events: decoded"),
    (&CONSUMERS, "events: applied"),
    (&CONSUMERS, "events: committed"),
    (&CONSUMERS, "consumer: handled"),
    (&CONSUMERS, "consumer: offsets committed"),
    // The audit sink keeps what it cannot read.
    (
        &[
            "reminder-scanner",
            "email-sender",
            "webhook-sender",
            "recurrence-generator",
            "notification-inbox",
        ],
        "consumer: letter written",
    ),
    (&["reminder-scanner"], "fire: marked"),
    (&["reminder-scanner"], "fire: written"),
    (&["reminder-scanner"], "fire: committed"),
    (&["outbox-relay"], "relay: read"),
    (&["outbox-relay"], "relay: enqueued"),
    (&["outbox-relay"], "relay: acknowledged"),
    (&["outbox-relay"], "relay: stored"),
    (&SENDERS, "send: claimed"),
    (&SENDERS, SENT),
    (&SENDERS, RECEIVED),
    (&SENDERS, WRITTEN),
    (&SENDERS, "record: recorded"),
];

const SENDERS: [&str; 2] = ["email-sender", "webhook-sender"];
/// Where a message is out and not recorded: these alone may go out a second time.
const SENT: &str = "send: sent";
const RECEIVED: &str = "record: received";
const WRITTEN: &str = "record: written";

/// A person's endpoint. How often each webhook-id came.
async fn receiver() -> (String, Arc<Mutex<HashMap<String, u64>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let came: Arc<Mutex<HashMap<String, u64>>> = Arc::default();
    let taking = Arc::clone(&came);
    let routes = Router::new().fallback(move |headers: HeaderMap| {
        let id = headers["webhook-id"].to_str().unwrap().to_owned();
        *taking
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(id)
            .or_default() += 1;
        async { StatusCode::NO_CONTENT }
    });
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (url, came)
}

/// A task that rings in a moment, and one that recurs and is done. Returns the reminder of the first.
async fn something_happens(client: &mut Client) -> Uuid {
    let at = Utc::now() + TimeDelta::seconds(2);
    let task = client
        .create(json!({"title": "Water the plants", "reminders": [{"at": at.to_rfc3339()}]}))
        .await;
    let due = Utc::now() + TimeDelta::hours(20);
    let recurring = json!({"title": "Air the room", "due_at": due.to_rfc3339(), "recurrence": "FREQ=DAILY"});
    let recurring = client.create(recurring).await;
    client.complete(recurring.id).await;
    task.reminders[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_a_service_dies_what_was_under_way_has_its_effect_once() {
    let mut platform = Platform::start().await;
    let (url, came) = receiver().await;
    let address = format!("ada@{}.example", platform.database().name().replace('_', "-"));
    let mut client = platform.client().register(&address).await.keyed();
    let endpoint = json!({"url": url, "event_types": ["reminder.fired"]});
    client.call(Method::POST, "/api/webhooks", Some(endpoint)).await;
    let mut reminders = Vec::new();
    for (services, point) in POINTS {
        for &name in services {
            let service = platform.service(name);
            service.stop().await;
            service.start_with(&[("FAILPOINT", point)]);
        }
        reminders.push(something_happens(&mut client).await);
        if point == "consumer: letter written" {
            for topic in [TASK_EVENTS, TASK_REMINDERS, NOTIFICATION_EVENTS] {
                platform.topics().produce(topic, b"key", Some(b"poison")).await;
            }
        }
        for &name in services {
            let what = format!("{name} dies at {point:?}");
            let status = within(2 * support::PATIENCE, &what, async || {
                platform.service(name).ended()
            })
            .await;
            assert_eq!(status.signal(), Some(6), "{what}");
            platform.service(name).start();
        }
        say(&format!("{} died at {point:?}", services.join(", ")));
    }
    for service in platform.services() {
        service.ready().await;
    }
    let ledger = Ledger::new(platform.database());
    ledger.settled(5 * support::PATIENCE).await;
    let wrong = ledger.wrong().await;
    // The three records of poison, and a letter of each group that reads their topics, though some were written again.
    assert_eq!(
        wrong,
        [
            "11 events in the audit trail that nobody wrote",
            "11 dead letters"
        ]
    );
    let firings = ledger.firings().await;
    for reminder in &reminders {
        assert_eq!(firings.get(reminder), Some(&1), "{reminder} rang once");
    }
    assert_eq!(firings.len(), POINTS.len());
    let doubtful = POINTS
        .iter()
        .filter(|(_, point)| [SENT, RECEIVED, WRITTEN].contains(point))
        .count() as u64;
    let mails = ledger.mails(&[address]).await;
    assert_eq!(mails.by_message_id.len(), POINTS.len());
    // A sender that dies at a step of its consumer may have a message out at that moment, too: so at least these.
    assert!(mails.duplicates() >= doubtful);
    let came = came.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(came.len(), POINTS.len());
    assert!(came.values().map(|copies| copies - 1).sum::<u64>() >= doubtful);
    assert!(ledger.instances().await.values().all(|count| *count == 2));
}
