//! What a person's client does: it tries again while the API is away.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::PATIENCE;
use uuid::Uuid;

/// A person's client.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
    /// Whether each POST has an `Idempotency-Key`, so that one whose answer was lost is not done again.
    keyed: bool,
    /// How often the API was away, or said so, before it answered.
    refusals: u64,
}

/// A task that the API said it created.
#[derive(Debug, Clone)]
pub struct Created {
    /// Identity of the task.
    pub id: Uuid,
    /// Identities of its absolute reminders that are to ring. One whose time was past when the task came to be, because the
    /// client had to try for so long, is none of them.
    pub reminders: Vec<Uuid>,
    /// Its series, if it recurs.
    pub series: Option<Uuid>,
}

impl Client {
    pub(crate) fn new(base: String) -> Self {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(20))
            .build()
            .unwrap();
        Self {
            http,
            base,
            token: None,
            keyed: false,
            refusals: 0,
        }
    }

    /// From here on each POST has an `Idempotency-Key`.
    #[must_use]
    pub fn keyed(self) -> Self {
        Self { keyed: true, ..self }
    }

    /// Registers a person and acts as them from then on.
    pub async fn register(mut self, email: &str) -> Self {
        let body = json!({"email": email, "password": "correct horse battery", "name": "Ada Lovelace",
                          "timezone": "Europe/Berlin"});
        let (_, answer) = self.send(Method::POST, "/api/auth/register", Some(body)).await;
        self.token = Some(
            answer["access_token"]
                .as_str()
                .expect("an access token")
                .to_owned(),
        );
        self
    }

    /// What it shows to be who it is, once registered.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Creates a task.
    pub async fn create(&mut self, task: Value) -> Created {
        let (_, answer) = self.send(Method::POST, "/api/tasks", Some(task)).await;
        let id = |value: &Value| value.as_str().and_then(|id| id.parse().ok());
        let instant = |value: &Value| value.as_str().and_then(|at| at.parse::<DateTime<Utc>>().ok());
        let created_at = instant(&answer["created_at"]);
        let reminders = answer["reminders"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        Created {
            id: id(&answer["id"]).expect("an id"),
            reminders: reminders
                .iter()
                .filter(|reminder| instant(&reminder["at"]) > created_at)
                .filter_map(|reminder| id(&reminder["id"]))
                .collect(),
            series: id(&answer["series_id"]),
        }
    }

    /// Completes a task.
    pub async fn complete(&mut self, id: Uuid) {
        self.send(Method::POST, &format!("/api/tasks/{id}/complete"), None)
            .await;
    }

    /// Sends any request, and gives what is answered; nothing where that is empty.
    pub async fn call(&mut self, method: Method, path: &str, body: Option<Value>) -> Value {
        self.send(method, path, body).await.1
    }

    /// How often the API was away, or said so, before it answered.
    #[must_use]
    pub fn refusals(&self) -> u64 {
        self.refusals
    }

    /// Sends until the API takes it. It may be away (killed), or say 503 with Retry-After (Postgres is away): nothing else.
    async fn send(&mut self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let started = Instant::now();
        let key = (self.keyed && method == Method::POST).then(|| Uuid::new_v4().to_string());
        for tries in 0_u64.. {
            let mut request = self.http.request(method.clone(), format!("{}{path}", self.base));
            if let Some(key) = &key {
                request = request.header("idempotency-key", key);
            }
            if let Some(token) = &self.token {
                request = request.bearer_auth(token);
            }
            if let Some(body) = &body {
                request = request.json(body);
            }
            match request.send().await {
                Ok(answer) if answer.status().is_success() => {
                    let status = answer.status();
                    if status == StatusCode::NO_CONTENT || answer.content_length() == Some(0) {
                        return (status, Value::Null);
                    }
                    if let Ok(body) = answer.json().await {
                        return (status, body);
                    }
                }
                // Postgres is away; or the same request, whose connection was cut, is still at work.
                Ok(answer)
                    if answer.status() == StatusCode::SERVICE_UNAVAILABLE
                        || key.is_some() && answer.status() == StatusCode::CONFLICT =>
                {
                    assert!(
                        answer.headers().contains_key("retry-after"),
                        "{} says when to come back",
                        answer.status()
                    );
                }
                // A lost answer said so already.
                Ok(answer)
                    if method == Method::DELETE && tries > 0 && answer.status() == StatusCode::NOT_FOUND =>
                {
                    return (StatusCode::NO_CONTENT, Value::Null);
                }
                Ok(answer) => {
                    let status = answer.status();
                    panic!(
                        "{method} {path}: {status} {}",
                        answer.text().await.unwrap_or_default()
                    );
                }
                Err(_) => {}
            }
            self.refusals += 1;
            assert!(
                started.elapsed() < 2 * PATIENCE,
                "{method} {path}: the API does not come back"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        unreachable!()
    }
}
