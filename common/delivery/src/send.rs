//! The send loop: claims what is due, sends it outside of any transaction, hands the outcomes to the recorder.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use service::trace::{Kind, Span};
use service::{Component, failpoint};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::record::{Finished, Recorder};
use crate::{Channel, Claim, Leave, Outcome, Verdict};

/// When the loop counts as stuck, if sending one may take that long. It makes a turn every few seconds, but one turn may
/// wait as long as a database statement may take, or a probe that waits for its turn on a server that hangs.
#[must_use]
pub fn stale_after(send_budget: Duration) -> Duration {
    Duration::from_mins(6) + 2 * send_budget
}

/// The longest sleep. Deliveries that this process armed wake it; those that another one left behind are found so.
const IDLE: Duration = Duration::from_secs(5);
/// The pause after finding something due that another process has locked.
const CONTENDED: Duration = Duration::from_millis(50);
/// How soon things are looked at again that nobody tells about.
const TICK: Duration = Duration::from_secs(1);
/// The pause while Postgres is away; the service's probe says so to operators.
const POSTGRES_AWAY: Duration = Duration::from_secs(1);
/// What is left of the shutdown budget when sends are cut off, and when recording is: time to end in order.
const LEFT_FOR_RECORDING: Duration = Duration::from_secs(5);
const LEFT_AT_END: Duration = Duration::from_secs(1);

/// Sends what is due in a channel.
#[derive(Debug)]
pub struct SendLoop {
    /// Notified when deliveries were written.
    pub wake: Arc<Notify>,
    /// The most claims under way, until they are recorded.
    pub capacity: usize,
    /// How many places must be free before more is claimed, so that claims are not taken one by one.
    pub batch: usize,
    /// How long a claim is ours.
    pub lease: Duration,
    /// How long the process may take to stop.
    pub shutdown_budget: Duration,
    /// Shows that the loop turns.
    pub component: Component,
}

/// The loop at work.
struct Running<M> {
    settings: SendLoop,
    channel: Arc<Channel<M>>,
    /// Places for claims that are under way, until they are recorded.
    places: Arc<Semaphore>,
    behind: Arc<AtomicBool>,
}

/// What the loop does after a turn.
enum Next {
    Turn,
    Sleep(Duration),
    /// Nothing that the handler arms would change it.
    SleepSoundly(Duration),
}

