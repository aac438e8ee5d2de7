//! Requests for a link to set a new password. Nobody may learn by asking whether an address has an account. So the request
//! itself writes one row, the same for every address, and looks at no account; a moment later the row becomes a mail or
//! nothing, in one transaction. A crash in between loses none: whichever replica comes next finds the row.

use service::trace::Trace;
use sqlx::{PgExecutor, PgPool, Row};
use uuid::Uuid;

use super::links::{self, Purpose};
use super::user;

/// Writes down that somebody asked for this address.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn insert(db: impl PgExecutor<'_>, email: &str) -> Result<(), sqlx::Error> {
    sqlx::query("insert into accounts.reset_requests (id, email, traceparent) values ($1, $2, $3)")
        .bind(Uuid::now_v7())
        .bind(email)
        .bind(links::traceparent())
        .execute(db)
        .await?;
    Ok(())
}

/// Makes of the oldest request what is to become of it. False when there is none that nobody else is at.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn answer_one(pool: &PgPool) -> Result<bool, sqlx::Error> {
    let mut tx = pool.begin().await?;
    let row = sqlx::query(
        "delete from accounts.reset_requests where id =
             (select id from accounts.reset_requests order by id limit 1 for update skip locked)
         returning email, traceparent, created_at > now() - interval '1 hour' as awaited",
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else {
        return Ok(false);
    };
    // After a long outage nobody sits there and waits for it any more.
    if row.try_get("awaited")?
        && let Some((user, _)) = user::find_by_email(&mut *tx, row.try_get("email")?).await?
    {
        let parent: Option<&str> = row.try_get("traceparent")?;
        let send = links::send(&mut *tx, user.id, Purpose::ResetPassword, &user.email);
        match parent.and_then(Trace::parse) {
            Some(trace) => trace.scope(send).await?,
            None => send.await?,
        };
    }
    tx.commit().await?;
    Ok(true)
}
