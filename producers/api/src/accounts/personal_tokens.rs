//! Personal access tokens: for scripts and assistants, with less rights than their owner.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, PgPool, Row};
use utoipa::ToSchema;
use uuid::Uuid;

use super::body::ScopeName;
use super::input::NewToken;
use super::opaque;
use crate::problem::{Kind, Problem};
use crate::tasks::view;

/// What they begin with, so that people and scanners of leaked secrets know them.
pub const PREFIX: &str = "carillon_pat_";

/// The most that a person may have.
const MAX_TOKENS: i64 = 50;

/// What a token opens. In the order of their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// For operators: looking.
    AdminRead,
    /// For operators: changing.
    AdminWrite,
    /// Reading tasks and what belongs to them.
    TasksRead,
    /// Changing them.
    TasksWrite,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::AdminRead,
        Self::AdminWrite,
        Self::TasksRead,
        Self::TasksWrite,
    ];

    /// Their names, for people.
    pub const NAMES: &'static str = "tasks:read, tasks:write, admin:read, admin:write";

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::AdminRead => "admin:read",
            Self::AdminWrite => "admin:write",
            Self::TasksRead => "tasks:read",
            Self::TasksWrite => "tasks:write",
        }
    }

    /// The scope of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }

    /// Whether only operators may have it.
    pub fn is_for_operators(self) -> bool {
        matches!(self, Self::AdminRead | Self::AdminWrite)
    }
}

/// A token as its owner sees it: without the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PersonalToken {
    /// Identity of the token.
    pub id: Uuid,
    /// What its owner knows it by.
    pub name: String,
    /// What it opens.
    #[schema(value_type = Vec<ScopeName>)]
    pub scopes: Vec<String>,
    /// When it was made.
    #[serde(serialize_with = "view::timestamp")]
    pub created_at: DateTime<Utc>,
    /// When it ends; never, if null.
    #[schema(required)]
    #[serde(serialize_with = "view::optional_timestamp")]
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was used last, within a minute; null: never.
    #[schema(required)]
    #[serde(serialize_with = "view::optional_timestamp")]
    pub last_used_at: Option<DateTime<Utc>>,
}

macro_rules! columns {
    () => {
        "id, name, scopes, created_at, expires_at, last_used_at"
    };
}

fn from_row(row: &PgRow) -> Result<PersonalToken, sqlx::Error> {
    Ok(PersonalToken {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        scopes: row.try_get("scopes")?,
        created_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
        last_used_at: row.try_get("last_used_at")?,
    })
}

/// Makes a token of the person. The secret is in the answer, and nowhere else after that.
///
/// # Errors
/// [`Kind::InvalidFields`] when a scope is not for this person; [`Kind::TooManyTokens`]; otherwise when the database does
/// not answer.
pub async fn create(
    pool: &PgPool,
    user_id: Uuid,
    asked: NewToken,
) -> Result<(PersonalToken, String), Problem> {
    let secret = format!("{PREFIX}{}", opaque::random());
    let mut tx = pool.begin().await?;
    // Locked, so that two at once do not both find room for one more.
    let admin: Option<bool> = sqlx::query_scalar(
        "select admin from accounts.users where id = $1 and deleted_at is null for no key update",
    )
    .bind(user_id)
    .fetch_optional(&mut *tx)
    .await?;
    let admin = admin.ok_or_else(Problem::no_such_account)?;
    if !admin && asked.scopes.iter().any(|scope| scope.is_for_operators()) {
        let mut problems = crate::input::Problems::default();
        problems.add(
            "/scopes",
            "must not name admin scopes: they are for operators of this service",
        );
        return problems.finish(None);
    }
    let count: i64 = sqlx::query_scalar("select count(*) from accounts.personal_tokens where user_id = $1")
        .bind(user_id)
        .fetch_one(&mut *tx)
        .await?;
    if count >= MAX_TOKENS {
        return Err(Problem::new(
            Kind::TooManyTokens,
            format!("An account may have {MAX_TOKENS} tokens: delete one first."),
        ));
    }
    let row = sqlx::query(concat!(
        "insert into accounts.personal_tokens (user_id, id, name, scopes, token_hash, expires_at)
         values ($1, $2, $3, $4, $5, $6) returning ",
        columns!()
    ))
    .bind(user_id)
    .bind(Uuid::now_v7())
    .bind(&asked.name)
    .bind(asked.scopes.iter().map(|scope| scope.name()).collect::<Vec<_>>())
    .bind(opaque::hash(&secret))
    .bind(asked.expires_at)
    .fetch_one(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok((from_row(&row)?, secret))
}

/// The person's tokens, newest first.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn list(db: impl PgExecutor<'_>, user_id: Uuid) -> Result<Vec<PersonalToken>, sqlx::Error> {
    let rows = sqlx::query(concat!(
        "select ",
        columns!(),
        " from accounts.personal_tokens where user_id = $1 order by id desc"
    ))
    .bind(user_id)
    .fetch_all(db)
    .await?;
    rows.iter().map(from_row).collect()
}

