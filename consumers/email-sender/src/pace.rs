//! How fast mail goes to each recipient domain: so much at once, so much in a second, and less where it is put off. Pure, so
//! that it can be tested without waiting.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use delivery::retry::jittered;

/// How long a mail may wait for its turn within the process, where it takes a place from others.
const PATIENCE: Duration = Duration::from_millis(500);
/// No mail is put off for less.
const SHORTEST: Duration = Duration::from_millis(100);
/// What nobody has asked about for so long is forgotten.
const MEMORY: Duration = Duration::from_mins(10);

/// How much one domain gets.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Mails at once.
    pub at_once: usize,
    /// From one mail to the next, at least.
    pub interval: Duration,
    /// The first pause of a domain that puts mail off, at most; the next ones double.
    pub min_pause: Duration,
    /// No pause is longer, nor is a mail put off for longer.
    pub max_pause: Duration,
}

/// Whether a mail may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Now. Whoever has this says when it [ended](Pace::ended).
    Go,
    /// In a moment: to be asked again when a mail has ended, or after so long.
    Wait(Duration),
    /// Not for so long.
    PutOff {
        /// Until its place in the domain's line.
        after: Duration,
        /// Whether the domain puts mail off, rather than that there is too much of it.
        paused: bool,
    },
}

/// What became of a mail that went, as far as it tells of the domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It was answered, after so long.
    Answered(Duration),
    /// It was put off, as others to this domain may be.
    PutOff,
    /// Nothing.
    Nothing,
}

/// The pace of every domain that mail has lately gone to.
#[derive(Debug)]
pub struct Pace {
    limits: Limits,
    domains: HashMap<String, Domain>,
}

#[derive(Debug)]
struct Domain {
    under_way: usize,
    /// Those that were told to wait.
    waiting: usize,
    /// How many may be under way: fewer after mail was put off, and soon more again.
    window: usize,
    /// What a mail takes, of late.
    takes: Duration,
    /// The next one may go then.
    next: Instant,
    /// In a row.
    pauses: u32,
    paused_until: Instant,
    /// Where the line of those that were put off ends.
    line: Instant,
    asked: Instant,
}

