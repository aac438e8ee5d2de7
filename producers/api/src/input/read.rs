//! Readers of single values: each takes a JSON value and its place, and refuses there what is wrong.

use std::ops::RangeInclusive;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use schedule::{Offset, Tz};
use schemas::Timestamp;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Place;

/// The earliest instant that is accepted: 1970-01-01T00:00:00Z.
pub const EARLIEST: Timestamp = DateTime::UNIX_EPOCH;

/// The latest instant that is accepted, the last one that RFC 3339 can write: 9999-12-31T23:59:59.999999Z.
pub const LATEST: Timestamp = match DateTime::from_timestamp_micros(253_402_300_799_999_999) {
    Some(latest) => latest,
    None => DateTime::UNIX_EPOCH,
};

/// The days that are accepted: whatever their zone, they start and end within the instants that are.
const EARLIEST_DAY: NaiveDate = match NaiveDate::from_ymd_opt(1970, 1, 2) {
    Some(day) => day,
    None => NaiveDate::MIN,
};
const LATEST_DAY: NaiveDate = match NaiveDate::from_ymd_opt(9999, 12, 30) {
    Some(day) => day,
    None => NaiveDate::MAX,
};

/// A string of one line, with something in it.
pub fn line(place: &mut Place<'_>, value: Value, max_chars: usize) -> Option<String> {
    let line = nonempty(place, value, max_chars)?;
    if line.chars().all(char::is_whitespace) {
        return place.refuse("must not be blank");
    }
    Some(line)
}

/// A string of one line that is not empty.
pub fn nonempty(place: &mut Place<'_>, value: Value, max_chars: usize) -> Option<String> {
    let line = bounded(place, value, max_chars, |_| false)?;
    if line.is_empty() {
        return place.refuse("must not be empty");
    }
    Some(line)
}

/// A string of any number of lines, with tabs; it may be empty.
pub fn text(place: &mut Place<'_>, value: Value, max_chars: usize) -> Option<String> {
    bounded(place, value, max_chars, |c| matches!(c, '\n' | '\r' | '\t'))
}

fn bounded(
    place: &mut Place<'_>,
    value: Value,
    max_chars: usize,
    allowed_control: fn(char) -> bool,
) -> Option<String> {
    let text = string(place, value)?;
    // Bytes first: most strings are within the bound without counting.
    if text.len() > max_chars {
        let chars = text.chars().count();
        if chars > max_chars {
            return place.refuse(format!("must have at most {max_chars} characters, not {chars}"));
        }
    }
    if let Some(c) = text.chars().find(|c| c.is_control() && !allowed_control(*c)) {
        return place.refuse(format!(
            "must not contain the control character U+{:04X}",
            u32::from(c)
        ));
    }
    Some(text)
}

/// One of a few words.
pub fn choice<T>(
    place: &mut Place<'_>,
    value: Value,
    from_name: impl FnOnce(&str) -> Option<T>,
    names: &'static str,
) -> Option<T> {
    let name = string(place, value)?;
    match from_name(&name) {
        Some(choice) => Some(choice),
        None => place.refuse(format!("must be one of {names}")),
    }
}

/// An instant: RFC 3339 with its offset from UTC, cut to microseconds.
pub fn timestamp(place: &mut Place<'_>, value: Value) -> Option<Timestamp> {
    let text = string(place, value)?;
    // chrono would take a blank for the T; RFC 3339's grammar has none.
    let has_t = matches!(text.as_bytes().get(10), Some(b'T' | b't'));
    let Some(at) = DateTime::parse_from_rfc3339(&text).ok().filter(|_| has_t) else {
        return if text.parse::<NaiveDateTime>().is_ok() {
            place.refuse("has no offset from UTC: end it with Z, or with one such as +02:00")
        } else {
            place.refuse("must be an RFC 3339 date-time with an offset, such as 2027-05-01T09:30:00+02:00")
        };
    };
    // By way of microseconds, so that a leap second, which Postgres does not know, becomes the second after it.
    match DateTime::from_timestamp_micros(at.timestamp_micros()) {
        Some(at) if (EARLIEST..=LATEST).contains(&at) => Some(at),
        _ => place.refuse("must lie in the years 1970 to 9999 (UTC)"),
    }
}

/// A day: RFC 3339's full-date.
pub fn date(place: &mut Place<'_>, value: Value) -> Option<NaiveDate> {
    const FULL_DATE: usize = "2027-05-01".len();
    let text = string(place, value)?;
    match text.parse::<NaiveDate>().ok().filter(|_| text.len() == FULL_DATE) {
        Some(day) if (EARLIEST_DAY..=LATEST_DAY).contains(&day) => Some(day),
        Some(_) => place.refuse("must lie between 1970-01-02 and 9999-12-30"),
        None => place.refuse("must be a date such as 2027-05-01"),
    }
}

