//! What comes without a completion: the instances of series that pile up are made a horizon ahead, and the open instance of
//! a series that rolls forward moves to the occurrence that has fallen due. By the database's clock, in the order in which
//! their turn comes; whoever does it, and however often, the rows are the same.

use std::collections::HashSet;
use std::time::Duration;

use chrono::TimeDelta;
use db::series::{self, Claimed, Overlap, Progress, Series, Unusable};
use db::{Patience, tasks};
use schemas::{EncodeError, Encoded, Task, Timestamp};
use service::{Backoff, Component};
use sqlx::{PgConnection, PgPool};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::event;
use crate::metrics;
use crate::next;

/// Most series of one transaction.
const SERIES: i64 = 200;

/// Most instances of one transaction.
const INSTANCES: usize = 2000;

/// How many attend at a time when everything is to be done at once.
const WORKERS: usize = 4;

/// The longest sleep. What is changed meanwhile is nobody's to tell us, and the database's clock may be set.
const LONGEST_SLEEP: Duration = Duration::from_secs(2);

/// How long to leave what is due to the replicas that have it locked: if one of them fails, it is ours.
const BESIDE_OTHERS: Duration = Duration::from_millis(50);

/// What one look at the series brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attended {
    /// Series whose turn it was.
    pub series: usize,
    /// Instances that were made.
    pub made: usize,
    /// Instances that moved.
    pub rolled: usize,
}

impl Attended {
    fn add(&mut self, other: Self) {
        self.series += other.series;
        self.made += other.made;
        self.rolled += other.rolled;
    }
}

/// Looks at a batch of the series whose turn it is, in transactions of its own: makes the instances of those that pile up
/// as far as `horizon` from now, and moves those that roll forward. Nothing was due, but for what others are at, when it
/// attended to none.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn attend(pool: &PgPool, horizon: TimeDelta) -> Result<Attended, sqlx::Error> {
    let mut tx = pool.begin().await?;
    let mut attended = make_ahead(&mut tx, horizon).await?;
    tx.commit().await?;
    metrics::INSTANCES.inc_by(attended.made as u64);
    // One in a transaction: tasks of several series could not be locked in the order of their ids.
    for _ in 0..SERIES {
        let mut tx = pool.begin().await?;
        let Some(rolled) = roll_one(&mut tx).await? else {
            break;
        };
        tx.commit().await?;
        attended.series += 1;
        attended.rolled += usize::from(rolled);
        metrics::ROLLED.inc_by(u64::from(rolled));
    }
    Ok(attended)
}

/// Attends to all series whose turn it is, once: done when nothing is left. Several at a time, as Postgres has several cores.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn attend_all(
    pool: &PgPool,
    horizon: TimeDelta,
    shutdown: &CancellationToken,
) -> Result<Attended, sqlx::Error> {
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| tokio::spawn(attend_until_none(pool.clone(), horizon, shutdown.clone())))
        .collect();
    let mut all = Attended::default();
    // Each is waited for, whatever became of those before it: none is left behind in the middle of a transaction.
    let mut outcome = Ok(());
    for worker in workers {
        match worker.await {
            Ok(Ok(attended)) => all.add(attended),
            Ok(Err(error)) => outcome = Err(error),
            Err(_) => outcome = Err(sqlx::Error::WorkerCrashed),
        }
    }
    outcome.map(|()| all)
}

async fn attend_until_none(
    pool: PgPool,
    horizon: TimeDelta,
    shutdown: CancellationToken,
) -> Result<Attended, sqlx::Error> {
    let mut all = Attended::default();
    while !shutdown.is_cancelled() {
        let attended = attend(&pool, horizon).await?;
        all.add(attended);
        if attended.series == 0 {
            if next_turn(&pool, horizon)
                .await?
                .is_none_or(|seconds| seconds > 0.0)
            {
                break;
            }
            tokio::time::sleep(BESIDE_OTHERS).await;
        }
    }
    Ok(all)
}

