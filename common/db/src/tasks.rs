//! Tasks, shared by everyone who writes them: the HTTP API, the recurrence generator and, later, others.
//! Every function takes the owner first, so that no query can be written that forgets whose task it is.
//!
//! Locks are taken in one order: a series, then its tasks by id, then the person's dependencies.

use chrono::NaiveDate;
use schedule::{Due, Tz};
use schemas::{Encoded, Priority, Task, TaskReminder, Timestamp};
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor, Row};
use uuid::Uuid;

use crate::outbox::headers_json;
use crate::sweep::BITE;

macro_rules! columns {
    () => {
        "id, version, title, description, priority, tags, due_at, due_on, timezone, floating, whole_day_minute, reminders, \
         depends_on, series_id, occurrence, recurrence, created_at, updated_at, completed_at, deleted_at"
    };
}

/// The rows of a parameter that [`rows`] made.
macro_rules! recordset {
    ($parameter:literal) => {
        concat!(
            "jsonb_to_recordset(",
            $parameter,
            ") r (user_id uuid, id uuid, version bigint, title text, description text, priority text, tags text[], \
             due_at timestamptz, due_on date, due_on_starts_at timestamptz, timezone text, floating boolean, \
             whole_day_minute integer, reminders jsonb, depends_on uuid[], series_id uuid, occurrence timestamptz, recurrence text, created_at timestamptz, \
             updated_at timestamptz, completed_at timestamptz, deleted_at timestamptz)"
        )
    };
}

/// The columns that [`from_row`] reads.
pub const COLUMNS: &str = columns!();

/// The task in a row of [`COLUMNS`].
///
/// # Errors
/// When a column is missing or holds what it cannot.
pub fn from_row(row: &PgRow) -> Result<Task, sqlx::Error> {
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
        due_on: row.try_get("due_on")?,
        timezone: row.try_get("timezone")?,
        floating: row.try_get("floating")?,
        whole_day_minute: row.try_get("whole_day_minute")?,
        reminders,
        depends_on: row.try_get("depends_on")?,
        series_id: row.try_get("series_id")?,
        occurrence: row.try_get("occurrence")?,
        recurrence: row.try_get("recurrence")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        completed_at: row.try_get("completed_at")?,
        deleted_at: row.try_get("deleted_at")?,
    })
}

/// When the day of a whole-day task starts, for sorting and comparing it with others. A zone that this build does not know
/// comes from one with newer zone data.
fn due_on_starts_at(task: &Task) -> Option<Timestamp> {
    let zone = schedule::parse_zone(&task.timezone).unwrap_or(Tz::UTC);
    Due::of(None, task.due_on).map(|due| due.starts_at(zone))
}

/// Writes a new task and its event in one statement, which is one transaction where the caller has none open. Returns
/// false, and writes neither, when the series already has that occurrence (or the id is taken, which a new one never is).
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
        ", due_on_starts_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)
             on conflict do nothing
             returning 1
         )
         insert into outbox.events (event_id, topic, user_id, event_type, fingerprint, body, headers)
         select $23, $24, $1, $25, $26, $27, $28::jsonb from task"
    ))
    .bind(user_id)
    .bind(task.id)
    .bind(task.version)
    .bind(&task.title)
    .bind(&task.description)
    .bind(task.priority.as_str())
    .bind(&task.tags)
    .bind(task.due_at)
    .bind(task.due_on)
    .bind(&task.timezone)
    .bind(task.floating)
    .bind(task.whole_day_minute)
    .bind(Json(&task.reminders))
    .bind(&task.depends_on)
    .bind(task.series_id)
    .bind(task.occurrence)
    .bind(&task.recurrence)
    .bind(task.created_at)
    .bind(task.updated_at)
    .bind(task.completed_at)
    .bind(task.deleted_at)
    .bind(due_on_starts_at(task))
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
    let task = get_or_deleted(db, user_id, id).await?;
    Ok(task.filter(|task| task.deleted_at.is_none()))
}

/// The person's tasks of those ids that are not deleted.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn get_many(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    ids: &[Uuid],
) -> Result<Vec<Task>, sqlx::Error> {
    let rows = sqlx::query(concat!(
        "select ",
        columns!(),
        " from tasks.tasks where user_id = $1 and id = any($2) and deleted_at is null"
    ))
    .bind(user_id)
    .bind(ids)
    .fetch_all(db)
    .await?;
    rows.iter().map(from_row).collect()
}