/// An IANA time zone.
pub fn zone(place: &mut Place<'_>, value: Value) -> Option<Tz> {
    let name = string(place, value)?;
    match schedule::parse_zone(&name) {
        Ok(zone) => Some(zone),
        Err(error) => place.refuse(error.to_string()),
    }
}

/// True or false.
pub fn boolean(place: &mut Place<'_>, value: Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(value),
        other => place.refuse(not_a("a boolean", &other)),
    }
}

/// A duration without a sign, a day being 24 hours: its text in one form, and its seconds, which lie in `bounds`, of which
/// `named` is the text.
pub fn duration(
    place: &mut Place<'_>,
    value: Value,
    bounds: RangeInclusive<i64>,
    named: &'static str,
) -> Option<(String, i64)> {
    let text = string(place, value)?;
    let offset = match Offset::parse(&text) {
        Ok(offset) => offset,
        Err(error) => return place.refuse(error.to_string()),
    };
    // Where no clock is ever changed.
    let epoch = DateTime::UNIX_EPOCH;
    let seconds = offset
        .apply(epoch, Tz::UTC)
        .map(|moved| (moved - epoch).num_seconds());
    match seconds.filter(|seconds| bounds.contains(seconds)) {
        Some(seconds) => Some((offset.to_string(), seconds)),
        None => place.refuse(format!("must lie between {named}")),
    }
}

/// A time of day: hours and minutes, perhaps seconds.
pub fn time(place: &mut Place<'_>, value: Value) -> Option<NaiveTime> {
    const LENGTHS: [usize; 2] = ["09:30".len(), "09:30:00".len()];
    let text = string(place, value)?;
    let time = ["%H:%M", "%H:%M:%S"]
        .into_iter()
        .find_map(|format| NaiveTime::parse_from_str(&text, format).ok())
        // chrono takes a leap second, which no clock face shows.
        .filter(|time| LENGTHS.contains(&text.len()) && time.nanosecond() == 0);
    match time {
        Some(time) => Some(time),
        None => place.refuse("must be a time of day such as 09:30"),
    }
}

/// A UUID in its usual form.
pub fn uuid(place: &mut Place<'_>, value: Value) -> Option<Uuid> {
    let text = string(place, value)?;
    match parse_uuid(&text) {
        Some(id) => Some(id),
        None => place.refuse("must be a UUID"),
    }
}

/// A UUID in its usual form only: one thing has one name.
pub fn parse_uuid(text: &str) -> Option<Uuid> {
    const HYPHENATED: usize = 36;
    Uuid::try_parse(text).ok().filter(|_| text.len() == HYPHENATED)
}

/// An array of at most `max` items, each read by `read`. All of them are read before the array is refused.
pub fn items<T>(
    place: &mut Place<'_>,
    value: Value,
    max: usize,
    mut read: impl FnMut(&mut Place<'_>, Value) -> Option<T>,
) -> Option<Vec<T>> {
    let Value::Array(values) = value else {
        return place.refuse(not_a("an array", &value));
    };
    let count = values.len();
    if count > max {
        return place.refuse(format!("must have at most {max} items, not {count}"));
    }
    let read: Vec<T> = values
        .into_iter()
        .enumerate()
        .filter_map(|(index, value)| read(&mut place.item(index), value))
        .collect();
    (read.len() == count).then_some(read)
}

/// An object, as its members.
pub fn object(place: &mut Place<'_>, value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(members) => Some(members),
        other => place.refuse(not_a("an object", &other)),
    }
}

/// A string of whatever is in it.
pub fn string(place: &mut Place<'_>, value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        other => place.refuse(not_a("a string", &other)),
    }
}

