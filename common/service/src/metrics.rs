//! Prometheus metrics in the default registry.
//!
//! Every function returns the metric of that name, and registers it the first time: several services in one
//! process (as in tests) then share it. Declare metrics as constants of a service:
//!
//! ```
//! use std::sync::LazyLock;
//!
//! use prometheus::IntCounterVec;
//! use service::metrics;
//!
//! static SENT: LazyLock<IntCounterVec> = LazyLock::new(|| {
//!     metrics::counter_vec("notifications_sent_total", "Notifications handed over.", &["channel", "status"])
//! });
//!
//! SENT.with_label_values(&["email", "accepted"]).inc();
//! assert!(metrics::render().contains("notifications_sent_total"));
//! ```
//!
//! A metric without labels is exposed from its first use on, so touch it at start (`LazyLock::force`) where a
//! zero matters to an alert.
//!
//! # Panics
//!
//! The constructors panic when a name, label or bucket is not valid, or when the name belongs to a metric of
//! another kind or with other labels. All of them are constants, so a first use in any test finds it.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, TextEncoder,
};

/// Buckets for durations in seconds, from half a millisecond (a query) to a minute (a reminder that is late).
pub const LATENCY_BUCKETS_SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// A count that only grows. Its name ends in `_total`.
pub fn counter(name: &str, help: &str) -> IntCounter {
    registered(name, IntCounter::new(name, help))
}

/// Counts that only grow, by labels. Its name ends in `_total`.
pub fn counter_vec(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    registered(name, IntCounterVec::new(Opts::new(name, help), labels))
}

/// A fractional value that goes up and down, such as an age in seconds.
pub fn gauge(name: &str, help: &str) -> Gauge {
    registered(name, Gauge::new(name, help))
}

/// Fractional values that go up and down, by labels.
pub fn gauge_vec(name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    registered(name, GaugeVec::new(Opts::new(name, help), labels))
}

/// A whole number that goes up and down, such as a number of rows.
pub fn int_gauge(name: &str, help: &str) -> IntGauge {
    registered(name, IntGauge::new(name, help))
}

/// Whole numbers that go up and down, by labels.
pub fn int_gauge_vec(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    registered(name, IntGaugeVec::new(Opts::new(name, help), labels))
}

/// A distribution. `buckets` are upper bounds in ascending order, in the unit the name ends in.
pub fn histogram(name: &str, help: &str, buckets: &[f64]) -> Histogram {
    registered(
        name,
        Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())),
    )
}

/// Distributions by labels. `buckets` are upper bounds in ascending order, in the unit the name ends in.
pub fn histogram_vec(name: &str, help: &str, buckets: &[f64], labels: &[&str]) -> HistogramVec {
    registered(
        name,
        HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels),
    )
}

/// All metrics of the process in the text format of Prometheus, version 0.0.4, with those about the process
/// itself.
pub fn render() -> String {
    TextEncoder::new()
        .encode_to_string(&prometheus::gather())
        .unwrap_or_else(|error| {
            tracing::error!(%error, "metrics cannot be rendered");
            String::new()
        })
}

/// The registry itself cannot give back what it holds.
static KNOWN: LazyLock<Mutex<HashMap<String, Box<dyn Any + Send>>>> = LazyLock::new(Mutex::default);

#[expect(
    clippy::expect_used,
    reason = "arguments are constants: a wrong one is a bug that the first use shows"
)]
fn registered<M: Collector + Clone + Send + 'static>(name: &str, metric: prometheus::Result<M>) -> M {
    let metric = metric.expect("the name, labels and buckets of a metric are valid");
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = known.get(name) {
        let known = known.downcast_ref::<M>().expect("a metric keeps its kind");
        assert_eq!(
            dimensions(known),
            dimensions(&metric),
            "the metric {name} keeps its help and labels"
        );
        return known.clone();
    }
    prometheus::register(Box::new(metric.clone()))
        .expect("a metric that is not known is not registered either");
    known.insert(name.to_owned(), Box::new(metric.clone()));
    metric
}

fn dimensions(metric: &impl Collector) -> Vec<u64> {
    metric
        .desc()
        .iter()
        .map(|description| description.dim_hash)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_asked_for_twice_is_one_metric() {
        counter_vec("twice_total", "A test.", &["kind"])
            .with_label_values(&["a"])
            .inc();
        counter_vec("twice_total", "A test.", &["kind"])
            .with_label_values(&["a"])
            .inc();
        assert!(render().contains("twice_total{kind=\"a\"} 2"));
    }

    #[test]
    fn each_kind_of_metric_is_rendered() {
        counter("kinds_total", "A test.").inc();
        gauge("kinds_ratio", "A test.").set(0.5);
        gauge_vec("kinds_seconds", "A test.", &["topic"])
            .with_label_values(&["t"])
            .set(1.5);
        int_gauge("kinds_rows", "A test.").set(-3);
        int_gauge_vec("kinds_info", "A test.", &["version"])
            .with_label_values(&["1"])
            .set(1);
        histogram("kinds_lag_seconds", "A test.", LATENCY_BUCKETS_SECONDS).observe(0.3);
        histogram_vec("kinds_duration_seconds", "A test.", &[1.0], &["path"])
            .with_label_values(&["/"])
            .observe(2.0);
        let text = render();
        for line in [
            "kinds_total 1",
            "kinds_ratio 0.5",
            "kinds_seconds{topic=\"t\"} 1.5",
            "kinds_rows -3",
            "kinds_info{version=\"1\"} 1",
            "kinds_lag_seconds_bucket{le=\"0.25\"} 0",
            "kinds_lag_seconds_bucket{le=\"0.5\"} 1",
            "kinds_duration_seconds_bucket{path=\"/\",le=\"1\"} 0",
            "kinds_duration_seconds_count{path=\"/\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
    }

    #[test]
    fn the_process_itself_is_measured() {
        assert!(render().contains("process_resident_memory_bytes"));
    }

    #[test]
    #[should_panic(expected = "a metric keeps its kind")]
    fn a_name_cannot_change_its_kind() {
        counter("kind_total", "A test.");
        gauge("kind_total", "A test.");
    }

    #[test]
    #[should_panic(expected = "the metric labels_total keeps its help and labels")]
    fn a_name_cannot_change_its_labels() {
        counter_vec("labels_total", "A test.", &["a"]);
        counter_vec("labels_total", "A test.", &["b"]);
    }
}
