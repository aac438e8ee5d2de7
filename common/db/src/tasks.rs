//! Tasks and series, shared by everyone who writes them: the HTTP API, the recurrence generator and, later, others.
//! Every function takes the owner first, so that no query can be written that forgets whose task it is.

use schemas::{Encoded, Priority, Task, TaskReminder, Timestamp};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor, Row};
use uuid::Uuid;

use crate::outbox::headers_json;

macro_rules! columns {
    () => {
        "id, version, title, description, priority, tags, due_at, timezone, reminders, series_id, occurrence, \
         recurrence, created_at, updated_at, completed_at, deleted_at"
    };
}

/// A rule by which tasks recur.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// Identity of the series.
    pub id: Uuid,
    /// RRULE, canonical text (RFC 5545 section 3.3.10).
    pub rrule: String,
    /// DTSTART: the first occurrence.
    pub starts_at: Timestamp,
    /// IANA zone that the rule is meant in.
    pub timezone: String,
}

fn from_row(row: &PgRow) -> Result<Task, sqlx::Error> {
    let Json(reminders): Json<Vec<TaskReminder>> = row.try_get("reminders")?;
    let priority: &str = row.try_get("priority")?;
    Ok(Task {
        id: row.try_get("id")?,
        version: row.try_get("version")?,
        title: row.try_get("title")?,
        description: row.try_get("description")?,
        priority: Priority::from_name(priority).ok_or_else(|| sqlx::Error::ColumnDecode {
            index: "priority".to_owned(),
            source: format!("{priority:?} is no priority").into(),
        })?,
        tags: row.try_get("tags")?,
        due_at: row.try_get("due_at")?,
        timezone: row.try_get("timezone")?,
        reminders,
        series_id: row.try_get("series_id")?,
        occurrence: row.try_get("occurrence")?,
        recurrence: row.try_get("recurrence")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        completed_at: row.try_get("completed_at")?,
        deleted_at: row.try_get("deleted_at")?,
    })
}

/// Writes a new task and its event in one statement, which is one transaction where the caller has none open. Returns
/// false, and writes neither, when the series already has that occurrence.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn insert(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    task: &Task,
    event: &Encoded,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(concat!(
        "with task as (
             insert into tasks.tasks (user_id, ",
        columns!(),
        ") values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
             on conflict (series_id, occurrence) where series_id is not null do nothing
             returning 1
         )
         insert into outbox.events (event_id, topic, user_id, event_type, fingerprint, body, headers)
         select $18, $19, $1, $20, $21, $22, $23::jsonb from task"
    ))
    .bind(user_id)
    .bind(task.id)
    .bind(task.version)
    .bind(&task.title)
    .bind(&task.description)
    .bind(task.priority.as_str())
    .bind(&task.tags)
    .bind(task.due_at)
    .bind(&task.timezone)
    .bind(Json(&task.reminders))
    .bind(task.series_id)
    .bind(task.occurrence)
    .bind(&task.recurrence)
    .bind(task.created_at)
    .bind(task.updated_at)
    .bind(task.completed_at)
    .bind(task.deleted_at)
    .bind(event.event_id)
    .bind(event.topic)
    .bind(event.event_type)
    .bind(event.fingerprint)
    .bind(&event.body)
    .bind(headers_json(event))
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The person's task of that id, unless it is deleted.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn get(db: impl PgExecutor<'_>, user_id: Uuid, id: Uuid) -> Result<Option<Task>, sqlx::Error> {
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        " from tasks.tasks where user_id = $1 and id = $2 and deleted_at is null"
    ))
    .bind(user_id)
    .bind(id)
    .fetch_optional(db)
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// A page of the person's tasks that are not deleted, newest first, those created before `before` only.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn list(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Task>, sqlx::Error> {
    // Ids are UUIDv7: their order is the order of creation, and the primary key serves it.
    let rows = sqlx::query(concat!(
        "select ",
        columns!(),
        " from tasks.tasks
          where user_id = $1 and id < coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid) and deleted_at is null
          order by id desc limit $3"
    ))
    .bind(user_id)
    .bind(before)
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.iter().map(from_row).collect()
}

