//! The send loop: claims what is due, sends it outside of any transaction, hands the outcomes to the recorder.
//!
//! ```text
//! Kafka ─► deliveries ─► claim (lease) ─► send, several at once ─► record: state and event in one transaction
//!             ▲                              │
//!             └── due again: retry, given back, or the lease ran out ──┘
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use service::Component;
use sqlx::PgPool;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::circuit::{Circuit, Permit};
use crate::deliveries::{self, Claim, Outcome, Verdict, What};
use crate::message::{Mail, Writer};
use crate::record::{Finished, Recorder};
use crate::smtp::{SendError, Smtp};
use crate::{Config, DeliveryConfig, SmtpConfig, metrics, retry};

/// When the loop counts as stuck. It makes a turn every few seconds, but one turn may wait as long as a database
/// statement may take, or a probe that waits for its turn on a server that hangs.
pub fn stale_after(smtp: &SmtpConfig) -> Duration {
    Duration::from_mins(6) + 2 * smtp.send_budget()
}

/// Deliveries that are claimed at most, for each connection: enough that a connection finds work when it is done, few
/// enough that all of them go out well within the lease.
const CLAIMS_PER_CONNECTION: usize = 4;
/// The longest sleep. Deliveries that this process armed wake it; those that another one left behind are found so.
const IDLE: Duration = Duration::from_secs(5);
/// The pause after finding something due that another process has locked.
const CONTENDED: Duration = Duration::from_millis(50);
/// How soon things are looked at again that nobody tells about.
const TICK: Duration = Duration::from_secs(1);
/// The pause while Postgres is away; the probe in lib.rs says so to operators.
const POSTGRES_AWAY: Duration = Duration::from_secs(1);
/// What is left of the shutdown budget when sends are cut off, and when recording is: time to end in order.
const LEFT_FOR_RECORDING: Duration = Duration::from_secs(5);
const LEFT_AT_END: Duration = Duration::from_secs(1);

/// Sends what is due.
pub struct Sender {
    shared: Arc<Shared>,
    pool: PgPool,
    wake: Arc<Notify>,
    /// Places for claims that are under way, until they are recorded.
    places: Arc<Semaphore>,
    capacity: usize,
    behind: Arc<AtomicBool>,
    shutdown_budget: Duration,
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

/// What the loop does after a turn.
enum Next {
    Turn,
    Sleep(Duration),
    /// Nothing that the handler arms would change it.
    SleepSoundly(Duration),
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
            shared: Arc::new(Shared {
                smtp: Smtp::new(config.smtp.clone()).context("the SMTP client cannot be set up")?,
                writer: Writer::new(&config.mail).context("the mail cannot be written")?,
                config: config.delivery,
                send_budget: config.smtp.send_budget(),
                circuit: Mutex::new(Circuit::new(Instant::now())),
                component,
            }),
            pool,
            wake,
            places: Arc::new(Semaphore::new(capacity)),
            capacity,
            behind: Arc::default(),
            shutdown_budget: config.service.shutdown_budget,
        })
    }

    /// Runs until `shutdown`, and then until what is under way has ended and is recorded.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let (outcomes, finished) = mpsc::channel(self.capacity);
        let hard_stop = CancellationToken::new();
        let recorder = Recorder {
            pool: self.pool.clone(),
            lease: self.shared.config.lease,
            behind: Arc::clone(&self.behind),
            hard_stop: hard_stop.clone(),
        };
        let send = async {
            let result = self.send(outcomes, &shutdown).await;
            if result.is_err() {
                hard_stop.cancel();
            }
            result
        };
        let send_and_record = async { tokio::join!(send, recorder.run(finished)) };
        let stop = async {
            after(&shutdown, self.shutdown_budget.saturating_sub(LEFT_AT_END)).await;
            hard_stop.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            (sent, recorded) = send_and_record => {
                recorded?;
                sent
            }
            () = stop => Ok(()),
        }
    }

    async fn send(
        &self,
        outcomes: mpsc::Sender<Finished>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        let mut sends = JoinSet::new();
        // Whether to claim without asking first whether anything is due.
        let mut expect = true;
        while !shutdown.is_cancelled() && !outcomes.is_closed() {
            // Armed before the database is asked: what is written after the answer wakes us.
            let mut woken = std::pin::pin!(self.wake.notified());
            woken.as_mut().enable();
            self.shared.component.progress();
            while let Some(ended) = sends.try_join_next() {
                ended?;
            }
            let next = match self.turn(&mut expect, &mut sends, &outcomes, shutdown).await {
                Ok(next) => next,
                Err(error) if db::classify(&error).is_retryable() => {
                    tracing::debug!(%error, "nothing can be claimed");
                    Next::SleepSoundly(POSTGRES_AWAY)
                }
                Err(error) => return Err(error.into()),
            };
            let (pause, light) = match next {
                Next::Turn => continue,
                Next::Sleep(pause) => (pause, true),
                Next::SleepSoundly(pause) => (pause, false),
            };
            self.shared.smtp.close_idle(false).await;
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = outcomes.closed() => {}
                () = woken, if light => expect = true,
                () = sleep(pause.min(IDLE)) => {}
            }
        }
        // What has begun may end. What has not is given back, see `deliver`.
        tokio::select! {
            () = async { while sends.join_next().await.is_some() {} } => {}
            () = after(shutdown, self.shutdown_budget.saturating_sub(LEFT_FOR_RECORDING)) => {
                tracing::warn!(sends = sends.len(), "stopping in the middle of sends; they are tried again after their lease");
            }
            () = outcomes.closed() => {}
        }
        // Sends do no database work, so they can be cut off.
        sends.shutdown().await;
        self.shared.smtp.close_idle(true).await;
        Ok(())
    }

    async fn turn(
        &self,
        expect: &mut bool,
        sends: &mut JoinSet<()>,
        outcomes: &mpsc::Sender<Finished>,
        shutdown: &CancellationToken,
    ) -> Result<Next, sqlx::Error> {
        let permit = self.shared.circuit().permit(Instant::now());
        let (room, most) = match permit {
            Permit::Wait(pause) => return Ok(Next::SleepSoundly(pause)),
            Permit::Probe => {
                shutdown.run_until_cancelled(self.shared.probe()).await;
                return Ok(Next::Turn);
            }
            Permit::One => (self.capacity, 1),
            // Half of the places, so that claims are not taken one by one.
            Permit::All => (self.capacity.div_ceil(2), self.capacity),
        };
        let Ok(room) = u32::try_from(room) else {
            return Ok(Next::SleepSoundly(TICK));
        };
        // Only this loop takes places, so those that are free now stay free.
        match timeout(TICK, self.places.acquire_many(room)).await {
            Ok(_) if !self.behind.load(Ordering::Acquire) => {}
            Ok(_) => return Ok(Next::SleepSoundly(CONTENDED)),
            Err(_) => return Ok(Next::Turn),
        }
        if self.shared.circuit().permit(Instant::now()) != permit {
            return Ok(Next::Turn);
        }
        if !*expect {
            match deliveries::next_due(&self.pool).await? {
                Some(Duration::ZERO) => {}
                Some(due) => return Ok(Next::Sleep(due)),
                None => return Ok(Next::Sleep(IDLE)),
            }
        }
        let limit = self.places.available_permits().min(most);
        let claims = deliveries::claim(&self.pool, self.shared.config.lease, limit).await?;
        let nothing = claims.is_empty();
        // A full claim means that there is more. After an empty one the question is when there will be: ask that first.
        let asked = !std::mem::replace(expect, claims.len() == limit);
        for claim in claims {
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                break;
            };
            sends.spawn(deliver(
                Arc::clone(&self.shared),
                claim,
                place,
                outcomes.clone(),
                shutdown.clone(),
            ));
        }
        Ok(if nothing && asked {
            Next::Sleep(CONTENDED)
        } else {
            Next::Turn
        })
    }
}

