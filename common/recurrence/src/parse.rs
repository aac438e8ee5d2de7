//! The text of a rule, and the combinations of parts RFC 5545 section 3.3.10 forbids.

use std::str::FromStr;

use chrono::{Datelike, NaiveDate, NaiveDateTime, Weekday};

use crate::calendar::{FIRST_YEAR, LAST_YEAR};
use crate::error::Error;
use crate::quote::quote;
use crate::rule::{Freq, MAX_RULE_CHARS, NthWeekday, Rule, Skip, Until, weekday_name};

const PARTS: [&str; 16] = [
    "FREQ",
    "INTERVAL",
    "COUNT",
    "UNTIL",
    "BYMONTH",
    "BYWEEKNO",
    "BYYEARDAY",
    "BYMONTHDAY",
    "BYDAY",
    "BYHOUR",
    "BYMINUTE",
    "BYSECOND",
    "BYSETPOS",
    "WKST",
    "RSCALE",
    "SKIP",
];

const WEEKDAYS: [Weekday; 7] = [
    Weekday::Mon,
    Weekday::Tue,
    Weekday::Wed,
    Weekday::Thu,
    Weekday::Fri,
    Weekday::Sat,
    Weekday::Sun,
];

/// Largest INTERVAL and COUNT.
const MOST: u32 = 999_999_999;

pub(crate) fn parse(text: &str) -> Result<Rule, Error> {
    if text.chars().nth(MAX_RULE_CHARS).is_some() {
        return Err(Error::TooLong);
    }
    let text = text.to_ascii_uppercase();
    let text = text.strip_prefix("RRULE:").unwrap_or(&text);
    if text.is_empty() {
        return Err(Error::Empty);
    }
    let text = text.strip_suffix(';').unwrap_or(text);

    let mut seen: Vec<&'static str> = Vec::new();
    let mut freq = None;
    let mut rule = Rule {
        freq: Freq::Daily,
        interval: 1,
        count: None,
        until: None,
        by_month: Vec::new(),
        by_week_no: Vec::new(),
        by_year_day: Vec::new(),
        by_month_day: Vec::new(),
        by_day: Vec::new(),
        by_hour: Vec::new(),
        by_minute: Vec::new(),
        by_second: Vec::new(),
        by_set_pos: Vec::new(),
        week_start: Weekday::Mon,
        skip: Skip::Omit,
    };
    for piece in text.split(';') {
        let Some((name, value)) = piece.split_once('=') else {
            return Err(Error::NotAPart { text: quote(piece) });
        };
        let Some(part) = PARTS.into_iter().find(|part| *part == name) else {
            return Err(Error::UnknownPart { name: quote(name) });
        };
        if seen.contains(&part) {
            return Err(Error::RepeatedPart { part });
        }
        seen.push(part);
        let invalid = |expected| Error::InvalidValue {
            part,
            value: quote(value),
            expected,
        };
        match part {
            "FREQ" => {
                freq = Some(parse_freq(value).ok_or_else(|| {
                    invalid("it is one of SECONDLY, MINUTELY, HOURLY, DAILY, WEEKLY, MONTHLY, YEARLY")
                })?);
            }
            "INTERVAL" => {
                rule.interval = number(value, 1, MOST, false)
                    .ok_or_else(|| invalid("it is a whole number from 1 to 999999999"))?;
            }
            "COUNT" => {
                let count = number(value, 1, MOST, false);
                rule.count = Some(count.ok_or_else(|| invalid("it is a whole number from 1 to 999999999"))?);
            }
            "UNTIL" => {
                let until = parse_until(value);
                rule.until = Some(until.ok_or_else(|| {
                    invalid("it is a date and time such as 20261231T170000Z, or a date such as 20261231")
                })?);
            }
            "BYMONTH" => {
                rule.by_month =
                    numbers(value, 1, 12, false).ok_or_else(|| invalid("it lists months from 1 to 12"))?;
            }
            "BYWEEKNO" => {
                rule.by_week_no = numbers(value, 1, 53, true)
                    .ok_or_else(|| invalid("it lists weeks of the year from 1 to 53 or -53 to -1"))?;
            }
            "BYYEARDAY" => {
                rule.by_year_day = numbers(value, 1, 366, true)
                    .ok_or_else(|| invalid("it lists days of the year from 1 to 366 or -366 to -1"))?;
            }
            "BYMONTHDAY" => {
                rule.by_month_day = numbers(value, 1, 31, true)
                    .ok_or_else(|| invalid("it lists days of the month from 1 to 31 or -31 to -1"))?;
            }
            "BYDAY" => {
                let days: Option<Vec<NthWeekday>> = value.split(',').map(parse_day).collect();
                rule.by_day = days
                    .ok_or_else(|| invalid("it lists weekdays such as MO, 1MO or -1FR, counted up to 53"))?;
                rule.by_day
                    .sort_unstable_by_key(|day| (day.nth, day.weekday.num_days_from_monday()));
                rule.by_day.dedup();
            }
            "BYHOUR" => {
                rule.by_hour =
                    numbers(value, 0, 23, false).ok_or_else(|| invalid("it lists hours from 0 to 23"))?;
            }
            "BYMINUTE" => {
                rule.by_minute =
                    numbers(value, 0, 59, false).ok_or_else(|| invalid("it lists minutes from 0 to 59"))?;
            }
            "BYSECOND" => {
                // 60 is the leap second, and second 59 to those who do not know of leap seconds (RFC 5545, 3.3.12).
                let seconds: Vec<u8> =
                    numbers(value, 0, 60, false).ok_or_else(|| invalid("it lists seconds from 0 to 60"))?;
                rule.by_second = seconds.into_iter().map(|second| second.min(59)).collect();
                rule.by_second.dedup();
            }
            "BYSETPOS" => {
                rule.by_set_pos = numbers(value, 1, 366, true)
                    .ok_or_else(|| invalid("it lists positions from 1 to 366 or -366 to -1"))?;
            }
            "WKST" => {
                rule.week_start =
                    parse_weekday(value).ok_or_else(|| invalid("it is one of MO, TU, WE, TH, FR, SA, SU"))?;
            }
            "RSCALE" => {
                if value != "GREGORIAN" {
                    return Err(invalid("GREGORIAN is the only calendar known here"));
                }
            }
            _ => {
                rule.skip = match value {
                    "OMIT" => Skip::Omit,
                    "FORWARD" => Skip::Forward,
                    "BACKWARD" => Skip::Backward,
                    _ => return Err(invalid("it is one of OMIT, BACKWARD, FORWARD")),
                };
            }
        }
    }
    rule.freq = freq.ok_or(Error::MissingFreq)?;
    if seen.contains(&"SKIP") && !seen.contains(&"RSCALE") {
        return Err(Error::LoneSkip);
    }
    check_combinations(&rule)?;
    Ok(rule)
}

