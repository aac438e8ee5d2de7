//! A database's clock that a test sets: `now()` is found in a schema before PostgreSQL's own.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgPool};

use crate::Database;

/// What `now()` and `clock_timestamp()` say. They go right until they are set.
#[derive(Debug)]
pub struct Clock(PgPool);

impl Clock {
    /// The clock of all who connect to the database from now on, or of the role of one service, named like its folder.
    ///
    /// # Panics
    /// When the database does not answer.
    pub async fn of(database: &Database, service: Option<&str>) -> Self {
        let whose = match service {
            Some(service) => format!(
                "role {} in database {}",
                migrations::role(service),
                database.name()
            ),
            None => format!("database {}", database.name()),
        };
        let script = format!(
            "create schema virtual;
             create table virtual.clock (stands_at timestamptz, ahead interval not null);
             insert into virtual.clock values (null, '0');
             create function virtual.now() returns timestamptz language sql stable
                 as 'select coalesce(stands_at, pg_catalog.now() + ahead) from virtual.clock';
             create function virtual.clock_timestamp() returns timestamptz language sql volatile
                 as 'select coalesce(stands_at, pg_catalog.clock_timestamp() + ahead) from virtual.clock';
             grant usage on schema virtual to public;
             grant select on virtual.clock to public;
             alter {whose} set search_path = virtual, pg_catalog, public"
        );
        sqlx::raw_sql(AssertSqlSafe(script))
            .execute(database.admin())
            .await
            .unwrap();
        Self(database.admin().clone())
    }

    /// It stands still at that time from now on.
    ///
    /// # Panics
    /// When the database does not answer.
    pub async fn stand_at(&self, now: DateTime<Utc>) {
        sqlx::query("update virtual.clock set stands_at = $1")
            .bind(now)
            .execute(&self.0)
            .await
            .unwrap();
    }

    /// It goes so many seconds ahead of the right time from now on; behind it, if negative.
    ///
    /// # Panics
    /// When the database does not answer.
    pub async fn go_ahead(&self, seconds: f64) {
        sqlx::query("update virtual.clock set stands_at = null, ahead = $1 * interval '1 second'")
            .bind(seconds)
            .execute(&self.0)
            .await
            .unwrap();
    }
}
