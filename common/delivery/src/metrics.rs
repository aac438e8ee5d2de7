//! What operators can see of any channel.

use std::sync::LazyLock;

use prometheus::{HistogramVec, IntCounter, IntCounterVec};
use service::metrics;

/// What becomes of notifications: the labels `status`.
pub const STATUSES: [&str; 4] = ["sent", "failed", "suppressed", "retried"];

/// By channel, and by what became of them: sent, failed, suppressed, or retried (an attempt that will be followed by
/// another).
pub static NOTIFICATIONS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counter_vec(
        "notifications_sent_total",
        "Notifications by outcome: sent, failed, suppressed; and attempts that will be retried.",
        &["channel", "status"],
    )
});

/// From the reminder's ringing, or the event, to the acceptance by the other side.
pub static DURATION: LazyLock<HistogramVec> = LazyLock::new(|| {
    metrics::histogram_vec(
        "notification_delivery_duration_seconds",
        "From the ringing of the reminder, or the event, to the acceptance of its notification.",
        &[
            0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0,
            86400.0,
        ],
        &["channel"],
    )
});

/// The connection broke after the whole message was out and before the answer: the retry may be a second copy.
pub static AMBIGUOUS: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter(
        "notifications_ambiguous_total",
        "Attempts that ended without an answer after the whole message was sent; the retry may be a duplicate.",
    )
});

/// Accepted, and the claim ended before that could be written down: another attempt may follow.
pub static UNRECORDED: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter(
        "notifications_outcome_unrecorded_total",
        "Outcomes that could not be recorded while the claim held; the notification may go out again.",
    )
});

/// Exposes zeros from the start: alerts compare with them.
pub fn touch(channel: &str) {
    for status in STATUSES {
        NOTIFICATIONS.with_label_values(&[channel, status]);
    }
    DURATION.with_label_values(&[channel]);
    LazyLock::force(&AMBIGUOUS);
    LazyLock::force(&UNRECORDED);
}
