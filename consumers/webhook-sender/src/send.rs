//! Sending a claim: the request, and what its answer means. The loop around it is `common/delivery`'s.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use chrono::Utc;
use delivery::{About, Channel, Leave, SendLoop, Verdict, call};
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use service::Component;
use sqlx::PgPool;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use webhooks::Signature;

use crate::client::{Answer, Client};
use crate::deliveries::{self, Attempt, CHANNEL, Claim, GONE, Hook, Target};
use crate::{Config, SendConfig, metrics, schedule};

/// Deliveries that are claimed at most, for each request under way: so that while some are written down others go out.
const CLAIMS_PER_REQUEST: usize = 4;

/// What requests call us.
const AGENT: &str = concat!("Carillon-Webhooks/", env!("CARGO_PKG_VERSION"));

/// Sends what is due.
pub struct Sender {
    client: Client,
    turns: Arc<Semaphore>,
    config: SendConfig,
    pool: PgPool,
    send_loop: SendLoop,
}

impl Sender {
    /// A sender that the Kafka side wakes through `wake`.
    ///
    /// # Errors
    /// When the system has no certificates to trust.
    pub fn new(
        config: &Config,
        pool: PgPool,
        wake: Arc<Notify>,
        component: Component,
    ) -> anyhow::Result<Self> {
        // There is no one server whose absence would keep it from working.
        component.ready();
        Ok(Self {
            client: Client::new(&config.policy, &config.send).context("the HTTP client cannot be set up")?,
            turns: Arc::new(Semaphore::new(config.send.in_flight)),
            send_loop: SendLoop {
                wake,
                capacity: config.send.in_flight * CLAIMS_PER_REQUEST,
                batch: config.send.in_flight,
                lease: config.send.lease,
                shutdown_budget: config.service.shutdown_budget,
                component,
            },
            config: config.send.clone(),
            pool,
        })
    }

    /// Runs until `shutdown`, and then until what is under way has ended and is recorded.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self {
            client,
            turns,
            config,
            pool,
            send_loop,
        } = self;
        let (seeing, claiming, recording) = (pool.clone(), pool.clone(), pool);
        let (to_claim, disable_after) = (config.clone(), config.disable_after);
        let (stop, wake) = (shutdown.clone(), Arc::clone(&send_loop.wake));
        let channel = Channel {
            name: CHANNEL,
            leave: call(|()| std::future::ready(Leave::All)),
            next_due: call(move |()| deliveries::next_due(seeing.clone())),
            claim: call(move |limit| deliveries::claim(claiming.clone(), to_claim.clone(), limit)),
            send: call(move |claim| {
                deliver(
                    client.clone(),
                    Arc::clone(&turns),
                    config.clone(),
                    claim,
                    stop.clone(),
                )
            }),
            // What has ended makes room at its endpoint.
            record: call(move |outcomes| {
                let (pool, wake) = (recording.clone(), Arc::clone(&wake));
                async move {
                    let recorded = deliveries::record(pool, disable_after, outcomes).await;
                    wake.notify_one();
                    recorded
                }
            }),
            about: |_, status| About {
                what: "webhook",
                task_id: None,
                counter: delivery::metrics::NOTIFICATIONS.with_label_values(&[CHANNEL, status]),
            },
        };
        send_loop.run(channel, shutdown).await
    }
}

/// Sends a claim, and leaves in it what happened.
async fn deliver(
    client: Client,
    turns: Arc<Semaphore>,
    config: SendConfig,
    mut claim: Claim,
    shutdown: CancellationToken,
) -> (Claim, Verdict) {
    let target = match claim.message.target.clone() {
        Ok(target) => target,
        Err(reason) => return (claim, Verdict::Suppressed(reason.to_owned())),
    };
    let turn = shutdown.run_until_cancelled(turns.acquire()).await;
    // It may have waited for its turn. Sending must end before the lease does.
    let too_late = claim.claimed.elapsed() + config.timeout > config.lease;
    if too_late || turn.is_none() {
        return (claim, Verdict::GivenBack);
    }
    let attempt = send(&client, &claim, target).await;
    let verdict = judge(&config, &claim.message, &attempt);
    claim.message.attempt = Some(attempt);
    (claim, verdict)
}

/// One request.
async fn send(client: &Client, claim: &Claim, target: Target) -> Attempt {
    let hook = &claim.message;
    let id = claim.id.to_string();
    let at = Utc::now();
    let timestamp = at.timestamp();
    let signature = Signature::of(&target.secrets, &id, timestamp, &hook.body);
    let request_headers = vec![
        ("content-type", "application/json".to_owned()),
        ("user-agent", AGENT.to_owned()),
        ("webhook-id", id),
        ("webhook-timestamp", timestamp.to_string()),
        ("webhook-signature", signature.as_str().to_owned()),
    ];
    let begun = Instant::now();
    let answer = client
        .post(&target.url, headers(&request_headers), hook.body.clone())
        .await;
    let attempt = Attempt {
        at,
        url: target.url,
        request_headers,
        duration: begun.elapsed(),
        answer,
    };
    metrics::ATTEMPTS
        .with_label_values(&[metrics::class(attempt.status())])
        .inc();
    if attempt.answer.as_ref().is_err_and(|none| none.ambiguous) {
        delivery::metrics::AMBIGUOUS.inc();
    }
    attempt
}

fn headers(pairs: &[(&'static str, String)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        // Values are ours: there is none that no header can be.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}

/// What an attempt means for the delivery.
fn judge(config: &SendConfig, hook: &Hook, attempt: &Attempt) -> Verdict {
    let reason = match &attempt.answer {
        Ok(Answer {
            status: 200..=299, ..
        }) => {
            return Verdict::Sent {
                message_id: None,
                at: Instant::now(),
            };
        }
        Ok(Answer { status: GONE, .. }) => {
            return Verdict::Failed("it answered 410: the endpoint is gone".to_owned());
        }
        Ok(Answer {
            status: status @ 300..=399,
            ..
        }) => format!("it answered {status}: redirects are not followed"),
        Ok(Answer { status, .. }) => format!("it answered {status}"),
        Err(none) => none.reason.clone(),
    };
    let delay = schedule::delay(
        &config.retry_delays,
        hook.scheduled_attempt,
        attempt.retry_after(),
        rand::random(),
    );
    match delay {
        Some(after) => Verdict::Retry { after, reason },
        None => Verdict::Failed(reason),
    }
}
