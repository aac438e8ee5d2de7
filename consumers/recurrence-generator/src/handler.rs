//! Completing an instance creates the next one.

use std::sync::LazyLock;

use db::series::{self, Series};
use db::tasks;
use kafka::{HandleError, Handler};
use prometheus::IntCounter;
use schemas::topics::RECURRENCE_GENERATOR;
use schemas::{Actor, Event, TaskEvent, TaskEventKind};
use service::metrics;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::next::next_instance;

static INSTANCES: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter(
        "recurrence_instances_created_total",
        "Instances of series that were created",
    )
});

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
        // Without this the metric would be missing, not zero, until the first instance.
        LazyLock::force(&INSTANCES);
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
        let mut completed: Vec<(Uuid, TaskEvent)> = events
            .into_iter()
            .filter_map(|event| match event {
                Event::Task(event) if event.kind == TaskEventKind::Completed => {
                    Some((event.task.series_id?, event))
                }
                _ => None,
            })
            .collect();
        // Series are locked in one order everywhere, so that two generators, which a rebalance can give the same events
        // for a moment, wait and do not deadlock. The sort is stable: the events of one series keep their order.
        completed.sort_by_key(|(series_id, _)| *series_id);
        for (series_id, event) in &completed {
            if create_next(tx, *series_id, event).await? {
                self.made += 1;
            }
        }
        Ok(())
    }

    fn committed(&mut self) {
        INSTANCES.inc_by(std::mem::take(&mut self.made));
    }
}

/// Creates the instance that follows the completed one, and its event, unless the series has gone on already or is not to
/// go on. Where the rule has no further occurrence the series has ended. Returns whether it made an instance.
async fn create_next(
    tx: &mut PgConnection,
    series_id: Uuid,
    completed: &TaskEvent,
) -> Result<bool, HandleError> {
    let user_id = completed.user_id;
    let Some(series) = series::lock(tx, user_id, series_id)
        .await?
        .filter(Series::is_active)
    else {
        return Ok(false);
    };
    // A later instance tells that this completion had its effect: the person completed it before, opened it again and
    // completed it again. That instance may be deleted meanwhile; it does not come back.
    let latest = series::latest_occurrence(tx, user_id, series_id, None).await?;
    if latest > completed.task.occurrence {
        return Ok(false);
    }
    let now = schemas::now();
    let next =
        next_instance(&series, completed, now).map_err(|error| HandleError::Invalid(error.to_string()))?;
    let Some(task) = next else {
        series::end(tx, user_id, series_id, now).await?;
        return Ok(false);
    };
    let event: Event =
        TaskEvent::new(TaskEventKind::Created, user_id, Actor::Recurrence, task.clone()).into();
    let event = event
        .encode(RECURRENCE_GENERATOR.name)
        .map_err(|error| HandleError::Invalid(format!("the next instance makes no event: {error}")))?;
    Ok(tasks::insert(tx, user_id, &task, &event).await?)
}
