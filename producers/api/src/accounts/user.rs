//! The table `accounts.users`. A deleted account is in none of these answers.

use chrono::{DateTime, TimeDelta, Utc};
use schedule::Offset;
use serde::{Serialize, Serializer};
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row};
use utoipa::ToSchema;
use uuid::Uuid;

use super::input::Profile;
use crate::problem::{Kind, Problem};
use crate::tasks::view;

/// A person, without the password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Account)]
pub struct User {
    /// Identity of the person.
    pub id: Uuid,
    /// As given, its domain in lower case.
    pub email: String,
    /// Whether a mail to the address was answered.
    pub email_verified: bool,
    /// What to call the person.
    pub name: String,
    /// IANA zone: the one of new tasks that name none, and of everything that follows the person.
    pub timezone: String,
    /// What the person says of reminders in general.
    #[serde(flatten)]
    pub settings: Settings,
    /// How mails to the person look.
    #[serde(flatten)]
    pub mail: MailSettings,
    /// When the account was made.
    #[serde(serialize_with = "view::timestamp")]
    pub created_at: DateTime<Utc>,
    /// Counts the changes of the account; the ETag is this number in quotes.
    #[schema(minimum = 1)]
    pub version: i64,
}

/// What a person says of reminders in general.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ReminderSettings)]
pub struct Settings {
    /// The time of a whole day from which offsets of reminders count.
    #[serde(rename = "whole_day_time", serialize_with = "time_of_day")]
    #[schema(value_type = String, example = "09:00")]
    pub whole_day_minute: i32,
    /// How late a reminder may still ring that says nothing about it: ISO 8601 duration.
    #[serde(rename = "send_late_within", serialize_with = "duration")]
    #[schema(value_type = String, example = "PT24H")]
    pub send_late_within_seconds: i64,
}

impl Default for Settings {
    /// As the table has it.
    fn default() -> Self {
        Self {
            whole_day_minute: schemas::WHOLE_DAY_MINUTE,
            send_late_within_seconds: 24 * 3600,
        }
    }
}

/// How mails to a person look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct MailSettings {
    /// What they, and the pages that their links lead to, are written in.
    pub language: Language,
    /// Whether a reminder of a task that is due has it attached for the calendar (RFC 5545).
    pub attach_ics: bool,
}

/// A language that people are written to in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ToSchema)]
pub enum Language {
    /// English.
    #[default]
    #[serde(rename = "en")]
    English,
    /// German.
    #[serde(rename = "de")]
    German,
}

impl Language {
    /// All of them.
    pub const NAMES: &str = "en and de";

    /// As it stands in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::German => "de",
        }
    }

    /// The language of that name (ISO 639-1).
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::English, Self::German]
            .into_iter()
            .find(|language| language.as_str() == name)
    }
}

fn time_of_day<S: Serializer>(minute: &i32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&view::time_of_day(*minute))
}

fn duration<S: Serializer>(seconds: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    let epoch = DateTime::UNIX_EPOCH;
    let offset = Offset::between(epoch, epoch + TimeDelta::seconds(*seconds));
    serializer.collect_str(&offset.unwrap_or(Offset::ZERO))
}

macro_rules! columns {
    () => {
        "id, email, email_verified_at is not null as email_verified, name, timezone, whole_day_minute, \
         send_late_within_seconds, language, attach_ics, created_at, version"
    };
}

fn from_row(row: &PgRow) -> Result<User, sqlx::Error> {
    Ok(User {
        id: row.try_get("id")?,
        email: row.try_get("email")?,
        email_verified: row.try_get("email_verified")?,
        name: row.try_get("name")?,
        timezone: row.try_get("timezone")?,
        settings: Settings {
            whole_day_minute: row.try_get("whole_day_minute")?,
            send_late_within_seconds: row.try_get("send_late_within_seconds")?,
        },
        mail: MailSettings {
            // One that only a newer version knows.
            language: Language::from_name(row.try_get("language")?).unwrap_or_default(),
            attach_ics: row.try_get("attach_ics")?,
        },
        created_at: row.try_get("created_at")?,
        version: row.try_get("version")?,
    })
}

