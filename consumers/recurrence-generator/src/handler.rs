//! Completing an instance creates the next one.

use db::series::{self, Anchor, Overlap, Progress, Series};
use db::tasks;
use kafka::{HandleError, Handler};
use schemas::{Event, Task, TaskEvent, TaskEventKind, Timestamp};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::event;
use crate::metrics;
use crate::next;

/// What matters to a series. Only what was completed has a successor.
const FOLLOWED: [TaskEventKind; 3] = [
    TaskEventKind::Completed,
    TaskEventKind::Reopened,
    TaskEventKind::Restored,
];

/// Makes next instances.
#[derive(Debug)]
pub struct Generator {
    /// How many the open transaction makes.
    made: u64,
}

impl Generator {
    /// One that has made nothing yet.
    #[must_use]
    pub fn new() -> Self {
        metrics::register();
        Self { made: 0 }
    }
}

impl Default for Generator {
    fn default() -> Self {
        Self::new()
    }
}

impl Handler for Generator {
    async fn handle(&mut self, tx: &mut PgConnection, events: Vec<Event>) -> Result<(), HandleError> {
        self.made = 0;
        let mut followed: Vec<(Uuid, TaskEvent)> = events
            .into_iter()
            .filter_map(|event| match event {
                Event::Task(event) if FOLLOWED.contains(&event.kind) => Some((event.task.series_id?, event)),
                _ => None,
            })
            .collect();
        // Series are locked in one order everywhere, so that two generators, which a rebalance can give the same events
        // for a moment, wait and do not deadlock. The sort is stable: the events of one series keep their order.
        followed.sort_by_key(|(series_id, _)| *series_id);
        for (series_id, event) in &followed {
            if follow(tx, *series_id, event).await? {
                self.made += 1;
            }
        }
        Ok(())
    }

    fn committed(&mut self) {
        metrics::INSTANCES.inc_by(std::mem::take(&mut self.made));
    }
}

/// What an event does to its series: completing an instance creates the next one, and opening one again is a reason to look
/// whether it has to move. Returns whether it made an instance.
async fn follow(tx: &mut PgConnection, series_id: Uuid, event: &TaskEvent) -> Result<bool, HandleError> {
    let user_id = event.user_id;
    let Some(series) = series::lock(tx, user_id, series_id)
        .await?
        .filter(Series::is_active)
    else {
        return Ok(false);
    };
    match (event.kind, series.overlap) {
        (TaskEventKind::Completed, Overlap::PileUp) => {
            end_if_over(tx, user_id, &series).await?;
            Ok(false)
        }
        (TaskEventKind::Completed, _) => create_next(tx, series, event).await,
        (_, Overlap::RollForward) => {
            series::advance(tx, &[Progress::of(user_id, &series)]).await?;
            Ok(false)
        }
        _ => Ok(false),
    }
}

/// Creates the instance that follows the completed one, and its event, unless the series has gone on already. Where there is
/// no further occurrence the series has ended.
async fn create_next(
    tx: &mut PgConnection,
    mut series: Series,
    completed: &TaskEvent,
) -> Result<bool, HandleError> {
    let user_id = completed.user_id;
    if !is_newest(tx, user_id, &series, &completed.task).await? {
        return Ok(false);
    }
    let now = database_now(tx).await?;
    let after = next::counts_from(&series, completed);
    let taken = series::taken_after(tx, user_id, series.id, after).await?;
    let next = next::next_occurrence(&series, completed, &taken)
        .map_err(|error| HandleError::Invalid(error.to_string()))?;
    let Some(occurrence) = next else {
        series::end(tx, user_id, series.id, now).await?;
        return Ok(false);
    };
    let task = series.instance(occurrence, now);
    let mut event = event::created(user_id, &task)
        .map_err(|error| HandleError::Invalid(format!("the next instance makes no event: {error}")))?;
    let trace = kafka::trace_of(completed.event_id);
    event.headers.extend(trace.map(|trace| trace.header()));
    // False where a person has had it made already, to move it.
    let made = tasks::insert(&mut *tx, user_id, &task, &event).await?;
    series.made_through = Some(occurrence);
    series::advance(tx, &[Progress::of(user_id, &series)]).await?;
    Ok(made)
}

/// Whether nothing came after that instance yet. Otherwise this completion had its effect: the person completed it before,
/// opened it again and completed it again, and what came of it does not come back if it is deleted. Or a person had this
/// one made to move it, and the one whose turn it is is open still.
async fn is_newest(
    tx: &mut PgConnection,
    user_id: Uuid,
    series: &Series,
    task: &Task,
) -> Result<bool, HandleError> {
    if series.anchor == Anchor::Completion || task.occurrence <= series.made_through {
        return Ok(task.occurrence == series.made_through);
    }
    let open = tasks::open_instances(&mut *tx, user_id, series.id).await?;
    let before = |other: &Task| (series.made_through..task.occurrence).contains(&other.occurrence);
    Ok(!open.iter().any(before))
}

/// Ends a series that piles up when its last instance is completed.
async fn end_if_over(tx: &mut PgConnection, user_id: Uuid, series: &Series) -> Result<(), HandleError> {
    let last = series.made_through.unwrap_or(series.starts_at);
    let next = series
        .next_after(last)
        .map_err(|error| HandleError::Invalid(error.to_string()))?;
    if next.is_none() {
        let now = database_now(tx).await?;
        series::end_if_left(tx, user_id, series.id, now).await?;
    }
    Ok(())
}

/// When it is made is said by the clock that its reminders ring by, as of what is made ahead: by a clock that is ahead of that
/// one, a reminder would be set after its time, and not ring.
async fn database_now(tx: &mut PgConnection) -> Result<Timestamp, sqlx::Error> {
    sqlx::query_scalar("select now()").fetch_one(tx).await
}
