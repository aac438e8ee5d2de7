//! Sessions: one a login, kept alive by refresh tokens, of which each is good for one use. A token that was used before is
//! one that two people have, or that a client sent twice: nobody can tell, so the session ends (RFC 9700 section 4.14.2).

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, PgExecutor, Row};
use utoipa::ToSchema;
use uuid::Uuid;

use super::opaque;
use crate::client_address::UserAgent;
use crate::tasks::view;

/// What refresh tokens begin with, so that people and scanners of leaked secrets know them.
const PREFIX: &str = "carillon_rt_";

/// A session that was begun or renewed.
#[derive(Debug)]
pub struct Session {
    /// Its id, the claim `sid` of its access tokens.
    pub id: Uuid,
    /// Whose it is.
    pub user_id: Uuid,
    /// The one token that renews it.
    pub refresh_token: String,
}

/// What became of a refresh token.
#[derive(Debug)]
pub enum Refresh {
    /// It was good, and another has taken its place.
    Renewed(Session),
    /// It was used before. The session is over.
    Reused(Uuid),
    /// There is no such session, or it has ended.
    Unknown,
}

/// The two secrets of a token: the one that finds the session, and the one that changes at each use.
fn parse(token: &str) -> Option<(&str, &str)> {
    let (family, secret) = token.strip_prefix(PREFIX)?.split_at_checked(opaque::CHARS)?;
    (secret.len() == opaque::CHARS).then_some((family, secret))
}

/// Begins a session of the person, in that client.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn begin(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    ttl: Duration,
    agent: &UserAgent,
) -> Result<Session, sqlx::Error> {
    let (id, family, secret) = (Uuid::now_v7(), opaque::random(), opaque::random());
    sqlx::query(
        "insert into accounts.sessions (user_id, id, family_hash, secret_hash, expires_at, user_agent)
         values ($1, $2, $3, $4, now() + $5 * interval '1 second', $6)",
    )
    .bind(user_id)
    .bind(id)
    .bind(opaque::hash(&family))
    .bind(opaque::hash(&secret))
    .bind(seconds(ttl))
    .bind(agent.as_deref())
    .execute(db)
    .await?;
    Ok(Session {
        id,
        user_id,
        refresh_token: format!("{PREFIX}{family}{secret}"),
    })
}

/// Uses a refresh token: under the session's lock, so that of two uses at once one is the second. A client that does not say
/// what it is, is still what it was.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn refresh(
    tx: &mut PgConnection,
    token: &str,
    ttl: Duration,
    agent: &UserAgent,
) -> Result<Refresh, sqlx::Error> {
    let Some((family, secret)) = parse(token) else {
        return Ok(Refresh::Unknown);
    };
    let row = sqlx::query(
        "select s.user_id, s.id, s.secret_hash = $2 as newest
         from accounts.sessions s join accounts.users u on u.id = s.user_id and u.deleted_at is null
         where s.family_hash = $1 and s.revoked_at is null and s.expires_at > now() for update of s",
    )
    .bind(opaque::hash(family))
    .bind(opaque::hash(secret))
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else {
        return Ok(Refresh::Unknown);
    };
    let (user_id, id): (Uuid, Uuid) = (row.try_get("user_id")?, row.try_get("id")?);
    if !row.try_get::<bool, _>("newest")? {
        sqlx::query("update accounts.sessions set revoked_at = now() where user_id = $1 and id = $2")
            .bind(user_id)
            .bind(id)
            .execute(tx)
            .await?;
        return Ok(Refresh::Reused(id));
    }
    let next = opaque::random();
    sqlx::query(
        "update accounts.sessions
         set secret_hash = $3, expires_at = now() + $4 * interval '1 second', last_used_at = now(),
             user_agent = coalesce($5, user_agent)
         where user_id = $1 and id = $2",
    )
    .bind(user_id)
    .bind(id)
    .bind(opaque::hash(&next))
    .bind(seconds(ttl))
    .bind(agent.as_deref())
    .execute(tx)
    .await?;
    Ok(Refresh::Renewed(Session {
        id,
        user_id,
        refresh_token: format!("{PREFIX}{family}{next}"),
    }))
}

/// Ends the session that a refresh token belongs to, whether it is the newest or an older one. Returns the session's id.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn end(db: impl PgExecutor<'_>, token: &str) -> Result<Option<Uuid>, sqlx::Error> {
    let Some((family, _)) = parse(token) else {
        return Ok(None);
    };
    sqlx::query_scalar(
        "update accounts.sessions set revoked_at = now() where family_hash = $1 and revoked_at is null returning id",
    )
    .bind(opaque::hash(family))
    .fetch_optional(db)
    .await
}

/// Ends every session of the person, but for one that may be named. Returns their ids.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn end_all(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    but: Option<Uuid>,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "update accounts.sessions set revoked_at = now()
         where user_id = $1 and revoked_at is null and id is distinct from $2 returning id",
    )
    .bind(user_id)
    .bind(but)
    .fetch_all(db)
    .await
}

/// A session as its owner sees it: nothing in it opens anything.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Session)]
pub struct OpenSession {
    /// Identity of the session.
    pub id: Uuid,
    /// When it began: with a login.
    #[serde(serialize_with = "view::timestamp")]
    pub created_at: DateTime<Utc>,
    /// When it was last refreshed, or began: an access token that it gave then is good for a while after.
    #[serde(serialize_with = "view::timestamp")]
    pub last_used_at: DateTime<Utc>,
    /// What the client last called itself (`User-Agent`), at most 200 characters of printable ASCII; null: nothing. Whoever
    /// logs in can write anything there.
    #[schema(required, max_length = 200)]
    pub user_agent: Option<String>,
    /// Whether this is the session that asks.
    pub current: bool,
}

/// The person's sessions that have not ended, newest first, from behind that one on. `current` is the one that asks.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn list(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    current: Option<Uuid>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<OpenSession>, sqlx::Error> {
    let rows = sqlx::query(
        "select id, created_at, coalesce(last_used_at, created_at) as last_used_at, user_agent
         from accounts.sessions
         where user_id = $1 and revoked_at is null and expires_at > now() and ($2::uuid is null or id < $2)
         order by id desc limit $3",
    )
    .bind(user_id)
    .bind(after)
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| {
            let id = row.try_get("id")?;
            Ok(OpenSession {
                id,
                created_at: row.try_get("created_at")?,
                last_used_at: row.try_get("last_used_at")?,
                user_agent: row.try_get("user_agent")?,
                current: current == Some(id),
            })
        })
        .collect()
}

/// Ends the person's session of that id. False when there is none that has not ended.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn end_one(db: impl PgExecutor<'_>, user_id: Uuid, id: Uuid) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "update accounts.sessions set revoked_at = now()
         where user_id = $1 and id = $2 and revoked_at is null and expires_at > now()",
    )
    .bind(user_id)
    .bind(id)
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_its_prefix_and_two_secrets() {
        let (family, secret) = (opaque::random(), opaque::random());
        assert_eq!(
            parse(&format!("{PREFIX}{family}{secret}")),
            Some((&*family, &*secret))
        );
        for text in [
            "",
            PREFIX,
            &format!("{family}{secret}"),
            &format!("{PREFIX}{family}"),
            &format!("{PREFIX}{family}{secret}x"),
            &format!("{PREFIX}{}", "ä".repeat(43)),
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
