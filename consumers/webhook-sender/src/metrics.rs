//! What operators can see beside the metrics of `common/delivery`.

use std::sync::LazyLock;

use prometheus::{IntCounter, IntCounterVec};
use service::metrics;

use crate::deliveries::CHANNEL;

/// Requests by their answer: 2xx, 3xx, 4xx, 5xx, or none.
pub static ATTEMPTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counter_vec(
        "webhook_attempts_total",
        "Requests to endpoints by the class of their answer: 2xx, 3xx, 4xx, 5xx, none.",
        &["answer"],
    )
});

/// Endpoints that were disabled, by why.
pub static DISABLED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counter_vec(
        "webhook_endpoints_disabled_total",
        "Endpoints that were disabled, by why: gone, failing.",
        &["reason"],
    )
});

/// Payloads that were too large and told only what they are about.
pub static CUT: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter(
        "webhook_payloads_cut_total",
        "Payloads that were too large and name only what they are about.",
    )
});

/// The class of an answer.
pub fn class(status: Option<u16>) -> &'static str {
    match status {
        None => "none",
        Some(200..=299) => "2xx",
        Some(300..=399) => "3xx",
        Some(400..=499) => "4xx",
        Some(_) => "5xx",
    }
}

/// Exposes zeros from the start: alerts compare with them.
pub fn touch() {
    delivery::metrics::touch(CHANNEL);
    for answer in ["2xx", "3xx", "4xx", "5xx", "none"] {
        ATTEMPTS.with_label_values(&[answer]);
    }
    for reason in ["gone", "failing"] {
        DISABLED.with_label_values(&[reason]);
    }
    LazyLock::force(&CUT);
}
