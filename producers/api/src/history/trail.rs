//! SQL of `audit.events`. Rows without an actor are no events but records that nobody could read: they are not shown.

use sqlx::{PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use super::entry::Entry;
use super::query::{Position, Query};

/// The page that is asked for, of that person's history, newest first, and one item more if there is a next page.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn page(db: &mut PgConnection, user_id: Uuid, query: &Query) -> Result<Vec<Entry>, sqlx::Error> {
    let mut sql = QueryBuilder::<Postgres>::new(
        "select event_id, occurred_at, event_type, actor, task_id, (payload #>> '{task,version}')::bigint as task_version,
                payload #>> '{task,completed_at}' is not null as completed, payload -> 'changes' as changes,
                payload -> 'reminder' as reminder, payload -> 'notification' as notification,
                case when event_type = 'com.carillon.task.created.v1' then payload -> 'task' end as created
         from audit.events where actor is not null and user_id = ",
    );
    sql.push_bind(user_id);
    if let Some(task_id) = query.filter.task_id {
        sql.push(" and task_id = ").push_bind(task_id);
    }
    if !query.filter.types.is_empty() {
        sql.push(" and event_type = any(")
            .push_bind(&query.filter.types)
            .push(")");
    }
    if !query.filter.actors.is_empty() {
        sql.push(" and actor = any(")
            .push_bind(&query.filter.actors)
            .push(")");
    }
    if let Some(since) = query.filter.since {
        sql.push(" and occurred_at >= ").push_bind(since);
    }
    if let Some(until) = query.filter.until {
        sql.push(" and occurred_at < ").push_bind(until);
    }
    if let Some(Position {
        occurred_at,
        event_id,
    }) = query.page.after
    {
        // The time for itself as well: partitions are left out by it, and not by the pair.
        sql.push(" and occurred_at <= ").push_bind(occurred_at);
        sql.push(" and (occurred_at, event_id) < (")
            .push_bind(occurred_at);
        sql.push(", ").push_bind(event_id).push(")");
    }
    let rows = query.page.rows();
    sql.push(" order by occurred_at desc, event_id desc limit ")
        .push_bind(rows);
    let rows = sql.build().fetch_all(db).await?;
    rows.iter().map(Entry::from_row).collect()
}

/// Whether the person has, or had, a task of that id. Events outlive a task that is gone for good, and a task outlives
/// its events.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn task_is_known(db: &mut PgConnection, user_id: Uuid, task_id: Uuid) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (select from tasks.tasks where user_id = $1 and id = $2)
             or exists (select from audit.events where user_id = $1 and task_id = $2 and actor is not null)",
    )
    .bind(user_id)
    .bind(task_id)
    .fetch_one(db)
    .await
}
