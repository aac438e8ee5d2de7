//! Sending a claim: what a result means for the server and for the delivery. The loop around it is `common/delivery`'s.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use delivery::retry::Doubling;
use delivery::{About, Channel, Leave, SendLoop, Verdict, call, metrics::AMBIGUOUS};
use service::Component;
use sqlx::PgPool;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::circuit::{Circuit, Permit};
use crate::deliveries::{self, CHANNEL, Claim, Message, What};
use crate::message::{Mail, Writer};
use crate::smtp::{SendError, Smtp};
use crate::{Config, DeliveryConfig, metrics};

/// Deliveries that are claimed at most, for each connection: enough that a connection finds work when it is done, few
/// enough that all of them go out well within the lease.
const CLAIMS_PER_CONNECTION: usize = 4;
/// How often connections are looked at that nobody needs.
const CLOSE_IDLE: Duration = Duration::from_secs(5);

/// Sends what is due.
pub struct Sender {
    shared: Arc<Shared>,
    pool: PgPool,
    send_loop: SendLoop,
}

/// What every send needs.
struct Shared {
    smtp: Smtp,
    writer: Writer,
    config: DeliveryConfig,
    send_budget: Duration,
    circuit: Mutex<Circuit>,
    component: Component,
}

impl Sender {
    /// A sender that the Kafka side wakes through `wake`.
    ///
    /// # Errors
    /// When the templates or the settings of TLS are of no use.
    pub fn new(
        config: &Config,
        pool: PgPool,
        wake: Arc<Notify>,
        component: Component,
    ) -> anyhow::Result<Self> {
        let capacity = config.smtp.max_connections * CLAIMS_PER_CONNECTION;
        Ok(Self {
            send_loop: SendLoop {
                wake,
                capacity,
                batch: capacity.div_ceil(2),
                lease: config.delivery.lease,
                shutdown_budget: config.service.shutdown_budget,
                component: component.clone(),
            },
            shared: Arc::new(Shared {
                smtp: Smtp::new(config.smtp.clone()).context("the SMTP client cannot be set up")?,
                writer: Writer::new(&config.mail, config.links.clone())
                    .context("the mail cannot be written")?,
                config: config.delivery,
                send_budget: config.smtp.send_budget(),
                circuit: Mutex::new(Circuit::new(Instant::now())),
                component,
            }),
            pool,
        })
    }

    /// Runs until `shutdown`, and then until what is under way has ended and is recorded.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self {
            shared,
            pool,
            send_loop,
        } = self;
        let channel = channel(&shared, &pool, send_loop.lease, &shutdown);
        let result = tokio::select! {
            result = send_loop.run(channel, shutdown) => result,
            () = shared.close_idle() => Ok(()),
        };
        shared.smtp.close_idle(true).await;
        result
    }
}

/// What the loop is given.
fn channel(
    shared: &Arc<Shared>,
    pool: &PgPool,
    lease: Duration,
    shutdown: &CancellationToken,
) -> Channel<Message> {
    let (asking, sending) = (Arc::clone(shared), Arc::clone(shared));
    let (seeing, claiming, recording) = (pool.clone(), pool.clone(), pool.clone());
    let shutdown = shutdown.clone();
    Channel {
        name: CHANNEL,
        leave: call(move |()| leave(Arc::clone(&asking))),
        next_due: call(move |()| deliveries::next_due(seeing.clone())),
        claim: call(move |limit| deliveries::claim(claiming.clone(), lease, limit)),
        send: call(move |claim| deliver(Arc::clone(&sending), claim, shutdown.clone())),
        record: call(move |outcomes| deliveries::record(recording.clone(), outcomes)),
        about: |message, status| match &message.what {
            What::Reminder(rung) => About {
                what: "reminder",
                task_id: Some(rung.task_id),
                counter: delivery::metrics::NOTIFICATIONS.with_label_values(&[CHANNEL, status]),
            },
            What::Digest(_) => About {
                what: "digest",
                task_id: None,
                counter: delivery::metrics::NOTIFICATIONS.with_label_values(&[CHANNEL, status]),
            },
            What::Account(mail) => About {
                what: mail.purpose.name(),
                task_id: None,
                counter: metrics::ACCOUNT_MAILS.with_label_values(&[mail.purpose.name(), status]),
            },
        },
    }
}

/// Whether the server is there, which a probe finds out.
async fn leave(shared: Arc<Shared>) -> Leave {
    let permit = shared.circuit().permit(Instant::now());
    match permit {
        Permit::Wait(pause) => Leave::Wait(pause),
        Permit::Probe => {
            shared.probe().await;
            Leave::Again
        }
        Permit::One => Leave::One,
        Permit::All => Leave::All,
    }
}

