//! When a delivery is tried again. Pure, so that it can be tested without waiting.

use std::time::Duration;

use crate::DeliveryConfig;

/// How long to wait after a failed attempt, or `None` to give up.
///
/// `attempt` counts from 1, `age` is the time since the reminder rang, `jitter` is from 0 to 1. The delay is drawn from
/// the upper half of a ceiling that doubles with every attempt: spread, so that what failed together is not retried
/// together, and never short, so that a struggling server gets its rest. The last attempt is made at the deadline itself.
pub fn delay(config: &DeliveryConfig, attempt: i32, age: Duration, jitter: f64) -> Option<Duration> {
    let left = config.deadline.checked_sub(age).filter(|left| !left.is_zero())?;
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(0).min(31);
    let ceiling = config
        .retry_min
        .saturating_mul(1 << doublings)
        .min(config.retry_max);
    Some(ceiling.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0).min(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: DeliveryConfig = DeliveryConfig {
        lease: Duration::from_mins(3),
        deadline: Duration::from_hours(24),
        retry_min: Duration::from_secs(15),
        retry_max: Duration::from_mins(30),
        require_verified: false,
        retention_days: 90,
    };

    fn seconds(attempt: i32, jitter: f64) -> f64 {
        delay(&CONFIG, attempt, Duration::ZERO, jitter)
            .unwrap()
            .as_secs_f64()
    }

    #[test]
    fn the_ceiling_doubles_up_to_the_maximum() {
        let ceilings: Vec<f64> = (1..=10).map(|attempt| seconds(attempt, 1.0)).collect();
        assert_eq!(
            ceilings,
            [
                15.0, 30.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1800.0, 1800.0, 1800.0
            ]
        );
    }

    #[test]
    fn jitter_takes_at_most_half() {
        assert_eq!(seconds(1, 0.0), 7.5);
        assert_eq!(seconds(3, 0.0), 30.0);
        assert_eq!(seconds(3, 0.5), 45.0);
    }

    #[test]
    fn the_last_attempt_comes_at_the_deadline_and_none_after_it() {
        let minute = Duration::from_mins(1);
        assert_eq!(delay(&CONFIG, 9, CONFIG.deadline - minute, 1.0), Some(minute));
        assert_eq!(delay(&CONFIG, 9, CONFIG.deadline, 1.0), None);
        assert_eq!(delay(&CONFIG, 1, CONFIG.deadline + minute, 1.0), None);
    }

    #[test]
    fn no_number_of_attempts_overflows() {
        for attempt in [i32::MIN, -1, 0, 1, 32, 33, i32::MAX] {
            let delay = delay(&CONFIG, attempt, Duration::ZERO, 1.0).unwrap();
            assert!(
                (CONFIG.retry_min..=CONFIG.retry_max).contains(&delay),
                "{attempt}: {delay:?}"
            );
        }
    }
}
