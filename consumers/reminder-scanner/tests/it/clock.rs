//! The database's clock, as a world's scanner has it.

use super::*;

/// Sets the clock of a world's scanner; until then it goes right.
pub(crate) struct Clock<'a> {
    world: &'a World,
    clock: support::Clock,
}

impl<'a> Clock<'a> {
    /// Before any scanner connects.
    pub(crate) async fn of(world: &'a World) -> Self {
        let clock = support::Clock::of(&world.database, Some("reminder-scanner")).await;
        Self { world, clock }
    }

    /// So far ahead of the right time it goes from now on; behind it, if negative.
    pub(crate) async fn set_ahead(&self, seconds: f64) {
        self.clock.go_ahead(seconds).await;
    }

    /// Waits until the scanner has rung everything that is due by its clock: what it is asked to ring last, and then this.
    pub(crate) async fn everything_due_rang(&self) {
        let seconds: f64 = sqlx::query_scalar("select extract(epoch from ahead)::float8 from virtual.clock")
            .fetch_one(self.world.admin())
            .await
            .unwrap();
        let last = created(at(seconds - 1.0), at(seconds));
        let id = only(&last);
        self.world.arm(&[(Uuid::now_v7(), last)]).await;
        eventually("the last of what is due rings", async || {
            (self.world.reminder(id).await?.0 == "fired").then_some(())
        })
        .await;
    }
}
