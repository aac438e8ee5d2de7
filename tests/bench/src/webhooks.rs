//! Webhooks: a backlog for many endpoints through the webhook sender, beside a client that posts the same bodies to the
//! same receiver over as many connections, and neither claims nor signs nor writes anything down.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use serde_json::json;
use support::{Database, Topics};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::process::Service;
use crate::stats::Runs;
use crate::table::{Row, Target, Unit};
use crate::{machine, say};

/// Requests at once, of both.
pub const IN_FLIGHT: usize = 64;
/// The metric that tells how far it has come.
const SENT: &str = "notifications_sent_total";
/// Deliveries of the backlog, shared evenly by the endpoints.
const BACKLOG: u64 = 64_000;
/// Endpoints, each of a person of its own.
const ENDPOINTS: u64 = 64;
/// About what an event of a task makes.
const BODY_BYTES: usize = 1000;
/// How far away an endpoint on the internet is: then a client is as fast as its connections are many.
const FAR_AWAY: Duration = Duration::from_millis(20);
/// How often.
const RUNS: usize = 3;

/// Measures it.
pub async fn run(quick: bool) -> anyhow::Result<Vec<Row>> {
    let (count, runs) = if quick { (BACKLOG / 10, 1) } else { (BACKLOG, RUNS) };
    let mut rows = Vec::new();
    for (answers_after, target) in [
        (Duration::ZERO, Target::AtLeast(2_500.0)),
        (FAR_AWAY, Target::RatioAtLeast(0.6)),
    ] {
        let receiver = Receiver::start(answers_after).await?;
        let (mut ours, mut bare, mut cpu_us) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..runs {
            let sent = send(count, &receiver).await?;
            let posted = post(count, &receiver).await?;
            say(&format!(
                "webhooks, answered after {answers_after:?}: {:.0}/s, bare {posted:.0}/s",
                sent.rate
            ));
            ours.push(sent.rate);
            cpu_us.push(sent.cpu_us);
            bare.push(posted);
        }
        rows.push(
            Row::new(
                format!(
                    "webhooks, {IN_FLIGHT} connections, answered after {} ms",
                    answers_after.as_millis()
                ),
                Unit::PerSecond,
                Runs::of(ours),
            )
            .bare(Runs::of(bare))
            .target(target)
            .details(
                json!({"deliveries": count, "endpoints": ENDPOINTS, "sender_cpu_us_per_delivery": cpu_us}),
            ),
        );
    }
    Ok(rows)
}

/// Takes every request and says yes, at once or later.
pub struct Receiver {
    /// Where it listens.
    pub url: String,
    received: Arc<AtomicU64>,
}

impl Receiver {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(answers_after: Duration) -> anyhow::Result<Self> {
        let received = Arc::new(AtomicU64::new(0));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let count = Arc::clone(&received);
        let routes = Router::new().fallback(move |_: Bytes| {
            let count = Arc::clone(&count);
            async move {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(answers_after).await;
                StatusCode::NO_CONTENT
            }
        });
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok(Self { url, received })
    }
}

/// How a backlog was sent.
struct Sent {
    rate: f64,
    cpu_us: f64,
}

/// Lets a sender send a backlog.
async fn send(count: u64, receiver: &Receiver) -> anyhow::Result<Sent> {
    let (database, topics) = (Database::create().await, Topics::create().await);
    for statement in [
        "insert into accounts.users (id, email, name, timezone, created_at)
         select gen_random_uuid(), n || '@example.org', 'n', 'UTC', now() from generate_series(1, $1) n",
        "insert into webhooks.endpoints (user_id, id, url, created_at, updated_at)
         select id, gen_random_uuid(), $2 || '/' || id, now(), now() from accounts.users where $1 > 0",
        "insert into webhooks.secrets (user_id, endpoint_id, secret)
         select user_id, id, sha256(id::text::bytea) from webhooks.endpoints where $1 > 0 and $2 <> ''",
        "insert into webhooks.deliveries (id, user_id, endpoint_id, event_id, event_type, occurred_at, body)
         select gen_random_uuid(), user_id, id, gen_random_uuid(), 'task.created', now(), $3
         from generate_series(1, $4 / $1) n, webhooks.endpoints where $2 <> ''",
        "insert into webhooks.queues (endpoint_id, user_id, due_at)
         select id, user_id, now() from webhooks.endpoints where $1 > 0 and $2 <> ''",
        "vacuum (analyze) webhooks.deliveries, webhooks.queues, webhooks.endpoints, webhooks.secrets, accounts.users",
    ] {
        let mut query = sqlx::query(statement);
        if statement.contains("$1") {
            query = query.bind(i64::try_from(ENDPOINTS)?);
        }
        if statement.contains("$2") {
            query = query.bind(&receiver.url);
        }
        if statement.contains("$3") {
            query = query.bind(body()).bind(i64::try_from(count)?);
        }
        query.execute(database.admin()).await?;
    }
    machine::settle().await?;
    let before = receiver.received.load(Ordering::Relaxed);
    let sender = Service::start("webhook-sender", &database, &topics)?;
    let (seen, began) = sender.counts(SENT, 1).await?;
    let cpu = sender.cpu()?;
    let (last, ended) = sender.counts(SENT, count).await?;
    let sent = (last - seen) as f64;
    let cpu_us = (sender.cpu()? - cpu).as_secs_f64() * 1e6 / sent;
    sender.stop().await?;
    let received = receiver.received.load(Ordering::Relaxed) - before;
    ensure!(received == count, "{received} requests of {count} deliveries");
    Ok(Sent {
        rate: sent / (ended - began).as_secs_f64(),
        cpu_us,
    })
}

/// What is sent.
pub fn body() -> String {
    json!({"type": "task.created", "timestamp": "2026-01-01T00:00:00.000000Z", "data": {"text": "x".repeat(BODY_BYTES)}})
        .to_string()
}

/// Posts as many by a plain client. Returns how many a second.
async fn post(count: u64, receiver: &Receiver) -> anyhow::Result<f64> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(IN_FLIGHT)
        .build()?;
    let next = Arc::new(AtomicU64::new(0));
    let mut posters = JoinSet::new();
    let began = Instant::now();
    for _ in 0..IN_FLIGHT {
        let (client, next, url) = (client.clone(), Arc::clone(&next), receiver.url.clone());
        posters.spawn(async move {
            let body = body();
            while next.fetch_add(1, Ordering::Relaxed) < count {
                let answer = client
                    .post(&url)
                    .header("content-type", "application/json")
                    .body(body.clone())
                    .send()
                    .await?;
                ensure!(answer.status().is_success(), "{}", answer.status());
            }
            anyhow::Ok(())
        });
    }
    while let Some(poster) = posters.join_next().await {
        poster??;
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}
