//! Every statement on a real Postgres, as the role of the service that uses it: which checks the rights, too.
#![expect(clippy::unwrap_used, reason = "tests")]

mod errors;
mod events;
mod operator;
mod roles;
mod tasks;

use db::{Failure, classify};
use schemas::{Encoded, Event, Task, TaskEventKind};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use support::{Database, eventually, samples};
use uuid::Uuid;

/// The event of a change of the task.
fn event(kind: TaskEventKind, user_id: Uuid, task: &Task) -> Encoded {
    Event::from(samples::event(kind, user_id, task))
        .encode("test")
        .unwrap()
}

/// The ids of the events in the outbox, in the order of publication.
async fn outbox(database: &Database) -> Vec<Uuid> {
    sqlx::query_scalar("select event_id from outbox.events order by seq")
        .fetch_all(database.admin())
        .await
        .unwrap()
}
