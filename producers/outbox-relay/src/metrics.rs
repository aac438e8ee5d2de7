use std::sync::LazyLock;

use prometheus::{GaugeVec, Histogram, IntCounterVec, IntGaugeVec};
use service::metrics;

pub(crate) static PUBLISHED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counter_vec(
        "events_published_total",
        "Events that the broker has acknowledged",
        &["topic"],
    )
});

pub(crate) static PUBLISH_SECONDS: LazyLock<Histogram> = LazyLock::new(|| {
    metrics::histogram(
        "outbox_publish_seconds",
        "Time from an event's insert to the broker's acknowledgement",
        metrics::LATENCY_BUCKETS_SECONDS,
    )
});

pub(crate) static BACKLOG_ROWS: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    metrics::int_gauge_vec(
        "outbox_backlog_rows",
        "Events that are committed and not published, counted up to 100000 a shard",
        &["shard"],
    )
});

pub(crate) static OLDEST_SECONDS: LazyLock<GaugeVec> = LazyLock::new(|| {
    metrics::gauge_vec(
        "outbox_oldest_seconds",
        "Age of the oldest event that is not published",
        &["shard"],
    )
});

pub(crate) static TRUNCATED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counter_vec(
        "outbox_slots_truncated_total",
        "Published parts of the outbox that were emptied",
        &["slot"],
    )
});