/// The person's token of that id.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn get(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    id: Uuid,
) -> Result<Option<PersonalToken>, sqlx::Error> {
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        " from accounts.personal_tokens where user_id = $1 and id = $2"
    ))
    .bind(user_id)
    .bind(id)
    .fetch_optional(db)
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// Takes the person's token of that id back. False when there is none.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn delete(db: impl PgExecutor<'_>, user_id: Uuid, id: Uuid) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("delete from accounts.personal_tokens where user_id = $1 and id = $2")
        .bind(user_id)
        .bind(id)
        .execute(db)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// What a token that somebody sent opens.
#[derive(Debug)]
pub struct Grant {
    /// Whose it is.
    pub user_id: Uuid,
    /// The person's zone.
    pub timezone: String,
    /// What it opens.
    pub scopes: BTreeSet<Scope>,
    id: Uuid,
    /// Whether its last use is so long ago that this one is to be written down.
    unseen: bool,
}

/// What the token opens, if it is good.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn find(db: impl PgExecutor<'_>, secret: &str) -> Result<Option<Grant>, sqlx::Error> {
    let row = sqlx::query(
        "select t.user_id, t.id, t.scopes, u.timezone, u.admin,
                (t.last_used_at < now() - interval '1 minute') is not false as unseen
         from accounts.personal_tokens t join accounts.users u on u.id = t.user_id and u.deleted_at is null
         where t.token_hash = $1 and (t.expires_at > now()) is not false",
    )
    .bind(opaque::hash(secret))
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        let admin: bool = row.try_get("admin")?;
        let names: Vec<String> = row.try_get("scopes")?;
        Ok(Grant {
            user_id: row.try_get("user_id")?,
            timezone: row.try_get("timezone")?,
            // Who is no operator any more has no operator's tokens any more.
            scopes: names
                .iter()
                .filter_map(|name| Scope::from_name(name))
                .filter(|scope| admin || !scope.is_for_operators())
                .collect(),
            id: row.try_get("id")?,
            unseen: row.try_get("unseen")?,
        })
    })
    .transpose()
}

/// Writes down that a token was used, at most once a minute and after the request that used it: nobody waits for it, and
/// where it fails the next use does it.
pub fn note_use(pool: &PgPool, grant: &Grant) {
    if !grant.unseen {
        return;
    }
    let (pool, user_id, id) = (pool.clone(), grant.user_id, grant.id);
    tokio::spawn(async move {
        // Of many at once, the first writes.
        let done = sqlx::query(
            "update accounts.personal_tokens set last_used_at = now()
             where user_id = $1 and id = $2 and (last_used_at < now() - interval '1 minute') is not false",
        )
        .bind(user_id)
        .bind(id)
        .execute(&pool)
        .await;
        if let Err(error) = done {
            tracing::debug!(%error, "the use of a token is not written down");
        }
    });
}