/// Writes a new person. Without a password the person comes by another issuer, or sets one by mail.
///
/// # Errors
/// [`Kind::EmailTaken`] when the address has an account; otherwise when the database does not answer.
pub async fn insert(
    db: impl PgExecutor<'_>,
    user: &User,
    password_hash: Option<&str>,
) -> Result<(), Problem> {
    let done = sqlx::query(
        "insert into accounts.users (id, email, email_verified_at, name, timezone, created_at, version, password_hash)
         values ($1, $2, case when $3 then now() end, $4, $5, $6, $7, $8)",
    )
    .bind(user.id)
    .bind(&user.email)
    .bind(user.email_verified)
    .bind(&user.name)
    .bind(&user.timezone)
    .bind(user.created_at)
    .bind(user.version)
    .bind(password_hash)
    .execute(db)
    .await;
    done.map_err(|error| taken(error, "Log in, or register with another address."))?;
    Ok(())
}

/// What it means that an address could not be written.
fn taken(error: sqlx::Error, detail: &'static str) -> Problem {
    if db::violated_constraint(&error) == Some("users_email_key") {
        Problem::new(Kind::EmailTaken, detail)
    } else {
        error.into()
    }
}

/// Gives the person an address that has been shown to be the own one. False when there is no such person.
///
/// # Errors
/// [`Kind::EmailTaken`] when another account has it; otherwise when the database does not answer.
pub async fn set_verified_email(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    email: &str,
) -> Result<bool, Problem> {
    let done = sqlx::query(
        "update accounts.users set email = $2, email_verified_at = now(), version = version + 1
         where id = $1 and deleted_at is null",
    )
    .bind(user_id)
    .bind(email)
    .execute(db)
    .await
    .map_err(|error| taken(error, "By now the address has an account of its own."))?;
    Ok(done.rows_affected() == 1)
}

/// The person.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn find(db: impl PgExecutor<'_>, user_id: Uuid) -> Result<Option<User>, sqlx::Error> {
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        " from accounts.users where id = $1 and deleted_at is null"
    ))
    .bind(user_id)
    .fetch_optional(db)
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// The person of that address, in any capitalisation, and the hash of the password.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn find_by_email(
    db: impl PgExecutor<'_>,
    email: &str,
) -> Result<Option<(User, Option<String>)>, sqlx::Error> {
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        ", password_hash from accounts.users where lower(email) = lower($1) and deleted_at is null"
    ))
    .bind(email)
    .fetch_optional(db)
    .await?;
    row.map(|row| Ok((from_row(&row)?, row.try_get("password_hash")?)))
        .transpose()
}

/// The hash of the person's password. The outer `None`: there is no such person.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn password_hash(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
) -> Result<Option<Option<String>>, sqlx::Error> {
    sqlx::query_scalar("select password_hash from accounts.users where id = $1 and deleted_at is null")
        .bind(user_id)
        .fetch_optional(db)
        .await
}

/// Sets the password, provided that it still is the one of that hash: of two changes at once one wins.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn change_password(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    old_hash: Option<&str>,
    new_hash: &str,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "update accounts.users set password_hash = $3
         where id = $1 and password_hash is not distinct from $2 and deleted_at is null",
    )
    .bind(user_id)
    .bind(old_hash)
    .bind(new_hash)
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Writes a changed profile, provided that the account is still at the version that `user` has. `None` when it is not.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn update_profile(
    db: impl PgExecutor<'_>,
    user: &User,
    profile: &Profile,
) -> Result<Option<User>, sqlx::Error> {
    let row = sqlx::query(concat!(
        "update accounts.users set name = $3, timezone = $4, whole_day_minute = $5, send_late_within_seconds = $6,
                language = $7, attach_ics = $8, version = version + 1
         where id = $1 and version = $2 and deleted_at is null returning ",
        columns!()
    ))
    .bind(user.id)
    .bind(user.version)
    .bind(&profile.name)
    .bind(&profile.timezone)
    .bind(profile.settings.whole_day_minute)
    .bind(profile.settings.send_late_within_seconds)
    .bind(profile.mail.language.as_str())
    .bind(profile.mail.attach_ics)
    .fetch_optional(db)
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// Since when nothing but what the person asks for is mailed to the own address, because mail does not arrive there; and the
/// server's words for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Suppressed {
    /// Since when.
    #[serde(serialize_with = "view::timestamp")]
    pub since: DateTime<Utc>,
    /// What the mail server said.
    pub reason: String,
}

/// Whether mail to the person's address is suppressed.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn suppressed(db: impl PgExecutor<'_>, user_id: Uuid) -> Result<Option<Suppressed>, sqlx::Error> {
    let row = sqlx::query(
        "select s.since, s.reason from accounts.users u join delivery.suppressed_addresses s on s.address = lower(u.email)
         where u.id = $1 and u.deleted_at is null",
    )
    .bind(user_id)
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        Ok(Suppressed {
            since: row.try_get("since")?,
            reason: row.try_get("reason")?,
        })
    })
    .transpose()
}
