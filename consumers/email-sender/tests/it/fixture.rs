//! A service under test, deliveries for it, and what became of them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use email_sender::Config;
use schemas::{
    Actor, Event, Head, NotificationEvent, NotificationEventKind, Reminder, ReminderEvent, ReminderEventKind,
    Task, WriterSchema, now,
};
use service::config::Env;
use sqlx::Row;
use support::{Database, Topics, eventually, samples, stack};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The configuration as the environment would give it, with short times.
pub fn config(database: &Database, topics: &Topics, smtp_port: u16, more: &[(&str, &str)]) -> Config {
    let smtp_port = smtp_port.to_string();
    let database = database.url("email-sender");
    let registry = topics.registry().url;
    let kafka = topics.config();
    let pairs = [
        ("DATABASE_URL", database.as_str()),
        ("KAFKA_BOOTSTRAP_SERVERS", &kafka.bootstrap_servers),
        ("KAFKA_TOPIC_PREFIX", &kafka.topic_prefix),
        ("SCHEMA_REGISTRY_URL", &registry),
        ("HTTP_HOST", "127.0.0.1"),
        ("HTTP_PORT", "0"),
        ("SHUTDOWN_BUDGET_SECONDS", "12"),
        ("SMTP_HOST", "127.0.0.1"),
        ("SMTP_PORT", &smtp_port),
        ("SMTP_TLS", "off"),
        ("SMTP_TIMEOUT_MS", "2000"),
        ("SMTP_FROM_EMAIL", "bell@carillon.example"),
        ("LINK_KEY", "a-key-of-tests-for-links-in-mails"),
        ("EMAIL_LEASE_SECONDS", "30"),
        ("EMAIL_RETRY_MIN_MS", "50"),
        ("EMAIL_RETRY_MAX_MS", "500"),
    ];
    // The later one of a name counts.
    let env = Env::from_pairs(pairs.iter().chain(more).copied());
    service::config::load_from(env, Config::from_env).unwrap()
}

/// Topics that nobody made: for tests that are about the send loop only.
pub fn no_topics() -> Topics {
    assert!(!stack("KAFKA_BOOTSTRAP_SERVERS").is_empty());
    Topics::named(&format!("none{}.", Uuid::new_v4().simple()))
}

pub struct Running {
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    pub fn start(config: Config) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(email_sender::run(config, stop.clone()));
        Self { stop, task }
    }

    /// Asks it to stop, and wants it to end in order.
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().expect("the service ends in order");
    }

    /// Waits until it ends by itself.
    pub async fn fails(self) -> String {
        format!("{:#}", self.task.await.unwrap().expect_err("the service fails"))
    }
}

/// What `/readyz` says.
pub async fn readiness(port: u16) -> Option<(u16, String)> {
    let answer = reqwest::get(format!("http://127.0.0.1:{port}/readyz"))
        .await
        .ok()?;
    Some((answer.status().as_u16(), answer.text().await.ok()?))
}

pub async fn metric(port: u16, line: &str) -> f64 {
    let text = reqwest::get(format!("http://127.0.0.1:{port}/metrics"))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    text.lines()
        .find_map(|l| l.strip_prefix(line)?.trim().parse().ok())
        .unwrap_or_else(|| panic!("no {line} in:\n{text}"))
}

/// A reminder of this task that rang just now.
pub fn fired(user_id: Uuid, task: Task) -> ReminderEvent {
    let fire_at = now() - Duration::from_millis(10);
    let reminder = Reminder {
        id: Uuid::now_v7(),
        fire_at,
        ring: 0,
        fired_at: Some(now()),
        snoozed_until: None,
        reason: None,
    };
    ReminderEvent::new(
        ReminderEventKind::Fired,
        Head::new(user_id, Actor::System, now()),
        reminder,
        task,
    )
}

/// A delivery, due now, as the Kafka side would write it.
pub async fn arm(database: &Database, user_id: Uuid, title: &str) -> Uuid {
    let id = Uuid::new_v4();
    let task = Task {
        title: title.to_owned(),
        ..samples::task()
    };
    sqlx::query(
        "insert into delivery.deliveries (id, user_id, channel, reminder_id, task_id, fire_at, fired_at, task)
         values ($1, $2, 'email', $3, $4, now(), now(), $5)",
    )
    .bind(id)
    .bind(user_id)
    .bind(Uuid::now_v7())
    .bind(task.id)
    .bind(sqlx::types::Json(&task))
    .execute(database.admin())
    .await
    .unwrap();
    id
}

#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    pub state: String,
    pub attempts: i32,
    pub message_id: Option<String>,
    pub last_error: Option<String>,
    pub finished_at: Option<DateTime<Utc>>,
}

pub async fn row(database: &Database, id: Uuid) -> Delivery {
    let row = sqlx::query(
        "select state, attempts, message_id, last_error, finished_at from delivery.deliveries where id = $1",
    )
    .bind(id)
    .fetch_one(database.admin())
    .await
    .unwrap();
    Delivery {
        state: row.get(0),
        attempts: row.get(1),
        message_id: row.get(2),
        last_error: row.get(3),
        finished_at: row.get(4),
    }
}

/// Waits until a delivery is in that state.
pub async fn until_state(database: &Database, id: Uuid, state: &str) -> Delivery {
    eventually(&format!("the delivery is {state}"), async || {
        let row = row(database, id).await;
        (row.state == state).then_some(row)
    })
    .await
}

/// How many deliveries are in that state.
pub async fn count(database: &Database, state: &str) -> i64 {
    sqlx::query_scalar("select count(*) from delivery.deliveries where state = $1")
        .bind(state)
        .fetch_one(database.admin())
        .await
        .unwrap()
}

/// The notification events in the outbox, read as a consumer would.
pub async fn notifications(database: &Database) -> Vec<NotificationEvent> {
    sqlx::query("select event_type, topic, body from outbox.events order by seq")
        .fetch_all(database.admin())
        .await
        .unwrap()
        .iter()
        .map(|row| {
            let (event_type, topic, body): (String, String, Vec<u8>) = (row.get(0), row.get(1), row.get(2));
            let schema = schemas::all_schemas()
                .iter()
                .find(|s| s.event_type == event_type)
                .unwrap();
            let schema = WriterSchema::parse(&schema.json).unwrap();
            match schemas::decode(&topic, &schema, &body).unwrap() {
                Event::Notification(event) => event,
                other => panic!("{other:?} is no notification"),
            }
        })
        .collect()
}

pub fn kinds(events: &[NotificationEvent]) -> Vec<NotificationEventKind> {
    events.iter().map(|event| event.kind).collect()
}
