//! Rules and sets in plain English.

use std::fmt::Display;

use chrono::Weekday::{Fri, Mon, Sat, Sun, Thu, Tue, Wed};
use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike, Weekday};

use crate::calendar::local_of;
use crate::clock::Clock;
use crate::rule::{Freq, NthWeekday, Rule, Skip, Until};
use crate::set::Recurrence;

/// Times of day that are still listed one by one.
const MOST_TIMES: usize = 6;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

impl Rule {
    /// The rule in plain English: `every 2 weeks on Tuesday and Thursday, 8 times`.
    ///
    /// What the rule leaves to its start is not said; [`Recurrence::explain`] knows the start and does.
    #[must_use]
    pub fn explain(&self) -> String {
        sentence(self, None)
    }
}

impl Recurrence {
    /// The recurrence in plain English, as sentences.
    #[must_use]
    pub fn explain(&self) -> String {
        let start = local_of(self.start.wall);
        let mut text = format!("Starts on {}", long_date(start.date()));
        if !self.start.whole_days {
            text.push_str(&format!(" at {}", time(start.time())));
        }
        if let Clock::Zone(zone) = self.start.clock {
            text.push_str(&format!(" ({})", zone.name()));
        }
        text.push('.');
        let known = (start, self.start.whole_days);
        for (index, rule) in self.rules().iter().enumerate() {
            let recurs = if index == 0 { " Recurs " } else { " Also recurs " };
            text.push_str(recurs);
            text.push_str(&sentence(rule, Some(known)));
            text.push('.');
        }
        for (ticks, what) in [(&self.dates, "added"), (&self.exceptions, "left out")] {
            match ticks.len() {
                0 => {}
                1 => text.push_str(&format!(" One date is {what}.")),
                len => text.push_str(&format!(" {len} dates are {what}.")),
            }
        }
        text
    }
}

/// `start`: with whether it is a date without a time of day.
fn sentence(rule: &Rule, start: Option<(NaiveDateTime, bool)>) -> String {
    let mut text = every(rule);
    let mut add = |part: String| {
        if !part.is_empty() {
            text.push(' ');
            text.push_str(&part);
        }
    };
    if !rule.by_month.is_empty() {
        add(format!(
            "in {}",
            list(rule.by_month.iter().map(|month| MONTHS[usize::from(*month) - 1]))
        ));
    }
    if !rule.by_week_no.is_empty() {
        let weeks: Vec<String> = rule
            .by_week_no
            .iter()
            .map(|week| from_end(i64::from(*week), "week", true))
            .collect();
        add(format!("in {} of the year", list(weeks)));
    }
    if !rule.by_set_pos.is_empty() {
        let positions = rule.by_set_pos.iter().map(|pos| ordinal(i64::from(*pos)));
        add(format!("only the {} time", list(positions)));
    }
    add(days(rule, start));
    add(times(rule, start));
    match rule.skip {
        Skip::Forward => text.push_str(", on the next day where there is no such day"),
        Skip::Backward => text.push_str(", on the day before where there is no such day"),
        Skip::Omit => {}
    }
    let weeks_matter = rule.freq == Freq::Weekly && (rule.interval > 1 || !rule.by_set_pos.is_empty())
        || !rule.by_week_no.is_empty();
    if weeks_matter && rule.week_start != Weekday::Mon {
        text.push_str(&format!(
            ", with weeks that begin on {}",
            weekday(rule.week_start)
        ));
    }
    match (rule.count, rule.until) {
        (Some(1), _) => text.push_str(", once"),
        (Some(count), _) => text.push_str(&format!(", {count} times")),
        (None, Some(Until::Utc(utc))) => {
            text.push_str(&format!(
                ", until {} at {} UTC",
                long_date(utc.date()),
                time(utc.time())
            ));
        }
        (None, Some(Until::Local(local))) => {
            text.push_str(&format!(
                ", until {} at {}",
                long_date(local.date()),
                time(local.time())
            ));
        }
        (None, Some(Until::Date(date))) => text.push_str(&format!(", until the end of {}", long_date(date))),
        (None, None) => {}
    }
    text
}

fn every(rule: &Rule) -> String {
    let unit = match rule.freq {
        Freq::Yearly => "year",
        Freq::Monthly => "month",
        Freq::Weekly => "week",
        Freq::Daily => "day",
        Freq::Hourly => "hour",
        Freq::Minutely => "minute",
        Freq::Secondly => "second",
    };
    match rule.interval {
        1 => format!("every {unit}"),
        interval => format!("every {interval} {unit}s"),
    }
}

