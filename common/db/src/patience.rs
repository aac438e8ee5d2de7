//! How a loop of database work goes on after each step.

use std::time::Duration;

use service::{Backoff, Component};

use crate::classify;

/// A warning for so many failures in a row.
const FAILURES_PER_WARNING: u32 = 60;

/// On while all is well, again after a while when the database is away, and not at all when waiting does not mend it.
#[derive(Debug)]
pub struct Patience {
    what: &'static str,
    component: Component,
    backoff: Backoff,
    failures: u32,
}

impl Patience {
    /// For a loop that does `what` ("make instances ahead") and reports as `component`.
    #[must_use]
    pub fn new(what: &'static str, component: Component, backoff: Backoff) -> Self {
        Self {
            what,
            component,
            backoff,
            failures: 0,
        }
    }

    /// How long to sleep after a step: as long as it says, or a while when the database is away.
    ///
    /// # Errors
    /// What waiting does not mend: see [`classify`].
    pub fn after(&mut self, step: Result<Duration, sqlx::Error>) -> Result<Duration, sqlx::Error> {
        match step {
            Ok(sleep) => {
                self.component.ready();
                self.failures = 0;
                self.backoff.reset();
                Ok(sleep)
            }
            Err(error) if classify(&error).is_retryable() => {
                self.component.not_ready("Postgres is away");
                if self.failures.is_multiple_of(FAILURES_PER_WARNING) {
                    let failures = self.failures;
                    tracing::warn!(failures, error = %error, "cannot {}; trying again", self.what);
                }
                self.failures += 1;
                Ok(self.backoff.next_delay())
            }
            Err(error) => Err(error),
        }
    }
}
