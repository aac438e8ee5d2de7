//! One trace from a request to its mail, as a collector of traces sees it and as the logs tell it.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::HashSet;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use chrono::{TimeDelta, Utc};
use e2e::{Collector, Ledger, Platform, SERVICES, Seen, Service};
use reqwest::Method;
use serde_json::{Value, json};
use support::{Database, PATIENCE, Topics, eventually};
use tokio::net::TcpListener;

/// What single requests and records say of themselves, too.
const RUST_LOG: &str = "info,api=debug,outbox_relay=debug,kafka=debug,reminder_scanner=debug,delivery=debug,\
                        email_sender=debug,webhook_sender=debug,notification_inbox=debug,audit_sink=debug,\
                        recurrence_generator=debug";

const TITLE: &str = "Fetch the brass gears from Clement";
const DESCRIPTION: &str = "He wants forty pounds for them";
/// The name that the client of these tests registers with.
const NAME: &str = "Lovelace";

async fn platform(collector: &Collector, names: &[&'static str], settings: &[(&str, &str)]) -> Platform {
    let (database, topics) = tokio::join!(Database::create(), Topics::create());
    let mut all = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()),
        ("RUST_LOG", RUST_LOG),
    ];
    all.extend_from_slice(settings);
    Platform::upon(database, topics, names, &all).await
}

/// The URL of somebody who takes everything.
async fn receiver() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let router = Router::new().route("/hook", post(async || StatusCode::NO_CONTENT));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

/// A task that rings in a moment.
fn task() -> Value {
    let at = Utc::now() + TimeDelta::seconds(2);
    json!({"title": TITLE, "description": DESCRIPTION, "reminders": [{"at": at.to_rfc3339()}]})
}

/// The spans of one trace.
struct Tree(Vec<Seen>);

impl Tree {
    /// What that span caused by that name in that service. Of what was delivered twice, any.
    fn below(&self, parent: &Seen, service: &str, name: &str) -> Option<&Seen> {
        self.0
            .iter()
            .find(|span| span.parent == parent.id && span.service == service && span.name == name)
    }

    /// The way from a request to what is told of its mail, step by step.
    fn way<'a>(&'a self, root: &'a Seen, steps: &[(&str, &str)]) -> Option<Vec<&'a Seen>> {
        let mut way = vec![root];
        for (service, name) in steps {
            way.push(self.below(way.last()?, service, name)?);
        }
        Some(way)
    }
}

/// From the request to the reminder.
const TO_THE_REMINDER: [(&str, &str); 4] = [
    ("outbox-relay", "publish task-events"),
    ("reminder-scanner", "process task-events"),
    ("reminder-scanner", "fire reminder"),
    ("outbox-relay", "publish task-reminders"),
];

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_from_the_request_to_the_mail_and_neither_it_nor_a_log_says_anything_personal() {
    let collector = Collector::start().await;
    let mut platform = platform(&collector, &SERVICES, &[("OTEL_BSP_SCHEDULE_DELAY", "200")]).await;
    let address = format!("ada@{}.example", platform.database().name().replace('_', "-"));
    let mut ada = platform.client().register(&address).await;
    let hook = json!({"url": receiver().await, "event_types": ["reminder.fired"]});
    ada.call(Method::POST, "/api/webhooks", Some(hook)).await;
    let created = ada.create(task()).await;

    let root = eventually("the request's span comes", async || {
        let mut spans = collector.spans().into_iter();
        spans.find(|span| span.service == "api" && span.name == "POST /api/tasks")
    })
    .await;
    assert_eq!(root.parent, "", "the trace begins with the request");
    assert_eq!(root.attribute("http.response.status_code").unwrap(), "201");

    for (path, body) in [
        ("/api/auth/verify-email/send", None),
        ("/api/auth/forgot-password", Some(json!({"email": address}))),
    ] {
        ada.call(Method::POST, path, body).await;
        eventually(
            "the mail about the account follows from its request",
            async || {
                let spans = collector.spans();
                let request = spans.iter().find(|span| span.name == format!("POST {path}"))?;
                let mail = spans
                    .iter()
                    .find(|span| span.service == "email-sender" && span.parent == request.id)?;
                assert_eq!((mail.name.as_str(), &mail.trace), ("send email", &request.trace));
                Some(())
            },
        )
        .await;
    }

    let with = |steps: &[(&'static str, &'static str)]| [&TO_THE_REMINDER[..], steps].concat();
    let to_the_mail = with(&[
        ("email-sender", "process task-reminders"),
        ("email-sender", "send email"),
        ("outbox-relay", "publish notification-events"),
        ("notification-inbox", "process notification-events"),
    ]);
    let to_the_webhook = with(&[
        ("webhook-sender", "process task-reminders"),
        ("webhook-sender", "send webhook"),
    ]);
    let to_the_list = with(&[("notification-inbox", "process task-reminders")]);
    let to_the_trail = with(&[("audit-sink", "process task-reminders")]);
    let to_the_series = [
        TO_THE_REMINDER[0],
        ("recurrence-generator", "process task-events"),
    ];
    let ways: [&[(&str, &str)]; 5] = [
        &to_the_mail,
        &to_the_webhook,
        &to_the_list,
        &to_the_trail,
        &to_the_series,
    ];
    let tree = eventually("every way is in the trace, step by step", async || {
        let spans = collector.spans();
        let tree = Tree(
            spans
                .into_iter()
                .filter(|span| span.trace == root.trace)
                .collect(),
        );
        ways.iter()
            .all(|way| tree.way(&root, way).is_some())
            .then_some(tree)
    })
    .await;
    let services: HashSet<&str> = tree.0.iter().map(|span| span.service.as_str()).collect();
    assert_eq!(services, HashSet::from(SERVICES), "every service has its part");
    let roots = tree.0.iter().filter(|span| span.parent.is_empty());
    assert_eq!(roots.count(), 1, "it has one beginning");
    assert!(tree.0.iter().all(|span| !span.failed), "nothing failed");

    // What each step is about.
    let way = tree.way(&root, &to_the_mail).unwrap();
    let [_, published, processed, fired, told, _, sent, ..] = way[..] else {
        panic!("a way of other steps");
    };
    let subject = format!("task/{}", created.id);
    assert_eq!(published.attribute("event.subject"), Some(subject.clone()));
    assert_eq!(published.attribute("event.id"), processed.attribute("event.id"));
    assert_eq!(
        fired.attribute("reminder.id"),
        Some(created.reminders[0].to_string())
    );
    let kind = told.attribute("event.type").unwrap();
    assert_eq!(kind, "com.carillon.reminder.fired.v1");
    assert_eq!(sent.attribute("task.id"), Some(created.id.to_string()));

    // A batch is in a trace of its own, and linked with what is in it, in both directions.
    let batch = eventually("the batch's span comes", async || {
        let mut spans = collector.spans().into_iter();
        spans.find(|span| processed.links.contains(&(span.trace.clone(), span.id.clone())))
    })
    .await;
    assert_eq!(batch.name, "process batch reminder-scanner");
    assert_ne!(batch.trace, root.trace);
    assert!(batch.links.contains(&(root.trace.clone(), published.id.clone())));

    // The mail came, and says what no span and no line may say.
    let ledger = Ledger::new(platform.database());
    ledger.settled(PATIENCE).await;
    let mails = ledger.mails(std::slice::from_ref(&address)).await;
    let said = |word: &str| mails.texts.values().any(|text| text.contains(word));
    assert!(said(TITLE) && said(NAME), "{:?}", mails.texts);
    let personal = [TITLE, DESCRIPTION, NAME, &address];
    for span in collector.spans() {
        for word in personal {
            assert!(!span.text.contains(word), "{word}: {}", span.text);
        }
    }
    for service in platform.services() {
        say_what_they_must(service, &root.trace, &created.id.to_string(), &personal);
    }
}

