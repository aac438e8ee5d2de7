//! Sessions that have ended while access tokens of theirs are still good by their own account. Checking a token asks no
//! database, so each replica keeps a copy of this short list; what it does itself is on it at once, what others do as soon
//! as it looks again.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use sqlx::PgExecutor;
use tokio::time::Instant;
use uuid::Uuid;

use crate::token::Bearer;

/// How long an entry outlives its last sighting: longer than one look takes, so that what was added during it stays.
const OVERLAP: Duration = Duration::from_mins(2);

/// Ids of sessions and of people, by when they were last seen to have ended.
#[derive(Debug, Default)]
pub struct Revocations {
    ended: RwLock<HashMap<Uuid, Instant>>,
}

impl Revocations {
    /// Whether the token is not to be accepted any more.
    pub fn contain(&self, bearer: &Bearer) -> bool {
        // A panic elsewhere leaves a whole list behind.
        let ended = self.ended.read().unwrap_or_else(PoisonError::into_inner);
        ended.contains_key(&bearer.user_id) || bearer.session.is_some_and(|id| ended.contains_key(&id))
    }

    /// Adds sessions or people.
    pub fn add(&self, ids: impl IntoIterator<Item = Uuid>) {
        let now = Instant::now();
        let mut ended = self.ended.write().unwrap_or_else(PoisonError::into_inner);
        ended.extend(ids.into_iter().map(|id| (id, now)));
    }

    /// Looks what has ended within `ttl`, the life of an access token. What ended earlier has no good tokens left.
    ///
    /// # Errors
    /// When the database does not answer or refuses.
    pub async fn refresh(&self, db: impl PgExecutor<'_>, ttl: Duration) -> Result<(), sqlx::Error> {
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "select id from accounts.sessions where revoked_at > now() - $1 * interval '1 second'
             union all
             select id from accounts.users where deleted_at > now() - $1 * interval '1 second'",
        )
        .bind((ttl + OVERLAP).as_secs_f64())
        .fetch_all(db)
        .await?;
        self.add(ids);
        let mut ended = self.ended.write().unwrap_or_else(PoisonError::into_inner);
        ended.retain(|_, seen| seen.elapsed() < OVERLAP);
        Ok(())
    }
}
