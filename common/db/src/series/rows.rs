//! The rows of `tasks.series`.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use schemas::Timestamp;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{Anchor, Content, Overlap, Series};
use crate::tasks;

/// A row as it is; the content is missing in rows of older versions.
fn from_row(row: &PgRow) -> Result<(Series, bool), sqlx::Error> {
    let content: Option<Json<Content>> = row.try_get("content")?;
    let complete = content.is_some();
    let series = Series {
        id: row.try_get("id")?,
        version: row.try_get("version")?,
        rrule: row.try_get("rrule")?,
        starts_at: row.try_get("starts_at")?,
        timezone: row.try_get("timezone")?,
        rdates: row.try_get("rdates")?,
        exdates: row.try_get("exdates")?,
        anchor: Anchor::read(row, "anchor")?,
        overlap: Overlap::read(row, "overlap")?,
        made_through: row.try_get("made_through")?,
        split_from: row.try_get("split_from")?,
        content: content.map(|Json(content)| content).unwrap_or_default(),
        paused_at: row.try_get("paused_at")?,
        ended_at: row.try_get("ended_at")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        deleted_at: row.try_get("deleted_at")?,
    };
    Ok((series, complete))
}

/// A row with its content. Where it has none, that is what its newest instance holds.
pub(super) async fn read(db: &mut PgConnection, user_id: Uuid, row: &PgRow) -> Result<Series, sqlx::Error> {
    let (mut series, complete) = from_row(row)?;
    if !complete && let Some(task) = tasks::newest_instance(db, user_id, series.id).await? {
        series.content = Content::of(&task);
    }
    Ok(series)
}

/// Writes a new series.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn insert(tx: &mut PgConnection, user_id: Uuid, series: &Series) -> Result<(), sqlx::Error> {
    sqlx::query(concat!(
        "insert into tasks.series (user_id, ",
        columns!(),
        ", made_through, attend_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)"
    ))
    .bind(user_id)
    .bind(series.id)
    .bind(series.version)
    .bind(&series.rrule)
    .bind(series.starts_at)
    .bind(&series.timezone)
    .bind(Json(&series.content))
    .bind(series.paused_at)
    .bind(series.ended_at)
    .bind(series.created_at)
    .bind(series.updated_at)
    .bind(series.deleted_at)
    .bind(&series.rdates)
    .bind(&series.exdates)
    .bind(series.anchor.as_str())
    .bind(series.overlap.as_str())
    .bind(series.split_from)
    .bind(series.made_through)
    .bind(series.attend_at())
    .execute(tx)
    .await?;
    Ok(())
}

/// The person's series of that id, unless it is deleted.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn get(db: &mut PgConnection, user_id: Uuid, id: Uuid) -> Result<Option<Series>, sqlx::Error> {
    let query = concat!(
        "select ",
        selected!(),
        " from tasks.series where user_id = $1 and id = $2 and deleted_at is null"
    );
    one(db, query, user_id, id).await
}

/// The series that a query finds by its owner and its id.
async fn one(
    db: &mut PgConnection,
    query: &'static str,
    user_id: Uuid,
    id: Uuid,
) -> Result<Option<Series>, sqlx::Error> {
    let row = sqlx::query(query)
        .bind(user_id)
        .bind(id)
        .fetch_optional(&mut *db)
        .await?;
    match row {
        Some(row) => read(db, user_id, &row).await.map(Some),
        None => Ok(None),
    }
}

/// A page of the person's series that are not deleted, newest first, those created before `before` only.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn list(
    db: &mut PgConnection,
    user_id: Uuid,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Series>, sqlx::Error> {
    let rows = sqlx::query(concat!(
        "select ",
        selected!(),
        " from tasks.series
          where user_id = $1 and id < coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid) and deleted_at is null
          order by id desc limit $3"
    ))
    .bind(user_id)
    .bind(before)
    .bind(limit)
    .fetch_all(&mut *db)
    .await?;
    let mut series = Vec::with_capacity(rows.len());
    for row in &rows {
        series.push(read(db, user_id, row).await?);
    }
    Ok(series)
}

/// The person's series of that id, locked until the transaction ends, so that its instances are made by one at a time.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn lock(tx: &mut PgConnection, user_id: Uuid, id: Uuid) -> Result<Option<Series>, sqlx::Error> {
    let query = concat!(
        "select ",
        selected!(),
        " from tasks.series where user_id = $1 and id = $2 and deleted_at is null for update"
    );
    one(tx, query, user_id, id).await
}