/// In how many seconds it is the next series' turn.
async fn next_turn(pool: &PgPool, horizon: TimeDelta) -> Result<Option<f64>, sqlx::Error> {
    let mut db = pool.acquire().await?;
    let pile_up = series::next_claim(&mut db, Overlap::PileUp, horizon).await?;
    let roll_forward = series::next_claim(&mut db, Overlap::RollForward, TimeDelta::zero()).await?;
    Ok(match (pile_up, roll_forward) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    })
}

/// The loop of the running service. Any number of replicas may run it.
pub(crate) struct Ahead {
    pub(crate) pool: PgPool,
    pub(crate) horizon: TimeDelta,
    pub(crate) component: Component,
}

impl Ahead {
    pub(crate) async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        let mut patience = Patience::new("make instances ahead", self.component.clone(), backoff);
        while !shutdown.is_cancelled() {
            self.component.progress();
            let sleep = patience.after(self.step().await)?;
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(sleep) => {}
            }
        }
        Ok(())
    }

    /// Attends to a batch if there is one. Returns how long there is nothing to do.
    async fn step(&self) -> Result<Duration, sqlx::Error> {
        match next_turn(&self.pool, self.horizon).await? {
            None => return Ok(LONGEST_SLEEP),
            Some(seconds) if seconds > 0.0 => {
                let sleep = Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST_SLEEP);
                // A microsecond more, so that rounding does not wake us just before it.
                return Ok((sleep + Duration::from_micros(1)).min(LONGEST_SLEEP));
            }
            Some(_) => {}
        }
        let attended = attend(&self.pool, self.horizon).await?;
        Ok(if attended.series == 0 {
            BESIDE_OTHERS
        } else {
            Duration::ZERO
        })
    }
}

