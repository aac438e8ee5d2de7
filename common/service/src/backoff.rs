use std::time::Duration;

/// Delays between attempts: each is drawn evenly from between `min` and a ceiling that starts at `min`,
/// doubles with every attempt and stops at `max`. The jitter keeps replicas that failed together from
/// retrying together.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    ceiling: Duration,
}

impl Backoff {
    /// Delays from `min` to `max`; a `max` below `min` counts as `min`.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max: max.max(min),
            ceiling: min,
        }
    }

    /// The delay before the next attempt. The first one is `min`.
    pub fn next_delay(&mut self) -> Duration {
        self.delay_at(rand::random())
    }

    /// Starts over, after a success.
    pub fn reset(&mut self) {
        self.ceiling = self.min;
    }

    /// `jitter` is from 0 (the least delay) to 1 (the ceiling).
    fn delay_at(&mut self, jitter: f64) -> Duration {
        let delay = self.min + (self.ceiling - self.min).mul_f64(jitter);
        self.ceiling = self.ceiling.saturating_mul(2).min(self.max);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(1);

    #[test]
    fn the_ceiling_doubles_until_the_maximum() {
        let mut backoff = Backoff::new(MIN, MAX);
        let ceilings: Vec<_> = (0..6).map(|_| backoff.delay_at(1.0).as_millis()).collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn the_least_delay_is_the_minimum_at_every_attempt() {
        let mut backoff = Backoff::new(MIN, MAX);
        assert!((0..6).all(|_| backoff.delay_at(0.0) == MIN));
    }

    #[test]
    fn jitter_spreads_delays_between_the_two() {
        let mut backoff = Backoff::new(MIN, MAX);
        for _ in 0..1000 {
            assert!((MIN..=MAX).contains(&backoff.next_delay()));
        }
        let delays: std::collections::HashSet<_> = (0..100).map(|_| backoff.next_delay()).collect();
        assert!(delays.len() > 50);
    }

    #[test]
    fn a_reset_starts_over() {
        let mut backoff = Backoff::new(MIN, MAX);
        backoff.delay_at(1.0);
        backoff.delay_at(1.0);
        backoff.reset();
        assert_eq!(backoff.delay_at(1.0), MIN);
    }

    #[test]
    fn a_maximum_below_the_minimum_and_one_without_end_are_both_fine() {
        assert_eq!(Backoff::new(MAX, MIN).next_delay(), MAX);
        let mut endless = Backoff::new(MAX, Duration::MAX);
        assert!((0..200).all(|_| endless.delay_at(0.5) >= MAX));
    }
}
