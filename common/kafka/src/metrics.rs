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
static EVENTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counter_vec(
        "kafka_consumer_events_total",
        "Events consumed, by what became of them",
        &["group", "topic", "outcome"],
    )
});

/// What became of a consumed event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It had its effect.
    Handled,
    /// It had its effect before.
    Duplicate,
    /// It is kept in a dead-letter topic.
    DeadLetter,
}

/// Counts events of a topic by what became of them.
pub fn count_events(group: &str, topic: &str, outcome: Outcome, events: u64) {
    let outcome = match outcome {
        Outcome::Handled => "handled",
        Outcome::Duplicate => "duplicate",
        Outcome::DeadLetter => "dead_letter",
    };
    EVENTS.with_label_values(&[group, topic, outcome]).inc_by(events);
}

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