/// The person's task of that id, deleted or not.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn get_or_deleted(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    id: Uuid,
) -> Result<Option<Task>, sqlx::Error> {
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        " from tasks.tasks where user_id = $1 and id = $2"
    ))
    .bind(user_id)
    .bind(id)
    .fetch_optional(db)
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// The person's task of that id, deleted or not, locked until the transaction ends: what follows in it sees the newest
/// version, and versions are given in the order of commits.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn lock(tx: &mut PgConnection, user_id: Uuid, id: Uuid) -> Result<Option<Task>, sqlx::Error> {
    Ok(lock_many(tx, user_id, &[id]).await?.pop())
}

/// The person's tasks of those ids, deleted or not, locked like one, in the order of their ids.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn lock_many(tx: &mut PgConnection, user_id: Uuid, ids: &[Uuid]) -> Result<Vec<Task>, sqlx::Error> {
    let rows = sqlx::query(concat!(
        "select ",
        columns!(),
        " from tasks.tasks where user_id = $1 and id = any($2) order by id for update"
    ))
    .bind(user_id)
    .bind(ids)
    .fetch_all(tx)
    .await?;
    rows.iter().map(from_row).collect()
}

/// The person's tasks with that tag that are not deleted, locked, in the order of their ids: the first `limit` of those
/// behind `after`.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn lock_tagged(
    tx: &mut PgConnection,
    user_id: Uuid,
    tag: &str,
    after: Uuid,
    limit: i64,
) -> Result<Vec<Task>, sqlx::Error> {
    let rows = sqlx::query(concat!(
        "select ",
        columns!(),
        " from tasks.tasks
          where user_id = $1 and tags @> array[$2::text] and deleted_at is null and id > $3
          order by id limit $4 for update"
    ))
    .bind(user_id)
    .bind(tag)
    .bind(after)
    .bind(limit)
    .fetch_all(tx)
    .await?;
    rows.iter().map(from_row).collect()
}

/// A tag, and how many tasks have it that are not deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagCount {
    /// The tag.
    pub tag: String,
    /// All of them.
    pub tasks: i64,
    /// Those that are not completed.
    pub open: i64,
}

/// The person's tags by name, the first `limit` of those behind `after`.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn tags(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<TagCount>, sqlx::Error> {
    let rows = sqlx::query(
        "select tag, count(*) as tasks, count(*) filter (where completed_at is null) as open
         from tasks.tasks, unnest(tags) tag
         where user_id = $1 and deleted_at is null and ($2::text is null or tag collate search.titles > $2)
         group by tag order by tag collate search.titles limit $3",
    )
    .bind(user_id)
    .bind(after)
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.iter().map(tag_from_row).collect()
}

/// The person's tag of that name, if a task has it.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn tag(db: impl PgExecutor<'_>, user_id: Uuid, tag: &str) -> Result<Option<TagCount>, sqlx::Error> {
    let row = sqlx::query(
        "select $2::text as tag, count(*) as tasks, count(*) filter (where completed_at is null) as open
         from tasks.tasks where user_id = $1 and tags @> array[$2::text] and deleted_at is null
         having count(*) > 0",
    )
    .bind(user_id)
    .bind(tag)
    .fetch_optional(db)
    .await?;
    row.as_ref().map(tag_from_row).transpose()
}

fn tag_from_row(row: &PgRow) -> Result<TagCount, sqlx::Error> {
    Ok(TagCount {
        tag: row.try_get("tag")?,
        tasks: row.try_get("tasks")?,
        open: row.try_get("open")?,
    })
}

/// Tasks of the person that are not deleted, at most `limit`, locked like one, in the order of their ids; those that others
/// hold are left out.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn lock_some(tx: &mut PgConnection, user_id: Uuid, limit: i64) -> Result<Vec<Task>, sqlx::Error> {
    let rows = sqlx::query(concat!(
        "select ",
        columns!(),
        " from tasks.tasks where user_id = $1 and deleted_at is null order by id limit $2 for update skip locked"
    ))
    .bind(user_id)
    .bind(limit)
    .fetch_all(tx)
    .await?;
    rows.iter().map(from_row).collect()
}

