use std::sync::LazyLock;

use prometheus::{Histogram, IntCounter};
use service::metrics;

pub(crate) static SCHEDULED: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter(
        "reminders_scheduled_total",
        "Reminders armed, or armed anew for another time",
    )
});

pub(crate) static CANCELLED: LazyLock<IntCounter> =
    LazyLock::new(|| metrics::counter("reminders_cancelled_total", "Armed reminders that will not ring"));

pub(crate) static FIRED: LazyLock<IntCounter> =
    LazyLock::new(|| metrics::counter("reminders_fired_total", "Reminders that rang"));

pub(crate) static MISSED: LazyLock<IntCounter> =
    LazyLock::new(|| metrics::counter("reminders_missed_total", "Rings that came too late to be made"));

pub(crate) static FIRING_LAG_SECONDS: LazyLock<Histogram> = LazyLock::new(|| {
    metrics::histogram(
        "reminder_firing_lag_seconds",
        "How late reminders rang, by the database's clock",
        metrics::LATENCY_BUCKETS_SECONDS,
    )
});

/// Exposes zeros from the start: an alert sees the first reminder that is missed only as an increase.
pub(crate) fn register() {
    for counter in [&SCHEDULED, &CANCELLED, &FIRED, &MISSED] {
        LazyLock::force(counter);
    }
    LazyLock::force(&FIRING_LAG_SECONDS);
}
