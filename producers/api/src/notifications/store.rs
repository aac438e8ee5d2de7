//! SQL of notifications, as far as it is the API's.

use preferences::{Channel, Kind, Mode, Override, Settings};
use schemas::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

/// The most unread ones that are counted.
pub const MAX_COUNTED: i64 = 1000;

/// The settings of a person with their version: 0 for who never said anything.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn settings(db: impl PgExecutor<'_>, user_id: Uuid) -> Result<(i64, Settings), sqlx::Error> {
    let found: Option<(i64, Json<Settings>)> =
        sqlx::query_as("select version, settings from accounts.notification_settings where user_id = $1")
            .bind(user_id)
            .fetch_optional(db)
            .await?;
    Ok(found.map_or_else(Default::default, |(version, Json(settings))| (version, settings)))
}

/// The same, locked against other changes until the transaction ends.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn lock(tx: &mut PgConnection, user_id: Uuid) -> Result<(i64, Settings), sqlx::Error> {
    // Who has no row has none to lock: the person's own row stands for it.
    sqlx::query("select from accounts.users where id = $1 for no key update")
        .bind(user_id)
        .execute(&mut *tx)
        .await?;
    settings(tx, user_id).await
}

/// Writes them as the version after that. Call [`lock`] before.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn write(
    tx: &mut PgConnection,
    user_id: Uuid,
    version: i64,
    settings: &Settings,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "insert into accounts.notification_settings as s (user_id, version, settings) values ($1, $2 + 1, $3)
         on conflict (user_id) do update
             set version = excluded.version, settings = excluded.settings, updated_at = now()
         returning version",
    )
    .bind(user_id)
    .bind(version)
    .bind(Json(settings))
    .fetch_one(tx)
    .await
}

/// Turns a channel off for a kind, as who unsubscribes wants it. False when it was off.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn turn_off(
    tx: &mut PgConnection,
    user_id: Uuid,
    kind: Kind,
    channel: Channel,
) -> Result<bool, sqlx::Error> {
    let (version, mut settings) = lock(&mut *tx, user_id).await?;
    let modes = settings.modes_mut(kind);
    let mode = match channel {
        Channel::Email => &mut modes.email,
        Channel::InApp => &mut modes.in_app,
    };
    if std::mem::replace(mode, Mode::Off) == Mode::Off {
        return Ok(false);
    }
    write(tx, user_id, version, &settings).await?;
    Ok(true)
}

/// What something is said of.
#[derive(Debug, Clone, Copy)]
pub enum Subject {
    /// A task.
    Task(Uuid),
    /// All instances of a recurring task.
    Series(Uuid),
}

impl Subject {
    /// The two columns of the table.
    fn columns(self) -> (Option<Uuid>, Option<Uuid>) {
        match self {
            Self::Task(id) => (Some(id), None),
            Self::Series(id) => (None, Some(id)),
        }
    }
}

/// What a person said of a task; `None` when there is no such task of theirs.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn said(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    subject: Subject,
) -> Result<Option<Override>, sqlx::Error> {
    let (task, series) = subject.columns();
    let found: Option<Option<Json<Override>>> = sqlx::query_scalar(
        "select o.override
         from (select user_id, id as task_id, null::uuid as series_id from tasks.tasks
               where user_id = $1 and id = $2 and deleted_at is null
               union all
               select user_id, null, id from tasks.series where user_id = $1 and id = $3) s
              left join tasks.notification_overrides o
                  on o.user_id = s.user_id and (o.task_id = s.task_id or o.series_id = s.series_id)",
    )
    .bind(user_id)
    .bind(task)
    .bind(series)
    .fetch_optional(db)
    .await?;
    Ok(found.map(|said| said.map(|Json(said)| said).unwrap_or_default()))
}

