//! Which dates the BYMONTH, BYWEEKNO, BYYEARDAY, BYMONTHDAY and BYDAY parts of a rule let through.
//!
//! That depends on no more of a year than whether it is a leap year and on which weekday it begins, so the dates are
//! worked out once for each such kind of year, when one is first met, and kept as bits.

use std::sync::OnceLock;

use crate::bits::Bits;
use crate::calendar::{
    Day, FIRST_DAY, LAST_DAY, civil, leap, month_len, month_start, new_year, weekday, year_len, year_of,
};
use crate::error::{Budget, Error};
use crate::rule::{Freq, Rule, Skip};

/// Values counted from the front and from the back, as bits.
#[derive(Debug, Clone, Copy, Default)]
struct Ends {
    front: u64,
    back: u64,
}

impl Ends {
    fn of<T: Into<i64> + Copy>(values: &[T]) -> Self {
        let mut ends = Self::default();
        for value in values {
            match (*value).into() {
                value @ 0.. => ends.front |= 1 << value,
                value => ends.back |= 1 << -value,
            }
        }
        ends
    }

    /// Whether the value `front` from the front and `back` from the back, both from 1, is among them.
    fn has(&self, front: i32, back: i32) -> bool {
        (self.front >> front | self.back >> back) & 1 == 1
    }