/// Why a series is left alone until somebody changes it.
#[derive(Debug, thiserror::Error)]
enum Flaw {
    #[error(transparent)]
    Unusable(#[from] Unusable),
    #[error("its instance makes no event: {0}")]
    NoEvent(#[from] EncodeError),
}

/// Makes the instances of a batch of series that pile up.
async fn make_ahead(tx: &mut PgConnection, horizon: TimeDelta) -> Result<Attended, sqlx::Error> {
    let claimed = series::claim(tx, Overlap::PileUp, horizon, SERIES).await?;
    let mut batch = Batch::default();
    let mut progress = Vec::with_capacity(claimed.len());
    for claimed in &claimed {
        // The rest is claimed again.
        if batch.instances.len() >= INSTANCES {
            break;
        }
        let made = batch.add(claimed, horizon);
        progress.push(made.unwrap_or_else(|flaw| left_alone(claimed.user_id, &claimed.series, &flaw)));
    }
    let made = batch.write(tx).await?;
    series::advance(tx, &progress).await?;
    Ok(Attended {
        series: progress.len(),
        made,
        rolled: 0,
    })
}

/// New instances of one transaction, each with its owner, and their events in the same order.
#[derive(Default)]
struct Batch {
    instances: Vec<(Uuid, Task)>,
    events: Vec<Encoded>,
}

impl Batch {
    /// Adds the next instances of a series up to the horizon, as many as there is room for. Nothing, when one of them cannot be.
    fn add(&mut self, claimed: &Claimed, horizon: TimeDelta) -> Result<Progress, Flaw> {
        let Claimed { user_id, series, now } = claimed;
        let room = INSTANCES - self.instances.len();
        let (occurrences, next) = next::occurrences_ahead(series, *now + horizon, room)?;
        let made_through = occurrences.last().copied().or(series.made_through);
        let made: Vec<Task> = occurrences
            .into_iter()
            .map(|occurrence| series.instance(occurrence, *now))
            .collect();
        let events = made.iter().map(|task| event::created(*user_id, task));
        self.events.extend(events.collect::<Result<Vec<_>, _>>()?);
        self.instances
            .extend(made.into_iter().map(|task| (*user_id, task)));
        Ok(Progress {
            user_id: *user_id,
            id: series.id,
            made_through,
            attend_at: next,
        })
    }

    /// Writes them, but for those whose place is taken already. Returns how many it wrote.
    async fn write(self, tx: &mut PgConnection) -> Result<usize, sqlx::Error> {
        let written = tasks::insert_instances(tx, &self.instances).await?;
        let written: HashSet<Uuid> = written.into_iter().collect();
        let paired = self.instances.iter().zip(self.events);
        let told: Vec<Encoded> = paired
            .filter(|((_, task), _)| written.contains(&task.id))
            .map(|(_, event)| event)
            .collect();
        db::outbox::insert(tx, &told).await?;
        Ok(told.len())
    }
}

/// Moves the open instance of one series that rolls forward. Returns whether it moved; `None` when it is the turn of none.
async fn roll_one(tx: &mut PgConnection) -> Result<Option<bool>, sqlx::Error> {
    let claimed = series::claim(tx, Overlap::RollForward, TimeDelta::zero(), 1)
        .await?
        .pop();
    let Some(Claimed {
        user_id,
        mut series,
        now,
    }) = claimed
    else {
        return Ok(None);
    };
    let last = match newest(&series, now) {
        Ok(last) => last,
        Err(error) => {
            series::advance(tx, &[left_alone(user_id, &series, &error.into())]).await?;
            return Ok(Some(false));
        }
    };
    let mut rolled = false;
    let open = tasks::lock_open_instances(tx, user_id, series.id).await?;
    let before = |last: Timestamp| {
        let earlier = open.iter().filter(|task| task.occurrence < Some(last));
        earlier.max_by_key(|task| task.occurrence)
    };
    let due = last.filter(|last| series.is_active() && Some(*last) > series.made_through);
    let mut progress = match due.map(|last| (last, before(last))) {
        None => Progress::of(user_id, &series),
        // The last one is completed, whose successor is for the consumer to make, or deleted: there is nothing to move, unless a
        // person had a later one made to move it, until the next after that.
        Some((_, None)) => Progress {
            attend_at: open
                .iter()
                .filter_map(|task| task.occurrence)
                .min()
                .and_then(|first| series.attend_after(first)),
            ..Progress::of(user_id, &series)
        },
        Some((last, Some(current))) => {
            let place = last - TimeDelta::microseconds(1);
            let taken = series::taken_after(tx, user_id, series.id, place).await?;
            match taken.get(&last) {
                // Somebody did that one already: the open one waits for the one after it.
                Some(false) => Progress {
                    attend_at: series.attend_after(last),
                    ..Progress::of(user_id, &series)
                },
                // It was made to be moved, and is the one to do now.
                Some(true) => {
                    series.made_through = Some(last);
                    Progress::of(user_id, &series)
                }
                None => {
                    let task = next::rolled(&series, current, last, now);
                    match event::rolled(user_id, current, &task) {
                        Ok(event) => {
                            tasks::roll(tx, user_id, &task, &event).await?;
                            rolled = true;
                            series.made_through = Some(last);
                            Progress::of(user_id, &series)
                        }
                        Err(error) => left_alone(user_id, &series, &error.into()),
                    }
                }
            }
        }
    };
    if open.is_empty() {
        progress.attend_at = None;
    }
    series::advance(tx, &[progress]).await?;
    Ok(Some(rolled))
}

/// The newest occurrence that an open instance of an earlier one moves to: one that has fallen due, or is about to remind.
fn newest(series: &Series, now: Timestamp) -> Result<Option<Timestamp>, Unusable> {
    let timeline = series.timeline()?;
    let last = timeline.last_until(now)?;
    let Some(before) = last.or(series.made_through) else {
        return Ok(None);
    };
    let next = timeline.after(before).next().transpose()?;
    Ok(next.filter(|next| series.rolls_at(before, *next) <= now).or(last))
}

/// One series that cannot be used must not hold up the others.
fn left_alone(user_id: Uuid, series: &Series, flaw: &Flaw) -> Progress {
    tracing::error!(series_id = %series.id, error = %flaw, "a series makes no instances until it is changed");
    metrics::UNUSABLE.inc();
    Progress {
        user_id,
        id: series.id,
        made_through: series.made_through,
        attend_at: None,
    }
}