/// Says it. The task must be there: see [`said`].
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn say(
    tx: &mut PgConnection,
    user_id: Uuid,
    subject: Subject,
    said: &Override,
) -> Result<(), sqlx::Error> {
    unsay(&mut *tx, user_id, subject).await?;
    let (task, series) = subject.columns();
    sqlx::query(
        "insert into tasks.notification_overrides (user_id, task_id, series_id, override) values ($1, $2, $3, $4)
         on conflict do nothing",
    )
    .bind(user_id)
    .bind(task)
    .bind(series)
    .bind(Json(said))
    .execute(tx)
    .await?;
    Ok(())
}

/// Says of a series what is said of the one that it goes on from.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn carry_over(
    tx: &mut PgConnection,
    user_id: Uuid,
    from_series_id: Uuid,
    to_series_id: Uuid,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into tasks.notification_overrides (user_id, series_id, override)
         select user_id, $3, override from tasks.notification_overrides where user_id = $1 and series_id = $2",
    )
    .bind(user_id)
    .bind(from_series_id)
    .bind(to_series_id)
    .execute(tx)
    .await?;
    Ok(())
}

/// Takes it back.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn unsay(db: impl PgExecutor<'_>, user_id: Uuid, subject: Subject) -> Result<(), sqlx::Error> {
    let (task, series) = subject.columns();
    sqlx::query(
        "delete from tasks.notification_overrides where user_id = $1 and (task_id = $2 or series_id = $3)",
    )
    .bind(user_id)
    .bind(task)
    .bind(series)
    .execute(db)
    .await?;
    Ok(())
}

/// A row of the list.
#[derive(Debug, FromRow)]
pub struct Notification {
    /// Its identity.
    pub id: Uuid,
    /// What it tells: the name of a [`Kind`].
    pub kind: String,
    /// The reminder.
    pub reminder_id: Uuid,
    /// Its task.
    pub task_id: Uuid,
    /// The task's title as it was.
    pub title: String,
    /// When the reminder was due.
    pub fire_at: Timestamp,
    /// Why something was not sent.
    pub detail: Option<String>,
    /// When it came to be.
    pub at: Timestamp,
    /// When it was read.
    pub read_at: Option<Timestamp>,
}

/// A place in the list, newest first.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// When it came to be.
    pub at: Timestamp,
    /// Which of that time.
    pub id: Uuid,
}

/// The list behind a place, newest first.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn list(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    unread: bool,
    after: Option<Position>,
    limit: i64,
) -> Result<Vec<Notification>, sqlx::Error> {
    sqlx::query_as(
        "select id, kind, reminder_id, task_id, title, fire_at, detail, at, read_at
         from notifications.notifications
         where user_id = $1 and (read_at is null or not $2) and ($3::timestamptz is null or (at, id) < ($3, $4))
         order by at desc, id desc limit $5",
    )
    .bind(user_id)
    .bind(unread)
    .bind(after.as_ref().map(|after| after.at))
    .bind(after.map(|after| after.id))
    .bind(limit)
    .fetch_all(db)
    .await
}

/// How many are unread, counted up to [`MAX_COUNTED`].
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn count_unread(db: impl PgExecutor<'_>, user_id: Uuid) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "select count(*) from (select from notifications.notifications where user_id = $1 and read_at is null limit $2) n",
    )
    .bind(user_id)
    .bind(MAX_COUNTED)
    .fetch_one(db)
    .await
}

/// Marks one as read, if it was not, and returns it; `None` when there is no such one.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn read(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    id: Uuid,
) -> Result<Option<Notification>, sqlx::Error> {
    sqlx::query_as(
        "update notifications.notifications set read_at = coalesce(read_at, now())
         where user_id = $1 and id = $2
         returning id, kind, reminder_id, task_id, title, fire_at, detail, at, read_at",
    )
    .bind(user_id)
    .bind(id)
    .fetch_optional(db)
    .await
}

/// Marks all as read that came to be until then. Returns how many were not.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn read_all(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    until: Option<Timestamp>,
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "update notifications.notifications set read_at = now()
         where user_id = $1 and read_at is null and ($2::timestamptz is null or at <= $2)",
    )
    .bind(user_id)
    .bind(until)
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}