fn parse_freq(value: &str) -> Option<Freq> {
    [
        Freq::Yearly,
        Freq::Monthly,
        Freq::Weekly,
        Freq::Daily,
        Freq::Hourly,
        Freq::Minutely,
        Freq::Secondly,
    ]
    .into_iter()
    .find(|freq| freq.name() == value)
}

/// A number between `least` and `most`, or with `signed` one whose absolute value is.
fn number<T>(text: &str, least: T, most: T, signed: bool) -> Option<T>
where
    T: FromStr + Into<i64> + TryFrom<i64>,
{
    let (sign, digits) = match text.as_bytes() {
        [b'-', ..] if signed => (-1, &text[1..]),
        [b'+', ..] if signed => (1, &text[1..]),
        _ => (1, text),
    };
    // FromStr of the standard library would take a sign of its own.
    if digits.is_empty() || digits.len() > 9 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value = digits.parse::<i64>().ok()?;
    if !(least.into()..=most.into()).contains(&value) {
        return None;
    }
    T::try_from(sign * value).ok()
}

fn numbers<T>(text: &str, least: T, most: T, signed: bool) -> Option<Vec<T>>
where
    T: FromStr + Into<i64> + TryFrom<i64> + Copy + Ord,
{
    let values: Option<Vec<T>> = text
        .split(',')
        .map(|item| number(item, least, most, signed))
        .collect();
    let mut values = values?;
    values.sort_unstable();
    values.dedup();
    Some(values)
}

fn parse_weekday(text: &str) -> Option<Weekday> {
    WEEKDAYS
        .into_iter()
        .find(|weekday| weekday_name(*weekday) == text)
}

