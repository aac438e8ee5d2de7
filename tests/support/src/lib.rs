//! What the tests of several crates share: a database of their own on the real Postgres, topics of their own on the real
//! Kafka, sample events, and polling until something holds. It takes the stack from the environment, as `scripts/test`
//! (or `eval "$(scripts/stack env)"`) sets it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot be set up should fail at once"
)]

mod clock;
mod database;
pub mod poison;
mod registry;
pub mod samples;
mod topics;

use std::time::{Duration, Instant};

pub use clock::Clock;
pub use database::Database;
pub use registry::LearningRegistry;
pub use topics::{ReadRecord, Topics};

/// How long [`eventually`] waits: far longer than anything should take, so that a slow machine fails no test.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Polls until `probe` gives a value.
///
/// # Panics
/// When it gives none within [`PATIENCE`]; `what` says what was waited for.
pub async fn eventually<T>(what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    within(PATIENCE, what, probe).await
}

/// Polls until `probe` gives a value, for at most `patience`.
///
/// # Panics
/// When it gives none in time; `what` says what was waited for.
pub async fn within<T>(patience: Duration, what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(
            started.elapsed() < patience,
            "waited {patience:?} in vain for: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A variable that the stack sets.
///
/// # Panics
/// When it is not set: start the stack first.
#[must_use]
pub fn stack(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run the tests by scripts/test, or after eval \"$(scripts/stack env)\"")
    })
}
