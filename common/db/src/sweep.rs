//! Removing rows whose time has passed.

use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

/// Most rows of one statement, so that none is long.
pub const BITE: u64 = 10_000;

/// Takes bites of `what` every hour until `shutdown`: each removes at most [`BITE`] rows and says how many. What fails is
/// left for the next hour.
pub async fn hourly<F>(
    what: &'static str,
    pool: PgPool,
    shutdown: CancellationToken,
    bite: impl Fn(PgPool) -> F + Send,
) where
    F: Future<Output = Result<u64, sqlx::Error>> + Send,
{
    loop {
        // What an hour adds is a few bites at most.
        let mut removed = BITE;
        while removed == BITE && !shutdown.is_cancelled() {
            removed = bite(pool.clone()).await.unwrap_or_else(|error| {
                tracing::warn!(what, error = %error, "old rows stay for now");
                0
            });
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_hours(1)) => {}
        }
    }
}
