//! Series: what recurs, and the rows of `tasks.series`. Their instances are tasks. Every function takes the owner first.
//!
//! **Lock order.** Whoever needs both locks the series first and then its instances, in the order of their ids. Whoever
//! needs a task alone locks no series after it. So nobody waits for somebody who waits for him.

use chrono::NaiveDate;
use schedule::{Due, Offset, Rule, RuleError, Tz, ZoneError};
use schemas::{Nag, Priority, Task, TaskReminder, Timestamp};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::tasks;

macro_rules! columns {
    () => {
        "id, version, rrule, starts_at, timezone, content, paused_at, ended_at, created_at, updated_at, deleted_at"
    };
}

/// A rule by which tasks recur, and what they are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// Identity of the series.
    pub id: Uuid,
    /// Grows by one with every change, taken under the row's lock.
    pub version: i64,
    /// RRULE, canonical text (RFC 5545 section 3.3.10).
    pub rrule: String,
    /// DTSTART: the first occurrence.
    pub starts_at: Timestamp,
    /// IANA zone that the rule is meant in.
    pub timezone: String,
    /// What the next instance is made with.
    pub content: Content,
    /// Since when no instance follows a completed one, for the time being.
    pub paused_at: Option<Timestamp>,
    /// Since when no instance follows a completed one, for good.
    pub ended_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was deleted; it is ended then.
    pub deleted_at: Option<Timestamp>,
}

/// What the instances of a series have in common when they are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// See [`Task::title`].
    pub title: String,
    /// See [`Task::description`].
    #[serde(default)]
    pub description: Option<String>,
    /// See [`Task::priority`].
    pub priority: Priority,
    /// See [`Task::tags`].
    pub tags: Vec<String>,
    /// Whether an instance is due on the day of its occurrence, which is the start of that day then.
    #[serde(default)]
    pub whole_day: bool,
    /// Whether the time of an instance follows the person, as a whole day always does; see [`Task::floating`].
    #[serde(default)]
    pub floating: bool,
    /// See [`Task::whole_day_minute`].
    #[serde(default = "whole_day_minute")]
    pub whole_day_minute: i32,
    /// When an instance reminds.
    pub reminders: Vec<InstanceReminder>,
}

fn whole_day_minute() -> i32 {
    schemas::WHOLE_DAY_MINUTE
}

impl Default for Content {
    fn default() -> Self {
        Self {
            title: String::new(),
            description: None,
            priority: Priority::default(),
            tags: Vec::new(),
            whole_day: false,
            floating: false,
            whole_day_minute: whole_day_minute(),
            reminders: Vec::new(),
        }
    }
}

/// A reminder of instances to come: what a [`TaskReminder`] says that does not belong to one task alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredReminder", into = "StoredReminder")]
pub struct InstanceReminder {
    /// How far from the due time it rings, such as `-PT10M`.
    pub offset: String,
    /// See [`TaskReminder::nag`].
    pub nag: Option<Nag>,
    /// See [`TaskReminder::send_late_within`].
    pub send_late_within: Option<String>,
}

/// As it is stored. One that is nothing but its offset is that text, which versions of before wrote and can read.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum StoredReminder {
    Offset(String),
    Full {
        offset: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nag: Option<Nag>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        send_late_within: Option<String>,
    },
}

impl From<StoredReminder> for InstanceReminder {
    fn from(stored: StoredReminder) -> Self {
        match stored {
            StoredReminder::Offset(offset) => Self::new(offset),
            StoredReminder::Full {
                offset,
                nag,
                send_late_within,
            } => Self {
                offset,
                nag,
                send_late_within,
            },
        }
    }
}

impl From<InstanceReminder> for StoredReminder {
    fn from(reminder: InstanceReminder) -> Self {
        match reminder {
            InstanceReminder {
                offset,
                nag: None,
                send_late_within: None,
            } => Self::Offset(offset),
            InstanceReminder {
                offset,
                nag,
                send_late_within,
            } => Self::Full {
                offset,
                nag,
                send_late_within,
            },
        }
    }
}