fn parse_day(text: &str) -> Option<NthWeekday> {
    // Not `split_at`: the text may hold characters of more than one byte.
    let (nth, weekday) = WEEKDAYS
        .into_iter()
        .find_map(|weekday| text.strip_suffix(weekday_name(weekday)).map(|nth| (nth, weekday)))?;
    let nth = if nth.is_empty() {
        0
    } else {
        number(nth, 1, 53, true)?
    };
    Some(NthWeekday { nth, weekday })
}

fn parse_until(text: &str) -> Option<Until> {
    match text.strip_suffix('Z') {
        Some(utc) => basic_date_time(utc).map(Until::Utc),
        None if text.len() == 8 => basic_date(text).map(Until::Date),
        None => basic_date_time(text).map(Until::Local),
    }
}

fn field(text: &str, from: usize, to: usize) -> Option<u32> {
    number::<u32>(text.get(from..to)?, 0, 9999, false)
}

/// `20261231`, of a year the calendar has.
pub(crate) fn basic_date(text: &str) -> Option<NaiveDate> {
    if text.len() != 8 {
        return None;
    }
    let year = i32::try_from(field(text, 0, 4)?).ok()?;
    NaiveDate::from_ymd_opt(year, field(text, 4, 6)?, field(text, 6, 8)?)
        .filter(|date| (FIRST_YEAR..=LAST_YEAR).contains(&date.year()))
}

/// `20261231T170000`.
pub(crate) fn basic_date_time(text: &str) -> Option<NaiveDateTime> {
    if text.len() != 15 || text.get(8..9)? != "T" {
        return None;
    }
    let second = field(text, 13, 15)?;
    if second > 60 {
        return None;
    }
    basic_date(text.get(..8)?)?.and_hms_opt(field(text, 9, 11)?, field(text, 11, 13)?, second.min(59))
}

fn check_combinations(rule: &Rule) -> Result<(), Error> {
    let conflict = |part, with, reason| Err(Error::Conflict { part, with, reason });
    if rule.count.is_some() && rule.until.is_some() {
        return conflict("COUNT", "UNTIL", "a rule ends in one way only");
    }
    if !rule.by_week_no.is_empty() && rule.freq != Freq::Yearly {
        return conflict(
            "BYWEEKNO",
            freq_part(rule.freq),
            "weeks are counted within a year",
        );
    }
    if !rule.by_year_day.is_empty() && matches!(rule.freq, Freq::Daily | Freq::Weekly | Freq::Monthly) {
        return conflict(
            "BYYEARDAY",
            freq_part(rule.freq),
            "days are counted within a year",
        );
    }
    if !rule.by_month_day.is_empty() && rule.freq == Freq::Weekly {
        return conflict(
            "BYMONTHDAY",
            freq_part(rule.freq),
            "a week has no days of the month",
        );
    }
    if let Some(day) = rule.by_day.iter().max_by_key(|day| day.nth.unsigned_abs())
        && day.nth != 0
    {
        if !matches!(rule.freq, Freq::Yearly | Freq::Monthly) {
            return conflict(
                "BYDAY with a number",
                freq_part(rule.freq),
                "weekdays are counted within a month or a year",
            );
        }
        if !rule.by_week_no.is_empty() {
            return conflict(
                "BYDAY with a number",
                "BYWEEKNO",
                "each weekday comes once in a week",
            );
        }
        let in_month = rule.freq == Freq::Monthly || !rule.by_month.is_empty();
        if in_month && day.nth.unsigned_abs() > 5 {
            return Err(Error::InvalidValue {
                part: "BYDAY",
                value: day.to_string(),
                expected: "a month has at most five of each weekday",
            });
        }
    }
    if !rule.by_set_pos.is_empty()
        && rule.by_month.is_empty()
        && rule.by_week_no.is_empty()
        && rule.by_year_day.is_empty()
        && rule.by_month_day.is_empty()
        && rule.by_day.is_empty()
        && rule.by_hour.is_empty()
        && rule.by_minute.is_empty()
        && rule.by_second.is_empty()
    {
        return Err(Error::LoneSetPos);
    }
    Ok(())
}

fn freq_part(freq: Freq) -> &'static str {
    match freq {
        Freq::Yearly => "FREQ=YEARLY",
        Freq::Monthly => "FREQ=MONTHLY",
        Freq::Weekly => "FREQ=WEEKLY",
        Freq::Daily => "FREQ=DAILY",
        Freq::Hourly => "FREQ=HOURLY",
        Freq::Minutely => "FREQ=MINUTELY",
        Freq::Secondly => "FREQ=SECONDLY",
    }
}
