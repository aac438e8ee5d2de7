//! The text of a rule, and the combinations of parts RFC 5545 section 3.3.10 forbids.

use std::str::FromStr;

use chrono::{NaiveDate, NaiveDateTime, NaiveTime, Weekday};

use super::{Day, Freq, MAX_COUNT, MAX_RULE_CHARS, Rule, RuleError, Until, engine, weekday_name};
use crate::quote::quote;

/// Times a rule may name per day: those of an hourly rule.
const MAX_TIMES_PER_DAY: usize = 24;

const PARTS: [&str; 14] = [
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

pub(super) fn parse(text: &str) -> Result<Rule, RuleError> {
    if text.chars().nth(MAX_RULE_CHARS).is_some() {
        return Err(RuleError::TooLong);
    }
    let text = text.to_ascii_uppercase();
    let text = text.strip_prefix("RRULE:").unwrap_or(&text);
    if text.is_empty() {
        return Err(RuleError::Empty);
    }

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
    };
    for piece in text.split(';') {
        let Some((name, value)) = piece.split_once('=') else {
            return Err(RuleError::NotAPart { text: quote(piece) });
        };
        let Some(part) = PARTS.into_iter().find(|part| *part == name) else {
            return Err(RuleError::UnknownPart { name: quote(name) });
        };
        if seen.contains(&part) {
            return Err(RuleError::RepeatedPart { part });
        }
        seen.push(part);
        let invalid = |expected| RuleError::InvalidValue {
            part,
            value: quote(value),
            expected,
        };
        match part {
            "FREQ" => freq = Some(parse_freq(value)?),
            "INTERVAL" => {
                rule.interval = number(value, 1, u16::MAX, false)
                    .ok_or_else(|| invalid("it is a whole number from 1 to 65535"))?;
            }
            "COUNT" => {
                let count = number(value, 1, MAX_COUNT, false);
                rule.count = Some(count.ok_or_else(|| RuleError::InvalidCount { value: quote(value) })?);
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
                let days: Option<Vec<Day>> = value.split(',').map(parse_day).collect();
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
                rule.by_second = numbers(value, 0, 59, false)
                    .ok_or_else(|| invalid("it lists seconds from 0 to 59, leap seconds are not known"))?;
            }
            "BYSETPOS" => {
                rule.by_set_pos = numbers(value, 1, 366, true)
                    .ok_or_else(|| invalid("it lists positions from 1 to 366 or -366 to -1"))?;
            }
            _ => {
                rule.week_start =
                    parse_weekday(value).ok_or_else(|| invalid("it is one of MO, TU, WE, TH, FR, SA, SU"))?;
            }
        }
    }
    rule.freq = freq.ok_or(RuleError::MissingFreq)?;
    check_combinations(&rule)?;
    check_rate(&rule)?;
    engine::supports(&rule)?;
    Ok(rule)
}

fn parse_freq(value: &str) -> Result<Freq, RuleError> {
    match value {
        "YEARLY" => Ok(Freq::Yearly),
        "MONTHLY" => Ok(Freq::Monthly),
        "WEEKLY" => Ok(Freq::Weekly),
        "DAILY" => Ok(Freq::Daily),
        "HOURLY" => Ok(Freq::Hourly),
        "MINUTELY" => Err(RuleError::TooFrequent {
            part: "FREQ=MINUTELY",
        }),
        "SECONDLY" => Err(RuleError::TooFrequent {
            part: "FREQ=SECONDLY",
        }),
        _ => Err(RuleError::InvalidValue {
            part: "FREQ",
            value: quote(value),
            expected: "it is one of HOURLY, DAILY, WEEKLY, MONTHLY, YEARLY",
        }),
    }
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

fn parse_day(text: &str) -> Option<Day> {
    // Not `split_at`: the text may hold characters of more than one byte.
    let (nth, weekday) = WEEKDAYS
        .into_iter()
        .find_map(|weekday| text.strip_suffix(weekday_name(weekday)).map(|nth| (nth, weekday)))?;
    let nth = if nth.is_empty() {
        0
    } else {
        number(nth, 1, 53, true)?
    };
    Some(Day { nth, weekday })
}

fn parse_until(text: &str) -> Option<Until> {
    let field = |from: usize, to: usize| number::<u32>(text.get(from..to)?, 0, 9999, false);
    let year = i32::try_from(field(0, 4)?).ok()?;
    let date = NaiveDate::from_ymd_opt(year, field(4, 6)?, field(6, 8)?)?;
    if text.len() == 8 {
        return Some(Until::Date(date));
    }
    let time = NaiveTime::from_hms_opt(field(9, 11)?, field(11, 13)?, field(13, 15)?)?;
    let at = NaiveDateTime::new(date, time);
    match (text.get(8..9)?, text.get(15..)?) {
        ("T", "Z") => Some(Until::Utc(at)),
        ("T", "") => Some(Until::Local(at)),
        _ => None,
    }
}

fn check_combinations(rule: &Rule) -> Result<(), RuleError> {
    let conflict = |part, with, reason| Err(RuleError::Conflict { part, with, reason });
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
    if !rule.by_year_day.is_empty() && !matches!(rule.freq, Freq::Yearly | Freq::Hourly) {
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
    if let Some(day) = rule.by_day.iter().find(|day| day.nth != 0) {
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
        let most = rule
            .by_day
            .iter()
            .map(|day| day.nth.unsigned_abs())
            .max()
            .unwrap_or(0);
        if in_month && most > 5 {
            return Err(RuleError::InvalidValue {
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
        return Err(RuleError::LoneSetPos);
    }
    Ok(())
}

/// Holds rules to an average of one occurrence per hour.
///
/// FREQ alone does not: `FREQ=HOURLY;BYMINUTE=0,1,2,…` is minutely by another name.
fn check_rate(rule: &Rule) -> Result<(), RuleError> {
    let (hours, minutes, seconds) = (
        rule.by_hour.len().max(1),
        rule.by_minute.len().max(1),
        rule.by_second.len().max(1),
    );
    let times_per_day = match rule.freq {
        Freq::Hourly => MAX_TIMES_PER_DAY * minutes * seconds,
        _ => hours * minutes * seconds,
    };
    if times_per_day > MAX_TIMES_PER_DAY {
        let part = if seconds > 1 { "BYSECOND" } else { "BYMINUTE" };
        return Err(RuleError::TooFrequent { part });
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
    }
}
