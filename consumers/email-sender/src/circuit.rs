//! Whether the SMTP server is there for us. When it is not, no delivery is touched: one probe at a time finds out when it
//! is back, and one mail at a time when it takes mail again.

use std::time::{Duration, Instant};

use service::Backoff;

/// Pauses between probes.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// What may be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// Nothing, for so long.
    Wait(Duration),
    /// Ask the server whether it would take mail.
    Probe,
    /// Send one mail, and nothing beside it.
    One,
    /// Send.
    All,
}

#[derive(Debug)]
enum State {
    Closed,
    Open { until: Instant },
    Trial,
}

/// The server's state as we know it.
#[derive(Debug)]
pub struct Circuit {
    state: State,
    pauses: Backoff,
}

impl Circuit {
    /// Nothing is known yet: it begins with a probe.
    pub fn new(now: Instant) -> Self {
        Self {
            state: State::Open { until: now },
            pauses: Backoff::new(PAUSES.0, PAUSES.1),
        }
    }

    /// What may be done.
    pub fn permit(&self, now: Instant) -> Permit {
        match self.state {
            State::Closed => Permit::All,
            State::Trial => Permit::One,
            State::Open { until } if until > now => Permit::Wait(until - now),
            State::Open { .. } => Permit::Probe,
        }
    }

    /// Whether deliveries should be given back untried.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// The probe was answered. That is less than taking a mail, so the pauses do not start over yet.
    pub fn probed(&mut self) {
        self.state = State::Trial;
    }

    /// The server answered to a whole mail, be it with yes or no.
    pub fn answered(&mut self) {
        self.state = State::Closed;
        self.pauses.reset();
    }

    /// The server did not answer, or would not take anything. True when that is news.
    pub fn unavailable(&mut self, now: Instant) -> bool {
        // Sends that were on their way together fail together: that is one failure, not many.
        let news = match self.state {
            State::Open { until } if until > now => return false,
            State::Open { .. } => false,
            State::Closed | State::Trial => true,
        };
        self.state = State::Open {
            until: now + self.pauses.next_delay(),
        };
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_from_probe_to_one_mail_to_all() {
        let now = Instant::now();
        let mut circuit = Circuit::new(now);
        assert_eq!(circuit.permit(now), Permit::Probe);
        circuit.probed();
        assert_eq!(circuit.permit(now), Permit::One);
        circuit.answered();
        assert_eq!(circuit.permit(now), Permit::All);
    }

    #[test]
    fn failures_that_come_together_are_one() {
        let now = Instant::now();
        let mut circuit = Circuit::new(now);
        circuit.answered();
        assert!(circuit.unavailable(now));
        assert!(!circuit.unavailable(now));
        assert_eq!(circuit.permit(now), Permit::Wait(PAUSES.0));
        assert_eq!(circuit.permit(now + PAUSES.0), Permit::Probe);
    }

    #[test]
    fn a_server_that_answers_probes_and_takes_no_mail_is_asked_less_and_less() {
        let mut now = Instant::now();
        let mut circuit = Circuit::new(now);
        let mut longest = Duration::ZERO;
        for _ in 0..50 {
            circuit.unavailable(now);
            let Permit::Wait(pause) = circuit.permit(now) else {
                panic!("a pause is due")
            };
            longest = longest.max(pause);
            now += pause;
            circuit.probed();
        }
        assert!(longest > 10 * PAUSES.0);
        assert!(longest <= PAUSES.1);
    }
}
