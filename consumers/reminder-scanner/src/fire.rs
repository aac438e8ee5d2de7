//! Fires what is due: sleeps until the next reminder, marks it as fired or missed and writes its event, in one transaction.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use db::Patience;
use schemas::{Actor, Encoded, Event, Head, Reminder, ReminderEvent, ReminderEventKind};
use service::trace::{Kind, Span, Trace};
use service::{Backoff, Component, failpoint};
use sqlx::{PgPool, Postgres, Transaction};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::alarm::Alarm;
use crate::metrics;
use crate::queue::Queue;
use crate::reminders::{self, Marked, Place, Rung};

/// The longest sleep. The database's clock may be set while we sleep, and what a replica armed that then died is known
/// to nobody else until they look.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// How long to leave what is due to the replicas that have it locked: if one of them fails, it is ours.
const BESIDE_OTHERS: Duration = Duration::from_millis(50);

/// The firing loop. Any number of replicas may run it.
pub(crate) struct Firing {
    pool: PgPool,
    alarm: Arc<Alarm>,
    batch: usize,
    component: Component,
}

impl Firing {
    pub(crate) fn new(pool: PgPool, alarm: Arc<Alarm>, batch: usize, component: Component) -> Self {
        Self {
            pool,
            alarm,
            batch,
            component,
        }
    }

    pub(crate) async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        let mut patience = Patience::new("fire reminders", self.component.clone(), backoff);
        while !shutdown.is_cancelled() {
            self.component.progress();
            let mut armed = pin!(self.alarm.rearm());
            // Before the query: what is armed after it must wake us.
            armed.as_mut().enable();
            let sleep = patience.after(self.fire(&shutdown).await)?;
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = armed => {}
                () = tokio::time::sleep(sleep) => {}
            }
        }
        Ok(())
    }

    /// Fires what is due. Returns how long there is nothing to do.
    async fn fire(&self, shutdown: &CancellationToken) -> Result<Duration, sqlx::Error> {
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
        let mut queue = Queue::new(self.batch);
        let first = Batch::claim(&self.pool, queue.next()).await?;
        if first.marked.is_empty() {
            return Ok(BESIDE_OTHERS);
        }
        // Three batches are under way: one is claimed, the events of the one before are encoded, and those of the one before
        // that are written and committed. Events still go into the outbox batch by batch, so what rings first is published
        // first. When one fails, those after it are undone as they are dropped.
        let (encoding, encoded) = mpsc::channel(1);
        let (claimed, committed) = tokio::join!(
            self.claim(&mut queue, first, encoding, shutdown),
            self.commit(encoded)
        );
        committed?;
        claimed?;
        Ok(Duration::ZERO)
    }

    /// Claims batch after batch while there are more and what is claimed can be committed.
    async fn claim(
        &self,
        queue: &mut Queue,
        first: Batch,
        encoding: mpsc::Sender<(Encoding, oneshot::Sender<()>)>,
        shutdown: &CancellationToken,
    ) -> Result<(), sqlx::Error> {
        let mut batch = first;
        loop {
            let more = queue.went(&batch.places()) && !shutdown.is_cancelled();
            let (told, committed) = oneshot::channel();
            if encoding.send((batch.encode(), told)).await.is_err() || !more {
                return Ok(());
            }
            // What others have then waits for one bite of a crowd, and not for a line of them.
            if queue.bit() && committed.await.is_err() {
                return Ok(());
            }
            batch = Batch::claim(&self.pool, queue.next()).await?;
        }
    }

    /// Commits one after the other what is claimed, and tells whoever waits for it.
    async fn commit(
        &self,
        mut encoded: mpsc::Receiver<(Encoding, oneshot::Sender<()>)>,
    ) -> Result<(), sqlx::Error> {
        while let Some((encoding, committed)) = encoded.recv().await {
            self.component.progress();
            let rung = encoding.commit().await?;
            // Most do not wait.
            let _ = committed.send(());
            tell(&rung);
        }
        Ok(())
    }
}

/// Rings up to `limit` reminders that are due, in one transaction: the marks, and an event for each. Returns them in their
/// order; they are committed. The only clock is the `now()` of the database.
///
/// # Errors
/// When the database does not answer or refuses; then nothing is done.
pub async fn fire(pool: &PgPool, limit: usize) -> Result<Vec<Rung>, sqlx::Error> {
    Batch::claim(pool, (None, limit)).await?.encode().commit().await
}

/// Reminders that are marked, in a transaction that is open.
struct Batch {
    tx: Transaction<'static, Postgres>,
    marked: Vec<Marked>,
}