    /// Those beyond `len`.
    fn beyond(&self, len: i32) -> (bool, bool) {
        (self.front >> (len + 1) != 0, self.back >> (len + 1) != 0)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Dates {
    /// No part narrows the dates.
    open: bool,
    /// Bit 0 is January.
    months: u16,
    month_days: Option<Ends>,
    year_days: Option<Box<(Bits, Bits)>>,
    /// How many of each weekday, from Monday, of the month or year; all for a plain weekday.
    weekdays: Option<[Ends; 7]>,
    weekdays_of_year: bool,
    weeks: Option<Ends>,
    /// First day of the week, in days since Monday.
    week_start: i32,
    skip: Skip,
    yearly: bool,
    kinds: [OnceLock<Bits>; 28],
}

impl Dates {
    /// With everything the rule leaves open filled in from the day it starts on.
    pub(crate) fn new(rule: &Rule, start: Day) -> Self {
        let (_, start_month, start_day) = civil(start);
        let no_day = rule.by_month_day.is_empty() && rule.by_day.is_empty() && rule.by_year_day.is_empty();
        let no_week = rule.by_week_no.is_empty();
        let yearly = rule.freq == Freq::Yearly;

        let mut months = rule
            .by_month
            .iter()
            .fold(0_u16, |bits, month| bits | 1 << (month - 1));
        let mut month_days = (!rule.by_month_day.is_empty()).then(|| Ends::of(&rule.by_month_day));
        let mut weekdays = (!rule.by_day.is_empty()).then(|| {
            let mut weekdays = [Ends::default(); 7];
            for day in &rule.by_day {
                let ends = &mut weekdays[day.weekday.num_days_from_monday() as usize];
                match day.nth {
                    0 => ends.front = u64::MAX,
                    nth @ 1.. => ends.front |= 1 << nth,
                    nth => ends.back |= 1 << -nth,
                }
            }
            weekdays
        });
        match rule.freq {
            Freq::Yearly | Freq::Monthly if no_day && no_week => {
                if yearly && months == 0 {
                    months = 1 << start_month;
                }
                month_days = Some(Ends {
                    front: 1 << start_day,
                    back: 0,
                });
            }
            Freq::Yearly | Freq::Weekly if no_day => {
                let mut ends = [Ends::default(); 7];
                ends[weekday(start) as usize].front = u64::MAX;
                weekdays = Some(ends);
            }
            _ => {}
        }
        let year_days = (!rule.by_year_day.is_empty()).then(|| {
            let mut ends = Box::new((Bits::default(), Bits::default()));
            for day in &rule.by_year_day {
                let end = if *day > 0 { &mut ends.0 } else { &mut ends.1 };
                end.set(usize::from(day.unsigned_abs()));
            }
            ends
        });
        Self {
            open: months == 0 && month_days.is_none() && year_days.is_none() && weekdays.is_none() && no_week,
            months: if months == 0 { 0xfff } else { months },
            month_days,
            year_days,
            weekdays,
            weekdays_of_year: yearly && rule.by_month.is_empty(),
            weeks: (!no_week).then(|| Ends::of(&rule.by_week_no)),
            week_start: rule.week_start.num_days_from_monday() as i32,
            skip: rule.skip,
            yearly,
            kinds: [const { OnceLock::new() }; 28],
        }
    }

    pub(crate) fn open(&self) -> bool {
        self.open
    }

    pub(crate) fn all_months(&self) -> bool {
        self.months == 0xfff
    }

    /// Years are those of BYWEEKNO: whole weeks, each given to the year that has its fourth day.
    pub(crate) fn numbered(&self) -> bool {
        self.weeks.is_some()
    }

    /// The first day of week 1.
    fn first_week(&self, year: i32) -> Day {
        let into_week = (weekday(new_year(year)) - self.week_start).rem_euclid(7);
        let start = new_year(year) - into_week;
        if into_week < 4 { start } else { start + 7 }
    }

    /// The year as this rule sees it.
    pub(crate) fn year_of(&self, day: Day) -> i32 {
        let (year, _) = year_of(day);
        if !self.numbered() {
            year
        } else if day < self.first_week(year) {
            year - 1
        } else if day >= self.first_week(year + 1) {
            year + 1
        } else {
            year
        }
    }

    /// The day that bit 0 of [`Dates::year`] stands for: the first of week 1, or the last day of the year before.
    pub(crate) fn year_first(&self, year: i32) -> Day {
        if self.numbered() {
            self.first_week(year)
        } else {
            new_year(year) - 1
        }
    }

    /// The dates of a year. Without BYWEEKNO bits 1 to 366 are its days, and the ones around them what SKIP moved out
    /// of it.
    pub(crate) fn year(&self, year: i32) -> &Bits {
        self.year_from(year, new_year(year))
    }

    /// The same of a year whose first day is known.
    fn year_from(&self, year: i32, first: Day) -> &Bits {
        let weekday = weekday(first) as usize;
        let kind = match (leap(year), self.numbered()) {
            (true, _) => 1,
            // Weeks at the turn of the year have days of the neighbours.
            (false, true) if leap(year - 1) => 2,
            (false, true) if leap(year + 1) => 3,
            _ => 0,
        };
        self.kinds[kind * 7 + weekday].get_or_init(|| {
            if self.numbered() {
                self.numbered_year(year)
            } else {
                self.calendar_year(year)
            }
        })
    }

    fn calendar_year(&self, year: i32) -> Bits {
        let mut bits = Bits::default();
        let first = weekday(new_year(year));
        for month in 0..12 {
            let begin = month_start(year, month);
            for day in 1..=month_len(year, month) {
                let in_year = begin + day - 1;
                if self.takes(year, month, day, (first + in_year) % 7) {
                    bits.set(in_year as usize + 1);
                }
            }
        }
        if let Some((front, back)) = self.year_days.as_deref()
            && self.yearly
            && !leap(year)
        {
            let spilled = match self.skip {
                Skip::Forward if front.get(366) => Some(new_year(year + 1)),
                Skip::Backward if back.get(366) => Some(new_year(year) - 1),
                _ => None,
            };
            if let Some(spilled) = spilled {
                let (year_of, month, day) = civil(spilled);
                if self.month_and_day(year_of, month, day) && self.takes_weekday(spilled) {
                    bits.set((spilled - (new_year(year) - 1)) as usize);
                }
            }
        }
        bits
    }

    fn numbered_year(&self, year: i32) -> Bits {
        let mut bits = Bits::default();
        let first = self.first_week(year);
        let weeks = (self.first_week(year + 1) - first) / 7;
        for week in 1..=weeks {
            if self.weeks.is_some_and(|list| list.has(week, weeks - week + 1)) {
                for index in week * 7 - 7..week * 7 {
                    let (year, month, day) = civil(first + index);
                    if self.takes(year, month, day, weekday(first + index)) {
                        bits.set(index as usize);
                    }
                }
            }
        }
        bits
    }

    fn takes(&self, year: i32, month: usize, day: i32, weekday: i32) -> bool {
        self.month_and_day(year, month, day)
            && self.takes_year_day(year, month_start(year, month) + day)
            && self.takes_nth(year, month, day, weekday)
    }

    fn has_month(&self, month: usize) -> bool {
        self.months >> month & 1 == 1
    }

    fn month_and_day(&self, year: i32, month: usize, day: i32) -> bool {
        let Some(days) = self.month_days else {
            return self.has_month(month);
        };
        let len = month_len(year, month);
        if self.has_month(month) && days.has(day, len - day + 1) {
            return true;
        }
        // What SKIP moves here. December and January never lack a day, so it stays in the year.
        let (lacks, lacks_back) = days.beyond(len);
        let here = self.has_month(month);
        match self.skip {
            _ if !self.yearly => false,
            Skip::Omit => false,
            Skip::Forward if day == 1 => {
                here && lacks_back
                    || month > 0 && self.has_month(month - 1) && days.beyond(month_len(year, month - 1)).0
            }
            Skip::Backward if day == len => {
                here && lacks
                    || month < 11 && self.has_month(month + 1) && days.beyond(month_len(year, month + 1)).1
            }
            _ => false,
        }
    }

    fn takes_year_day(&self, year: i32, day: i32) -> bool {
        let Some((front, back)) = self.year_days.as_deref() else {
            return true;
        };
        let len = year_len(year);
        if front.get(day as usize) || back.get((len - day + 1) as usize) {
            return true;
        }
        self.yearly
            && len == 365
            && (self.skip == Skip::Forward && day == 1 && back.get(366)
                || self.skip == Skip::Backward && day == len && front.get(366))
    }

    fn takes_nth(&self, year: i32, month: usize, day: i32, weekday: i32) -> bool {
        let Some(weekdays) = &self.weekdays else {
            return true;
        };
        let (index, len) = if self.weekdays_of_year {
            (month_start(year, month) + day - 1, year_len(year))
        } else {
            (day - 1, month_len(year, month))
        };
        weekdays[weekday as usize].has(index / 7 + 1, (len - 1 - index) / 7 + 1)
    }

    fn takes_weekday(&self, date: Day) -> bool {
        let (year, month, day) = civil(date);
        self.takes_nth(year, month, day, weekday(date))
    }

    /// The dates of a month of a MONTHLY rule, the last day of the month before being bit 0.
    pub(crate) fn month(&self, year: i32, month: usize) -> u64 {
        if !self.has_month(month) {
            return 0;
        }
        let len = month_len(year, month);
        let mut bits = self
            .year(year)
            .slice(month_start(year, month) as usize + 1, len as usize)
            << 1;
        if let Some(days) = self.month_days
            && self.skip != Skip::Omit
        {
            let (lacks, lacks_back) = days.beyond(len);
            let moved = match self.skip {
                Skip::Forward => [(lacks, len + 1), (lacks_back, 1)],
                _ => [(lacks, len), (lacks_back, 0)],
            };
            for (lacking, bit) in moved {
                if lacking && self.takes_weekday(new_year(year) + month_start(year, month) + bit - 1) {
                    bits |= 1 << bit;
                }
            }
        }
        bits
    }

    /// Whether SKIP can move days into the neighbouring year or month, where they may meet others.
    pub(crate) fn spills(&self) -> bool {
        self.skip != Skip::Omit && (!self.yearly || self.year_days.is_some())
    }

    /// The dates of the seven days from `first` on.
    pub(crate) fn week(&self, first: Day) -> u64 {
        let (year, before) = year_of(first);
        let left = (year_len(year) - before).min(7) as usize;
        let mut bits = self.year(year).slice(before as usize + 1, left);
        if left < 7 {
            bits |= self.year(year + 1).slice(1, 7 - left) << left;
        }
        bits
    }

    /// Whether the date is let through. Not for YEARLY.
    pub(crate) fn has(&self, day: Day) -> bool {
        if self.open {
            return true;
        }
        let (year, before) = year_of(day);
        self.year_from(year, day - before).get(before as usize + 1)
    }

    /// The dates of four centuries from 1970, after which they repeat, unless there are more than so many.
    pub(crate) fn cycle(&self, most: usize) -> Option<Vec<Day>> {
        if self.open {
            return None;
        }
        let mut days = Vec::new();
        for year in 1970..2370 {
            let dates = self.year(year);
            let mut next = dates.next(1);
            while let Some(found) = next.filter(|found| *found <= year_len(year) as usize) {
                days.push(new_year(year) + found as Day - 1);
                next = dates.next(found + 1);
            }
            if days.len() > most {
                return None;
            }
        }
        Some(days)
    }

    /// How many dates there are in four years: 1461 when all are.
    pub(crate) fn share(&self) -> i64 {
        if self.open {
            return 1461;
        }
        (2021..2025).map(|year| self.year(year).len() as i64).sum()
    }

    /// The first date from `day` on. Not for YEARLY.
    pub(crate) fn next(&self, day: Day, budget: &mut Budget) -> Result<Option<Day>, Error> {
        if self.open {
            return Ok(Some(day));
        }
        let (mut year, before) = year_of(day);
        let mut index = before as usize + 1;
        let mut first = day - before;
        loop {
            if let Some(found) = self.year_from(year, first).next(index) {
                return Ok(Some(first + found as Day - 1));
            }
            (first, index) = (first + year_len(year), 0);
            year += 1;
            if first > LAST_DAY {
                return Ok(None);
            }
            budget.step()?;
        }
    }

    /// The last date up to `day`. Not for YEARLY.
    pub(crate) fn prev(&self, day: Day, budget: &mut Budget) -> Result<Option<Day>, Error> {
        if self.open {
            return Ok(Some(day));
        }
        let (mut year, before) = year_of(day);
        let mut index = before as usize + 1;
        let mut first = day - before;
        loop {
            if let Some(found) = self.year_from(year, first).prev(index) {
                return Ok(Some(first + found as Day - 1));
            }
            year -= 1;
            (first, index) = (first - year_len(year), Bits::LEN - 1);
            if first < FIRST_DAY {
                return Ok(None);
            }
            budget.step()?;
        }
    }

    /// How many dates lie from `from` up to, not including, `to`. Not for YEARLY.
    pub(crate) fn count(&self, from: Day, to: Day, budget: &mut Budget) -> Result<u64, Error> {
        if to <= from {
            return Ok(0);
        }
        if self.open {
            return Ok(u64::from((to - from).unsigned_abs()));
        }
        let ((first, before_from), (last, before_to)) = (year_of(from), year_of(to));
        let below = |year: i32, before: i32| self.year(year).below(before as usize + 1) as u64;
        let mut count = 0;
        for year in first..last {
            budget.step()?;
            count += self.year(year).len() as u64;
        }
        Ok(count + below(last, before_to) - below(first, before_from))
    }

    /// The date that `n` from `from` on are before. Not for YEARLY.
    pub(crate) fn nth(&self, from: Day, mut n: u64, budget: &mut Budget) -> Result<Option<Day>, Error> {
        let day = |day: i64| i32::try_from(day).ok().filter(|day| *day <= LAST_DAY);
        if self.open {
            return Ok(i64::try_from(n)
                .ok()
                .and_then(|n| day(i64::from(from).saturating_add(n))));
        }
        let (mut year, before) = year_of(from);
        n += self.year(year).below(before as usize + 1) as u64;
        while new_year(year) <= LAST_DAY {
            budget.step()?;
            let bits = self.year(year);
            let here = bits.len() as u64;
            if n < here {
                return Ok(bits
                    .nth(n as usize)
                    .map(|index| new_year(year) + index as Day - 1));
            }
            n -= here;
            year += 1;
        }
        Ok(None)
    }
}