impl InstanceReminder {
    /// One that rings once, so far from the due time.
    #[must_use]
    pub fn new(offset: String) -> Self {
        Self {
            offset,
            nag: None,
            send_late_within: None,
        }
    }
}

/// The reminder of one instance, with an id of its own.
impl From<InstanceReminder> for TaskReminder {
    fn from(reminder: InstanceReminder) -> Self {
        Self {
            nag: reminder.nag,
            send_late_within: reminder.send_late_within,
            ..Self::relative(reminder.offset)
        }
    }
}

impl Series {
    /// A new series.
    #[must_use]
    pub fn new(
        rrule: String,
        starts_at: Timestamp,
        timezone: String,
        content: Content,
        now: Timestamp,
    ) -> Self {
        Self {
            id: Uuid::now_v7(),
            version: 1,
            rrule,
            starts_at,
            timezone,
            content,
            paused_at: None,
            ended_at: None,
            created_at: now,
            updated_at: now,
            deleted_at: None,
        }
    }

    /// Whether completing an instance brings another.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.paused_at.is_none() && self.ended_at.is_none()
    }

    /// The first occurrence strictly after `after`; `None` when there is no further one. The first of all is the start, even
    /// where it does not match the rule.
    ///
    /// # Errors
    /// When the rule or the zone cannot be used.
    pub fn next_after(&self, after: Timestamp) -> Result<Option<Timestamp>, Unusable> {
        let zone = schedule::parse_zone(&self.timezone).map_err(|source| Unusable::Zone {
            series_id: self.id,
            source,
        })?;
        if self.starts_at > after {
            return Ok(Some(self.starts_at));
        }
        Rule::parse(&self.rrule)
            .and_then(|rule| rule.next_after(self.starts_at, zone, after))
            .map_err(|source| Unusable::Rule {
                series_id: self.id,
                rrule: self.rrule.clone(),
                source,
            })
    }

    /// The `due_at` and `due_on` of the instance of an occurrence.
    #[must_use]
    pub fn due(&self, occurrence: Timestamp) -> (Option<Timestamp>, Option<NaiveDate>) {
        if self.content.whole_day {
            let zone = schedule::parse_zone(&self.timezone).unwrap_or(Tz::UTC);
            (None, Some(occurrence.with_timezone(&zone).date_naive()))
        } else {
            (Some(occurrence), None)
        }
    }

    /// A new, open instance, whoever makes it. Its reminders have ids of their own: a reminder rings once.
    #[must_use]
    pub fn instance(&self, occurrence: Timestamp, now: Timestamp) -> Task {
        let content = self.content.clone();
        let reminders = content.reminders.into_iter();
        let (due_at, due_on) = self.due(occurrence);
        Task {
            id: Uuid::now_v7(),
            version: 1,
            title: content.title,
            description: content.description,
            priority: content.priority,
            tags: content.tags,
            due_at,
            due_on,
            timezone: self.timezone.clone(),
            floating: content.floating && !content.whole_day,
            whole_day_minute: content.whole_day_minute,
            reminders: reminders.map(TaskReminder::from).collect(),
            depends_on: Vec::new(),
            series_id: Some(self.id),
            occurrence: Some(occurrence),
            recurrence: Some(self.rrule.clone()),
            created_at: now,
            updated_at: now,
            completed_at: None,
            deleted_at: None,
        }
    }
}

/// Why a series has no next occurrence that could be computed. Trying again gives the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Its rule is none.
    #[error("the rule {rrule:?} of series {series_id} cannot be used: {source}")]
    Rule {
        /// The series.
        series_id: Uuid,
        /// Its rule.
        rrule: String,
        /// What is wrong with it.
        source: RuleError,
    },
    /// Its zone is none.
    #[error("series {series_id} has no usable time zone: {source}")]
    Zone {
        /// The series.
        series_id: Uuid,
        /// What is wrong with it.
        source: ZoneError,
    },
}

