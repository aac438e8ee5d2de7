//! When a delivery is tried again. Pure, so that it can be tested without waiting.

use std::time::Duration;

/// What an endpoint asks for by `Retry-After` counts up to this.
pub const MAX_RETRY_AFTER: Duration = Duration::from_hours(10);

/// How long to wait after the failed attempt of that number, which counts from 1, or `None` to give up.
///
/// Never earlier than the schedule says, and up to a fifth later (`jitter` is from 0 to 1), so that what failed together is
/// not tried again together; and not before the endpoint has asked for it.
pub fn delay(
    schedule: &[Duration],
    attempt: i32,
    retry_after: Option<Duration>,
    jitter: f64,
) -> Option<Duration> {
    let index = usize::try_from(attempt.saturating_sub(1)).unwrap_or(0);
    let delay = schedule.get(index)?.mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 5.0);
    Some(delay.max(retry_after.unwrap_or_default().min(MAX_RETRY_AFTER)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: [Duration; 2] = [Duration::from_secs(5), Duration::from_mins(5)];

    #[test]
    fn each_failure_has_its_delay_and_then_it_is_given_up() {
        let delays = [1, 2, 3].map(|attempt| delay(&SCHEDULE, attempt, None, 0.0));
        assert_eq!(delays, [Some(SCHEDULE[0]), Some(SCHEDULE[1]), None]);
        assert_eq!(delay(&SCHEDULE, 1, None, 1.0), Some(Duration::from_secs(6)));
        assert_eq!(delay(&[], 1, None, 0.0), None);
        assert_eq!(delay(&SCHEDULE, i32::MIN, None, 0.0), Some(SCHEDULE[0]));
        assert_eq!(delay(&SCHEDULE, i32::MAX, None, 0.0), None);
    }

    #[test]
    fn what_an_endpoint_asks_for_counts_when_it_is_longer_and_not_without_end() {
        let asked = |seconds| delay(&SCHEDULE, 1, Some(Duration::from_secs(seconds)), 0.0);
        assert_eq!(asked(0), Some(SCHEDULE[0]));
        assert_eq!(asked(60), Some(Duration::from_mins(1)));
        assert_eq!(asked(u64::MAX), Some(MAX_RETRY_AFTER));
    }
}