/// A series of the person that follows them and is not in that zone yet, or counts from another minute of whole days; locked
/// until the transaction ends. Ended ones stay where they are, and those without a content follow nobody: they are of
/// versions that knew no time but a zone's.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn lock_following(
    tx: &mut PgConnection,
    user_id: Uuid,
    timezone: &str,
    whole_day_minute: i32,
) -> Result<Option<Series>, sqlx::Error> {
    let row = sqlx::query(concat!(
        "select ",
        selected!(),
        " from tasks.series
          where user_id = $1 and ended_at is null
            and ((content ->> 'whole_day')::boolean or (content ->> 'floating')::boolean)
            and (timezone <> $2 or coalesce((content ->> 'whole_day_minute')::integer, 540) <> $3)
          order by id limit 1 for update"
    ))
    .bind(user_id)
    .bind(timezone)
    .bind(whole_day_minute)
    .fetch_optional(&mut *tx)
    .await?;
    row.as_ref()
        .map(|row| from_row(row).map(|(series, _)| series))
        .transpose()
}

/// Locks the series of the person's task, if it has one: what is done before a task is locked that may leave it.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn lock_of_task(tx: &mut PgConnection, user_id: Uuid, task_id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query(
        "select from tasks.series
         where user_id = $1 and id = (select series_id from tasks.tasks where user_id = $1 and id = $2)
         for update",
    )
    .bind(user_id)
    .bind(task_id)
    .execute(tx)
    .await?;
    Ok(())
}

/// Writes a changed series, locked before in the same transaction.
///
/// # Errors
/// When the database does not answer or refuses; [`sqlx::Error::RowNotFound`] when the row is not the version before
/// `series.version`, which the lock rules out.
pub async fn update(tx: &mut PgConnection, user_id: Uuid, series: &Series) -> Result<(), sqlx::Error> {
    let done = sqlx::query(
        "update tasks.series
         set version = $3, rrule = $4, starts_at = $5, timezone = $6, content = $7, paused_at = $8, ended_at = $9,
             updated_at = $10, deleted_at = $11, rdates = $12, exdates = $13, anchor = $14, overlap = $15,
             made_through = $16, attend_at = $17
         where user_id = $1 and id = $2 and version = $3 - 1",
    )
    .bind(user_id)
    .bind(series.id)
    .bind(series.version)
    .bind(&series.rrule)
    .bind(series.starts_at)
    .bind(&series.timezone)
    .bind(Json(&series.content))
    .bind(series.paused_at)
    .bind(series.ended_at)
    .bind(series.updated_at)
    .bind(series.deleted_at)
    .bind(&series.rdates)
    .bind(&series.exdates)
    .bind(series.anchor.as_str())
    .bind(series.overlap.as_str())
    .bind(series.made_through)
    .bind(series.attend_at())
    .execute(tx)
    .await?;
    if done.rows_affected() == 1 {
        Ok(())
    } else {
        Err(sqlx::Error::RowNotFound)
    }
}

/// Ends a series, locked before in the same transaction, unless it has ended already: the one change of its version that the
/// recurrence generator makes, and may make.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn end(tx: &mut PgConnection, user_id: Uuid, id: Uuid, at: Timestamp) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update tasks.series
         set version = version + 1, ended_at = $3, updated_at = greatest($3, updated_at), attend_at = null
         where user_id = $1 and id = $2 and ended_at is null",
    )
    .bind(user_id)
    .bind(id)
    .bind(at)
    .execute(tx)
    .await?;
    Ok(())
}

/// Ends a series that a task has left, unless it has another open instance: nobody could complete one any more.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn end_if_left(
    tx: &mut PgConnection,
    user_id: Uuid,
    id: Uuid,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    if tasks::open_instances(&mut *tx, user_id, id).await?.is_empty() {
        end(tx, user_id, id, at).await?;
    }
    Ok(())
}

/// The latest occurrence that the series has an instance for, of those before `before`. Deleted ones count: a deleted
/// instance must not come back.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn latest_occurrence(
    tx: &mut PgConnection,
    user_id: Uuid,
    id: Uuid,
    before: Option<Timestamp>,
) -> Result<Option<Timestamp>, sqlx::Error> {
    sqlx::query_scalar(
        "select max(occurrence) from tasks.tasks
         where user_id = $1 and series_id = $2 and occurrence < coalesce($3, 'infinity'::timestamptz)",
    )
    .bind(user_id)
    .bind(id)
    .bind(before)
    .fetch_one(tx)
    .await
}

