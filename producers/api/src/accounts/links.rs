//! Links that are mailed: to show that an address is one's own, to set a forgotten password, and to change the address. Each
//! is good once. The mail is a row for the email sender, written with the link in one statement; no event ever carries either.

use std::time::Duration;

use service::trace::Trace;
use sqlx::{PgConnection, PgExecutor, Row};
use uuid::Uuid;

use super::{opaque, sessions, user};
use crate::problem::Problem;

/// What a link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Showing that the address is one's own.
    VerifyEmail,
    /// Setting a forgotten password.
    ResetPassword,
    /// Giving the account the address that the link was mailed to.
    ChangeEmail,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::ResetPassword => "reset_password",
            Self::ChangeEmail => "change_email",
        }
    }

    fn ttl(self) -> Duration {
        match self {
            Self::VerifyEmail => Duration::from_hours(3 * 24),
            Self::ResetPassword => Duration::from_hours(1),
            Self::ChangeEmail => Duration::from_hours(24),
        }
    }
}

/// How long after a link the person gets no other one of its purpose.
pub const PAUSE: Duration = Duration::from_mins(1);

/// The most links of one purpose that a person may have open: nobody's mailbox is to be filled by us.
const MAX_OPEN: i64 = 10;

/// Begins a statement that writes a link, unless one went out less than a minute ago or too many are open. Parameters are the
/// person, the kind, the hash, the address, the seconds that it is good for, [`MAX_OPEN`], and the seconds of [`PAUSE`].
macro_rules! with_link {
    ($rest:literal) => {
        concat!(
            "with link as (
                 insert into accounts.links (user_id, kind, token_hash, email, expires_at)
                 select $1, $2, $3, $4, now() + $5 * interval '1 second'
                 where not exists (select from accounts.links
                                   where user_id = $1 and kind = $2 and created_at > now() - $7 * interval '1 second')
                   and (select count(*) from accounts.links
                        where user_id = $1 and kind = $2 and expires_at > now()) < $6
                 returning expires_at
             ) ",
            $rest
        )
    };
}

/// Mails a link to the person, unless one went out less than a minute ago or too many are open. Returns whether.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn send(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    purpose: Purpose,
    email: &str,
) -> Result<bool, sqlx::Error> {
    let token = opaque::random();
    let done = sqlx::query(with_link!(
        "insert into delivery.account_mails (id, user_id, kind, link_token, expires_at, traceparent)
         select $8, $1, $2, $9, expires_at, $10 from link"
    ))
    .bind(user_id)
    .bind(purpose.name())
    .bind(opaque::hash(&token))
    .bind(email)
    .bind(purpose.ttl().as_secs_f64())
    .bind(MAX_OPEN)
    .bind(PAUSE.as_secs_f64())
    .bind(Uuid::now_v7())
    .bind(&token)
    .bind(traceparent())
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Mails a link to the address that the person wants to have, and a notice to the one that there is, under the limits of
/// [`send`]. Returns whether.
///
/// Nobody may learn by this whether an address has an account. So one that is taken gets a mail as well, which says so to its
/// owner and has no link; what is looked up and what is written is the same.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn send_change(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    old: &str,
    new: &str,
) -> Result<bool, sqlx::Error> {
    let token = opaque::random();
    let done = sqlx::query(with_link!(
        ", address as (
             select exists (select from accounts.users where lower(email) = lower($4) and id <> $1) as taken
         )
         insert into delivery.account_mails (id, user_id, kind, link_token, email, expires_at, traceparent)
         select $8, $1, case when taken then 'address_taken' else $2 end, case when not taken then $9 end, $4, expires_at, $12
         from link, address
         union all
         select $10, $1, 'email_changing', null, $11, expires_at, $12 from link"
    ))
    .bind(user_id)
    .bind(Purpose::ChangeEmail.name())
    .bind(opaque::hash(&token))
    .bind(new)
    .bind(Purpose::ChangeEmail.ttl().as_secs_f64())
    .bind(MAX_OPEN)
    .bind(PAUSE.as_secs_f64())
    .bind(Uuid::now_v7())
    .bind(&token)
    .bind(Uuid::now_v7())
    .bind(old)
    .bind(traceparent())
    .execute(db)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// The trace that a mail goes on with: that of the request.
