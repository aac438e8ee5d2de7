//! When one reminder rings: the first time, and again until its task is done.

use chrono::TimeDelta;
use schedule::{Offset, Trigger, Tz};
use schemas::{TaskReminder, Timestamp};

use crate::plan::Incomputable;

/// The shortest and the longest time from one ring to the next, in seconds: a minute and a week.
pub const NAG_EVERY_SECONDS: std::ops::RangeInclusive<i64> = 60..=7 * 24 * 3600;
/// How often a reminder may repeat.
pub const NAG_TIMES: std::ops::RangeInclusive<i32> = 1..=100;

/// How a reminder repeats after its first ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeat {
    /// Exact seconds from one ring to the next, whatever clocks do: a day is 24 hours.
    pub every_seconds: i64,
    /// How often at most.
    pub times: i32,
}

/// Every time at which a reminder rings if nothing comes between: ring 0, the first, and those that repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rings {
    /// Ring 0.
    pub first_at: Timestamp,
    /// The others.
    pub repeat: Option<Repeat>,
}

impl Rings {
    /// Those that a person asked for; `None` for a reminder that is relative to a due time which the task does not have.
    ///
    /// # Errors
    /// When the offset or the nag cannot be read, or is out of bounds. The API refuses both.
    pub fn of(
        reminder: &TaskReminder,
        due: Option<Timestamp>,
        zone: Tz,
    ) -> Result<Option<Self>, Incomputable> {
        let trigger = match (&reminder.offset, reminder.at) {
            (Some(offset), _) => Some(Trigger::Offset(read(offset)?)),
            (None, at) => at.map(Trigger::At),
        };
        let repeat = match &reminder.nag {
            Some(nag) => {
                let every_seconds = seconds(&nag.every)?;
                if !NAG_EVERY_SECONDS.contains(&every_seconds) || !NAG_TIMES.contains(&nag.times) {
                    return Err(Incomputable(format!(
                        "a nag every {} for {} times is out of bounds",
                        nag.every, nag.times
                    )));
                }
                Some(Repeat {
                    every_seconds,
                    times: nag.times,
                })
            }
            None => None,
        };
        let own = trigger.and_then(|trigger| trigger.fire_at(due, zone));
        Ok(reminder
            .snoozed_until
            .or(own)
            .map(|first_at| Self { first_at, repeat }))
    }

    /// The time of ring `k`; `None` when it has no such ring.
    #[must_use]
    pub fn at(&self, k: i32) -> Option<Timestamp> {
        if k == 0 {
            return Some(self.first_at);
        }
        let repeat = self.repeat.filter(|repeat| (1..=repeat.times).contains(&k))?;
        let later = TimeDelta::try_seconds(repeat.every_seconds.checked_mul(k.into())?)?;
        self.first_at.checked_add_signed(later)
    }

    /// The rings in their order, each with its number.
    pub fn iter(&self) -> impl Iterator<Item = (i32, Timestamp)> {
        (0..=self.repeat.map_or(0, |repeat| repeat.times)).map_while(|k| Some((k, self.at(k)?)))
    }

    /// Which ring is at that time.
    #[must_use]
    pub fn number(&self, at: Timestamp) -> Option<i32> {
        self.iter().find(|(_, ring)| *ring == at).map(|(k, _)| k)
    }
}

/// How late a reminder may ring, in seconds, if it says so.
///
/// # Errors
/// When that cannot be read or is negative.
pub fn send_late_within_seconds(reminder: &TaskReminder) -> Result<Option<i64>, Incomputable> {
    let Some(text) = &reminder.send_late_within else {
        return Ok(None);
    };
    match seconds(text)? {
        within @ 0.. => Ok(Some(within)),
        _ => Err(Incomputable(format!("send_late_within is negative: {text}"))),
    }
}

fn read(duration: &str) -> Result<Offset, Incomputable> {
    Offset::parse(duration).map_err(|error| Incomputable(error.to_string()))
}

/// A duration in exact seconds: where no clock is ever changed a day has 24 hours.
fn seconds(duration: &str) -> Result<i64, Incomputable> {
    let origin = Timestamp::UNIX_EPOCH;
    read(duration)?
        .apply(origin, Tz::UTC)
        .map(|moved| (moved - origin).num_seconds())
        .ok_or_else(|| Incomputable(format!("{duration} is beyond the calendar")))
}

#[cfg(test)]
mod tests {
    use schemas::Nag;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn nagging(every: &str, times: i32) -> TaskReminder {
        TaskReminder {
            nag: Some(Nag {
                every: every.to_owned(),
                times,
            }),
            ..TaskReminder::absolute(at("2026-03-28T08:00:00Z"))
        }
    }

    #[test]
    fn a_nag_repeats_in_exact_time_whatever_the_clocks_do() {
        // Berlin goes to summer time in between: a day later is 24 hours later, at another hour on the wall.
        let rings = Rings::of(&nagging("P1D", 2), None, Tz::Europe__Berlin)
            .unwrap()
            .unwrap();
        let times: Vec<_> = rings.iter().map(|(_, at)| at).collect();
        assert_eq!(
            times,
            [
                "2026-03-28T08:00:00Z",
                "2026-03-29T08:00:00Z",
                "2026-03-30T08:00:00Z"
            ]
            .map(at)
        );
        assert_eq!(rings.number(at("2026-03-29T08:00:00Z")), Some(1));
        assert_eq!(rings.number(at("2026-03-31T08:00:00Z")), None);
        assert_eq!(rings.at(3), None);
    }

    #[test]
    fn what_is_put_off_rings_and_repeats_from_then() {
        let until = at("2026-03-28T09:30:00Z");
        let snoozed = TaskReminder {
            snoozed_until: Some(until),
            ..nagging("PT10M", 1)
        };
        let rings = Rings::of(&snoozed, None, Tz::UTC).unwrap().unwrap();
        assert_eq!(rings.first_at, until);
        assert_eq!(rings.at(1), Some(at("2026-03-28T09:40:00Z")));
        // Even without the due date that it was relative to.
        let relative = TaskReminder {
            snoozed_until: Some(until),
            ..TaskReminder::relative("-PT1H".to_owned())
        };
        assert_eq!(
            Rings::of(&relative, None, Tz::UTC).unwrap().unwrap().first_at,
            until
        );
    }

    #[test]
    fn durations_that_cannot_be_are_an_error_and_not_a_guess() {
        for (every, times) in [
            ("PT59S", 1),
            ("P8D", 1),
            ("-PT10M", 1),
            ("soon", 1),
            ("PT10M", 0),
            ("PT10M", -1),
            ("PT10M", 101),
        ] {
            assert!(
                Rings::of(&nagging(every, times), None, Tz::UTC).is_err(),
                "{every} {times}"
            );
        }
        for (text, seconds) in [("PT0S", 0), ("PT90M", 5400), ("P1DT1M", 86_460)] {
            let reminder = TaskReminder {
                send_late_within: Some(text.to_owned()),
                ..nagging("PT10M", 1)
            };
            assert_eq!(
                send_late_within_seconds(&reminder).unwrap(),
                Some(seconds),
                "{text}"
            );
        }
        for text in ["-PT1S", "", "P367D"] {
            let reminder = TaskReminder {
                send_late_within: Some(text.to_owned()),
                ..nagging("PT10M", 1)
            };
            assert!(send_late_within_seconds(&reminder).is_err(), "{text}");
        }
        assert_eq!(send_late_within_seconds(&nagging("PT10M", 1)).unwrap(), None);
    }
}
