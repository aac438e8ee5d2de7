//! When a delivery is tried again. Pure, so that it can be tested without waiting.

use std::time::Duration;

/// Delays that double, up to a deadline.
#[derive(Debug, Clone, Copy)]
pub struct Doubling {
    /// The ceiling of the first delay.
    pub min: Duration,
    /// No delay is longer.
    pub max: Duration,
    /// No attempt is made once a failed one comes so long after the cause.
    pub deadline: Duration,
}

impl Doubling {
    /// How long there is until the deadline; `None` when it has passed. `age` is the time since the cause.
    #[must_use]
    pub fn left(&self, age: Duration) -> Option<Duration> {
        self.deadline.checked_sub(age).filter(|left| !left.is_zero())
    }

    /// How long to wait after a failed attempt, or `None` to give up.
    ///
    /// `attempt` counts from 1, `age` is the time since the cause, `jitter` is from 0 to 1: see [`jittered`]. The last
    /// attempt is made at the deadline itself.
    #[must_use]
    pub fn delay(&self, attempt: i32, age: Duration, jitter: f64) -> Option<Duration> {
        let left = self.left(age)?;
        let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(0).min(31);
        let ceiling = self.min.saturating_mul(1 << doublings).min(self.max);
        Some(jittered(ceiling, jitter).min(left))
    }
}

/// A delay from the upper half of a ceiling: spread, so that what failed together is not retried together, and never short,
/// so that a struggling server gets its rest.
#[must_use]
pub fn jittered(ceiling: Duration, jitter: f64) -> Duration {
    ceiling.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Doubling = Doubling {
        min: Duration::from_secs(15),
        max: Duration::from_mins(30),
        deadline: Duration::from_hours(24),
    };

    fn seconds(attempt: i32, jitter: f64) -> Option<f64> {
        RETRY
            .delay(attempt, Duration::ZERO, jitter)
            .map(|delay| delay.as_secs_f64())
    }

    #[test]
    fn the_ceiling_doubles_up_to_the_maximum() {
        let ceilings: Vec<f64> = (1..=10).filter_map(|attempt| seconds(attempt, 1.0)).collect();
        assert_eq!(
            ceilings,
            [
                15.0, 30.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1800.0, 1800.0, 1800.0
            ]
        );
    }

    #[test]
    fn jitter_takes_at_most_half() {
        assert_eq!(seconds(1, 0.0), Some(7.5));
        assert_eq!(seconds(3, 0.0), Some(30.0));
        assert_eq!(seconds(3, 0.5), Some(45.0));
    }

    #[test]
    fn the_last_attempt_comes_at_the_deadline_and_none_after_it() {
        let minute = Duration::from_mins(1);
        assert_eq!(RETRY.delay(9, RETRY.deadline - minute, 1.0), Some(minute));
        assert_eq!(RETRY.delay(9, RETRY.deadline, 1.0), None);
        assert_eq!(RETRY.delay(1, RETRY.deadline + minute, 1.0), None);
    }

    #[test]
    fn no_number_of_attempts_overflows() {
        for attempt in [i32::MIN, -1, 0, 1, 32, 33, i32::MAX] {
            let delay = RETRY.delay(attempt, Duration::ZERO, 1.0);
            assert!(
                delay.is_some_and(|delay| (RETRY.min..=RETRY.max).contains(&delay)),
                "{attempt}: {delay:?}"
            );
        }
    }
}
