//! Everything speaks TLS and asks for a password, and nobody may do more than they must: on a stack of this test's own.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot be set up should fail at once"
)]

mod refusals;
mod secrets;

use std::collections::BTreeSet;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use e2e::{Client, Secured, say};
use kafka::Producer;
use rdkafka::message::OwnedHeaders;
use reqwest::Method;
use schemas::access::OUTBOX_RELAY;
use schemas::topics::{REMINDER_SCANNER, TASK_EVENTS, dead_letter};
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use support::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use uuid::Uuid;

const ADDRESS: &str = "ada@secured.example";
/// No call takes so long.
const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn on_a_secured_stack_everything_works_nobody_may_more_than_they_must_and_no_secret_is_told() {
    let mut secured = Secured::start().await;
    let owner = owner(&secured).await;
    let mut told = BTreeSet::from(["correct horse battery".to_owned()]);

    say("a task goes from POST to mail, webhook and audit");
    let mut client = secured.client().register(ADDRESS).await;
    told.extend(client.token().map(str::to_owned));
    let requests = receiver(&mut client, &mut told).await;
    let task = rings(&secured, &mut client, &owner, 1).await;
    eventually("a webhook", async || {
        (requests.load(Ordering::Relaxed) > 0).then_some(())
    })
    .await;

    say("the operator sees that all is well, and is told why not who cannot get in");
    doctor(&secured).await;

    say("every password is changed while the services run, and every connection cut");
    told.extend(secured.secrets().into_values());
    let pids: Vec<_> = secured.services().iter().map(e2e::Service::pid).collect();
    secrets::change(&mut secured).await;
    told.extend(secured.secrets().into_values());
    rings(&secured, &mut client, &owner, 2).await;
    // An event whose schema nobody has asked the registry for yet.
    client
        .call(Method::POST, &format!("/api/tasks/{task}/complete"), None)
        .await;
    audited(&owner, task, "task.completed").await;
    for (service, pid) in secured.services().iter_mut().zip(pids) {
        assert!(
            service.runs() && service.pid() == pid,
            "{} was not started anew",
            service.name()
        );
    }

    say("what cannot be read becomes a letter, is given again, comes back, and is dropped");
    letters(&secured).await;

    say("the audit trail is sealed with a key");
    let key = secured.owner("AUDIT_SEAL_KEY").to_owned();
    eventually("all of it is sealed", async || {
        let answer = secured.own(&["audit", "verify"], &[("AUDIT_SEAL_KEY", &key)]);
        answer.contains(" 0 are not sealed yet").then_some(())
    })
    .await;

    say("no secret is in what the services say");
    secrets::are_not_told(&secured, &told).await;

    say("what is not allowed is refused");
    for service in secured.services() {
        service.kill();
    }
    refusals::kafka(&secured).await;
    refusals::strangers(&secured).await;
    refusals::registry(&secured).await;
    refusals::postgres(&secured).await;
    refusals::smtp(&secured).await;
}

async fn owner(secured: &Secured) -> PgPool {
    PgPoolOptions::new()
        .max_connections(2)
        .acquire_timeout(LIMIT)
        .connect(secured.owner("DATABASE_URL"))
        .await
        .unwrap()
}

/// Receives webhooks about reminders, and counts them.
async fn receiver(client: &mut Client, told: &mut BTreeSet<String>) -> Arc<AtomicUsize> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counter = Arc::clone(&counter);
            tokio::spawn(async move {
                let mut request = [0; 4096];
                if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                // A sender that went away is not ours to mind.
                let answer = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
                drop(stream.write_all(answer).await);
            });
        }
    });
    let body = json!({"url": url, "event_types": ["reminder.fired"]});
    let hook = client.call(Method::POST, "/api/webhooks", Some(body)).await;
    told.extend(hook["secret"].as_str().map(str::to_owned));
    requests
}