async fn deliver(shared: Arc<Shared>, mut claim: Claim, shutdown: CancellationToken) -> (Claim, Verdict) {
    let verdict = shared.verdict(&mut claim, &shutdown).await;
    (claim, verdict)
}

impl Shared {
    fn circuit(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes connections that nobody needs, for ever.
    async fn close_idle(&self) {
        loop {
            sleep(CLOSE_IDLE).await;
            self.smtp.close_idle(false).await;
        }
    }

    async fn verdict(&self, claim: &mut Claim, shutdown: &CancellationToken) -> Verdict {
        let Some(recipient) = &claim.message.recipient else {
            return Verdict::Suppressed("there is no such user".to_owned());
        };
        if let Some(reason) = &recipient.suppressed
            && !claim.message.what.is_asked_for()
        {
            return Verdict::Suppressed(format!("mail does not arrive at the address: {reason}"));
        }
        match &claim.message.what {
            What::Digest(collection) if collection.items.is_empty() => {
                return Verdict::Suppressed("nothing is left in it".to_owned());
            }
            What::Reminder(_) | What::Digest(_) if self.config.require_verified && !recipient.verified => {
                return Verdict::Suppressed("the address is not verified".to_owned());
            }
            What::Account(mail) if mail.has_expired() => {
                return Verdict::Suppressed("the link has expired".to_owned());
            }
            _ => {}
        }
        let mail = match self.writer.write(claim, recipient) {
            Ok(mail) => mail,
            Err(error) => return Verdict::Failed(error.to_string()),
        };
        let Some(turn) = shutdown.run_until_cancelled(self.smtp.turn()).await else {
            return Verdict::GivenBack;
        };
        // It may have waited for its turn. Sending must end before the lease does.
        let too_late = claim.claimed.elapsed() + self.send_budget > self.config.lease;
        if too_late || self.circuit().is_open() {
            return Verdict::GivenBack;
        }
        let result = turn.send(&mail).await;
        self.learn(&result);
        self.judge(claim, mail, result)
    }

    /// What the result says about the server.
    fn learn(&self, result: &Result<(), SendError>) {
        match result {
            Ok(()) | Err(SendError::Permanent { .. } | SendError::Transient { answered: true, .. }) => {
                self.circuit().answered();
                self.component.ready();
            }
            Err(SendError::Unavailable(reason) | SendError::Transient { reason, .. }) => {
                self.unavailable(reason);
            }
        }
    }

    fn unavailable(&self, reason: &str) {
        self.component
            .not_ready(format!("the SMTP server does not answer as it should: {reason}"));
        if self.circuit().unavailable(Instant::now()) {
            tracing::warn!(reason, "the SMTP server is not available; deliveries wait");
        }
    }

    async fn probe(&self) {
        let result = self.smtp.turn().await.probe(self.writer.from()).await;
        match result {
            Ok(()) => {
                self.circuit().probed();
                self.component.ready();
                tracing::info!("the SMTP server answers");
            }
            Err(
                SendError::Unavailable(reason)
                | SendError::Transient { reason, .. }
                | SendError::Permanent { reason, .. },
            ) => {
                self.unavailable(&reason);
            }
        }
    }

    /// What the result means for the delivery.
    fn judge(&self, claim: &mut Claim, mail: Mail, result: Result<(), SendError>) -> Verdict {
        match result {
            Ok(()) => Verdict::Sent {
                message_id: Some(mail.message_id),
                at: Instant::now(),
            },
            Err(SendError::Permanent { reason, dead }) => {
                if dead {
                    metrics::BOUNCES.with_label_values(&["refusal"]).inc();
                    claim.message.refused = Some(reason.clone());
                }
                Verdict::Failed(reason)
            }
            Err(SendError::Unavailable(_)) => Verdict::GivenBack,
            Err(SendError::Transient {
                reason, ambiguous, ..
            }) => {
                if ambiguous {
                    AMBIGUOUS.inc();
                }
                let age = claim.age + claim.claimed.elapsed();
                let retry = Doubling {
                    min: self.config.retry_min,
                    max: self.config.retry_max,
                    deadline: self.config.deadline,
                };
                match retry.delay(claim.attempt, age, rand::random()) {
                    Some(after) => Verdict::Retry { after, reason },
                    None => Verdict::Failed(format!("not accepted until the deadline: {reason}")),
                }
            }
        }
    }
}
