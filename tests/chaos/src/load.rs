//! People who use the platform all the time, and what each of them must see in the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use e2e::Client;
use rand::Rng;
use rand::rngs::StdRng;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

/// How many.
pub const PEOPLE: usize = 8;
/// How much later a reminder is that must never ring, because its task is done before: longer than anything here takes.
const LATER: TimeDelta = TimeDelta::seconds(150);

/// What is to become of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its reminder rings once, not before this.
    Rings(DateTime<Utc>),
    /// It says nothing of when: the answer came too late to tell whether it is to ring.
    Unknown,
    /// It was completed long before its reminder: nothing rings.
    Completed,
    /// It was deleted long before its reminder: nothing rings.
    Deleted,
    /// It recurs and was completed: it has one successor.
    Recurs {
        /// The series.
        series: Uuid,
    },
}

/// A task that the API said it made.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Its id.
    pub id: Uuid,
    /// Its title, which no other task has.
    pub title: String,
    /// What is to become of it.
    pub fate: Fate,
}

/// A person, when the load is over.
#[derive(Debug)]
pub struct Person {
    /// Acts as they.
    pub client: Client,
    /// Where their mails go.
    pub address: String,
    /// What they were told.
    pub kept: Vec<Kept>,
}

/// Tells people when to stop, and hears of answers.
#[derive(Debug, Clone, Default)]
pub struct Load {
    over: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
}

impl Load {
    /// Enough.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Whether it is enough.
    #[must_use]
    pub fn over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// How many requests were answered.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }
}

/// What the API says of a reminder or a task, as an instant.
fn instant(value: &Value) -> Option<DateTime<Utc>> {
    value.as_str()?.parse().ok()
}

/// A moment that many seconds ahead, as exact as the API is.
fn ahead(milliseconds: i64) -> DateTime<Utc> {
    let at = Utc::now() + TimeDelta::milliseconds(milliseconds);
    DateTime::from_timestamp_micros(at.timestamp_micros()).unwrap_or(at)
}

impl Person {
    /// Registers them, with an endpoint for webhooks.
    pub async fn new(client: Client, address: String, endpoint: &str) -> Self {
        let mut client = client.register(&address).await.keyed();
        let webhook = json!({"url": endpoint, "event_types": ["reminder.fired", "task.completed"]});
        client.call(Method::POST, "/api/webhooks", Some(webhook)).await;
        Self {
            client,
            address,
            kept: Vec::new(),
        }
    }

    /// Does one thing after the other until it is enough.
    pub async fn live(mut self, load: Load, mut random: StdRng) -> Self {
        let name = self.address.clone();
        let mut number = 0_u64;
        while !load.over() {
            number += 1;
            let title = format!("{name} {number}");
            let kept = match random.random_range(0..10) {
                0..5 => self.rings(&title, &mut random).await,
                5 => self.moved(&title, &mut random).await,
                6 => self.completed(&title).await,
                7 => self.deleted(&title).await,
                _ => self.recurs(&title).await,
            };
            self.kept.push(kept);
            load.answers.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(random.random_range(200..1200))).await;
        }
        self
    }

    async fn create(&mut self, title: &str, at: DateTime<Utc>) -> Value {
        let task = json!({"title": title, "reminders": [{"at": at.to_rfc3339()}]});
        self.client.call(Method::POST, "/api/tasks", Some(task)).await
    }

    async fn rings(&mut self, title: &str, random: &mut StdRng) -> Kept {
        let at = ahead(random.random_range(1000..8000));
        let task = self.create(title, at).await;
        kept(&task, title, when(&task["created_at"], at))
    }

    /// First for much later, then for soon.
    async fn moved(&mut self, title: &str, random: &mut StdRng) -> Kept {
        let task = self.create(title, Utc::now() + LATER).await;
        let at = ahead(random.random_range(2000..8000));
        let path = format!("/api/tasks/{}", task["id"].as_str().unwrap_or_default());
        let patch = json!({"reminders": [{"at": at.to_rfc3339()}]});
        let moved = self.client.call(Method::PATCH, &path, Some(patch)).await;
        // A patch that was done and not answered was done again: it says the time of the first.
        kept(&task, title, when(&moved["updated_at"], at))
    }

    async fn completed(&mut self, title: &str) -> Kept {
        let at = Utc::now() + LATER;
        let task = self.create(title, at).await;
        let path = format!("/api/tasks/{}/complete", task["id"].as_str().unwrap_or_default());
        self.client.call(Method::POST, &path, None).await;
        let long_before = Utc::now() + LATER / 2 < at;
        kept(
            &task,
            title,
            if long_before {
                Fate::Completed
            } else {
                Fate::Unknown
            },
        )
    }

    async fn deleted(&mut self, title: &str) -> Kept {
        let at = Utc::now() + LATER;
        let task = self.create(title, at).await;
        let path = format!("/api/tasks/{}", task["id"].as_str().unwrap_or_default());
        self.client.call(Method::DELETE, &path, None).await;
        let long_before = Utc::now() + LATER / 2 < at;
        kept(
            &task,
            title,
            if long_before { Fate::Deleted } else { Fate::Unknown },
        )
    }

    async fn recurs(&mut self, title: &str) -> Kept {
        let due = Utc::now() + TimeDelta::hours(20);
        let body = json!({"title": title, "due_at": due.to_rfc3339(), "recurrence": "FREQ=DAILY",
                          "reminders": [{"offset": "-PT10M"}]});
        let task = self.client.call(Method::POST, "/api/tasks", Some(body)).await;
        let path = format!("/api/tasks/{}/complete", task["id"].as_str().unwrap_or_default());
        self.client.call(Method::POST, &path, None).await;
        let series = task["series_id"].as_str().and_then(|id| id.parse().ok());
        kept(
            &task,
            title,
            series.map_or(Fate::Unknown, |series| Fate::Recurs { series }),
        )
    }

    /// All of a list of theirs, as the API gives it: `tasks` or `notifications`.
    pub async fn list(&mut self, what: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let first = format!("/api/{what}?limit=100");
        let mut path = first.clone();
        loop {
            let page = self.client.call(Method::GET, &path, None).await;
            items.extend(page["items"].as_array().cloned().unwrap_or_default());
            let Some(cursor) = page["next_cursor"].as_str() else {
                return items;
            };
            path = format!("{first}&cursor={cursor}");
        }
    }
}

/// What is set for a time that was over when it was set does not ring.
fn when(written_at: &Value, at: DateTime<Utc>) -> Fate {
    match instant(written_at) {
        Some(written_at) if written_at < at => Fate::Rings(at),
        _ => Fate::Unknown,
    }
}

fn kept(task: &Value, title: &str, fate: Fate) -> Kept {
    Kept {
        id: task["id"]
            .as_str()
            .and_then(|id| id.parse().ok())
            .unwrap_or_default(),
        title: title.to_owned(),
        fate,
    }
}