impl Pace {
    /// Nothing is known yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            domains: HashMap::new(),
        }
    }

    /// Whether a mail may go. `waited` is for how long it has, once it was told to. `tried` is whether it was put off by the
    /// domain itself before: such a one keeps to times of its own, and where mail is listed greyly only such a one gets
    /// through. So it may find out whether a pause is over.
    pub fn ask(&mut self, domain: &str, tried: bool, waited: Option<Duration>, now: Instant) -> Leave {
        let limits = self.limits;
        let domain = self.domain(domain, now);
        if waited.is_some() {
            domain.waiting = domain.waiting.saturating_sub(1);
        }
        let paused = domain.paused_until > now && !(tried && domain.under_way == 0);
        let full = domain.under_way >= domain.window;
        if !paused && !full && domain.next <= now {
            domain.under_way += 1;
            domain.next = now + limits.interval;
            return Leave::Go;
        }
        let spacing = (domain.takes / u32::try_from(limits.at_once).unwrap_or(u32::MAX)).max(limits.interval);
        let until_next = domain.next.saturating_duration_since(now);
        let until_room = if full {
            domain.takes / u32::try_from(domain.window).unwrap_or(u32::MAX)
        } else {
            Duration::ZERO
        };
        let ahead = spacing.saturating_mul(u32::try_from(domain.waiting).unwrap_or(u32::MAX));
        let turn = until_next.max(until_room).saturating_add(ahead);
        let patience = PATIENCE.saturating_sub(waited.unwrap_or_default());
        if !paused && turn <= patience && !patience.is_zero() {
            domain.waiting += 1;
            return Leave::Wait(if full { patience } else { until_next.min(patience) });
        }
        if patience.is_zero() && full && !paused {
            // What is under way takes longer than it used to: the next one need not wait to find that out.
            let longer = PATIENCE * u32::try_from(domain.window + 1).unwrap_or(u32::MAX);
            domain.takes = domain.takes.max(longer);
        }
        let earliest = (now + turn.max(SHORTEST)).max(domain.paused_until);
        domain.line = (domain.line.max(earliest) + spacing).min(now + limits.max_pause.max(SHORTEST));
        Leave::PutOff {
            after: domain.line - now,
            paused: domain.paused_until > now,
        }
    }

    /// A mail that went has ended. True when the domain is given a pause. `jitter` is from 0 to 1.
    pub fn ended(&mut self, domain: &str, heard: Heard, now: Instant, jitter: f64) -> bool {
        let limits = self.limits;
        let domain = self.domain(domain, now);
        domain.under_way = domain.under_way.saturating_sub(1);
        match heard {
            Heard::Nothing => false,
            Heard::Answered(took) => {
                domain.takes = if domain.takes.is_zero() {
                    took
                } else {
                    (domain.takes + took) / 2
                };
                domain.window = (domain.window * 2).min(limits.at_once);
                domain.pauses = 0;
                if domain.paused_until > now {
                    (domain.paused_until, domain.line) = (now, now);
                }
                false
            }
            // They went before it was known.
            Heard::PutOff if domain.paused_until > now => false,
            Heard::PutOff if domain.window > 1 => {
                domain.window /= 2;
                false
            }
            Heard::PutOff => {
                let ceiling = limits.min_pause.saturating_mul(1 << domain.pauses.min(31));
                domain.pauses += 1;
                domain.paused_until = now + jittered(ceiling.min(limits.max_pause), jitter);
                domain.line = domain.paused_until;
                true
            }
        }
    }

    /// Forgets what is of no use any more.
    pub fn forget(&mut self, now: Instant) {
        self.domains.retain(|_, domain| {
            domain.under_way + domain.waiting > 0 || now < domain.asked.max(domain.paused_until) + MEMORY
        });
    }

    fn domain(&mut self, name: &str, now: Instant) -> &mut Domain {
        let limits = self.limits;
        let domain = self.domains.entry(name.to_owned()).or_insert_with(|| Domain {
            under_way: 0,
            waiting: 0,
            window: limits.at_once,
            takes: Duration::ZERO,
            next: now,
            pauses: 0,
            paused_until: now,
            line: now,
            asked: now,
        });
        domain.asked = now;
        domain
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits {
        at_once: 6,
        interval: Duration::ZERO,
        min_pause: Duration::from_secs(15),
        max_pause: Duration::from_mins(30),
    };
    const MS: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn ask(pace: &mut Pace, domain: &str, now: Instant) -> Leave {
        pace.ask(domain, false, None, now)
    }

    /// Sends as many as may go at once, all of which are put off.
    fn put_off_all(pace: &mut Pace, domain: &str, now: Instant) {
        let went = (0..).take_while(|_| ask(pace, domain, now) == Leave::Go).count();
        for _ in 0..went {
            pace.ended(domain, Heard::PutOff, now, 1.0);
        }
    }

    #[test]
    fn a_domain_gets_no_more_at_once_than_it_may_and_others_go_on() {
        let (mut pace, now) = (Pace::new(LIMITS), Instant::now());
        for _ in 0..LIMITS.at_once {
            assert_eq!(ask(&mut pace, "slow.example", now), Leave::Go);
        }
        assert_eq!(ask(&mut pace, "slow.example", now), Leave::Wait(PATIENCE));
        assert_eq!(ask(&mut pace, "other.example", now), Leave::Go);
    }

    #[test]
    fn nobody_waits_for_a_domain_that_is_slow() {
        let (mut pace, now) = (Pace::new(LIMITS), Instant::now());
        let slow = |pace: &mut Pace, waited| pace.ask("slow.example", false, waited, now);
        for _ in 0..LIMITS.at_once {
            slow(&mut pace, None);
        }
        // It is not known yet: one waits until its patience is at an end, and learns it for the others.
        assert_eq!(slow(&mut pace, None), Leave::Wait(PATIENCE));
        assert!(matches!(
            slow(&mut pace, Some(PATIENCE)),
            Leave::PutOff { paused: false, .. }
        ));
        assert!(matches!(slow(&mut pace, None), Leave::PutOff { .. }));
        // And by what one takes.
        let later = now + 10 * SECOND;
        for _ in 0..LIMITS.at_once {
            pace.ended("slow.example", Heard::Answered(10 * SECOND), later, 0.5);
        }
        for _ in 0..LIMITS.at_once {
            assert_eq!(ask(&mut pace, "slow.example", later), Leave::Go);
        }
        assert!(matches!(
            ask(&mut pace, "slow.example", later),
            Leave::PutOff { .. }
        ));
    }

    #[test]
    fn one_answer_that_puts_off_is_no_reason_to_stop_and_many_are() {
        let (mut pace, now) = (Pace::new(LIMITS), Instant::now());
        assert_eq!(ask(&mut pace, "a.example", now), Leave::Go);
        assert!(!pace.ended("a.example", Heard::PutOff, now, 1.0));
        assert_eq!(ask(&mut pace, "a.example", now), Leave::Go);
        pace.ended("a.example", Heard::Answered(MS), now, 1.0);
        put_off_all(&mut pace, "a.example", now);
        put_off_all(&mut pace, "a.example", now);
        let Leave::PutOff { after, paused: true } = ask(&mut pace, "a.example", now) else {
            panic!("it is paused")
        };
        assert!(after >= LIMITS.min_pause, "{after:?}");
    }

    #[test]
    fn a_domain_that_puts_everything_off_is_asked_less_and_less_by_one_mail_at_a_time() {
        let (mut pace, mut now) = (Pace::new(LIMITS), Instant::now());
        let (mut asked, mut longest) = (0, Duration::ZERO);
        let end = now + Duration::from_hours(24);
        while now < end {
            match ask(&mut pace, "a.example", now) {
                Leave::Go => {
                    asked += 1;
                    pace.ended("a.example", Heard::PutOff, now, 0.5);
                }
                Leave::Wait(pause) | Leave::PutOff { after: pause, .. } => {
                    longest = longest.max(pause);
                    now += pause;
                }
            }
        }
        assert!((50..100).contains(&asked), "{asked}");
        assert!(longest <= LIMITS.max_pause);
    }

    #[test]
    fn what_was_tried_before_may_find_out_that_a_pause_is_over_and_then_all_is_soon_as_before() {
        let (mut pace, now) = (Pace::new(LIMITS), Instant::now());
        for _ in 0..2 {
            put_off_all(&mut pace, "grey.example", now);
        }
        let later = now + SECOND;
        assert!(matches!(
            ask(&mut pace, "grey.example", later),
            Leave::PutOff { .. }
        ));
        let tried = |pace: &mut Pace| pace.ask("grey.example", true, None, later);
        assert_eq!(tried(&mut pace), Leave::Go);
        assert!(
            matches!(tried(&mut pace), Leave::PutOff { paused: true, .. }),
            "one is enough"
        );
        pace.ended("grey.example", Heard::Answered(MS), later, 0.5);
        for _ in 0..2 {
            assert_eq!(ask(&mut pace, "grey.example", later), Leave::Go);
        }
        for _ in 0..2 {
            pace.ended("grey.example", Heard::Answered(MS), later, 0.5);
        }
        for _ in 0..LIMITS.at_once {
            assert_eq!(ask(&mut pace, "grey.example", later), Leave::Go);
        }
    }

    #[test]
    fn what_is_not_heard_of_any_more_is_forgotten_and_a_pause_is_not() {
        let (mut pace, now) = (Pace::new(LIMITS), Instant::now());
        ask(&mut pace, "a.example", now);
        pace.ended("a.example", Heard::Answered(MS), now, 0.5);
        ask(&mut pace, "held.example", now);
        for _ in 0..8 {
            put_off_all(&mut pace, "paused.example", now);
        }
        pace.forget(now + MEMORY);
        let mut left: Vec<&str> = pace.domains.keys().map(String::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["held.example", "paused.example"]);
    }

    /// What happens in a run: mails that come to ask, and mails that end.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    enum Step {
        Ask { mail: usize, since: Option<Duration> },
        End { mail: usize },
    }

    proptest! {
        #[test]
        fn every_mail_goes_in_the_end_and_never_more_than_may(
            mails in 1_usize..300,
            at_once in 1_usize..10,
            per_second in proptest::option::of(1_u32..200),
            takes_ms in 1_u64..3000,
            well_after_s in 0_u64..600,
            jitter in 0.0..1.0_f64,
        ) {
            let takes = Duration::from_millis(takes_ms);
            let interval = per_second.map_or(Duration::ZERO, |rate| SECOND / rate);
            let limits = Limits { at_once, interval, ..LIMITS };
            let (mut pace, began) = (Pace::new(limits), Instant::now());
            let (mut under_way, mut left, mut tried) = (0, mails, vec![0_u32; mails]);
            let mut went: Vec<Duration> = Vec::new();
            // Behind the time of a step its number: what comes first at one time goes first.
            let mut steps = BinaryHeap::new();
            let mut number = 0;
            let mut add = |steps: &mut BinaryHeap<_>, at: Duration, step| {
                number += 1;
                steps.push(Reverse((at, number, step)));
            };
            for mail in 0..mails {
                add(&mut steps, Duration::ZERO, Step::Ask { mail, since: None });
            }
            let end = Duration::from_hours(6);
            while let Some(Reverse((at, _, step))) = steps.pop() {
                prop_assert!(at < end, "{left} of {mails} mails are left after {at:?}");
                let now = began + at;
                match step {
                    Step::Ask { mail, since } => {
                        let waited = since.map(|since| at - since);
                        match pace.ask("a.example", tried[mail] > 0, waited, now) {
                            Leave::Go => {
                                under_way += 1;
                                prop_assert!(under_way <= at_once);
                                went.push(at);
                                add(&mut steps, at + takes, Step::End { mail });
                            }
                            Leave::Wait(pause) => {
                                prop_assert!(pause <= PATIENCE);
                                let since = Some(since.unwrap_or(at));
                                add(&mut steps, at + pause.max(MS), Step::Ask { mail, since });
                            }
                            Leave::PutOff { after, .. } => {
                                prop_assert!(after >= SHORTEST && after <= limits.max_pause);
                                add(&mut steps, at + after, Step::Ask { mail, since: None });
                            }
                        }
                    }
                    Step::End { mail } => {
                        under_way -= 1;
                        if at.as_secs() < well_after_s {
                            pace.ended("a.example", Heard::PutOff, now, jitter);
                            let pause = LIMITS.min_pause * 2_u32.pow(tried[mail].min(6));
                            tried[mail] += 1;
                            add(&mut steps, at + pause, Step::Ask { mail, since: None });
                        } else {
                            pace.ended("a.example", Heard::Answered(takes), now, jitter);
                            left -= 1;
                        }
                    }
                }
            }
            prop_assert_eq!(left, 0);
            for pair in went.windows(2) {
                prop_assert!(pair[1] - pair[0] >= interval);
            }
        }
    }
}