/// The person's task of that id, locked until the transaction ends: what follows in it sees the newest version, and
/// versions are given in the order of commits.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn lock(tx: &mut PgConnection, user_id: Uuid, id: Uuid) -> Result<Option<Task>, sqlx::Error> {
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        " from tasks.tasks where user_id = $1 and id = $2 and deleted_at is null for update"
    ))
    .bind(user_id)
    .bind(id)
    .fetch_optional(tx)
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// Writes a changed task, locked before in the same transaction, and its event.
///
/// # Errors
/// When the database does not answer or refuses; [`sqlx::Error::RowNotFound`] when the row is not the version before
/// `task.version`, which the lock rules out.
pub async fn update(
    tx: &mut PgConnection,
    user_id: Uuid,
    task: &Task,
    event: &Encoded,
) -> Result<(), sqlx::Error> {
    let done = sqlx::query(
        "update tasks.tasks
         set version = $3, title = $4, description = $5, priority = $6, tags = $7, due_at = $8, timezone = $9,
             reminders = $10, series_id = $11, occurrence = $12, recurrence = $13, updated_at = $14,
             completed_at = $15, deleted_at = $16
         where user_id = $1 and id = $2 and version = $3 - 1",
    )
    .bind(user_id)
    .bind(task.id)
    .bind(task.version)
    .bind(&task.title)
    .bind(&task.description)
    .bind(task.priority.as_str())
    .bind(&task.tags)
    .bind(task.due_at)
    .bind(&task.timezone)
    .bind(Json(&task.reminders))
    .bind(task.series_id)
    .bind(task.occurrence)
    .bind(&task.recurrence)
    .bind(task.updated_at)
    .bind(task.completed_at)
    .bind(task.deleted_at)
    .execute(&mut *tx)
    .await?;
    if done.rows_affected() != 1 {
        return Err(sqlx::Error::RowNotFound);
    }
    crate::outbox::insert(tx, std::slice::from_ref(event)).await
}

/// Writes a new series.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn insert_series(tx: &mut PgConnection, user_id: Uuid, series: &Series) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into tasks.series (user_id, id, rrule, starts_at, timezone, created_at)
         values ($1, $2, $3, $4, $5, now())",
    )
    .bind(user_id)
    .bind(series.id)
    .bind(&series.rrule)
    .bind(series.starts_at)
    .bind(&series.timezone)
    .execute(tx)
    .await?;
    Ok(())
}

/// The person's series of that id, locked until the transaction ends, so that its instances are made by one at a time.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn lock_series(
    tx: &mut PgConnection,
    user_id: Uuid,
    id: Uuid,
) -> Result<Option<Series>, sqlx::Error> {
    let row = sqlx::query(
        "select id, rrule, starts_at, timezone from tasks.series where user_id = $1 and id = $2 for update",
    )
    .bind(user_id)
    .bind(id)
    .fetch_optional(tx)
    .await?;
    row.map(|row| {
        Ok(Series {
            id: row.try_get("id")?,
            rrule: row.try_get("rrule")?,
            starts_at: row.try_get("starts_at")?,
            timezone: row.try_get("timezone")?,
        })
    })
    .transpose()
}

/// The latest occurrence that the series has an instance for, deleted ones included: a deleted instance must not come
/// back.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn latest_occurrence(
    tx: &mut PgConnection,
    user_id: Uuid,
    series_id: Uuid,
) -> Result<Option<Timestamp>, sqlx::Error> {
    sqlx::query_scalar("select max(occurrence) from tasks.tasks where user_id = $1 and series_id = $2")
        .bind(user_id)
        .bind(series_id)
        .fetch_one(tx)
        .await
}