fn not_a(wanted: &str, value: &Value) -> String {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    format!("must be {wanted}, not {found}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::input::Problems;
    use crate::problem::Problem;

    fn read<T>(value: Value, read: impl FnOnce(&mut Place<'_>, Value) -> Option<T>) -> Result<T, String> {
        let mut problems = Problems::default();
        let value = read(&mut Place::root(&mut problems), value);
        problems
            .finish(value)
            .map_err(|problem: Problem| problem.flaws()[0].detail.to_string())
    }

    #[test]
    fn a_line_is_bounded_in_characters_and_has_no_control_characters() {
        let line = |text: &str| read(json!(text), |place, value| line(place, value, 3));
        assert_eq!(line("äöü").unwrap(), "äöü");
        assert_eq!(line("äöüß").unwrap_err(), "must have at most 3 characters, not 4");
        assert_eq!(line("").unwrap_err(), "must not be empty");
        assert_eq!(line(" \u{2003}").unwrap_err(), "must not be blank");
        assert_eq!(
            line("a\0").unwrap_err(),
            "must not contain the control character U+0000"
        );
        assert_eq!(
            line("a\n").unwrap_err(),
            "must not contain the control character U+000A"
        );
        assert_eq!(
            line("\u{7f}").unwrap_err(),
            "must not contain the control character U+007F"
        );
        assert_eq!(
            line("\u{85}").unwrap_err(),
            "must not contain the control character U+0085"
        );
    }

    #[test]
    fn a_text_keeps_lines_and_tabs() {
        let text = |value: &str| read(json!(value), |place, value| text(place, value, 20));
        assert_eq!(text("# a\r\n\n\tb").unwrap(), "# a\r\n\n\tb");
        assert_eq!(text("").unwrap(), "");
        assert_eq!(
            text("\u{1b}").unwrap_err(),
            "must not contain the control character U+001B"
        );
    }

    #[test]
    fn instants_have_an_offset_and_microseconds() {
        let at = |text: &str| read(json!(text), timestamp).map(|at| at.to_rfc3339());
        assert_eq!(
            at("2027-05-01T09:30:00+02:00").unwrap(),
            "2027-05-01T07:30:00+00:00"
        );
        assert_eq!(
            at("2027-05-01t09:30:00.1234567z").unwrap(),
            "2027-05-01T09:30:00.123456+00:00"
        );
        assert_eq!(at("2016-12-31T23:59:60Z").unwrap(), "2017-01-01T00:00:00+00:00");
        assert_eq!(
            at("9999-12-31T23:59:59.999999Z").unwrap(),
            "9999-12-31T23:59:59.999999+00:00"
        );
        assert!(
            at("9999-12-31T23:59:59-01:00")
                .unwrap_err()
                .contains("1970 to 9999")
        );
        assert!(at("1969-12-31T23:59:59Z").unwrap_err().contains("1970 to 9999"));
        assert!(at("2027-05-01T09:30:00").unwrap_err().contains("has no offset"));
        for text in [
            "",
            "2027-05-01",
            "2027-05-01 09:30:00Z",
            "2027-02-30T00:00:00Z",
            "tomorrow",
            "1777777777",
        ] {
            assert!(
                at(text).unwrap_err().contains("must be an RFC 3339 date-time"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_day_is_a_date_and_nothing_else() {
        let day = |text: &str| read(json!(text), date).map(|day| day.to_string());
        assert_eq!(day("2028-02-29").unwrap(), "2028-02-29");
        for text in ["1970-01-01", "9999-12-31"] {
            assert!(day(text).unwrap_err().contains("must lie between"), "{text}");
        }
        for text in [
            "",
            "2027-02-29",
            "2027-2-1",
            "20270201",
            "+2027-02-01",
            "2027-02-01T00:00:00Z",
        ] {
            assert_eq!(
                day(text).unwrap_err(),
                "must be a date such as 2027-05-01",
                "{text}"
            );
        }
    }

    #[test]
    fn a_duration_has_no_sign_and_lies_within_its_bounds() {
        let duration = |text: &str| read(json!(text), |p, v| duration(p, v, 60..=86_400, "PT1M and PT24H"));
        assert_eq!(duration("PT60M").unwrap(), ("PT1H".to_owned(), 3600));
        assert_eq!(duration("P1D").unwrap(), ("P1D".to_owned(), 86_400));
        for text in ["PT59S", "P1DT1S", "-PT10M"] {
            assert_eq!(
                duration(text).unwrap_err(),
                "must lie between PT1M and PT24H",
                "{text}"
            );
        }
        assert!(duration("10 minutes").is_err());
    }

    #[test]
    fn a_uuid_has_one_form() {
        let id = |text: &str| read(json!(text), uuid);
        assert!(id("0191b2c3-d4e5-7f60-8a9b-0c1d2e3f4a5b").is_ok());
        for text in [
            "",
            "0191b2c3d4e57f608a9b0c1d2e3f4a5b",
            "{0191b2c3-d4e5-7f60-8a9b-0c1d2e3f4a5b}",
        ] {
            assert_eq!(id(text).unwrap_err(), "must be a UUID", "{text}");
        }
    }

    #[test]
    fn a_value_of_another_type_is_named() {
        assert_eq!(
            read(json!(1), string).unwrap_err(),
            "must be a string, not a number"
        );
        assert_eq!(
            read(json!("[]"), |p, v| items(p, v, 2, string)).unwrap_err(),
            "must be an array, not a string"
        );
        assert_eq!(
            read(json!([]), object).unwrap_err(),
            "must be an object, not an array"
        );
        assert_eq!(
            read(json!(["a", "b", "c"]), |p, v| items(p, v, 2, string)).unwrap_err(),
            "must have at most 2 items, not 3"
        );
    }
}
