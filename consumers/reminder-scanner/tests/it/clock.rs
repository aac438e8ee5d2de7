//! A database whose clock a test can set, for the scanner's role: `now()` is found in a schema before PostgreSQL's own.

use super::*;

/// Sets the clock of a world's scanner; until then it goes right.
pub(crate) struct Clock<'a>(&'a World);

impl<'a> Clock<'a> {
    /// Before any scanner connects.
    pub(crate) async fn of(world: &'a World) -> Self {
        for statement in [
            "create schema virtual",
            "create table virtual.clock (ahead interval not null)",
            "insert into virtual.clock values ('0')",
            "create function virtual.now() returns timestamptz language sql stable
                 as 'select pg_catalog.now() + ahead from virtual.clock'",
            "grant usage on schema virtual to carillon_reminder_scanner",
            "grant select on virtual.clock to carillon_reminder_scanner",
        ] {
            sqlx::query(statement).execute(world.admin()).await.unwrap();
        }
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "alter role carillon_reminder_scanner in database {} set search_path = virtual, pg_catalog",
            world.database.name()
        )))
        .execute(world.admin())
        .await
        .unwrap();
        Self(world)
    }

    /// So far ahead of the right time it goes from now on; behind it, if negative.
    pub(crate) async fn set_ahead(&self, seconds: f64) {
        sqlx::query("update virtual.clock set ahead = $1 * interval '1 second'")
            .bind(seconds)
            .execute(self.0.admin())
            .await
            .unwrap();
    }

    /// Waits until the scanner has rung everything that is due by its clock: what it is asked to ring last, and then this.
    pub(crate) async fn everything_due_rang(&self) {
        let seconds: f64 = sqlx::query_scalar("select extract(epoch from ahead)::float8 from virtual.clock")
            .fetch_one(self.0.admin())
            .await
            .unwrap();
        let last = created(at(seconds - 1.0), at(seconds));
        let id = only(&last);
        self.0.arm(&[(Uuid::now_v7(), last)]).await;
        eventually("the last of what is due rings", async || {
            (self.0.reminder(id).await?.0 == "fired").then_some(())
        })
        .await;
    }
}