impl Batch {
    /// From a place on, at most so many.
    async fn claim(pool: &PgPool, (from, limit): (Option<Place>, usize)) -> Result<Self, sqlx::Error> {
        let mut tx = pool.begin().await?;
        let marked = reminders::ring_due(&mut tx, limit, from).await?;
        if !marked.is_empty() {
            failpoint!("fire: marked");
        }
        Ok(Self { tx, marked })
    }

    fn places(&self) -> Vec<Place> {
        self.marked.iter().map(|one| one.place).collect()
    }

    /// Begins with their events, on another thread.
    fn encode(self) -> Encoding {
        let Self { tx, marked } = self;
        let work = spawn_blocking(move || {
            let mut rung = marked.iter().map(Marked::read).collect::<Result<Vec<_>, _>>()?;
            let spans = spans(&mut rung);
            let events = rung.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
            Ok((rung, events, spans))
        });
        Encoding { tx, work }
    }
}

/// Reminders that are marked, in a transaction that is open, whose events are being made.
struct Encoding {
    tx: Transaction<'static, Postgres>,
    work: JoinHandle<Result<Made, sqlx::Error>>,
}

/// What rang, its events, and its spans, which end when it is committed.
type Made = (Vec<Rung>, Vec<Encoded>, Vec<Span>);

impl Encoding {
    async fn commit(self) -> Result<Vec<Rung>, sqlx::Error> {
        let made = self.work.await;
        let (rung, events, mut spans) =
            made.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        let done = write(self.tx, &events).await;
        if done.is_err() {
            spans.iter_mut().for_each(|span| span.fail("rolled_back"));
        }
        done.map(|()| rung)
    }
}

async fn write(mut tx: Transaction<'static, Postgres>, events: &[Encoded]) -> Result<(), sqlx::Error> {
    db::outbox::insert(&mut tx, events).await?;
    failpoint!("fire: written");
    tx.commit().await?;
    failpoint!("fire: committed");
    Ok(())
}

/// Metrics and logs of what is committed.
fn tell(rung: &[Rung]) {
    for one in rung {
        let say = || {
            tracing::debug!(
                reminder.id = %one.id,
                reminder.ring = one.ring,
                reminder.missed = one.missed,
                task.id = %one.task.id,
                "rang"
            );
        };
        match one.trace {
            Some(trace) => trace.within(say),
            None => say(),
        }
        if one.missed {
            metrics::MISSED.inc();
        } else {
            metrics::FIRED.inc();
            metrics::FIRING_LAG_SECONDS.observe((one.at - one.place.fire_at).as_seconds_f64());
        }
    }
}

/// The spans of what rings together, and moves it there: one of each ring, in the trace of the change that armed it, and one
/// over them that is linked to their traces.
fn spans(rung: &mut [Rung]) -> Vec<Span> {
    let armed: Vec<Trace> = rung.iter().filter_map(|one| one.trace).collect();
    let whole = Span::over("fire reminders", Kind::Internal, &armed);
    let mut spans: Vec<Span> = rung
        .iter_mut()
        .filter_map(|one| {
            let mut span = Span::following("fire reminder", Kind::Internal, &[one.trace?])?;
            span.set("reminder.id", one.id.to_string());
            span.set("reminder.ring", i64::from(one.ring));
            span.set("reminder.missed", one.missed);
            span.set("task.id", one.task.id.to_string());
            if let Some(whole) = &whole {
                span.link(whole.trace());
            }
            one.trace = Some(span.trace());
            Some(span)
        })
        .collect();
    // Dropped in this order: the one over them ends last.
    spans.extend(whole);
    spans
}

/// The event of a reminder that is marked. It cannot fail: the same task went into its ReminderScheduled. If it did,
/// nothing may be committed, and somebody must look.
fn encode(rung: &Rung) -> Result<Encoded, sqlx::Error> {
    let kind = if rung.missed {
        ReminderEventKind::Cancelled
    } else {
        ReminderEventKind::Fired
    };
    let reminder = Reminder {
        id: rung.id,
        fire_at: rung.place.fire_at,
        ring: rung.ring,
        fired_at: (!rung.missed).then_some(rung.at),
        snoozed_until: None,
        reason: rung.missed.then(|| "missed".to_owned()),
    };
    let head = Head::new(rung.place.user_id, Actor::System, rung.at);
    let mut event = Event::from(ReminderEvent::new(kind, head, reminder, rung.task.clone()))
        .encode("reminder-scanner")
        .map_err(|error| sqlx::Error::Encode(error.into()))?;
    event.headers.extend(rung.trace.map(|trace| trace.header()));
    Ok(event)
}
