//! The clock of a database that the simulation turns: `now()` is found in a schema before PostgreSQL's own.

use schemas::Timestamp;
use sqlx::{AssertSqlSafe, PgPool};
use support::Database;

/// What `now()` says to every role. It stands still until it is set.
#[derive(Debug)]
pub struct Clock(PgPool);

impl Clock {
    /// Before any service connects.
    ///
    /// # Panics
    /// When the database does not answer.
    pub async fn of(database: &Database, now: Timestamp) -> Self {
        let clock = Self(database.admin().clone());
        for statement in [
            "create schema virtual".to_owned(),
            "create table virtual.clock (now timestamptz not null)".to_owned(),
            "create function virtual.now() returns timestamptz language sql stable as 'select now from virtual.clock'"
                .to_owned(),
            "create function virtual.clock_timestamp() returns timestamptz language sql stable
                 as 'select now from virtual.clock'"
                .to_owned(),
            "grant usage on schema virtual to public".to_owned(),
            "grant select on virtual.clock to public".to_owned(),
            "insert into virtual.clock values ('epoch')".to_owned(),
            format!("alter database {} set search_path = virtual, pg_catalog, public", database.name()),
        ] {
            sqlx::query(AssertSqlSafe(statement)).execute(&clock.0).await.unwrap();
        }
        clock.set(now).await;
        clock
    }

    /// Sets it, ahead or back.
    ///
    /// # Panics
    /// When the database does not answer.
    pub async fn set(&self, now: Timestamp) {
        sqlx::query("update virtual.clock set now = $1")
            .bind(now)
            .execute(&self.0)
            .await
            .unwrap();
    }
}
