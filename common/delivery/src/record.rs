//! Outcomes go to the database here, as many in one transaction as have come while the last one was committing. When
//! Postgres is away they wait: a message that was accepted and not written down would be sent again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use service::{Backoff, failpoint};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{About, Channel, Outcome, Outcomes, RecordError, Recorded, Verdict, metrics};

/// The most outcomes of one transaction.
const BATCH: usize = 100;
/// Pauses while Postgres is away.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// An outcome, and the place it holds among those under way.
pub type Finished<M> = (Outcome<M>, OwnedSemaphorePermit);

/// Writes outcomes until there will be no more of them, or until `hard_stop` while Postgres is away.
pub struct Recorder<M> {
    pub channel: Arc<Channel<M>>,
    pub lease: Duration,
    /// Set while outcomes cannot be written. Nothing may be claimed then: leases end meanwhile, and what was sent would
    /// look as if it had not been.
    pub behind: Arc<AtomicBool>,
    pub hard_stop: CancellationToken,
}

impl<M> Recorder<M> {
    /// See [`Recorder`].
    pub async fn run(self, mut finished: mpsc::Receiver<Finished<M>>) -> Result<(), RecordError> {
        let mut batch: Vec<Finished<M>> = Vec::with_capacity(BATCH);
        while finished.recv_many(&mut batch, BATCH).await > 0 {
            let (outcomes, places): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
            let outcomes: Outcomes<M> = outcomes.into();
            failpoint!("record: received");
            let Some(recorded) = self.record(&outcomes).await? else {
                return Ok(());
            };
            failpoint!("record: recorded");
            self.behind.store(false, Ordering::Release);
            for Recorded { index, took } in recorded {
                if let Some(outcome) = outcomes.get(index) {
                    match outcome.claim.trace() {
                        Some(trace) => trace.within(|| self.tell(outcome, took)),
                        None => self.tell(outcome, took),
                    }
                }
            }
            drop(places);
        }
        Ok(())
    }

    /// Tries until it is done; `None` when it had to be given up.
    async fn record(&self, outcomes: &Outcomes<M>) -> Result<Option<Vec<Recorded>>, RecordError> {
        let mut pauses = Backoff::new(PAUSES.0, PAUSES.1);
        // How many of the batch are counted as unrecorded; their leases end in the order of their claims.
        let mut counted = 0;
        loop {
            let error = match (self.channel.record)(Arc::clone(outcomes)).await {
                Ok(recorded) => return Ok(Some(recorded)),
                Err(RecordError::Database(error)) if db::classify(&error).is_retryable() => error,
                Err(error) => return Err(error),
            };
            if !self.behind.swap(true, Ordering::AcqRel) {
                tracing::warn!(%error, outcomes = outcomes.len(), "outcomes cannot be recorded; they wait for Postgres");
            }
            let given_up = self
                .hard_stop
                .run_until_cancelled(tokio::time::sleep(pauses.next_delay()))
                .await
                .is_none();
            let late = outcomes
                .iter()
                .filter(|o| matches!(o.verdict, Verdict::Sent { .. }))
                .filter(|o| given_up || o.claim.claimed.elapsed() > self.lease)
                .count();
            metrics::UNRECORDED.inc_by(late.saturating_sub(counted) as u64);
            counted = counted.max(late);
            if given_up {
                tracing::error!(
                    sent = late,
                    "stopping with outcomes that are not recorded; these messages may go out again"
                );
                return Ok(None);
            }
        }
    }

    /// Metrics and logs of what is written down.
    fn tell(&self, Outcome { claim, verdict }: &Outcome<M>, took: Option<Duration>) {
        let Some(status) = verdict.status() else {
            return;
        };
        let About {
            what,
            task_id,
            counter,
        } = (self.channel.about)(&claim.message, status);
        let task = task_id.map(tracing::field::display);
        match verdict {
            Verdict::Sent { .. } => {
                if let Some(took) = took {
                    metrics::DURATION
                        .with_label_values(&[self.channel.name])
                        .observe(took.as_secs_f64());
                }
                tracing::debug!(delivery.id = %claim.id, what, task.id = task, attempt = claim.attempt, "sent");
            }
            Verdict::Failed(reason) => {
                tracing::warn!(delivery.id = %claim.id, what, task.id = task, attempt = claim.attempt, reason, "gave up");
            }
            Verdict::Suppressed(reason) => {
                tracing::info!(delivery.id = %claim.id, what, task.id = task, reason, "not sent");
            }
            Verdict::Retry { after, reason } => {
                tracing::info!(
                    delivery.id = %claim.id,
                    what, task.id = task,
                    attempt = claim.attempt,
                    retry_after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
                    reason,
                    "an attempt failed"
                );
            }
            Verdict::GivenBack | Verdict::PutOff { .. } => {}
        }
        counter.inc();
    }
}