/// Open tasks of the person that follow them and are not in that zone yet, or count from another minute of whole days; the
/// first `limit`, locked like one, in the order of their ids.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn lock_following(
    tx: &mut PgConnection,
    user_id: Uuid,
    timezone: &str,
    whole_day_minute: i32,
    limit: i64,
) -> Result<Vec<Task>, sqlx::Error> {
    let rows = sqlx::query(concat!(
        "select ",
        columns!(),
        " from tasks.tasks
          where user_id = $1 and completed_at is null and deleted_at is null and (due_on is not null or floating)
            and (timezone <> $2 or whole_day_minute <> $3)
          order by id limit $4 for update"
    ))
    .bind(user_id)
    .bind(timezone)
    .bind(whole_day_minute)
    .bind(limit)
    .fetch_all(tx)
    .await?;
    rows.iter().map(from_row).collect()
}

/// The person's task that has a reminder of that id, unless it is deleted. It looks through all of them: for reminders that
/// the scanner knows, [`crate::reminders`] is faster.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn with_reminder(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    reminder_id: Uuid,
) -> Result<Option<Task>, sqlx::Error> {
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        " from tasks.tasks
          where user_id = $1 and reminders @> jsonb_build_array(jsonb_build_object('id', $2::text)) and deleted_at is null
          limit 1"
    ))
    .bind(user_id)
    .bind(reminder_id.to_string())
    .fetch_optional(db)
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// The person's tasks behind that id, deleted ones included, oldest first.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn all(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    after: Uuid,
    limit: i64,
) -> Result<Vec<Task>, sqlx::Error> {
    let rows = sqlx::query(concat!(
        "select ",
        columns!(),
        " from tasks.tasks where user_id = $1 and id > $2 order by id limit $3"
    ))
    .bind(user_id)
    .bind(after)
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.iter().map(from_row).collect()
}

/// Which of those ids are tasks of the person, neither completed nor deleted: what blocks a task that depends on them.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn open_among(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    ids: &[Uuid],
) -> Result<Vec<Uuid>, sqlx::Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_scalar(
        "select id from tasks.tasks
         where user_id = $1 and id = any($2) and completed_at is null and deleted_at is null",
    )
    .bind(user_id)
    .bind(ids)
    .fetch_all(db)
    .await
}

/// Why a task cannot depend on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DependencyFlaw {
    /// It is no task of this person, or deleted.
    Unknown,
    /// It depends on the task already, directly or by way of others, or is the task.
    Cycle,
}

/// What is wrong with each of the tasks that the person's task `id` is to depend on; right ones are left out. One
/// transaction of a person at a time may ask: two that are right each for itself could be a cycle together.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn check_dependencies(
    tx: &mut PgConnection,
    user_id: Uuid,
    id: Uuid,
    depends_on: &[Uuid],
) -> Result<Vec<(Uuid, DependencyFlaw)>, sqlx::Error> {
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('tasks.depends_on/' || $1::text, 0))")
        .bind(user_id)
        .execute(&mut *tx)
        .await?;
    let rows = sqlx::query(
        "with recursive behind (root, id, trail) as (
             select id, id, depends_on from tasks.tasks
             where user_id = $1 and id = any($3) and deleted_at is null
             union
             select b.root, t.id, t.depends_on
             from behind b, unnest(b.trail) next (id) join tasks.tasks t on t.user_id = $1 and t.id = next.id
         )
         select wanted.id, count(behind.id) > 0 as known, coalesce(bool_or(behind.id = $2), false) as cycle
         from unnest($3) wanted (id) left join behind on behind.root = wanted.id
         group by wanted.id
         having count(behind.id) = 0 or bool_or(behind.id = $2)",
    )
    .bind(user_id)
    .bind(id)
    .bind(depends_on)
    .fetch_all(tx)
    .await?;
    rows.iter()
        .map(|row| {
            let flaw = if row.try_get("cycle")? {
                DependencyFlaw::Cycle
            } else {
                DependencyFlaw::Unknown
            };
            Ok((row.try_get("id")?, flaw))
        })
        .collect()
}

