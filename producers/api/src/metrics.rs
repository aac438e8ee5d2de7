//! What is counted.

use std::sync::LazyLock;

use prometheus::{HistogramVec, IntCounter, IntCounterVec};
use service::metrics::{LATENCY_BUCKETS_SECONDS, counter, counter_vec, histogram_vec};

/// `http_requests_total{method,path,status}`; the path is the route, not the URL: its values are few.
pub static REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "http_requests_total",
        "HTTP requests answered.",
        &["method", "path", "status"],
    )
});

/// `http_request_duration_seconds{method,path}`
pub static DURATION: LazyLock<HistogramVec> = LazyLock::new(|| {
    histogram_vec(
        "http_request_duration_seconds",
        "Time from the head of a request to the head of its answer.",
        LATENCY_BUCKETS_SECONDS,
        &["method", "path"],
    )
});

/// `tasks_created_total`
pub static TASKS_CREATED: LazyLock<IntCounter> =
    LazyLock::new(|| counter("tasks_created_total", "Tasks created through this API."));
