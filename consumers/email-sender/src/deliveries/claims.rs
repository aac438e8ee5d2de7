//! What is claimed next, of all the tables.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use delivery::since;
use sqlx::PgPool;
use sqlx::postgres::PgRow;
use tokio::sync::Notify;
use uuid::Uuid;

use super::aside::{self, Aside, Place};
use super::{CHANNEL, Claim, Purpose, account_mails, digests, reminders};

/// Where claims come from.
pub struct Claims {
    pool: PgPool,
    lease: Duration,
    aside: Aside,
    /// Told when a claim found as much as it might take: there may be a crowd.
    full: Notify,
    /// Whose mails are being set aside.
    crowd: Mutex<Vec<Uuid>>,
}

impl Claims {
    /// At most `aside` of those that are set aside are under way; `wake` is told when there is room for more.
    pub fn new(pool: PgPool, lease: Duration, aside: usize, wake: Arc<Notify>) -> Self {
        Self {
            pool,
            lease,
            aside: Aside::new(aside, wake),
            full: Notify::new(),
            crowd: Mutex::default(),
        }
    }

    /// Sets what crowds have aside, bite by bite beside the claims, for ever.
    pub async fn set_crowds_aside(&self) -> Result<(), sqlx::Error> {
        loop {
            let (began, known) = (Instant::now(), self.crowd().clone());
            let crowd = match aside::set_crowds_aside(&self.pool, &known).await {
                Err(error) if !db::classify(&error).is_retryable() => return Err(error),
                // The next full claim has it looked for again.
                found => found.unwrap_or_default(),
            };
            let done = crowd.is_empty();
            *self.crowd() = crowd;
            if done {
                self.full.notified().await;
            } else {
                // Half of the time is for the others' mails.
                tokio::time::sleep(began.elapsed()).await;
            }
        }
    }

    fn crowd(&self) -> MutexGuard<'_, Vec<Uuid>> {
        self.crowd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims what is due, at most `limit`, longest due first, mails about accounts before the others: somebody sits there and
    /// waits. Whom a mail goes to is read along with it, so that it is fresh at every attempt.
    pub async fn claim(&self, limit: usize) -> Result<Vec<Claim>, sqlx::Error> {
        let mut claims = account_mails::claim(&self.pool, self.lease, limit).await?;
        if claims.len() < limit {
            claims.extend(digests::claim(&self.pool, self.lease, limit - claims.len()).await?);
        }
        if claims.len() < limit {
            claims.extend(self.claim_reminders(limit - claims.len()).await?);
        }
        if claims.len() < limit {
            claims.extend(self.claim_aside(limit - claims.len()).await?);
        }
        Ok(claims)
    }

    /// Reminders that are not set aside, nor about to be.
    async fn claim_reminders(&self, limit: usize) -> Result<Vec<Claim>, sqlx::Error> {
        let (claimed, crowd) = (Instant::now(), self.crowd().clone());
        let rows = if crowd.is_empty() {
            reminders::claim(&self.pool, self.lease, limit).await?
        } else {
            aside::claim_of_others(&self.pool, self.lease, limit, &crowd).await?
        };
        if rows.len() >= limit {
            self.full.notify_one();
        }
        reminders::rung(&self.pool, &rows, claimed).await
    }

    async fn claim_aside(&self, limit: usize) -> Result<Vec<Claim>, sqlx::Error> {
        let claimed = Instant::now();
        let (rows, places): (Vec<PgRow>, Vec<Place>) = self
            .aside
            .claim(&self.pool, self.lease, limit)
            .await?
            .into_iter()
            .unzip();
        let mut claims = reminders::rung(&self.pool, &rows, claimed).await?;
        for (claim, place) in claims.iter_mut().zip(places) {
            claim.message.place = Some(Arc::new(place));
        }
        Ok(claims)
    }

    /// How long until something is due: zero when something is, `None` when nothing is pending.
    pub async fn next_due(&self) -> Result<Option<Duration>, sqlx::Error> {
        let seconds: Option<f64> = sqlx::query_scalar(
            "select case when $3 and exists (select from delivery.deliveries where channel = $1 and state = 'aside') then 0.0
                    else extract(epoch from least(
             (select min(next_attempt_at) from delivery.deliveries where channel = $1 and state = 'pending'),
             (select min(next_attempt_at) from delivery.digests where channel = $1 and state = 'pending'),
             (select min(next_attempt_at) from delivery.account_mails where state = 'pending' and kind = any($2))
         ) - now())::float8 end",
        )
        .bind(CHANNEL)
        .bind(Purpose::names())
        .bind(self.aside.has_room())
        .fetch_one(&self.pool)
        .await?;
        Ok(seconds.map(since))
    }
}
