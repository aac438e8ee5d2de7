//! What this service counts.

use std::sync::LazyLock;

use prometheus::IntCounter;
use service::metrics;

pub(crate) static INSTANCES: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter(
        "recurrence_instances_created_total",
        "Instances of series that were created",
    )
});

pub(crate) static ROLLED: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter(
        "recurrence_instances_rolled_total",
        "Open instances of series that were moved to a later occurrence",
    )
});

pub(crate) static UNUSABLE: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter(
        "recurrence_series_unusable_total",
        "Series that make no instances ahead until they are changed, since their rule or content cannot be used",
    )
});

/// Without this they would be missing, not zero, until the first of each.
pub(crate) fn register() {
    for counter in [&INSTANCES, &ROLLED, &UNUSABLE] {
        LazyLock::force(counter);
    }
}
