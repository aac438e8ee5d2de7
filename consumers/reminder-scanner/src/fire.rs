//! Fires what is due: sleeps until the next reminder, marks it as fired and writes its event, in one transaction.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use schemas::{Actor, Encoded, Event, Head, Reminder, ReminderEvent, ReminderEventKind};
use service::{Backoff, Component};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::alarm::Alarm;
use crate::metrics;
use crate::reminders::{self, Fired};

/// The longest sleep. The database's clock may be set while we sleep, and what a replica armed that then died is known
/// to nobody else until they look.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// How long to leave what is due to the replicas that have it locked: if one of them fails, it is ours.
const BESIDE_OTHERS: Duration = Duration::from_millis(50);

/// The firing loop. Any number of replicas may run it.
pub(crate) struct Firing {
    pool: PgPool,
    alarm: Arc<Alarm>,
    batch: i64,
    component: Component,
}

impl Firing {
    pub(crate) fn new(pool: PgPool, alarm: Arc<Alarm>, batch: i64, component: Component) -> Self {
        Self {
            pool,
            alarm,
            batch,
            component,
        }
    }

    pub(crate) async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        let mut failures = 0_u32;
        while !shutdown.is_cancelled() {
            self.component.progress();
            let mut armed = pin!(self.alarm.rearm());
            // Before the query: what is armed after it must wake us.
            armed.as_mut().enable();
            let sleep = match self.fire().await {
                Ok(sleep) => {
                    self.component.ready();
                    failures = 0;
                    backoff.reset();
                    sleep
                }
                Err(error) if db::classify(&error).is_retryable() => {
                    self.component.not_ready("Postgres is away");
                    if failures.is_multiple_of(60) {
                        tracing::warn!(failures, error = %error, "cannot fire reminders; trying again");
                    }
                    failures += 1;
                    backoff.next_delay()
                }
                Err(error) => return Err(error.into()),
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = armed => {}
                () = tokio::time::sleep(sleep) => {}
            }
        }
        Ok(())
    }

    /// Fires one batch. Returns how long there is nothing to do.
    async fn fire(&self) -> Result<Duration, sqlx::Error> {
        match reminders::next_due(&self.pool).await? {
            None => return Ok(LONGEST_SLEEP),
            Some((fire_at, seconds)) if seconds > 0.0 => {
                self.alarm.set(Some(fire_at));
                // A microsecond more, so that rounding does not wake us just before it.
                let sleep =
                    Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST_SLEEP) + Duration::from_micros(1);
                return Ok(sleep.min(LONGEST_SLEEP));
            }
            Some(_) => {}
        }
        let mut tx = self.pool.begin().await?;
        let fired = reminders::fire_due(&mut tx, self.batch).await?;
        let events = fired.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
        db::outbox::insert(&mut tx, &events).await?;
        tx.commit().await?;
        metrics::FIRED.inc_by(fired.len() as u64);
        for reminder in &fired {
            metrics::FIRING_LAG_SECONDS.observe((reminder.fired_at - reminder.fire_at).as_seconds_f64());
        }
        Ok(if fired.is_empty() {
            BESIDE_OTHERS
        } else {
            Duration::ZERO
        })
    }
}

/// The event of a reminder that is marked as fired. It cannot fail: the same task went into its ReminderScheduled. If it
/// did, nothing may be committed, and somebody must look.
fn encode(fired: &Fired) -> Result<Encoded, sqlx::Error> {
    let head = Head::new(fired.user_id, Actor::System, fired.fired_at);
    let reminder = Reminder {
        id: fired.id,
        fire_at: fired.fire_at,
        ring: 0,
        fired_at: Some(fired.fired_at),
        snoozed_until: None,
        reason: None,
    };
    let event = ReminderEvent::new(ReminderEventKind::Fired, head, reminder, fired.task.clone());
    Event::from(event)
        .encode("reminder-scanner")
        .map_err(|error| sqlx::Error::Encode(error.into()))
}
