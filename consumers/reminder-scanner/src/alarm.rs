//! Wakes the firing loop when something is armed that is due before it would wake by itself.

use std::sync::atomic::{AtomicI64, Ordering};

use schemas::Timestamp;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Shared by the handler, which arms, and the loop, which sleeps.
#[derive(Debug)]
pub(crate) struct Alarm {
    notify: Notify,
    /// When the loop wakes by itself, in microseconds since 1970.
    set_for: AtomicI64,
}

impl Default for Alarm {
    fn default() -> Self {
        Self {
            notify: Notify::new(),
            set_for: AtomicI64::new(i64::MAX),
        }
    }
}

impl Alarm {
    /// Something is armed for then, and committed.
    pub(crate) fn armed(&self, fire_at: Timestamp) {
        if fire_at.timestamp_micros() < self.set_for.load(Ordering::Acquire) {
            // Keeps the wake-up for a loop that is not waiting yet.
            self.notify.notify_one();
        }
    }

    /// The loop will wake by itself then; `None` when it knows of nothing.
    pub(crate) fn set(&self, fire_at: Option<Timestamp>) {
        self.set_for.store(
            fire_at.map_or(i64::MAX, |at| at.timestamp_micros()),
            Ordering::Release,
        );
    }

    /// Before it asks the database what is due, the loop must hear of everything that is armed from now on.
    pub(crate) fn rearm(&self) -> Notified<'_> {
        self.set(None);
        self.notify.notified()
    }
}
