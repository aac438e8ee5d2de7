//! Tasks that are gone for good, brought back from the audit trail. No request does that: an operator does, by
//! `carillon audit restore`, with the owner's rights.

use anyhow::Context;
use schemas::{Actor, Event, Task, TaskEvent};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use crate::accounts::moves;
use crate::tasks;

/// How events name who wrote them.
const SOURCE: &str = "carillon";

/// What became of a task that was to be brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovered {
    /// It is back, as this.
    Restored(Task),
    /// It is not deleted.
    ThereAlready(Task),
    /// The trail has nothing of such a task of that person.
    NotInTrail,
    /// The person has no account, or left.
    NoAccount,
}

/// Brings the person's task back as the API restores one: from its row if that is there, else as the trail last saw it. It is
/// told of by a TaskRestored, of a higher version than any before. Asked again, it changes nothing.
///
/// # Errors
/// When the database does not answer or refuses, or the trail holds what no task is.
pub async fn task(tx: &mut PgConnection, user_id: Uuid, id: Uuid) -> anyhow::Result<Recovered> {
    // Two at once would both find nothing, and there is no row to lock.
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('tasks.recover/' || $1::text, 0))")
        .bind(id)
        .execute(&mut *tx)
        .await?;
    let has_account: bool =
        sqlx::query_scalar("select exists (select from accounts.users where id = $1 and deleted_at is null)")
            .bind(user_id)
            .fetch_one(&mut *tx)
            .await?;
    let person = moves::person(tx, user_id).await?.filter(|_| has_account);
    let Some(person) = person else {
        return Ok(Recovered::NoAccount);
    };
    let row = db::tasks::lock(tx, user_id, id).await?;
    let (now, is_there) = (schemas::now(), row.is_some());
    let deleted = match row {
        Some(task) => task,
        None => {
            let Some(was) = last_seen(tx, user_id, id).await? else {
                return Ok(Recovered::NotInTrail);
            };
            // Whatever took the row away: it is gone.
            Task {
                deleted_at: was.deleted_at.or(Some(now)),
                ..place_in_series(tx, user_id, was).await?
            }
        }
    };
    let Some(change) = tasks::restore(&deleted, &person, now) else {
        return Ok(Recovered::ThereAlready(deleted));
    };
    let mut event = TaskEvent::new(change.kind, user_id, Actor::System, change.task.clone());
    event.changes = change.fields;
    let event = Event::from(event).encode(SOURCE)?;
    if is_there {
        db::tasks::update(tx, user_id, std::slice::from_ref(&change.task), &[event]).await?;
    } else {
        let written = db::tasks::insert(&mut *tx, user_id, &change.task, &event).await?;
        anyhow::ensure!(
            written,
            "the place of the task {id} was taken meanwhile; ask again"
        );
    }
    Ok(Recovered::Restored(change.task))
}

/// The task as the newest of its events has it, with the highest version that anybody has seen.
async fn last_seen(tx: &mut PgConnection, user_id: Uuid, id: Uuid) -> anyhow::Result<Option<Task>> {
    let found: Option<(Json<Task>, i64)> = sqlx::query_as(
        "select payload -> 'task', greatest((payload #>> '{task,version}')::bigint,
                                            (select version from reminders.tasks where user_id = $1 and task_id = $2))
         from audit.events
         where user_id = $1 and task_id = $2 and event_type like 'com.carillon.task.%' and payload is not null
         order by (payload #>> '{task,version}')::bigint desc limit 1",
    )
    .bind(user_id)
    .bind(id)
    .fetch_optional(tx)
    .await
    .context("the trail holds no task that this version reads")?;
    Ok(found.map(|(Json(task), version)| Task { version, ..task }))
}

/// The task in its place of its series, if the series is there and the place is free; else for itself.
async fn place_in_series(tx: &mut PgConnection, user_id: Uuid, task: Task) -> Result<Task, sqlx::Error> {
    let (Some(series_id), Some(occurrence)) = (task.series_id, task.occurrence) else {
        return Ok(task);
    };
    let free: bool = sqlx::query_scalar(
        "select exists (select from tasks.series where user_id = $1 and id = $2 for key share)
            and not exists (select from tasks.tasks where user_id = $1 and series_id = $2 and occurrence = $3)",
    )
    .bind(user_id)
    .bind(series_id)
    .bind(occurrence)
    .fetch_one(tx)
    .await?;
    if free {
        return Ok(task);
    }
    Ok(Task {
        series_id: None,
        occurrence: None,
        recurrence: None,
        ..task
    })
}
