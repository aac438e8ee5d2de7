//! A service under test, endpoints and deliveries for it, and what became of them.

use std::time::Duration;

use schemas::{Event, TaskEventKind, now};
use service::config::Env;
use sqlx::{AssertSqlSafe, Row};
use support::{Database, Topics, eventually, samples, stack};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use webhook_sender::Config;

/// The secret of every endpoint here.
pub const SECRET: &[u8] = b"a secret that is long enough";

/// The configuration as the environment would give it, with short times.
pub fn config(database: &Database, topics: &Topics, more: &[(&str, &str)]) -> Config {
    let database = database.url("webhook-sender");
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
        ("WEBHOOK_ALLOW_HTTP", "true"),
        ("WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8"),
        ("WEBHOOK_RETRY_DELAYS_MS", "50,100,200"),
        ("WEBHOOK_TIMEOUT_MS", "2000"),
        ("WEBHOOK_LEASE_SECONDS", "8"),
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
        let task = tokio::spawn(webhook_sender::run(config, stop.clone()));
        Self { stop, task }
    }

    /// One without Kafka.
    pub fn sending(database: &Database, more: &[(&str, &str)]) -> Self {
        Self::start(config(database, &no_topics(), more))
    }

    /// Asks it to stop, and wants it to end in order.
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// An endpoint as the API would make it.
pub async fn endpoint(database: &Database, user_id: Uuid, url: &str, types: &[&str]) -> Uuid {
    let id = Uuid::now_v7();
    let pool = database.pool("api");
    sqlx::query(
        "insert into webhooks.endpoints (user_id, id, url, event_types, created_at, updated_at)
         values ($1, $2, $3, $4, now() - interval '1 minute', now())",
    )
    .bind(user_id)
    .bind(id)
    .bind(url)
    .bind(types.iter().map(ToString::to_string).collect::<Vec<_>>())
    .execute(&pool)
    .await
    .unwrap();
    sqlx::query("insert into webhooks.secrets (user_id, endpoint_id, secret) values ($1, $2, $3)")
        .bind(user_id)
        .bind(id)
        .bind(SECRET)
        .execute(&pool)
        .await
        .unwrap();
    id
}

/// So many deliveries, due now, as the Kafka side would write them.
pub async fn arm(database: &Database, user_id: Uuid, endpoint_id: Uuid, count: i32) {
    let mut tx = database.pool("webhook-sender").begin().await.unwrap();
    sqlx::query(
        "insert into webhooks.deliveries (id, user_id, endpoint_id, event_id, event_type, occurred_at, body)
         select gen_random_uuid(), $1, $2, gen_random_uuid(), 'task.created', now(), '{\"n\":' || n || '}'
         from generate_series(1, $3) n",
    )
    .bind(user_id)
    .bind(endpoint_id)
    .bind(count)
    .execute(&mut *tx)
    .await
    .unwrap();
    webhooks::wake(&mut *tx, &[(user_id, endpoint_id)]).await.unwrap();
    tx.commit().await.unwrap();
}

/// A person with one endpoint and one delivery there.
pub async fn one(database: &Database, url: &str) -> Uuid {
    let user_id = database.user(&format!("{}@example.org", Uuid::new_v4())).await;
    let id = endpoint(database, user_id, url, &[]).await;
    arm(database, user_id, id, 1).await;
    id
}

/// How many deliveries of an endpoint are in that state.
pub async fn count(database: &Database, endpoint_id: Uuid, state: &str) -> i64 {
    sqlx::query_scalar("select count(*) from webhooks.deliveries where endpoint_id = $1 and state = $2")
        .bind(endpoint_id)
        .bind(state)
        .fetch_one(database.admin())
        .await
        .unwrap()
}

/// Waits until so many deliveries of an endpoint are in that state.
pub async fn until(database: &Database, endpoint_id: Uuid, state: &str, expected: i64) {
    eventually(&format!("{expected} are {state}"), async || {
        (count(database, endpoint_id, state).await == expected).then_some(())
    })
    .await;
}

#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    pub state: String,
    pub attempts: i32,
    pub claimed: bool,
    pub last_error: Option<String>,
}

/// The one delivery of an endpoint.
pub async fn delivery(database: &Database, endpoint_id: Uuid) -> Delivery {
    let row = sqlx::query(
        "select state, attempts, claimed, last_error from webhooks.deliveries where endpoint_id = $1",
    )
    .bind(endpoint_id)
    .fetch_one(database.admin())
    .await
    .unwrap();
    Delivery {
        state: row.get(0),
        attempts: row.get(1),
        claimed: row.get(2),
        last_error: row.get(3),
    }
}

#[derive(Debug, Clone)]
pub struct Attempt {
    pub number: i32,
    pub status: Option<i32>,
    pub request_headers: serde_json::Value,
    pub response_body: Option<String>,
    pub error: Option<String>,
}

/// The log of an endpoint's requests.
pub async fn attempts(database: &Database, endpoint_id: Uuid) -> Vec<Attempt> {
    sqlx::query(
        "select a.number, a.status, a.request_headers, a.response_body, a.error
         from webhooks.attempts a join webhooks.deliveries d on d.id = a.delivery_id
         where d.endpoint_id = $1 order by a.number",
    )
    .bind(endpoint_id)
    .fetch_all(database.admin())
    .await
    .unwrap()
    .iter()
    .map(|row| Attempt {
        number: row.get(0),
        status: row.get(1),
        request_headers: row.get(2),
        response_body: row.get(3),
        error: row.get(4),
    })
    .collect()
}

/// A number of one row, of any table.
pub async fn number(database: &Database, query: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(query.to_owned()))
        .fetch_one(database.admin())
        .await
        .unwrap()
}

/// An event of a task of that title, which happened just now.
pub fn task_event(kind: TaskEventKind, user_id: Uuid, title: &str) -> Event {
    let mut task = samples::task();
    task.title = title.to_owned();
    task.updated_at = now();
    samples::event(kind, user_id, &task).into()
}

/// Sleeping is right only where nothing is to happen.
pub async fn nothing_happens() {
    tokio::time::sleep(Duration::from_millis(700)).await;
}