pub(super) fn traceparent() -> Option<String> {
    Trace::current().map(|trace| trace.to_string())
}

/// Uses a link: it is gone, whatever comes of it. Returns the person and the address that it was mailed to.
async fn take(
    tx: &mut PgConnection,
    purpose: Purpose,
    token: &str,
) -> Result<Option<(Uuid, String)>, sqlx::Error> {
    let row = sqlx::query(
        "delete from accounts.links where token_hash = $1 and kind = $2 and expires_at > now()
         returning user_id, email",
    )
    .bind(opaque::hash(token))
    .bind(purpose.name())
    .fetch_optional(tx)
    .await?;
    row.map(|row| Ok((row.try_get("user_id")?, row.try_get("email")?)))
        .transpose()
}

/// Takes a link for what it shows: that the address is its owner's. False when it is none, used, or too old.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn verify_email(tx: &mut PgConnection, token: &str) -> Result<bool, sqlx::Error> {
    let Some((user_id, email)) = take(tx, Purpose::VerifyEmail, token).await? else {
        return Ok(false);
    };
    let done = sqlx::query(
        "update accounts.users
         set version = version + (email_verified_at is null)::int, email_verified_at = coalesce(email_verified_at, now())
         where id = $1 and email = $2 and deleted_at is null",
    )
    .bind(user_id)
    .bind(&email)
    .execute(&mut *tx)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    unsuppress(tx, &email).await?;
    Ok(true)
}

/// The link came with a mail to the address, so mail arrives there.
async fn unsuppress(tx: &mut PgConnection, email: &str) -> Result<(), sqlx::Error> {
    sqlx::query("delete from delivery.suppressed_addresses where address = lower($1)")
        .bind(email)
        .execute(tx)
        .await?;
    Ok(())
}

/// A password that was set by a link.
#[derive(Debug)]
pub struct Reset {
    /// The address, to which the link was mailed.
    pub email: String,
    /// The sessions that have ended by it: all of them.
    pub sessions: Vec<Uuid>,
}

/// Sets a new password by a link, which shows as well that the address is its owner's. Whoever knew the old password is
/// out, and no other link sets another or changes the address. `None` when the link is none, used, or too old.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn reset_password(
    tx: &mut PgConnection,
    token: &str,
    password_hash: &str,
) -> Result<Option<Reset>, sqlx::Error> {
    let Some((user_id, email)) = take(tx, Purpose::ResetPassword, token).await? else {
        return Ok(None);
    };
    let done = sqlx::query(
        "update accounts.users
         set password_hash = $3, version = version + (email_verified_at is null)::int,
             email_verified_at = coalesce(email_verified_at, now())
         where id = $1 and email = $2 and deleted_at is null",
    )
    .bind(user_id)
    .bind(&email)
    .bind(password_hash)
    .execute(&mut *tx)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(None);
    }
    forget(&mut *tx, user_id).await?;
    unsuppress(&mut *tx, &email).await?;
    let sessions = sessions::end_all(tx, user_id, None).await?;
    Ok(Some(Reset { email, sessions }))
}

/// Gives the account the address that the link was mailed to, which is verified by that. Every other link of the person is
/// void: it was mailed to an address that is the account's no more, or would change it again. False when the link is none,
/// used, or too old.
///
/// # Errors
/// [`crate::problem::Kind::EmailTaken`] when another account has got the address by now; otherwise when the database does not answer.
pub async fn change_email(tx: &mut PgConnection, token: &str) -> Result<bool, Problem> {
    let Some((user_id, email)) = take(tx, Purpose::ChangeEmail, token).await? else {
        return Ok(false);
    };
    if !user::set_verified_email(&mut *tx, user_id, &email).await? {
        return Ok(false);
    }
    unsuppress(&mut *tx, &email).await?;
    sqlx::query("delete from accounts.links where user_id = $1")
        .bind(user_id)
        .execute(tx)
        .await?;
    Ok(true)
}

/// Makes void what could still take the account from whoever has just set its password.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn forget(db: impl PgExecutor<'_>, user_id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("delete from accounts.links where user_id = $1 and kind = any($2)")
        .bind(user_id)
        .bind([Purpose::ResetPassword, Purpose::ChangeEmail].map(Purpose::name))
        .execute(db)
        .await?;
    Ok(())
}
