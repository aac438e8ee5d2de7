//! When a task is due: at an instant, or on a day.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use chrono_tz::Tz;

use crate::zone::resolve_local;

/// When a task is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// At an instant.
    At(DateTime<Utc>),
    /// At any time of a day.
    On(NaiveDate),
}

impl Due {
    /// What the two fields of a task say; at most one of them is set.
    #[must_use]
    pub fn of(due_at: Option<DateTime<Utc>>, due_on: Option<NaiveDate>) -> Option<Self> {
        due_at.map(Self::At).or(due_on.map(Self::On))
    }

    /// The instant, or the one at which the day starts in `zone`: the first after midnight where clocks skip that.
    #[must_use]
    pub fn starts_at(self, zone: Tz) -> DateTime<Utc> {
        self.anchor(zone, 0)
    }

    /// What offsets of reminders count from: the instant, or that minute of the day in `zone` (0 to 1439; others are read
    /// as midnight).
    #[must_use]
    pub fn anchor(self, zone: Tz, minute: i32) -> DateTime<Utc> {
        match self {
            Self::At(at) => at,
            Self::On(day) => {
                let seconds = u32::try_from(minute).unwrap_or_default().saturating_mul(60);
                let time = NaiveTime::from_num_seconds_from_midnight_opt(seconds, 0).unwrap_or_default();
                resolve_local(NaiveDateTime::new(day, time), zone)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(day: &str, zone: Tz) -> (String, String) {
        let due = Due::On(day.parse().unwrap());
        (
            due.starts_at(zone).to_rfc3339(),
            due.anchor(zone, 9 * 60).to_rfc3339(),
        )
    }

    #[test]
    fn a_day_starts_at_midnight_of_its_zone_and_its_reminders_count_from_a_minute_of_it() {
        assert_eq!(
            on("2027-02-01", Tz::Europe__Berlin),
            (
                "2027-01-31T23:00:00+00:00".to_owned(),
                "2027-02-01T08:00:00+00:00".to_owned()
            )
        );
    }

    #[test]
    fn a_day_whose_midnight_is_skipped_starts_an_hour_later() {
        // Brazil's clocks went from 2018-11-04T00:00 to 01:00.
        assert_eq!(
            on("2018-11-04", Tz::America__Sao_Paulo).0,
            "2018-11-04T03:00:00+00:00"
        );
    }

    #[test]
    fn an_instant_is_what_it_is() {
        let at: DateTime<Utc> = "2027-02-01T08:00:00Z".parse().unwrap();
        assert_eq!(Due::At(at).starts_at(Tz::Asia__Tokyo), at);
        assert_eq!(Due::At(at).anchor(Tz::Asia__Tokyo, 540), at);
        assert_eq!(Due::of(None, None), None);
    }
}
