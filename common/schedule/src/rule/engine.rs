//! Occurrences of a rule, with the crate `rrule` as calendar arithmetic.
//!
//! `rrule` 0.14 is only ever given wall-clock times dressed up as UTC, and never COUNT or UNTIL: zones,
//! order, repetitions and the end of a rule are dealt with here. That leaves these of its limits and errors
//! to work around (weekdays and weeks further below).
//!
//! - It searches a rule that never matches up to the year 10000. The Gregorian calendar repeats every 400
//!   years, leap days and weekdays alike, so it is run [`SHIFT_DAYS`] ahead: the years 1900 to 2399 become
//!   9500 to 9999 and its search ends where the calendar of this crate does.
//! - It cannot seek. Each period (year, month, week, day, hour) yields its occurrences independently of all
//!   others once what the rule leaves open is filled in from the start, so it is started at the beginning of
//!   any period in phase with INTERVAL, which is the same set from there on. Whole periods also make BYSETPOS
//!   count from the first day of the first week, where `rrule` would count from the start.

use std::collections::BTreeSet;

use chrono::{
    DateTime, Datelike, Days, Month, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike, Utc, Weekday,
};
use chrono_tz::Tz;
use rrule::{Frequency, NWeekday, RRule, RRuleSet, RRuleSetIter, Unvalidated};

use super::{Day, Freq, Rule, RuleError};
use crate::zone::{local_time, locate};

const FIRST_YEAR: i32 = 1900;
const LAST_YEAR: i32 = 2399;

/// 7600 years, nineteen turns of the Gregorian calendar.
const SHIFT_DAYS: TimeDelta = TimeDelta::days(19 * 146_097);

/// Local times this far back may still lead to a later instant: the longest gap is 24 hours.
const LOOK_BACK: TimeDelta = TimeDelta::hours(25);

/// Whether the engine takes the rule at all.
pub(super) fn supports(rule: &Rule) -> Result<(), RuleError> {
    let unsupported = |reason: &str| {
        Err(RuleError::Unsupported {
            reason: reason.to_owned(),
        })
    };
    if !rule.by_week_no.is_empty() && (rule.interval > 1 || !rule.by_set_pos.is_empty()) {
        // `rrule` goes by calendar years: it would give 2024-12-30, of week 1 of 2025, to the year 2024.
        return unsupported(
            "BYWEEKNO goes with neither INTERVAL nor BYSETPOS, as weeks cross the turn of the year",
        );
    }
    // Bounds of `rrule` below those of RFC 5545, in words that name the part.
    let (lowest, most) = match rule.freq {
        Freq::Yearly => (-52, 366),
        Freq::Monthly => (-4, 31),
        Freq::Weekly => (0, 53),
        Freq::Daily => (0, 366),
        Freq::Hourly => (0, 24),
    };
    if rule.by_day.iter().any(|day| day.nth < lowest) {
        return unsupported("BYDAY counts back to -4 in a month and -52 in a year");
    }
    if rule.by_set_pos.iter().any(|pos| pos.unsigned_abs() > most) {
        return unsupported(
            "BYSETPOS counts to 24 for HOURLY, 53 for WEEKLY, 31 for MONTHLY and 366 otherwise",
        );
    }
    rule_set(
        rule,
        NaiveDate::default().and_time(NaiveTime::MIN),
        NaiveDateTime::default(),
    )
    .map(|_| ())
}

/// The occurrences from the period of `from` on, ascending, each instant once.
///
/// Some may lie before `from`. With COUNT, `from` must not be later than `dtstart`.
pub(super) fn occurrences(
    rule: &Rule,
    dtstart: DateTime<Utc>,
    zone: Tz,
    from: DateTime<Utc>,
) -> Result<Occurrences, RuleError> {
    let start = dtstart.with_nanosecond(0).unwrap_or(dtstart);
    let start_wall = wall_in_range(start, zone).ok_or(RuleError::StartOutOfRange)?;
    // Past the calendar there is nothing to find, which is not an error of the rule.
    let walls = match wall_in_range(from.max(start), zone) {
        Some(from) => match anchor(rule, start_wall, from - LOOK_BACK) {
            Some(anchor) => Some(rule_set(rule, start_wall, anchor)?.limit().into_iter()),
            None => None,
        },
        None => None,
    };
    Ok(Occurrences {
        walls,
        weeks: (!rule.by_week_no.is_empty()).then(|| WeekRule {
            by_week_no: rule.by_week_no.clone(),
            week_start: rule.week_start,
        }),
        zone,
        start,
        start_wall,
        end: rule.until.map(|until| until.end(zone)),
        remaining: rule.count,
        pending: BTreeSet::new(),
        settled: DateTime::<Utc>::MIN_UTC,
    })
}

fn wall_in_range(at: DateTime<Utc>, zone: Tz) -> Option<NaiveDateTime> {
    local_time(at, zone).filter(|wall| (FIRST_YEAR..=LAST_YEAR).contains(&wall.year()))
}