/// Removes tasks that were deleted before `before`, at most [`BITE`] of them, whoever's they are; returns how many. The
/// latest instance of a series stays: its occurrence tells how far the series has come.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn purge_deleted(db: impl PgExecutor<'_>, before: Timestamp) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "delete from tasks.tasks where (user_id, id) in (
             select user_id, id from tasks.tasks t
             where deleted_at < $1 and (series_id is null or exists (
                 select from tasks.tasks later
                 where later.user_id = t.user_id and later.series_id = t.series_id and later.occurrence > t.occurrence))
             limit $2
             for update skip locked)",
    )
    .bind(before)
    .bind(i64::try_from(BITE).unwrap_or(i64::MAX))
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}

/// Writes new tasks, none of a series that has instances already, and their events.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn insert_many(
    tx: &mut PgConnection,
    user_id: Uuid,
    tasks: &[Task],
    events: &[Encoded],
) -> Result<(), sqlx::Error> {
    if tasks.is_empty() {
        return Ok(());
    }
    sqlx::query(concat!(
        "insert into tasks.tasks (user_id, ",
        columns!(),
        ", due_on_starts_at) select $1, ",
        columns!(),
        ", due_on_starts_at from ",
        recordset!("$2"),
    ))
    .bind(user_id)
    .bind(rows(tasks))
    .execute(&mut *tx)
    .await?;
    crate::outbox::insert(tx, events).await
}

/// Writes new instances of series, each with its owner, but for those whose place is taken already; their events are the
/// caller's to write. Returns the ids of those that were written.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn insert_instances(
    tx: &mut PgConnection,
    instances: &[(Uuid, Task)],
) -> Result<Vec<Uuid>, sqlx::Error> {
    if instances.is_empty() {
        return Ok(Vec::new());
    }
    let rows = instances.iter().map(|(user_id, task)| OwnedRowJson {
        user_id: *user_id,
        row: task.into(),
    });
    sqlx::query_scalar(concat!(
        "insert into tasks.tasks (user_id, ",
        columns!(),
        ", due_on_starts_at) select user_id, ",
        columns!(),
        ", due_on_starts_at from ",
        recordset!("$1"),
        " on conflict do nothing returning id"
    ))
    .bind(Json(rows.collect::<Vec<_>>()))
    .fetch_all(tx)
    .await
}

/// Writes an instance that was moved to another occurrence of its series, locked before in the same transaction, and the
/// event of that: all that the recurrence generator changes about a task, and may change.
///
/// # Errors
/// As [`update`].
pub async fn roll(
    tx: &mut PgConnection,
    user_id: Uuid,
    task: &Task,
    event: &Encoded,
) -> Result<(), sqlx::Error> {
    let done = sqlx::query(
        "update tasks.tasks
         set version = $3, due_at = $4, due_on = $5, due_on_starts_at = $6, occurrence = $7, reminders = $8, updated_at = $9
         where user_id = $1 and id = $2 and version = $3 - 1",
    )
    .bind(user_id)
    .bind(task.id)
    .bind(task.version)
    .bind(task.due_at)
    .bind(task.due_on)
    .bind(due_on_starts_at(task))
    .bind(task.occurrence)
    .bind(Json(&task.reminders))
    .bind(task.updated_at)
    .execute(&mut *tx)
    .await?;
    if done.rows_affected() != 1 {
        return Err(sqlx::Error::RowNotFound);
    }
    crate::outbox::insert(tx, std::slice::from_ref(event)).await
}

/// Writes changed tasks, locked before in the same transaction, and their events.
///
/// # Errors
/// When the database does not answer or refuses; [`sqlx::Error::RowNotFound`] when a row is not the version before that
/// of its task, which the lock rules out.
pub async fn update(
    tx: &mut PgConnection,
    user_id: Uuid,
    tasks: &[Task],
    events: &[Encoded],
) -> Result<(), sqlx::Error> {
    if tasks.is_empty() {
        return Ok(());
    }
    let done = sqlx::query(concat!(
        "update tasks.tasks t
         set version = r.version, title = r.title, description = r.description, priority = r.priority, tags = r.tags,
             due_at = r.due_at, due_on = r.due_on, timezone = r.timezone, floating = r.floating,
             whole_day_minute = r.whole_day_minute, reminders = r.reminders,
             depends_on = r.depends_on, series_id = r.series_id, occurrence = r.occurrence, recurrence = r.recurrence,
             updated_at = r.updated_at, completed_at = r.completed_at, deleted_at = r.deleted_at,
             due_on_starts_at = r.due_on_starts_at
         from ",
        recordset!("$2"),
        " where t.user_id = $1 and t.id = r.id and t.version = r.version - 1"
    ))
    .bind(user_id)
    .bind(rows(tasks))
    .execute(&mut *tx)
    .await?;
    if done.rows_affected() != tasks.len() as u64 {
        return Err(sqlx::Error::RowNotFound);
    }
    crate::outbox::insert(tx, events).await
}