async fn after(event: &CancellationToken, pause: Duration) {
    event.cancelled().await;
    sleep(pause).await;
}

/// One claim, from the check that it is still ours to its outcome.
async fn deliver(
    shared: Arc<Shared>,
    claim: Claim,
    place: OwnedSemaphorePermit,
    outcomes: mpsc::Sender<Finished>,
    shutdown: CancellationToken,
) {
    let verdict = shared.verdict(&claim, &shutdown).await;
    // The recorder is gone only when it has failed, and then the process goes down.
    let _ = outcomes.send((Outcome { claim, verdict }, place)).await;
}

impl Shared {
    fn circuit(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn verdict(&self, claim: &Claim, shutdown: &CancellationToken) -> Verdict {
        let Some(recipient) = &claim.recipient else {
            return Verdict::Suppressed("there is no such user".to_owned());
        };
        match &claim.what {
            What::Reminder(_) if self.config.require_verified && !recipient.verified => {
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
            Ok(()) | Err(SendError::Permanent(_) | SendError::Transient { answered: true, .. }) => {
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
                | SendError::Permanent(reason),
            ) => {
                self.unavailable(&reason);
            }
        }
    }

    /// What the result means for the delivery.
    fn judge(&self, claim: &Claim, mail: Mail, result: Result<(), SendError>) -> Verdict {
        match result {
            Ok(()) => Verdict::Sent {
                message_id: mail.message_id,
                at: Instant::now(),
            },
            Err(SendError::Permanent(reason)) => Verdict::Failed(reason),
            Err(SendError::Unavailable(_)) => Verdict::GivenBack,
            Err(SendError::Transient {
                reason, ambiguous, ..
            }) => {
                if ambiguous {
                    metrics::AMBIGUOUS.inc();
                }
                let age = claim.age + claim.claimed.elapsed();
                match retry::delay(&self.config, claim.attempt, age, rand::random()) {
                    Some(after) => Verdict::Retry { after, reason },
                    None => Verdict::Failed(format!("not accepted until the deadline: {reason}")),
                }
            }
        }
    }
}
