//! Times and durations as people read them.

use chrono::TimeDelta;
use schedule::{Offset, Tz};
use schemas::Timestamp;

/// `Mon 23 Nov 2026, 08:50 (Europe/Berlin)`; seconds and what is finer where there are any.
pub(crate) fn when(at: Timestamp, zone: Tz) -> String {
    let local = at.with_timezone(&zone);
    let clock = if at.timestamp_subsec_micros() > 0 {
        local.format("%H:%M:%S%.3f")
    } else if at.timestamp() % 60 != 0 {
        local.format("%H:%M:%S")
    } else {
        local.format("%H:%M")
    };
    format!("{}, {clock} ({})", local.format("%a %-d %b %Y"), zone.name())
}

/// The two largest units of a time that is not negative: `2 ms`, `3.4 s`, `5 min 2 s`, `3 h 10 min`, `2 days 4 h`.
pub(crate) fn span(time: TimeDelta) -> String {
    let ms = time.num_milliseconds();
    let (seconds, minutes, hours, days) = (ms / 1000, ms / 60_000, ms / 3_600_000, ms / 86_400_000);
    let two = |large: String, small: i64, unit: &str| match small {
        0 => large,
        small => format!("{large} {small} {unit}"),
    };
    if ms < 1000 {
        format!("{ms} ms")
    } else if seconds < 60 {
        match ms % 1000 / 100 {
            0 => format!("{seconds} s"),
            tenths => format!("{seconds}.{tenths} s"),
        }
    } else if minutes < 60 {
        two(format!("{minutes} min"), seconds % 60, "s")
    } else if hours < 24 {
        two(format!("{hours} h"), minutes % 60, "min")
    } else {
        two(plural(days, "day"), hours % 24, "h")
    }
}

/// An offset from a due time: `10 minutes before`, `1 day and 2 hours after`, `at` for none.
pub(crate) fn offset(text: &str) -> Option<String> {
    let parsed = Offset::parse(text).ok()?;
    if parsed == Offset::ZERO {
        return Some("at".to_owned());
    }
    let side = if parsed.to_string().starts_with('-') {
        "before"
    } else {
        "after"
    };
    Some(format!("{} {side}", duration(text)?))
}

/// A duration in words: `PT1H30M` is `1 hour and 30 minutes`.
pub(crate) fn duration(text: &str) -> Option<String> {
    let canonical = Offset::parse(text).ok()?.to_string();
    let mut parts = Vec::new();
    let mut number = 0_i64;
    let mut in_time = false;
    for c in canonical.chars() {
        let unit = match c {
            '0'..='9' => {
                number = number * 10 + i64::from(c.to_digit(10).unwrap_or_default());
                continue;
            }
            'T' => {
                in_time = true;
                continue;
            }
            'W' => "week",
            'D' => "day",
            'H' => "hour",
            'M' if in_time => "minute",
            'S' => "second",
            _ => continue,
        };
        if number > 0 || canonical == "PT0S" {
            parts.push(plural(number, unit));
        }
        number = 0;
    }
    Some(match parts.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => "no time".to_owned(),
    })
}

pub(crate) fn plural(number: i64, unit: &str) -> String {
    if number == 1 {
        format!("1 {unit}")
    } else {
        format!("{number} {unit}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_say_their_zone_and_no_more_digits_than_they_have() {
        let at = |text: &str| when(text.parse().unwrap(), Tz::Europe__Berlin);
        assert_eq!(
            at("2026-11-23T07:50:00Z"),
            "Mon 23 Nov 2026, 08:50 (Europe/Berlin)"
        );
        assert_eq!(
            at("2026-07-01T22:00:07Z"),
            "Thu 2 Jul 2026, 00:00:07 (Europe/Berlin)"
        );
        assert_eq!(
            at("2026-11-23T07:50:00.0123Z"),
            "Mon 23 Nov 2026, 08:50:00.012 (Europe/Berlin)"
        );
    }

    #[test]
    fn spans_have_their_two_largest_units() {
        for (ms, expected) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (3_450, "3.4 s"),
            (60_000, "1 min"),
            (302_000, "5 min 2 s"),
            (11_400_000, "3 h 10 min"),
            (86_400_000, "1 day"),
            (187_200_000, "2 days 4 h"),
        ] {
            assert_eq!(span(TimeDelta::milliseconds(ms)), expected);
        }
    }

    #[test]
    fn offsets_and_durations_are_words() {
        for (text, expected) in [
            ("-PT10M", "10 minutes before"),
            ("P1D", "1 day after"),
            ("-P1DT2H30M", "1 day, 2 hours and 30 minutes before"),
            ("PT0S", "at"),
            ("-P2W", "2 weeks before"),
        ] {
            assert_eq!(offset(text).as_deref(), Some(expected));
        }
        assert_eq!(duration("PT90M").as_deref(), Some("1 hour and 30 minutes"));
        assert_eq!(duration("PT0S").as_deref(), Some("0 seconds"));
        assert_eq!(offset("soon"), None);
    }
}