/// Tasks as rows that [`recordset`] reads: a statement takes any number of them, and arrays in them, in one parameter.
fn rows(tasks: &[Task]) -> Json<Vec<RowJson<'_>>> {
    Json(tasks.iter().map(RowJson::from).collect())
}

#[derive(Serialize)]
struct RowJson<'a> {
    id: Uuid,
    version: i64,
    title: &'a str,
    description: Option<&'a str>,
    priority: &'static str,
    tags: &'a [String],
    due_at: Option<Timestamp>,
    due_on: Option<NaiveDate>,
    due_on_starts_at: Option<Timestamp>,
    timezone: &'a str,
    floating: bool,
    whole_day_minute: i32,
    reminders: &'a [TaskReminder],
    depends_on: &'a [Uuid],
    series_id: Option<Uuid>,
    occurrence: Option<Timestamp>,
    recurrence: Option<&'a str>,
    created_at: Timestamp,
    updated_at: Timestamp,
    completed_at: Option<Timestamp>,
    deleted_at: Option<Timestamp>,
}

#[derive(Serialize)]
struct OwnedRowJson<'a> {
    user_id: Uuid,
    #[serde(flatten)]
    row: RowJson<'a>,
}

impl<'a> From<&'a Task> for RowJson<'a> {
    fn from(task: &'a Task) -> Self {
        Self {
            id: task.id,
            version: task.version,
            title: &task.title,
            description: task.description.as_deref(),
            priority: task.priority.as_str(),
            tags: &task.tags,
            due_at: task.due_at,
            due_on: task.due_on,
            due_on_starts_at: due_on_starts_at(task),
            timezone: &task.timezone,
            floating: task.floating,
            whole_day_minute: task.whole_day_minute,
            reminders: &task.reminders,
            depends_on: &task.depends_on,
            series_id: task.series_id,
            occurrence: task.occurrence,
            recurrence: task.recurrence.as_deref(),
            created_at: task.created_at,
            updated_at: task.updated_at,
            completed_at: task.completed_at,
            deleted_at: task.deleted_at,
        }
    }
}

/// The open instances of the person's series, in the order of their ids, locked until the transaction ends. The series is
/// locked before (see [`crate::series`]).
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn lock_open_instances(
    tx: &mut PgConnection,
    user_id: Uuid,
    series_id: Uuid,
) -> Result<Vec<Task>, sqlx::Error> {
    let rows = sqlx::query(concat!(
        "select ",
        columns!(),
        " from tasks.tasks
          where user_id = $1 and series_id = $2 and completed_at is null and deleted_at is null
          order by id for update"
    ))
    .bind(user_id)
    .bind(series_id)
    .fetch_all(tx)
    .await?;
    rows.iter().map(from_row).collect()
}

/// The open instances of the person's series.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn open_instances(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    series_id: Uuid,
) -> Result<Vec<Task>, sqlx::Error> {
    let rows = sqlx::query(concat!(
        "select ",
        columns!(),
        " from tasks.tasks
          where user_id = $1 and series_id = $2 and completed_at is null and deleted_at is null"
    ))
    .bind(user_id)
    .bind(series_id)
    .fetch_all(db)
    .await?;
    rows.iter().map(from_row).collect()
}

/// The instance of the latest occurrence of the person's series, be it completed or deleted.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn newest_instance(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    series_id: Uuid,
) -> Result<Option<Task>, sqlx::Error> {
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        " from tasks.tasks where user_id = $1 and series_id = $2 order by occurrence desc limit 1"
    ))
    .bind(user_id)
    .bind(series_id)
    .fetch_optional(db)
    .await?;
    row.as_ref().map(from_row).transpose()
}
