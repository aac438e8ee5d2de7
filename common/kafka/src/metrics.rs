//! The metrics of every consumer and producer.

use std::sync::LazyLock;

use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec};
use service::metrics;

/// Messages between what the group has handled and the end of the partition.
pub(crate) static LAG: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    metrics::int_gauge_vec(
        "kafka_consumer_lag",
        "Messages that the group has not handled yet",
        &["group", "topic", "partition"],
    )
});

/// Age of the oldest message that the group has not handled.
pub(crate) static LAG_SECONDS: LazyLock<GaugeVec> = LazyLock::new(|| {
    metrics::gauge_vec(
        "kafka_consumer_lag_seconds",
        "How far behind the end of the topic the group is, in time",
        &["group", "topic"],
    )
});

/// What became of consumed events: handled, duplicate, or dead_letter.
pub(crate) static EVENTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counter_vec(
        "kafka_consumer_events_total",
        "Events consumed, by what became of them",
        &["group", "topic", "outcome"],
    )
});

/// Records written to dead-letter topics.
pub(crate) static DEAD_LETTERS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counter_vec(
        "kafka_consumer_dead_letters_total",
        "Records written to a dead-letter topic",
        &["group", "topic", "reason"],
    )
});

/// Attempts at a batch that failed because something it needs was away.
pub(crate) static RETRIES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counter_vec(
        "kafka_consumer_retries_total",
        "Batches tried again because a dependency was away",
        &["group"],
    )
});

/// Offset commits that the broker did not confirm.
pub(crate) static COMMIT_ERRORS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counter_vec(
        "kafka_consumer_commit_errors_total",
        "Offset commits that failed",
        &["group"],
    )
});