/// The beginning of the last period that is in phase with the start and not past `from`, or else of the
/// first.
fn anchor(rule: &Rule, start: NaiveDateTime, from: NaiveDateTime) -> Option<NaiveDateTime> {
    let interval = i64::from(rule.interval);
    // Whole intervals in that many periods, rounded down, as a number of periods.
    let in_phase = |periods: i64| periods.div_euclid(interval).max(0) * interval;
    let midnight = |date: NaiveDate| date.and_time(NaiveTime::MIN);
    match rule.freq {
        Freq::Yearly => {
            let years = in_phase(i64::from(from.year()) - i64::from(start.year()));
            NaiveDate::from_ymd_opt(start.year() + i32::try_from(years).ok()?, 1, 1).map(midnight)
        }
        Freq::Monthly => {
            let index = |wall: NaiveDateTime| i64::from(wall.year()) * 12 + i64::from(wall.month0());
            let month = index(start) + in_phase(index(from) - index(start));
            let year = i32::try_from(month.div_euclid(12)).ok()?;
            let month = u32::try_from(month.rem_euclid(12)).ok()? + 1;
            NaiveDate::from_ymd_opt(year, month, 1).map(midnight)
        }
        Freq::Weekly => {
            let into_week = u64::from(start.weekday().days_since(rule.week_start));
            let first = start.date().checked_sub_days(Days::new(into_week))?;
            let weeks = in_phase((from.date() - first).num_days().div_euclid(7));
            first.checked_add_signed(TimeDelta::days(7 * weeks)).map(midnight)
        }
        Freq::Daily => {
            let days = in_phase((from.date() - start.date()).num_days());
            start
                .date()
                .checked_add_signed(TimeDelta::days(days))
                .map(midnight)
        }
        Freq::Hourly => {
            let first = start.date().and_hms_opt(start.hour(), 0, 0)?;
            let hours = in_phase((from - first).num_hours());
            first.checked_add_signed(TimeDelta::hours(hours))
        }
    }
}

/// The rule for `rrule`, beginning at `anchor`, with everything it leaves open taken from `start`.
fn rule_set(rule: &Rule, start: NaiveDateTime, anchor: NaiveDateTime) -> Result<RRuleSet, RuleError> {
    let unsupported = |reason: String| RuleError::Unsupported { reason };
    let or_start = |values: &[u8], of_start: u32| {
        if values.is_empty() {
            u8::try_from(of_start).into_iter().collect()
        } else {
            values.to_vec()
        }
    };

    let mut by_month = rule.by_month.clone();
    let mut by_month_day = rule.by_month_day.clone();
    let mut by_day = rule.by_day.clone();
    let no_day = by_month_day.is_empty() && by_day.is_empty() && rule.by_year_day.is_empty();
    match rule.freq {
        Freq::Weekly if no_day => by_day.push(Day {
            nth: 0,
            weekday: start.weekday(),
        }),
        Freq::Yearly if no_day && !rule.by_week_no.is_empty() => {
            by_day.push(Day {
                nth: 0,
                weekday: start.weekday(),
            });
        }
        Freq::Yearly | Freq::Monthly if no_day => {
            if rule.freq == Freq::Yearly {
                by_month = or_start(&by_month, start.month());
            }
            by_month_day.extend(i8::try_from(start.day()));
        }
        _ => {}
    }
    let months: Vec<Month> = by_month
        .iter()
        .filter_map(|month| Month::try_from(*month).ok())
        .collect();

    let mut set = RRule::<Unvalidated>::new(match rule.freq {
        Freq::Yearly => Frequency::Yearly,
        Freq::Monthly => Frequency::Monthly,
        Freq::Weekly => Frequency::Weekly,
        Freq::Daily => Frequency::Daily,
        Freq::Hourly => Frequency::Hourly,
    })
    .interval(rule.interval)
    .week_start(rule.week_start)
    .by_month(&months)
    .by_week_no(weeks(&rule.by_week_no))
    .by_year_day(rule.by_year_day.clone())
    .by_month_day(by_month_day)
    .by_weekday(weekdays(rule.freq, &rule.by_month, &by_day))
    .by_minute(or_start(&rule.by_minute, start.minute()))
    .by_second(or_start(&rule.by_second, start.second()))
    .by_set_pos(rule.by_set_pos.iter().map(|pos| i32::from(*pos)).collect());
    set = match rule.freq {
        // Here BYHOUR narrows the hours the frequency goes through; the start's hour is only where they
        // begin.
        Freq::Hourly => set.by_hour(rule.by_hour.clone()),
        _ => set.by_hour(or_start(&rule.by_hour, start.hour())),
    };
    let shifted = anchor
        .checked_add_signed(SHIFT_DAYS)
        .ok_or_else(|| unsupported("its dates are out of range".to_owned()))?
        .and_utc()
        .with_timezone(&rrule::Tz::UTC);
    set.build(shifted).map_err(|error| unsupported(error.to_string()))
}