impl Content {
    /// What an instance holds, for the next ones: a reminder at a fixed instant becomes one as far from the due time. One
    /// that is further than an offset can be rings for this instance only.
    #[must_use]
    pub fn of(task: &Task) -> Self {
        let zone = schedule::parse_zone(&task.timezone).unwrap_or(Tz::UTC);
        let due = Due::of(task.due_at, task.due_on)
            .map(|due| due.anchor(zone, task.whole_day_minute))
            .or(task.occurrence);
        let offset = |at: Timestamp| Some(Offset::between(due?, at)?.to_string());
        let reminders = task.reminders.iter();
        Self {
            title: task.title.clone(),
            description: task.description.clone(),
            priority: task.priority,
            tags: task.tags.clone(),
            whole_day: task.due_on.is_some(),
            floating: task.floating,
            whole_day_minute: task.whole_day_minute,
            reminders: reminders
                .filter_map(|reminder| {
                    Some(InstanceReminder {
                        offset: reminder.offset.clone().or_else(|| offset(reminder.at?))?,
                        nag: reminder.nag.clone(),
                        send_late_within: reminder.send_late_within.clone(),
                    })
                })
                .collect(),
        }
    }
}

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
async fn read(db: &mut PgConnection, user_id: Uuid, row: &PgRow) -> Result<Series, sqlx::Error> {
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
        ") values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
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
    .execute(tx)
    .await?;
    Ok(())
}

/// The person's series of that id, unless it is deleted.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn get(db: &mut PgConnection, user_id: Uuid, id: Uuid) -> Result<Option<Series>, sqlx::Error> {
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        " from tasks.series where user_id = $1 and id = $2 and deleted_at is null"
    ))
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
        columns!(),
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
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        " from tasks.series where user_id = $1 and id = $2 and deleted_at is null for update"
    ))
    .bind(user_id)
    .bind(id)
    .fetch_optional(&mut *tx)
    .await?;
    match row {
        Some(row) => read(tx, user_id, &row).await.map(Some),
        None => Ok(None),
    }
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
        columns!(),
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
             updated_at = $10, deleted_at = $11
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
    .execute(tx)
    .await?;
    if done.rows_affected() == 1 {
        Ok(())
    } else {
        Err(sqlx::Error::RowNotFound)
    }
}

/// Ends a series, locked before in the same transaction, unless it has ended already: the one change that the recurrence
/// generator makes, and may make.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn end(tx: &mut PgConnection, user_id: Uuid, id: Uuid, at: Timestamp) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update tasks.series set version = version + 1, ended_at = $3, updated_at = greatest($3, updated_at)
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

/// The latest occurrence that the series has an instance for, but for the instance `except`. Deleted ones count: a deleted
/// instance must not come back.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn latest_occurrence(
    tx: &mut PgConnection,
    user_id: Uuid,
    id: Uuid,
    except: Option<Uuid>,
) -> Result<Option<Timestamp>, sqlx::Error> {
    sqlx::query_scalar(
        "select max(occurrence) from tasks.tasks where user_id = $1 and series_id = $2 and id is distinct from $3",
    )
    .bind(user_id)
    .bind(id)
    .bind(except)
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

/// The latest occurrence whose instance is completed or deleted: what is to come comes after it.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn latest_closed(
    db: &mut PgConnection,
    user_id: Uuid,
    id: Uuid,
) -> Result<Option<Timestamp>, sqlx::Error> {
    sqlx::query_scalar(
        "select max(occurrence) from tasks.tasks
         where user_id = $1 and series_id = $2 and (completed_at is not null or deleted_at is not null)",
    )
    .bind(user_id)
    .bind(id)
    .fetch_one(db)
    .await
}
