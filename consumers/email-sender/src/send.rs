//! Sending a claim: what a result means for the server and for the delivery. The loop around it is `common/delivery`'s.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use delivery::retry::Doubling;
use delivery::{About, Channel, Leave, SendLoop, Verdict, call, metrics::AMBIGUOUS};
use service::Component;
use sqlx::PgPool;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::circuit::{Circuit, Permit};
use crate::deliveries::{self, CHANNEL, Claim, Claims, Message, What};
use crate::message::{Mail, Writer};
use crate::pace::{self, Heard, Limits, Pace};
use crate::smtp::{self, SendError, Smtp};
use crate::{Config, DeliveryConfig, metrics};

/// Deliveries that are claimed at most, for each connection: enough that a connection finds work when it is done, few
/// enough that all of them go out well within the lease.
const CLAIMS_PER_CONNECTION: usize = 4;
/// How often connections, and what is known of domains, are looked at that nobody needs.
const CLOSE_IDLE: Duration = Duration::from_secs(5);

/// Sends what is due.
pub struct Sender {
    shared: Arc<Shared>,
    pool: PgPool,
    /// Mails that were set aside that are under way at most.
    aside: usize,
    send_loop: SendLoop,
}

/// What every send needs.
struct Shared {
    smtp: Smtp,
    writer: Writer,
    config: DeliveryConfig,
    send_budget: Duration,
    circuit: Mutex<Circuit>,
    pace: Mutex<Pace>,
    /// Notified when a mail has ended: there may be room for another to its domain.
    ended: Notify,
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
                pace: Mutex::new(Pace::new(Limits {
                    at_once: config.smtp.max_connections_per_domain,
                    interval: config
                        .smtp
                        .max_mails_per_second_per_domain
                        .map_or(Duration::ZERO, |most| Duration::from_secs(1) / most),
                    min_pause: config.delivery.retry_min,
                    max_pause: config.delivery.retry_max,
                })),
                ended: Notify::new(),
                component,
            }),
            pool,
            aside: (config.smtp.max_connections / 2).max(1),
        })
    }

    /// Runs until `shutdown`, and then until what is under way has ended and is recorded.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self {
            shared,
            pool,
            aside,
            send_loop,
        } = self;
        let claims = Claims::new(pool.clone(), send_loop.lease, aside, Arc::clone(&send_loop.wake));
        let claims = Arc::new(claims);
        let channel = channel(&shared, Arc::clone(&claims), pool, &shutdown);
        let result = tokio::select! {
            result = send_loop.run(channel, shutdown) => result,
            result = claims.set_crowds_aside() => Ok(result?),
            () = shared.close_idle() => Ok(()),
        };
        shared.smtp.close_idle(true).await;
        result
    }
}