impl SendLoop {
    /// Runs until `shutdown`, and then until what is under way has ended and is recorded.
    ///
    /// # Errors
    /// What waiting does not mend: see `db::classify`.
    pub async fn run<M: Send + Sync + 'static>(
        self,
        channel: Channel<M>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let (outcomes, finished) = mpsc::channel(self.capacity);
        let hard_stop = CancellationToken::new();
        let budget = self.shutdown_budget;
        let running = Running {
            channel: Arc::new(channel),
            places: Arc::new(Semaphore::new(self.capacity)),
            behind: Arc::default(),
            settings: self,
        };
        let recorder = Recorder {
            channel: Arc::clone(&running.channel),
            lease: running.settings.lease,
            behind: Arc::clone(&running.behind),
            hard_stop: hard_stop.clone(),
        };
        let send = async {
            let result = running.send(outcomes, &shutdown).await;
            if result.is_err() {
                hard_stop.cancel();
            }
            result
        };
        let send_and_record = async { tokio::join!(send, recorder.run(finished)) };
        let stop = async {
            after(&shutdown, budget.saturating_sub(LEFT_AT_END)).await;
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
}

impl<M: Send + Sync + 'static> Running<M> {
    async fn send(
        &self,
        outcomes: mpsc::Sender<Finished<M>>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        let mut sends = JoinSet::new();
        // Whether to claim without asking first whether anything is due.
        let mut expect = true;
        while !shutdown.is_cancelled() && !outcomes.is_closed() {
            // Armed before the database is asked: what is written after the answer wakes us.
            let mut woken = std::pin::pin!(self.settings.wake.notified());
            woken.as_mut().enable();
            self.settings.component.progress();
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
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = outcomes.closed() => {}
                () = woken, if light => expect = true,
                () = sleep(pause.min(IDLE)) => {}
            }
        }
        // What has begun may end. What has not is given back, see `deliver`.
        let left = self.settings.shutdown_budget.saturating_sub(LEFT_FOR_RECORDING);
        tokio::select! {
            () = async { while sends.join_next().await.is_some() {} } => {}
            () = after(shutdown, left) => {
                tracing::warn!(sends = sends.len(), "stopping in the middle of sends; they are tried again after their lease");
            }
            () = outcomes.closed() => {}
        }
        // Sends do no database work, so they can be cut off.
        sends.shutdown().await;
        Ok(())
    }

    async fn turn(
        &self,
        expect: &mut bool,
        sends: &mut JoinSet<()>,
        outcomes: &mpsc::Sender<Finished<M>>,
        shutdown: &CancellationToken,
    ) -> Result<Next, sqlx::Error> {
        let capacity = self.settings.capacity;
        let Some(leave) = shutdown.run_until_cancelled((self.channel.leave)(())).await else {
            return Ok(Next::Turn);
        };
        let (room, most) = match leave {
            Leave::Wait(pause) => return Ok(Next::SleepSoundly(pause)),
            Leave::Again => return Ok(Next::Turn),
            Leave::One => (capacity, 1),
            Leave::All => (self.settings.batch, capacity),
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
        // Waiting for places took its time.
        if shutdown.run_until_cancelled((self.channel.leave)(())).await != Some(leave) {
            return Ok(Next::Turn);
        }
        if !*expect {
            match (self.channel.next_due)(()).await? {
                Some(Duration::ZERO) => {}
                Some(due) => return Ok(Next::Sleep(due)),
                None => return Ok(Next::Sleep(IDLE)),
            }
        }
        let limit = self.places.available_permits().min(most);
        let claims = (self.channel.claim)(limit).await?;
        if !claims.is_empty() {
            failpoint!("send: claimed");
        }
        let nothing = claims.is_empty();
        // A full claim means that there is more. After an empty one the question is when there will be: ask that first.
        let asked = !std::mem::replace(expect, claims.len() == limit);
        for claim in claims {
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                break;
            };
            let channel = Arc::clone(&self.channel);
            sends.spawn(deliver(channel, claim, place, outcomes.clone()));
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
async fn deliver<M>(
    channel: Arc<Channel<M>>,
    claim: Claim<M>,
    place: OwnedSemaphorePermit,
    outcomes: mpsc::Sender<Finished<M>>,
) {
    let (claim, verdict) = traced(&channel, claim).await;
    failpoint!("send: sent");
    // The recorder is gone only when it has failed, and then the process goes down.
    let _ = outcomes.send((Outcome { claim, verdict }, place)).await;
}

/// Sends a claim, as part of the trace of what caused it.
async fn traced<M>(channel: &Channel<M>, mut claim: Claim<M>) -> (Claim<M>, Verdict) {
    let mut span = Span::following(format_args!("send {}", channel.name), Kind::Client, &claim.traces);
    if let Some(span) = &mut span {
        span.set("delivery.id", claim.id.to_string());
        span.set("delivery.attempt", i64::from(claim.attempt));
        claim.traces = vec![span.trace()];
    }
    let sending = (channel.send)(claim);
    let (claim, verdict) = match &span {
        Some(span) => span.trace().scope(sending).await,
        None => sending.await,
    };
    if let Some(span) = &mut span {
        match verdict.status() {
            None => span.fail("given_back"),
            Some(status) => {
                if let Some(task_id) = (channel.about)(&claim.message, status).task_id {
                    span.set("task.id", task_id.to_string());
                }
                // Why is for the log: what a server says may name somebody.
                if !matches!(verdict, Verdict::Sent { .. }) {
                    span.fail(status);
                }
            }
        }
    }
    (claim, verdict)
}
