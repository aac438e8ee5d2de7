//! Everything speaks TLS and asks for a password, on a stack of this test's own where nobody may do what no ACL allows.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot be set up should fail at once"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use chrono::{TimeDelta, Utc};
use e2e::{SERVICES, Secured, say};
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use support::eventually;

/// Whose password for Kafka is changed too, which takes a program of Kafka's for each: who produces, and who consumes.
const KAFKA_CHANGES: [&str; 2] = ["outbox-relay", "email-sender"];
/// No call takes so long.
const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn on_a_secured_stack_everything_works_passwords_change_meanwhile_and_no_secret_is_told() {
    let mut secured = Secured::start().await;
    let owner = owner(&secured).await;
    let mut told = BTreeSet::new();
    let before = secured.secrets();

    say("a task goes from POST to mail and audit");
    let mut client = secured.client().register("ada@secured.example").await;
    told.extend(client.token().map(str::to_owned));
    a_task_rings(&secured, &mut client, &owner, "ada@secured.example", 1).await;

    say("every password is changed while the services run, and every connection cut");
    let pids: Vec<_> = secured.services().iter().map(e2e::Service::pid).collect();
    change_passwords(&mut secured).await;
    a_task_rings(&secured, &mut client, &owner, "ada@secured.example", 2).await;
    for (service, pid) in secured.services().iter_mut().zip(pids) {
        assert!(
            service.runs() && service.pid() == pid,
            "{} was not started anew",
            service.name()
        );
    }

    say("the audit trail is sealed with a key");
    let key = secured.operator("AUDIT_SEAL_KEY").to_owned();
    eventually("all of it is sealed", async || {
        let answer = secured.carillon(&["audit", "verify"], &[("AUDIT_SEAL_KEY", &key)]);
        answer.contains(" 0 are not sealed yet").then_some(())
    })
    .await;

    say("no secret is in what the services say");
    let secrets = before.into_iter().chain(secured.secrets());
    told.extend(secrets.map(|(_, value)| value));
    told.insert("correct horse battery".to_owned());
    told.extend(private_key(&secured));
    nobody_told(&secured, &told).await;
}

async fn owner(secured: &Secured) -> PgPool {
    PgPoolOptions::new()
        .max_connections(2)
        .acquire_timeout(LIMIT)
        .connect(secured.operator("DATABASE_URL"))
        .await
        .unwrap()
}

/// Creates a task that rings in a moment, and waits for its mail and for all of its events in the audit trail.
async fn a_task_rings(
    secured: &Secured,
    client: &mut e2e::Client,
    owner: &PgPool,
    address: &str,
    mails: usize,
) {
    let at = Utc::now() + TimeDelta::seconds(3);
    let reminders = json!([{"at": at.to_rfc3339()}]);
    let task = client
        .create(json!({"title": "Water the plants", "reminders": reminders}))
        .await;
    let url = format!("{}/api/messages?to={address}", secured.operator("MAIL_INBOX_URL"));
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
        eventually(event_type, async || {
            let there: bool = sqlx::query_scalar(
                "select exists (select from audit.events where task_id = $1 and event_type = 'com.carillon.' || $2 || '.v1')",
            )
            .bind(task.id)
            .bind(event_type)
            .fetch_one(owner)
            .await
            .ok()?;
            there.then_some(())
        })
        .await;
    }
}

/// Gives every service other passwords, in its files and where they are asked for, and then cuts all connections.
async fn change_passwords(secured: &mut Secured) {
    let mut secrets = secured.secrets();
    let is_of_a_service = |name: &str| {
        name == "SMTP_PASSWORD"
            || ["_DATABASE_PASSWORD", "_SCHEMA_REGISTRY_PASSWORD"]
                .iter()
                .any(|end| name.ends_with(end))
            || KAFKA_CHANGES
                .iter()
                .any(|service| name == kafka_password(service))
    };
    let mut changed = BTreeMap::new();
    for (name, value) in &mut secrets {
        if is_of_a_service(name) {
            let other: String = value.chars().rev().collect();
            changed.insert(value.clone(), other.clone());
            *value = other;
        }
    }
    secured.set_secrets(&secrets);
    let more: Vec<(&str, &str)> = secrets
        .iter()
        .filter(|(name, _)| name.ends_with("_DATABASE_PASSWORD"))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    secured.carillon(&["migrate"], &more);
    let configs: Vec<String> = KAFKA_CHANGES
        .iter()
        .map(|service| {
            let password = &secrets[&kafka_password(service)];
            format!(
                "$KAFKA_CONFIGS --bootstrap-server \"$KAFKA_BOOTSTRAP_SERVERS\" --command-config \"$KAFKA_COMMAND_CONFIG\" \
                 --alter --entity-type users --entity-name {service} --add-config 'SCRAM-SHA-512=[password={password}]'"
            )
        })
        .collect();
    secured.shell(&configs.join("\n"));
    for service in std::fs::read_dir(secured.folder().join("services")).unwrap() {
        for file in std::fs::read_dir(service.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let content = std::fs::read_to_string(&path).unwrap();
            let content = changed
                .iter()
                .fold(content, |text, (old, new)| text.replace(old, new));
            std::fs::write(&path, content).unwrap();
        }
    }
    // Each looks at its files every second, and says so.
    for service in SERVICES {
        let log = secured.service(service).log().to_owned();
        let kafka = KAFKA_CHANGES
            .contains(&service)
            .then_some("KAFKA_SASL_PASSWORD has changed");
        for words in ["DATABASE_URL has changed"].into_iter().chain(kafka) {
            eventually(&format!("{service}: {words}"), async || {
                std::fs::read_to_string(&log)
                    .unwrap()
                    .contains(words)
                    .then_some(())
            })
            .await;
        }
    }
    secured.stack(&["stop", "kafka", "postgres", "proxy", "mail"]);
    secured.stack(&["start", "kafka", "postgres", "proxy", "mail"]);
    secured.ready().await;
}

fn kafka_password(service: &str) -> String {
    format!("{}_KAFKA_PASSWORD", service.replace('-', "_").to_uppercase())
}

/// The lines of the API's signing key.
fn private_key(secured: &Secured) -> Vec<String> {
    let pem = std::fs::read_to_string(secured.folder().join("jwt.pem")).unwrap();
    pem.lines()
        .filter(|line| !line.starts_with('-'))
        .map(str::to_owned)
        .collect()
}

/// Looks through all that was said for each secret, as it is and as protocols write it.
async fn nobody_told(secured: &Secured, secrets: &BTreeSet<String>) {
    let said = secured.said().await;
    // The words that a service starts with are there, so what follows looks into something.
    for service in SERVICES {
        assert!(
            said.iter()
                .any(|(who, text)| who.contains(service) && text.contains("TRACE")),
            "{service} logs at its most talkative"
        );
    }
    for secret in secrets {
        let mut forms = vec![
            secret.clone(),
            STANDARD.encode(secret),
            STANDARD.encode(format!("\0carillon\0{secret}")),
        ];
        for user in SERVICES.iter().chain(&["carillon"]) {
            forms.push(STANDARD.encode(format!("{user}:{secret}")));
            forms.push(URL_SAFE.encode(format!("{user}:{secret}")));
        }
        for form in forms {
            for (who, text) in &said {
                if let Some(at) = text.find(&form) {
                    let line = text[..at].lines().last().unwrap_or_default();
                    panic!("{who} tells a secret behind: {line}");
                }
            }
        }
    }
}