/// What the loop is given.
fn channel(
    shared: &Arc<Shared>,
    claims: Arc<Claims>,
    pool: PgPool,
    shutdown: &CancellationToken,
) -> Channel<Message> {
    let (asking, sending) = (Arc::clone(shared), Arc::clone(shared));
    let (seeing, claiming) = (Arc::clone(&claims), claims);
    let shutdown = shutdown.clone();
    Channel {
        name: CHANNEL,
        leave: call(move |()| leave(Arc::clone(&asking))),
        next_due: call(move |()| {
            let claims = Arc::clone(&seeing);
            async move { claims.next_due().await }
        }),
        claim: call(move |limit| {
            let claims = Arc::clone(&claiming);
            async move { claims.claim(limit).await }
        }),
        send: call(move |claim| deliver(Arc::clone(&sending), claim, shutdown.clone())),
        record: call(move |outcomes| deliveries::record(pool.clone(), outcomes)),
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

/// Why a mail is not tried, and for how long.
struct PutOff {
    after: Duration,
    paused: bool,
}

async fn deliver(shared: Arc<Shared>, mut claim: Claim, shutdown: CancellationToken) -> (Claim, Verdict) {
    let verdict = shared.verdict(&mut claim, &shutdown).await;
    (claim, verdict)
}

impl Shared {
    fn circuit(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes connections and forgets domains that nobody needs, for ever.
    async fn close_idle(&self) {
        loop {
            sleep(CLOSE_IDLE).await;
            self.smtp.close_idle(false).await;
            self.pace().forget(Instant::now());
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
        if let Some(reason) = claim.message.moot {
            return Verdict::Suppressed(reason.to_owned());
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
        let domain = mail.to.domain().to_ascii_lowercase();
        match shutdown
            .run_until_cancelled(self.leave_for(&domain, claim.attempt))
            .await
        {
            Some(Ok(())) => {}
            Some(Err(put_off)) => return self.put_off(claim, put_off),
            None => return Verdict::GivenBack,
        }
        let result = self.send(claim, &mail, shutdown).await;
        self.pass_on(&domain, result.as_ref());
        match result {
            Some((result, _)) => self.judge(claim, mail, result),
            None => Verdict::GivenBack,
        }
    }

    /// Waits for leave to send a mail to a domain, if that is not for long.
    async fn leave_for(&self, domain: &str, attempt: i32) -> Result<(), PutOff> {
        let began = Instant::now();
        let mut waited = None;
        loop {
            // Armed before it is asked: what ends after the answer wakes us.
            let mut ended = std::pin::pin!(self.ended.notified());
            ended.as_mut().enable();
            let leave = self.pace().ask(domain, attempt > 1, waited, Instant::now());
            match leave {
                pace::Leave::Go => return Ok(()),
                pace::Leave::Wait(pause) => drop(timeout(pause, ended).await),
                pace::Leave::PutOff { after, paused } => return Err(PutOff { after, paused }),
            }
            waited = Some(began.elapsed());
        }
    }

    /// The mail waits for its domain, untried. A domain that puts mail off until the deadline has refused it; one that is busy
    /// has not.
    fn put_off(&self, claim: &Claim, PutOff { after, paused }: PutOff) -> Verdict {
        let (why, reason) = if paused {
            ("paused", "the server puts mail to this domain off for now")
        } else {
            ("busy", "as much mail to this domain is under way as may be")
        };
        let left = self.retry().left(claim.age + claim.claimed.elapsed());
        if paused && left.is_none() {
            return Verdict::Failed(format!("not accepted until the deadline: {reason}"));
        }
        metrics::PUT_OFF.with_label_values(&[why]).inc();
        Verdict::PutOff {
            after: left.map_or(after, |left| after.min(left)),
            reason: (claim.attempt == 1).then(|| format!("not tried: {reason}")),
        }
    }

    /// Sends a mail when it is its turn, and tells how long that took; `None` when it was not tried.
    async fn send(
        &self,
        claim: &Claim,
        mail: &Mail,
        shutdown: &CancellationToken,
    ) -> Option<(Result<(), SendError>, Duration)> {
        let turn = shutdown.run_until_cancelled(self.smtp.turn()).await?;
        // It may have waited for its turn. Sending must end before the lease does.
        let too_late = claim.claimed.elapsed() + self.send_budget > self.config.lease;
        if too_late || self.circuit().is_open() {
            return None;
        }
        let began = Instant::now();
        let result = turn.send(mail).await;
        let took = began.elapsed();
        self.learn(&result);
        Some((result, took))
    }

    /// What the result says about the recipient's domain.
    fn pass_on(&self, domain: &str, result: Option<&(Result<(), SendError>, Duration)>) {
        let heard = match result {
            None
            | Some((
                Err(
                    SendError::Unavailable(_)
                    | SendError::Transient {
                        about: smtp::About::Server,
                        ..
                    },
                ),
                _,
            )) => Heard::Nothing,
            Some((
                Err(SendError::Transient {
                    about: smtp::About::Domain,
                    ..
                }),
                _,
            )) => Heard::PutOff,
            Some((_, took)) => Heard::Answered(*took),
        };
        let paused = self.pace().ended(domain, heard, Instant::now(), rand::random());
        self.ended.notify_waiters();
        if paused && let Some((Err(SendError::Transient { reason, .. }), _)) = result {
            tracing::info!(
                domain,
                reason,
                "mail to a domain is put off; what goes there waits"
            );
        }
    }

    fn retry(&self) -> Doubling {
        Doubling {
            min: self.config.retry_min,
            max: self.config.retry_max,
            deadline: self.config.deadline,
        }
    }

    /// What the result says about the server.
    fn learn(&self, result: &Result<(), SendError>) {
        match result {
            Err(
                SendError::Unavailable(reason)
                | SendError::Transient {
                    reason,
                    about: smtp::About::Server,
                    ..
                },
            ) => {
                self.unavailable(reason);
            }
            Ok(()) | Err(SendError::Permanent { .. } | SendError::Transient { .. }) => {
                self.circuit().answered();
                self.component.ready();
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
                match self.retry().delay(claim.attempt, age, rand::random()) {
                    Some(after) => Verdict::Retry { after, reason },
                    None => Verdict::Failed(format!("not accepted until the deadline: {reason}")),
                }
            }
        }
    }
}
