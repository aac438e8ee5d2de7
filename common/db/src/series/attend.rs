//! Which series somebody is to look at next, and how far they have come.

use chrono::TimeDelta;
use schemas::Timestamp;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::rows::read;
use super::{Overlap, Series};

/// A series that somebody is to look at, and when that is by the database's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// Whose it is.
    pub user_id: Uuid,
    /// The series, locked.
    pub series: Series,
    /// The database's time.
    pub now: Timestamp,
}

/// Series of that policy whose next occurrence is no further than `ahead` from now by the database's clock, whoever's they
/// are: at most `limit`, longest due first, locked until the transaction ends. Those that others hold are left out.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn claim(
    tx: &mut PgConnection,
    overlap: Overlap,
    ahead: TimeDelta,
    limit: i64,
) -> Result<Vec<Claimed>, sqlx::Error> {
    let rows = sqlx::query(concat!(
        "select user_id, now() as now, ",
        selected!(),
        " from tasks.series
          where overlap = $1 and attend_at <= now() + $2
          order by attend_at limit $3 for update skip locked"
    ))
    .bind(overlap.as_str())
    .bind(ahead)
    .bind(limit)
    .fetch_all(&mut *tx)
    .await?;
    let mut claimed = Vec::with_capacity(rows.len());
    for row in &rows {
        let user_id = row.try_get("user_id")?;
        claimed.push(Claimed {
            user_id,
            series: read(tx, user_id, row).await?,
            now: row.try_get("now")?,
        });
    }
    Ok(claimed)
}

/// How many seconds from now, by the database's clock, the next series of that policy is to be looked at `ahead` of its
/// occurrence: none or less when one is already. `None` when there is none.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn next_claim(
    db: &mut PgConnection,
    overlap: Overlap,
    ahead: TimeDelta,
) -> Result<Option<f64>, sqlx::Error> {
    sqlx::query_scalar(
        "select extract(epoch from min(attend_at) - $2 - now())::float8 from tasks.series
         where overlap = $1 and attend_at is not null",
    )
    .bind(overlap.as_str())
    .bind(ahead)
    .fetch_one(db)
    .await
}

/// How far a series has come, and when somebody is to look at it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Whose it is.
    pub user_id: Uuid,
    /// The series, locked.
    pub id: Uuid,
    /// See [`Series::made_through`].
    pub made_through: Option<Timestamp>,
    /// See [`Series::attend_at`].
    pub attend_at: Option<Timestamp>,
}

impl Progress {
    /// As the series says.
    #[must_use]
    pub fn of(user_id: Uuid, series: &Series) -> Self {
        Self {
            user_id,
            id: series.id,
            made_through: series.made_through,
            attend_at: series.attend_at(),
        }
    }
}

/// Writes how far series have come, all locked before in the same transaction. That is no change that a client could see
/// in the series: its version stays.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn advance(tx: &mut PgConnection, progress: &[Progress]) -> Result<(), sqlx::Error> {
    if progress.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update tasks.series s set made_through = p.made_through, attend_at = p.attend_at
         from unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[])
              as p (user_id, id, made_through, attend_at)
         where s.user_id = p.user_id and s.id = p.id",
    )
    .bind(progress.iter().map(|p| p.user_id).collect::<Vec<_>>())
    .bind(progress.iter().map(|p| p.id).collect::<Vec<_>>())
    .bind(progress.iter().map(|p| p.made_through).collect::<Vec<_>>())
    .bind(progress.iter().map(|p| p.attend_at).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}
