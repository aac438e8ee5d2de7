//! How a person leaves. At once: nobody logs in, no token works, the address is free. In the background: every task is
//! deleted with its event, so that no reminder rings any more; and before the promised time everything is gone, rows of
//! other services included.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::sessions;
use crate::tasks;

/// How many tasks are deleted in one transaction.
const TASKS_PER_BITE: i64 = 100;
/// How many rows of one table are purged in one transaction.
const ROWS_PER_BITE: i32 = 1000;
/// How long before the promised time the purge begins: an outage of a day does not break the promise.
const HEAD_START: Duration = Duration::from_hours(24);

/// Marks the account as deleted and takes away what one comes in by. What names the person in it goes here and now. False
/// when it is deleted already.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn delete(tx: &mut PgConnection, user_id: Uuid) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "update accounts.users
         set deleted_at = now(), email = id || '@deleted.invalid', email_verified_at = null, name = '', password_hash = null,
             admin = false, version = version + 1
         where id = $1 and deleted_at is null",
    )
    .bind(user_id)
    .execute(&mut *tx)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    // Nothing is made ahead for who is gone.
    db::series::end_all(&mut *tx, user_id).await?;
    sessions::end_all(&mut *tx, user_id, None).await?;
    for statement in [
        "delete from accounts.personal_tokens where user_id = $1",
        "delete from accounts.links where user_id = $1",
    ] {
        sqlx::query(statement).bind(user_id).execute(&mut *tx).await?;
    }
    Ok(true)
}

/// Deletes tasks of people who have left, a bite at a time. False when nobody has any. Those that come later, from a
/// service that did not know yet, are found the next time.
///
/// # Errors
/// When the database does not answer.
pub async fn delete_tasks(pool: &PgPool) -> anyhow::Result<bool> {
    let mut tx = pool.begin().await?;
    // One replica at a time takes a person; the others take another, or wait for the next time.
    let user_id: Option<Uuid> = sqlx::query_scalar(
        "select id from accounts.users u
         where deleted_at is not null
           and exists (select from tasks.tasks t where t.user_id = u.id and t.deleted_at is null)
         limit 1 for no key update skip locked",
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(user_id) = user_id else {
        return Ok(false);
    };
    let found = db::tasks::lock_some(&mut tx, user_id, TASKS_PER_BITE).await?;
    let changes = found.iter().map(|task| tasks::delete(task, schemas::now()));
    let (deleted, events) = tasks::with_events(user_id, changes)?;
    db::tasks::update(&mut tx, user_id, &deleted, &events).await?;
    tx.commit().await?;
    // None: others hold those that there are, and may be deleting them.
    Ok(!found.is_empty())
}

/// Takes a bite out of what is left of someone whose time has come, but for those that are named. Returns who it was and
/// whether nothing of them is left, or why it cannot go; `None` when there is nobody.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn purge(
    pool: &PgPool,
    within: Duration,
    but: &[Uuid],
) -> Result<Option<(Uuid, Result<bool, sqlx::Error>)>, sqlx::Error> {
    let mut tx = pool.begin().await?;
    let user_id: Option<Uuid> = sqlx::query_scalar(
        "select id from accounts.users where deleted_at <= now() - $1 * interval '1 second' and id <> all($2)
         order by deleted_at limit 1 for update skip locked",
    )
    .bind(within.saturating_sub(HEAD_START).as_secs_f64())
    .bind(but)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(user_id) = user_id else {
        return Ok(None);
    };
    let gone = sqlx::query_scalar("select accounts.purge($1, $2)")
        .bind(user_id)
        .bind(ROWS_PER_BITE)
        .fetch_one(&mut *tx)
        .await;
    if gone.is_ok() {
        tx.commit().await?;
    }
    Ok(Some((user_id, gone)))
}
