//! Medians and percentiles.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// What several runs of the same measurement gave.
#[derive(Debug, Clone, Serialize)]
pub struct Runs {
    /// The middle one, or the mean of the middle two.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// All of them, in their order.
    pub runs: Vec<f64>,
}

impl Runs {
    /// Of at least one run.
    pub fn of(runs: impl IntoIterator<Item = f64>) -> Self {
        let runs: Vec<f64> = runs.into_iter().collect();
        let mut sorted = runs.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let upper = sorted.len() / 2;
        let lower = sorted.len().saturating_sub(1) / 2;
        Self {
            median: f64::midpoint(at(lower), at(upper)),
            min: at(0),
            max: at(sorted.len().saturating_sub(1)),
            runs,
        }
    }

    /// Ours by bare, run by run, so that a machine that slows down slows both sides of each ratio.
    pub fn ratio(&self, bare: &Self) -> Self {
        Self::of(self.runs.iter().zip(&bare.runs).map(|(ours, bare)| ours / bare))
    }
}

/// No latency is longer, in microseconds: an hour.
const LONGEST_US: u64 = 3_600_000_000;

/// Latencies, to the microsecond and three digits.
#[derive(Debug)]
pub struct Latencies(Histogram<u64>);

/// What latencies look like, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Summary {
    /// Half are shorter.
    pub p50_ms: f64,
    /// One in a hundred is longer.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// How many there were.
    pub count: u64,
}

impl Latencies {
    /// None yet.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, LONGEST_US, 3)?))
    }

    /// Adds one.
    pub fn record(&mut self, latency: Duration) {
        self.0
            .saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    /// What they look like.
    pub fn summary(&self) -> Summary {
        let ms = |us: u64| us as f64 / 1000.0;
        Summary {
            p50_ms: ms(self.0.value_at_quantile(0.50)),
            p99_ms: ms(self.0.value_at_quantile(0.99)),
            max_ms: ms(self.0.max()),
            count: self.0.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_middle_two() {
        let odd = Runs::of([3.0, 1.0, 2.0]);
        assert_eq!((odd.median, odd.min, odd.max), (2.0, 1.0, 3.0));
        assert_eq!(Runs::of([4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(Runs::of([7.0]).median, 7.0);
    }

    #[test]
    fn latencies_keep_three_digits_however_long_they_are() {
        let mut latencies = Latencies::new().unwrap();
        for ms in 1..=1000 {
            latencies.record(Duration::from_millis(ms));
        }
        latencies.record(Duration::from_secs(100));
        let summary = latencies.summary();
        assert!((summary.p50_ms - 501.0).abs() < 1.0, "{summary:?}");
        assert!((summary.p99_ms - 991.0).abs() < 1.0, "{summary:?}");
        assert!((summary.max_ms - 100_000.0).abs() < 100.0, "{summary:?}");
        assert_eq!(summary.count, 1001);
    }

    #[test]
    fn a_ratio_compares_what_was_measured_side_by_side() {
        let (ours, bare) = (Runs::of([80.0, 40.0]), Runs::of([100.0, 50.0]));
        assert_eq!(ours.ratio(&bare).runs, [0.8, 0.8]);
    }
}