/// BYWEEKNO for `rrule`, whose idea of the weeks across the turn of the year is wrong (days of January that
/// belong to week 52 of the old year are in its week 53, for one): where one of those may be meant it is
/// given all of them, and [`in_weeks`] picks.
fn weeks(by_week_no: &[i8]) -> Vec<i8> {
    let mut weeks = by_week_no.to_vec();
    if weeks.iter().any(|week| !(2..=51).contains(&week.unsigned_abs())) {
        weeks.extend([1, 52, 53, -1]);
    }
    weeks
}

/// Whether a date lies in one of the weeks of its year, counted from the front or the back.
fn in_weeks(date: NaiveDate, rule: &WeekRule) -> bool {
    // A week belongs to the year that has its fourth day (RFC 5545, as ISO 8601 with any first day).
    let into_week = i64::from(date.weekday().days_since(rule.week_start));
    let fourth = date + TimeDelta::days(3 - into_week);
    let year_len = if fourth.leap_year() { 366 } else { 365 };
    let week = i64::from(fourth.ordinal0() / 7) + 1;
    let weeks = i64::from((year_len - 1 - fourth.ordinal0() % 7) / 7) + 1;
    rule.by_week_no
        .iter()
        .map(|no| i64::from(*no))
        .any(|no| no == week || no == week - weeks - 1)
}

/// BYWEEKNO and WKST of a rule that has weeks of the year.
struct WeekRule {
    by_week_no: Vec<i8>,
    week_start: Weekday,
}

/// BYDAY for `rrule`, which takes `MO,2TU` as Mondays that are also second Tuesdays: among numbered days,
/// `MO` must be written as all its numbers.
fn weekdays(freq: Freq, by_month: &[u8], days: &[Day]) -> Vec<NWeekday> {
    let numbered = days.iter().any(|day| day.nth != 0);
    let most = if freq == Freq::Yearly && by_month.is_empty() {
        53
    } else {
        5
    };
    days.iter()
        .flat_map(|day| match (day.nth, numbered) {
            (0, false) => vec![NWeekday::Every(day.weekday)],
            (0, true) => (1..=most).map(|nth| NWeekday::Nth(nth, day.weekday)).collect(),
            (nth, _) => vec![NWeekday::Nth(i16::from(nth), day.weekday)],
        })
        .collect()
}

/// See [`occurrences`].
pub(super) struct Occurrences {
    walls: Option<RRuleSetIter>,
    weeks: Option<WeekRule>,
    zone: Tz,
    start: DateTime<Utc>,
    start_wall: NaiveDateTime,
    /// The first instant past UNTIL.
    end: Option<DateTime<Utc>>,
    /// What COUNT leaves.
    remaining: Option<u32>,
    /// Instants found but not yet known to be next: local times within a gap are read as later instants than
    /// those of some local times after it.
    pending: BTreeSet<DateTime<Utc>>,
    /// All local times to come stand for instants after this one.
    settled: DateTime<Utc>,
}

impl Occurrences {
    /// The next local time of the rule, ascending.
    fn next_wall(&mut self) -> Option<NaiveDateTime> {
        loop {
            let next = self.walls.as_mut()?.next();
            let wall = next.and_then(|shifted| shifted.naive_utc().checked_sub_signed(SHIFT_DAYS));
            let Some(wall) = wall.filter(|wall| wall.year() <= LAST_YEAR) else {
                self.walls = None;
                return None;
            };
            if self
                .weeks
                .as_ref()
                .is_none_or(|weeks| in_weeks(wall.date(), weeks))
            {
                return Some(wall);
            }
        }
    }

    fn take_in(&mut self, wall: NaiveDateTime) {
        if wall < self.start_wall {
            return;
        }
        if wall == self.start_wall {
            // The start is an instant: if its local time comes twice it may be the second pass, and stays it.
            self.pending.insert(self.start);
            self.settled = self.start;
            return;
        }
        let located = locate(wall, self.zone);
        // Later local times of the same gap are later instants, those after the gap begin where it begins,
        // and that is less than the gap's length ago. Outside of gaps `moved` is zero and order is kept.
        self.settled = self.settled.max(located.at - located.moved);
        if located.at > self.start {
            self.pending.insert(located.at);
        }
    }
}

impl Iterator for Occurrences {
    type Item = DateTime<Utc>;

    fn next(&mut self) -> Option<DateTime<Utc>> {
        if self.remaining == Some(0) {
            return None;
        }
        while self.pending.first().is_none_or(|first| *first > self.settled) {
            match self.next_wall() {
                Some(wall) => self.take_in(wall),
                None => break,
            }
            // Without this a rule that has ended would be searched on to the end of the calendar.
            if self.end.is_some_and(|end| self.settled >= end) {
                self.walls = None;
            }
        }
        let next = self.pending.pop_first()?;
        if self.end.is_some_and(|end| next >= end) {
            self.pending.clear();
            self.walls = None;
            return None;
        }
        if let Some(remaining) = &mut self.remaining {
            *remaining -= 1;
        }
        Some(next)
    }
}