/// What a service has written so far, line by line.
fn log(service: &Service) -> Vec<String> {
    let text = std::fs::read_to_string(service.log()).unwrap();
    text.lines().map(ToOwned::to_owned).collect()
}

/// A service's log has lines of the trace, with the ids of event and task, and nothing personal.
fn say_what_they_must(service: &Service, trace: &str, task: &str, personal: &[&str]) {
    let (name, log) = (service.name(), log(service));
    for line in &log {
        for word in personal {
            assert!(!line.contains(word), "{word} in a line of {name}: {line}");
        }
    }
    let lines: Vec<Value> = log
        .iter()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|line: &Value| line["trace.id"] == trace)
        .collect();
    assert!(!lines.is_empty(), "{name} says nothing of the trace");
    assert!(lines.iter().all(|line| line["span.id"].is_string()), "{name}");
    let of_task = |line: &Value| line["task.id"] == task && line["event.id"].is_string();
    assert!(lines.iter().any(of_task), "{name} names an event and the task");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_goes_out_at_the_end_and_a_collector_that_is_away_harms_nothing() {
    let collector = Collector::start().await;
    // Nothing goes out before the end.
    let never = [("OTEL_BSP_SCHEDULE_DELAY", "3600000")];
    let mut platform = platform(&collector, &SERVICES, &never).await;
    let address = format!("ada@{}.example", platform.database().name().replace('_', "-"));
    let mut ada = platform.client().register(&address).await;
    platform.service("api").stop().await;
    let spans = collector.spans();
    let registered = |span: &Seen| span.name == "POST /api/auth/register" && span.service == "api";
    assert!(spans.iter().any(registered), "{spans:?}");

    drop(collector);
    platform
        .service("api")
        .start_with(&[("OTEL_BSP_SCHEDULE_DELAY", "100")]);
    platform.service("api").ready().await;
    ada.create(task()).await;
    eventually("the API says that spans do not go out", async || {
        let log = log(platform.service("api"));
        let lines = log
            .iter()
            .filter(|line| line.contains("spans cannot be exported"));
        (lines.count() == 1).then_some(())
    })
    .await;
    let ledger = Ledger::new(platform.database());
    ledger.settled(PATIENCE).await;
    ledger.check().await;
    let mails = ledger.mails(std::slice::from_ref(&address)).await;
    assert!(
        mails.texts.values().any(|text| text.contains(TITLE)),
        "the mail comes"
    );
    for service in platform.services() {
        service.stop().await;
    }
}
