//! Outcomes go to the database here, as many in one transaction as have come while the last one was committing. When
//! Postgres is away they wait: a mail that was accepted and not written down would be sent again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use service::Backoff;
use sqlx::PgPool;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

use crate::deliveries::{self, CHANNEL, Outcome, RecordError, Recorded, Verdict, What};
use crate::metrics;

/// The most outcomes of one transaction.
const BATCH: usize = 100;
/// Pauses while Postgres is away.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// An outcome, and the place it holds among those under way.
pub type Finished = (Outcome, OwnedSemaphorePermit);

/// Writes outcomes until there will be no more of them, or until `hard_stop` while Postgres is away.
#[derive(Debug)]
pub struct Recorder {
    pub pool: PgPool,
    pub lease: Duration,
    /// Set while outcomes cannot be written. Nothing may be claimed then: leases end meanwhile, and what was sent would
    /// look as if it had not been.
    pub behind: Arc<AtomicBool>,
    pub hard_stop: CancellationToken,
}

impl Recorder {
    /// See [`Recorder`].
    pub async fn run(self, mut finished: mpsc::Receiver<Finished>) -> Result<(), RecordError> {
        let mut batch: Vec<Finished> = Vec::with_capacity(BATCH);
        while finished.recv_many(&mut batch, BATCH).await > 0 {
            let (outcomes, places): (Vec<Outcome>, Vec<OwnedSemaphorePermit>) = batch.drain(..).unzip();
            let Some(recorded) = self.record(&outcomes).await? else {
                return Ok(());
            };
            self.behind.store(false, Ordering::Release);
            tell(&outcomes, &recorded);
            drop(places);
        }
        Ok(())
    }

    /// Tries until it is done; `None` when it had to be given up.
    async fn record(&self, outcomes: &[Outcome]) -> Result<Option<Vec<Recorded>>, RecordError> {
        let mut pauses = Backoff::new(PAUSES.0, PAUSES.1);
        // How many of the batch are counted as unrecorded; their leases end in the order of their claims.
        let mut counted = 0;
        loop {
            let error = match deliveries::record(&self.pool, outcomes).await {
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
                    "stopping with outcomes that are not recorded; these mails may go out again"
                );
                return Ok(None);
            }
        }
    }
}

/// Metrics and logs of what is written down.
fn tell(outcomes: &[Outcome], recorded: &[Recorded]) {
    for Recorded { index, took } in recorded {
        let Some(Outcome { claim, verdict }) = outcomes.get(*index) else {
            continue;
        };
        let (what, task) = match &claim.what {
            What::Reminder(rung) => ("reminder", Some(rung.task_id)),
            What::Account(mail) => (mail.purpose.name(), None),
        };
        let task = task.map(tracing::field::display);
        let status = match verdict {
            Verdict::Sent { .. } => {
                if let Some(took) = took {
                    metrics::DURATION
                        .with_label_values(&[CHANNEL])
                        .observe(took.as_secs_f64());
                }
                tracing::debug!(delivery.id = %claim.id, what, task.id = task, attempt = claim.attempt, "sent");
                "sent"
            }
            Verdict::Failed(reason) => {
                tracing::warn!(delivery.id = %claim.id, what, task.id = task, attempt = claim.attempt, reason, "gave up");
                "failed"
            }
            Verdict::Suppressed(reason) => {
                tracing::info!(delivery.id = %claim.id, what, task.id = task, reason, "not sent");
                "suppressed"
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
                "retried"
            }
            Verdict::GivenBack => continue,
        };
        match claim.what {
            What::Reminder(_) => metrics::NOTIFICATIONS.with_label_values(&[CHANNEL, status]).inc(),
            What::Account(_) => metrics::ACCOUNT_MAILS.with_label_values(&[what, status]).inc(),
        }
    }
}