fn days(rule: &Rule, start: Option<(NaiveDateTime, bool)>) -> String {
    let mut text = String::new();
    if !rule.by_year_day.is_empty() {
        let days = rule
            .by_year_day
            .iter()
            .map(|day| from_end(i64::from(*day), "day", true));
        text = format!("on {} of the year", list(days));
    }
    if !rule.by_month_day.is_empty() {
        let days = rule
            .by_month_day
            .iter()
            .map(|day| from_end(i64::from(*day), "day", false));
        text = match text.as_str() {
            "" => format!("on {} of the month", list(days)),
            before => format!("{before} if that is {} of the month", list(days)),
        };
    }
    if !rule.by_day.is_empty() {
        let of = match rule.freq {
            Freq::Yearly if rule.by_month.is_empty() => " of the year",
            _ => " of the month",
        };
        let numbered = rule.by_day.iter().any(|day| day.nth != 0);
        let days = weekdays(&rule.by_day);
        let of = if numbered { of } else { "" };
        return match text.as_str() {
            "" => format!("on {days}{of}"),
            before => format!("{before} if that is {days}{of}"),
        };
    }
    if !text.is_empty() {
        return text;
    }
    let Some((start, _)) = start else {
        return text;
    };
    match rule.freq {
        Freq::Weekly => format!("on {}", weekday(start.weekday())),
        Freq::Yearly if !rule.by_week_no.is_empty() => format!("on {}", weekday(start.weekday())),
        Freq::Yearly if rule.by_month.is_empty() => {
            format!("on {} {}", start.day(), MONTHS[start.month0() as usize])
        }
        Freq::Yearly | Freq::Monthly => format!("on the {}", ordinal(i64::from(start.day()))),
        _ => text,
    }
}

fn times(rule: &Rule, start: Option<(NaiveDateTime, bool)>) -> String {
    if start.is_some_and(|(_, whole_days)| whole_days) {
        return String::new();
    }
    let own = |list: &[u8], of_start: fn(&NaiveDateTime) -> u32| -> Option<Vec<u32>> {
        match (list, start) {
            ([], Some((start, _))) => Some(vec![of_start(&start)]),
            ([], None) => None,
            (list, _) => Some(list.iter().map(|value| u32::from(*value)).collect()),
        }
    };
    if rule.freq <= Freq::Daily {
        let nothing = rule.by_hour.is_empty() && rule.by_minute.is_empty() && rule.by_second.is_empty();
        let (Some(hours), Some(minutes), Some(seconds)) = (
            own(&rule.by_hour, NaiveDateTime::hour),
            own(&rule.by_minute, NaiveDateTime::minute),
            own(&rule.by_second, NaiveDateTime::second),
        ) else {
            return if nothing { String::new() } else { narrowed(rule) };
        };
        if hours.len() * minutes.len() * seconds.len() <= MOST_TIMES {
            let mut all = Vec::new();
            for hour in &hours {
                for minute in &minutes {
                    for second in &seconds {
                        all.extend(NaiveTime::from_hms_opt(*hour, *minute, *second).map(time));
                    }
                }
            }
            return format!("at {}", list(all));
        }
    }
    narrowed(rule)
}

/// BYHOUR, BYMINUTE and BYSECOND one by one.
fn narrowed(rule: &Rule) -> String {
    let part = |values: &[u8], one: &str| match values.len() {
        0 => None,
        1 => Some(format!("in {one} {}", values[0])),
        _ => Some(format!("in {one}s {}", list(values))),
    };
    let parts = [
        part(&rule.by_hour, "hour"),
        part(&rule.by_minute, "minute"),
        part(&rule.by_second, "second"),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn weekdays(days: &[NthWeekday]) -> String {
    let plain = |list: &[Weekday]| {
        days.len() == list.len() && days.iter().all(|day| day.nth == 0 && list.contains(&day.weekday))
    };
    if plain(&[Mon, Tue, Wed, Thu, Fri, Sat, Sun]) {
        return "any day of the week".to_owned();
    }
    if plain(&[Mon, Tue, Wed, Thu, Fri]) {
        return "a day from Monday to Friday".to_owned();
    }
    list(days.iter().map(|day| match day.nth {
        0 => weekday(day.weekday).to_owned(),
        nth => format!("the {} {}", ordinal(i64::from(nth)), weekday(day.weekday)),
    }))
}

fn weekday(weekday: Weekday) -> &'static str {
    match weekday {
        Weekday::Mon => "Monday",
        Weekday::Tue => "Tuesday",
        Weekday::Wed => "Wednesday",
        Weekday::Thu => "Thursday",
        Weekday::Fri => "Friday",
        Weekday::Sat => "Saturday",
        Weekday::Sun => "Sunday",
    }
}

/// `day 100`, `the 3rd` or `the last day`.
fn from_end(number: i64, what: &str, counted: bool) -> String {
    match number {
        1.. if counted => format!("{what} {number}"),
        1.. => format!("the {}", ordinal(number)),
        _ => format!("the {} {what}", ordinal(number)),
    }
}

fn ordinal(number: i64) -> String {
    let suffix = match (number.abs() % 100, number.abs() % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    match number {
        -1 => "last".to_owned(),
        ..-1 => format!("{}{suffix} to last", -number),
        _ => format!("{number}{suffix}"),
    }
}

fn long_date(date: NaiveDate) -> String {
    date.format("%A, %-d %B %Y").to_string()
}

fn time(time: NaiveTime) -> String {
    let format = if time.second() == 0 { "%H:%M" } else { "%H:%M:%S" };
    time.format(format).to_string()
}

/// `a`, `a and b`, `a, b and c`.
fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match items.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}
