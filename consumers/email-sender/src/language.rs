//! The languages that mails are written in: what templates cannot say by themselves.

use std::time::Duration;

use chrono::{Datelike, NaiveDate, TimeZone};
use chrono_tz::Tz;
use schemas::{Priority, Timestamp};

/// A language of `templates/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Language {
    /// Also for whom no other is known.
    #[default]
    English,
    German,
}

impl Language {
    pub const ALL: [Self; 2] = [Self::English, Self::German];

    /// The folder of its templates, and how the account names it.
    pub fn code(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::German => "de",
        }
    }

    /// The language that an account names.
    pub fn of(code: &str) -> Self {
        let named = Self::ALL.into_iter().find(|language| language.code() == code);
        named.unwrap_or_default()
    }

    /// An instant, as a clock in the zone shows it.
    pub fn instant(self, at: Timestamp, zone: Tz) -> String {
        let local = zone.from_utc_datetime(&at.naive_utc());
        format!(
            "{}, {} ({})",
            self.day(local.date_naive()),
            local.format("%H:%M"),
            zone.name()
        )
    }

    /// A day.
    pub fn day(self, day: NaiveDate) -> String {
        let weekday = day.weekday().num_days_from_monday() as usize;
        let (number, month, year) = (day.day(), day.month0() as usize, day.year());
        let word = |words: &[&'static str], index: usize| words.get(index).copied().unwrap_or_default();
        match self {
            Self::English => day.format("%A, %-d %B %Y").to_string(),
            Self::German => format!(
                "{}, {number}. {} {year}",
                word(&WOCHENTAGE, weekday),
                word(&MONATE, month)
            ),
        }
    }

    /// A span, rounded down to what a person would say.
    pub fn span(self, span: Duration) -> String {
        let minutes = span.as_secs() / 60;
        let (count, unit) = match minutes {
            0..120 => (minutes, 0),
            120..2880 => (minutes / 60, 1),
            _ => (minutes / 1440, 2),
        };
        let units: [[&str; 2]; 3] = match self {
            Self::English => [["minute", "minutes"], ["hour", "hours"], ["day", "days"]],
            Self::German => [["Minute", "Minuten"], ["Stunde", "Stunden"], ["Tag", "Tage"]],
        };
        let [one, many] = units.get(unit).copied().unwrap_or_default();
        format!("{count} {}", if count == 1 { one } else { many })
    }

    /// A priority.
    pub fn priority(self, priority: Priority) -> &'static str {
        match (self, priority) {
            (Self::English, priority) => priority.as_str(),
            (Self::German, Priority::Low) => "niedrig",
            (Self::German, Priority::Medium) => "mittel",
            (Self::German, Priority::High) => "hoch",
            (Self::German, Priority::Urgent) => "dringend",
        }
    }
}

const WOCHENTAGE: [&str; 7] = [
    "Montag",
    "Dienstag",
    "Mittwoch",
    "Donnerstag",
    "Freitag",
    "Samstag",
    "Sonntag",
];

const MONATE: [&str; 12] = [
    "Januar",
    "Februar",
    "März",
    "April",
    "Mai",
    "Juni",
    "Juli",
    "August",
    "September",
    "Oktober",
    "November",
    "Dezember",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_people_of_the_language_say_them() {
        let at = "2026-03-01T17:30:00Z".parse().unwrap();
        let said = Language::ALL.map(|language| language.instant(at, Tz::Europe__Berlin));
        assert_eq!(
            said,
            [
                "Sunday, 1 March 2026, 18:30 (Europe/Berlin)",
                "Sonntag, 1. März 2026, 18:30 (Europe/Berlin)"
            ]
        );
        assert_eq!(Language::of("de"), Language::German);
        assert_eq!(Language::of("tlh"), Language::English);
    }

    #[test]
    fn spans_are_rounded_down_to_what_a_person_would_say() {
        for (seconds, english, german) in [
            (61, "1 minute", "1 Minute"),
            (119, "1 minute", "1 Minute"),
            (600, "10 minutes", "10 Minuten"),
            (7_199, "119 minutes", "119 Minuten"),
            (7_200, "2 hours", "2 Stunden"),
            (172_799, "47 hours", "47 Stunden"),
            (172_800, "2 days", "2 Tage"),
        ] {
            let span = Duration::from_secs(seconds);
            assert_eq!(
                Language::ALL.map(|language| language.span(span)),
                [english, german]
            );
        }
    }
}