/// Which of those occurrences, each of a series of the person, have an instance, open or not.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn occurrences_among(
    tx: &mut PgConnection,
    user_id: Uuid,
    occurrences: &[(Uuid, Timestamp)],
) -> Result<Vec<(Uuid, Timestamp)>, sqlx::Error> {
    if occurrences.is_empty() {
        return Ok(Vec::new());
    }
    let (series, at): (Vec<Uuid>, Vec<Timestamp>) = occurrences.iter().copied().unzip();
    sqlx::query_as(
        "select series_id, occurrence from tasks.tasks
         where user_id = $1 and (series_id, occurrence) in (select * from unnest($2::uuid[], $3::timestamptz[]))",
    )
    .bind(user_id)
    .bind(series)
    .bind(at)
    .fetch_all(tx)
    .await
}

/// What became of an occurrence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// Its place in the series.
    pub occurrence: Timestamp,
    /// Whether it is an exception.
    pub skipped: bool,
    /// Its instance, if there is one.
    pub task_id: Option<Uuid>,
    /// See [`schemas::Task::due_at`].
    pub due_at: Option<Timestamp>,
    /// See [`schemas::Task::due_on`].
    pub due_on: Option<NaiveDate>,
    /// See [`schemas::Task::timezone`].
    pub timezone: Option<String>,
    /// See [`schemas::Task::completed_at`].
    pub completed_at: Option<Timestamp>,
    /// Whether its instance is deleted.
    pub deleted: bool,
}

/// The occurrences of a person's series before `before` that have an instance or are exceptions, the latest `limit` of them,
/// latest first.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn history(
    db: &mut PgConnection,
    user_id: Uuid,
    id: Uuid,
    before: Option<Timestamp>,
    limit: i64,
) -> Result<Vec<Past>, sqlx::Error> {
    let rows = sqlx::query(
        "with excepted as (
             select exdate from tasks.series, unnest(exdates) exdate where user_id = $1 and id = $2
         )
         select occurrence, exists (select from excepted where exdate = date_trunc('second', occurrence)) as skipped,
                id, due_at, due_on, timezone, completed_at, deleted_at is not null as deleted
         from tasks.tasks
         where user_id = $1 and series_id = $2 and occurrence < coalesce($3, 'infinity'::timestamptz)
         union all
         select exdate, true, null, null, null, null, null, false
         from excepted
         where exdate < coalesce($3, 'infinity'::timestamptz) and not exists (
             select from tasks.tasks
             where user_id = $1 and series_id = $2
               and occurrence >= exdate and occurrence < exdate + interval '1 second')
         order by occurrence desc limit $4",
    )
    .bind(user_id)
    .bind(id)
    .bind(before)
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Past {
                occurrence: row.try_get("occurrence")?,
                skipped: row.try_get("skipped")?,
                task_id: row.try_get("id")?,
                due_at: row.try_get("due_at")?,
                due_on: row.try_get("due_on")?,
                timezone: row.try_get("timezone")?,
                completed_at: row.try_get("completed_at")?,
                deleted: row.try_get("deleted")?,
            })
        })
        .collect()
}

/// Which occurrences after `after` have an instance already, and whether it is open: at most 10,000 of them, in their order.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn taken_after(
    db: &mut PgConnection,
    user_id: Uuid,
    id: Uuid,
    after: Timestamp,
) -> Result<BTreeMap<Timestamp, bool>, sqlx::Error> {
    let rows: Vec<(Timestamp, bool)> = sqlx::query_as(
        "select occurrence, completed_at is null and deleted_at is null from tasks.tasks
         where user_id = $1 and series_id = $2 and occurrence > $3 order by occurrence limit 10000",
    )
    .bind(user_id)
    .bind(id)
    .bind(after)
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().collect())
}

/// Ends all series of a person who leaves.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn end_all(tx: &mut PgConnection, user_id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update tasks.series set version = version + 1, ended_at = now(), updated_at = now(), attend_at = null
         where user_id = $1 and ended_at is null",
    )
    .bind(user_id)
    .execute(tx)
    .await?;
    Ok(())
}
