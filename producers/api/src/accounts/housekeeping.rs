//! What happens in the background: the list of ended sessions is kept up, who forgot a password is mailed, people who have
//! left are forgotten, what has expired is swept. Any number of replicas may do it at once.

use std::sync::Arc;
use std::time::Duration;

use db::sweep::BITE;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::{Accounts, deletion, reset_requests};

/// How soon other replicas refuse the access tokens of a session that has ended here.
const LOOK: Duration = Duration::from_secs(2);
/// How soon requests are found that another replica has taken and left behind.
const LEFT_BEHIND: Duration = Duration::from_secs(10);
/// How often the house is kept when nobody rings.
const ROUND: Duration = Duration::from_mins(1);

/// What is swept: rows that have no meaning any more. Sessions that were ended stay for as long as an access token of
/// theirs could live, which is a day at most.
const SWEEPS: [&str; 4] = [
    "delete from accounts.sessions where id in
         (select id from accounts.sessions where expires_at < now() limit $1)",
    "delete from accounts.sessions where id in
         (select id from accounts.sessions where revoked_at < now() - interval '25 hours' limit $1)",
    "delete from accounts.links where token_hash in
         (select token_hash from accounts.links where expires_at < now() limit $1)",
    // Their owner sees them for a month more, and so what has stopped working.
    "delete from accounts.personal_tokens where token_hash in
         (select token_hash from accounts.personal_tokens where expires_at < now() - interval '30 days' limit $1)",
];

/// Keeps the list of what has ended up to date, until `shutdown`. `ttl` is the life of an access token.
pub async fn watch_revocations(
    pool: PgPool,
    accounts: Arc<Accounts>,
    ttl: Duration,
    shutdown: CancellationToken,
) {
    loop {
        // While the database is away nothing ends, and nothing new begins.
        if let Err(error) = accounts.revocations.refresh(&pool, ttl).await {
            tracing::debug!(%error, "ended sessions cannot be looked up");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Mails those who forgot their passwords, until `shutdown`: as soon as one of them has asked here.
pub async fn answer_reset_requests(pool: PgPool, accounts: Arc<Accounts>, shutdown: CancellationToken) {
    loop {
        let mut more = true;
        while more && !shutdown.is_cancelled() {
            more = reset_requests::answer_one(&pool).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "mails that were asked for wait");
                false
            });
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = accounts.forgotten.notified() => {}
            () = tokio::time::sleep(LEFT_BEHIND) => {}
        }
    }
}

/// A bite out of each kind of row that has expired. Returns how many rows the largest had, for [`db::sweep`].
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn sweep(pool: &PgPool) -> Result<u64, sqlx::Error> {
    let mut largest = 0;
    for sweep in SWEEPS {
        let done = sqlx::query(sweep).bind(BITE.cast_signed()).execute(pool).await?;
        largest = largest.max(done.rows_affected());
    }
    Ok(largest)
}

/// Forgets people who have left, until `shutdown`.
pub async fn keep_house(
    pool: PgPool,
    accounts: Arc<Accounts>,
    purge_within: Duration,
    shutdown: CancellationToken,
) {
    loop {
        if let Err(error) = round(&pool, purge_within, &shutdown).await {
            tracing::warn!(%error, "what is to go stays for now");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = accounts.deleted.notified() => {}
            () = tokio::time::sleep(ROUND) => {}
        }
    }
}

async fn round(pool: &PgPool, purge_within: Duration, shutdown: &CancellationToken) -> anyhow::Result<()> {
    // First of all reminders are to stop.
    while !shutdown.is_cancelled() && deletion::delete_tasks(pool).await? {}
    // Someone who cannot be purged must not hold up the others.
    let mut stuck = Vec::new();
    while !shutdown.is_cancelled() {
        match deletion::purge(pool, purge_within, &stuck).await? {
            None => break,
            Some((_, Ok(false))) => {}
            Some((user_id, Ok(true))) => {
                tracing::info!(user.id = %user_id, "the data of a deleted account is gone");
            }
            Some((user_id, Err(error))) => {
                tracing::error!(user.id = %user_id, %error, "the data of a deleted account stays for now");
                stuck.push(user_id);
            }
        }
    }
    Ok(())
}