/// Creates a task that rings in a moment, and waits for its mail and for all of its events in the audit trail.
async fn rings(secured: &Secured, client: &mut Client, owner: &PgPool, mails: usize) -> Uuid {
    let at = Utc::now() + TimeDelta::seconds(3);
    let reminders = json!([{"at": at.to_rfc3339()}]);
    let task = client
        .create(json!({"title": "Water the plants", "reminders": reminders}))
        .await;
    let url = format!("{}/api/messages?to={ADDRESS}", secured.owner("MAIL_INBOX_URL"));
    eventually("the mail", async || {
        let messages: Vec<Value> = reqwest::get(&url).await.ok()?.json().await.ok()?;
        let rung = messages.iter().filter(|mail| {
            mail["subject"]
                .as_str()
                .is_some_and(|s| s.contains("Water the plants"))
        });
        (rung.count() >= mails).then_some(())
    })
    .await;
    for event_type in [
        "task.created",
        "reminder.scheduled",
        "reminder.fired",
        "notification.sent",
    ] {
        audited(owner, task.id, event_type).await;
    }
    task.id
}

async fn audited(owner: &PgPool, task: Uuid, event_type: &str) {
    eventually(event_type, async || {
        let there: bool = sqlx::query_scalar(
            "select exists (select from audit.events where task_id = $1 and event_type = 'com.carillon.' || $2 || '.v1')",
        )
        .bind(task)
        .bind(event_type)
        .fetch_one(owner)
        .await
        .ok()?;
        there.then_some(())
    })
    .await;
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8(text).unwrap()
}

/// Asks `carillon doctor` as the operator.
async fn doctor(secured: &Secured) {
    eventually("nothing is wrong", async || {
        let answer = secured.operate(&["doctor"], &[]);
        if !answer.status.success() {
            say(&said(&answer));
        }
        answer.status.success().then_some(())
    })
    .await;
    let wrong = secured.folder().join("wrong-password");
    std::fs::write(&wrong, "wrong\n").unwrap();
    let wrong = wrong.to_str().unwrap();
    for (settings, causes) in [
        (
            [
                ("KAFKA_SASL_PASSWORD_FILE", wrong),
                ("SCHEMA_REGISTRY_PASSWORD_FILE", wrong),
            ],
            ["lets us in", "401"],
        ),
        (
            [("KAFKA_SSL_CA_LOCATION", ""), ("SCHEMA_REGISTRY_CA_FILE", "")],
            ["lets us in", "does not answer"],
        ),
    ] {
        let answer = secured.operate(&["doctor"], &settings);
        assert!(!answer.status.success());
        for cause in causes {
            let answer = said(&answer);
            assert!(answer.contains(cause), "{cause} in {answer}");
        }
    }
}

/// Takes a letter through all that is done with one: its group writes and reads, the operator does the rest.
async fn letters(secured: &Secured) {
    let producer = Producer::new(&secured.kafka(OUTBOX_RELAY), "test").unwrap();
    let poison = producer.enqueue(TASK_EVENTS, Some(b"key"), Some(b"poison"), OwnedHeaders::new());
    poison.await.unwrap().await.unwrap().unwrap();
    let topic = dead_letter(TASK_EVENTS, REMINDER_SCANNER.name);
    let operate = |arguments: &[&str]| {
        let answer = secured.operate(arguments, &[]);
        assert!(answer.status.success(), "{arguments:?}: {}", said(&answer));
        answer.stdout
    };
    for (refused_again, command) in [(false, "replay"), (true, "drop")] {
        eventually("a letter is open", async || {
            let letters = operate(&["dlq", "list", &topic, "--format", "json"]);
            let letters: Value = serde_json::from_slice(&letters).unwrap();
            let letters = letters.as_array()?;
            (letters.len() == 1 && letters[0]["refused_again"] == refused_again).then_some(())
        })
        .await;
        let mut arguments = vec!["dlq", command, &topic, "--by", "ada", "--because", "a test"];
        if command == "drop" {
            arguments.push("--yes");
        }
        operate(&arguments);
    }
    operate(&["lag"]);
}
