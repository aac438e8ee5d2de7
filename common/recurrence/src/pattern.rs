//! The local times of one rule: a set that can be entered at any time, in either direction, by arithmetic.
//!
//! COUNT and UNTIL are no part of it, nor are zones.

use crate::bits::{Bits, Times};
use crate::calendar::{
    DAY, Day, FIRST_WALL, FOUR_CENTURIES, LAST_WALL, Wall, civil, join, month_start, new_year, split, weekday,
};
use crate::dates::Dates;
use crate::error::{Budget, Error};
use crate::rule::{Freq, Rule};

/// What has no local time for as long as the calendar takes to repeat, times the interval where that has to come round too,
/// never has one.
const REPEATS: i64 = FOUR_CENTURIES * DAY;

#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    dates: Dates,
    shape: Shape,
    /// Nothing before this belongs to the set.
    lower: Wall,
    /// Nothing after this is looked for.
    upper: Wall,
}

#[derive(Debug, Clone)]
enum Shape {
    Steps(Steps),
    Periods(Periods),
}

/// DAILY and more frequent: units of equal length, of which those at `phase` modulo `interval` count.
#[derive(Debug, Clone)]
struct Steps {
    /// Seconds of a unit: a day, hour, minute or second.
    unit: i64,
    interval: i64,
    /// The unit of the start, counted from 1970.
    phase: i64,
    /// The units of a day.
    units: Times,
    /// Whether `units` are all a day has.
    all_units: bool,
    /// The times of a unit.
    times: Times,
    /// Seconds after which everything repeats.
    cycle: i64,
    /// Where units are few and in phase on few days only.
    rare: Option<Rare>,
}

/// Units that few days have.
#[derive(Debug, Clone)]
enum Rare {
    /// Units of a day, each with the days on which it is in phase: those with a remainder after division by `step`.
    Days { step: i64, units: Vec<(i64, i64)> },
    /// Where dates are few as well: every unit from the start to the end of the calendar, sorted.
    All(Vec<Wall>),
}

/// WEEKLY, MONTHLY and YEARLY: periods of calendar days, of which the one of the start and every `interval`-th after it
/// count.
#[derive(Debug, Clone)]
struct Periods {
    freq: Freq,
    interval: i64,
    /// The year of the start, or its month counted from year 0, or the first day of its week.
    origin: i64,
    /// Number of the first period that is looked at, the one of the start being 0.
    first: i64,
    /// The times of a day.
    times: Times,
    /// Sorted.
    set_pos: Vec<i64>,
    /// Every week has the same days.
    uniform: bool,
}

/// The dates of one period.
struct Period {
    /// The day of bit 0.
    first: Day,
    dates: Bits,
}

/// What [`Pattern::tally`] found.
pub(crate) struct Tally {
    /// Local times before the end, no more than were to be looked at.
    pub(crate) count: u64,
    /// The one with the number asked for.
    pub(crate) nth: Option<Wall>,
}

impl Pattern {
    /// `whole_days`: the start is a date, so BYHOUR, BYMINUTE and BYSECOND are ignored (RFC 5545, section 3.3.10).
    pub(crate) fn new(rule: &Rule, start: Wall, whole_days: bool) -> Self {
        let (day, second) = split(start);
        let dates = Dates::new(rule, day);
        let listed = |values: &[u8]| values.iter().fold(0_u64, |bits, value| bits | 1 << value);
        let interval = i64::from(rule.interval);
        let or_start = |values: &[u8], of_start: i64| {
            if whole_days {
                1
            } else if values.is_empty() {
                1 << of_start
            } else {
                listed(values)
            }
        };
        let or_all = |values: &[u8], all: u32| match values {
            [] => (1 << all) - 1,
            values => listed(values),
        };
        let hours = or_start(&rule.by_hour, second / 3600);
        let minutes = or_start(&rule.by_minute, second / 60 % 60);
        let seconds = or_start(&rule.by_second, second % 60);
        // Hours, minutes and seconds of the units, and of the times in them.
        let (unit, units, times) = match rule.freq {
            Freq::Hourly => (3600, (or_all(&rule.by_hour, 24), 1, 1), (1, minutes, seconds)),
            Freq::Minutely => (
                60,
                (or_all(&rule.by_hour, 24), or_all(&rule.by_minute, 60), 1),
                (1, 1, seconds),
            ),
            Freq::Secondly => (
                1,
                (
                    or_all(&rule.by_hour, 24),
                    or_all(&rule.by_minute, 60),
                    or_all(&rule.by_second, 60),
                ),
                (1, 1, 1),
            ),
            _ => (DAY, (1, 1, 1), (hours, minutes, seconds)),
        };
        let product = |(hours, minutes, seconds)| Times::Product {
            hours,
            minutes,
            seconds,
        };
        let times = product(times);
        let set_pos: Vec<i64> = rule.by_set_pos.iter().map(|pos| i64::from(*pos)).collect();
        let shape = if rule.freq >= Freq::Daily {
            let all_units = product(units).len() as i64 == DAY / unit;
            let phase = start.div_euclid(unit);
            let times = if set_pos.is_empty() {
                times
            } else {
                // Every unit has the same times, so the positions can be picked once and for all.
                let picked = positions(&set_pos, times.len() as i64);
                Times::Listed(
                    picked
                        .into_iter()
                        .filter_map(|index| times.nth(index as usize))
                        .collect(),
                )
            };
            let units = product(in_phase(units, unit, interval, phase));
            Shape::Steps(Steps {
                unit,
                interval,
                phase,
                all_units,
                times,
                rare: rare(&dates, &units, unit, interval, start),
                units,
                cycle: REPEATS.saturating_mul(interval * unit / gcd(REPEATS, interval * unit)),
            })
        } else {
            let (year, month, _) = civil(day);
            let week_start = rule.week_start.num_days_from_monday() as i32;
            let origin = match rule.freq {
                Freq::Yearly => i64::from(first_year(&dates, year, day, interval)),
                Freq::Monthly => i64::from(year) * 12 + month as i64,
                _ => i64::from(day - (weekday(day) - week_start).rem_euclid(7)),
            };
            Shape::Periods(Periods {
                freq: rule.freq,
                interval,
                origin,
                // What the period before spills into that of the start belongs to the rule, as it would a day later.
                first: if dates.spills() && interval == 1 { -1 } else { 0 },
                times,
                set_pos,
                uniform: rule.freq == Freq::Weekly && dates.all_months(),
            })
        };
        Self {
            dates,
            shape,
            lower: start,
            upper: LAST_WALL,
        }
    }

    /// Narrows the set to what is not before `lower`, and the search to what is not after `upper`.
    pub(crate) fn bound(&mut self, lower: Wall, upper: Wall) {
        self.lower = self.lower.max(lower);
        self.upper = self.upper.min(upper);
    }

    /// Whether some day may have more than one of its local times.
    pub(crate) fn several_a_day(&self) -> bool {
        match &self.shape {
            Shape::Steps(steps) => steps.unit < DAY || steps.times.len() > 1,
            Shape::Periods(periods) => periods.times.len() > 1,
        }
    }

    /// The first local time that is not before `from`.
    pub(crate) fn next(&self, from: Wall, budget: &mut Budget) -> Result<Option<Wall>, Error> {
        let from = from.max(self.lower);
        if from > self.upper {
            return Ok(None);
        }
        let found = match &self.shape {
            Shape::Steps(steps) => steps.next(&self.dates, from, self.upper, budget)?,
            Shape::Periods(periods) => periods.next(&self.dates, from, self.upper, budget)?,
        };
        Ok(found.filter(|wall| *wall <= self.upper))
    }

    /// The last local time that is not after `to`.
    pub(crate) fn prev(&self, to: Wall, budget: &mut Budget) -> Result<Option<Wall>, Error> {
        let to = to.min(self.upper);
        if to < self.lower {
            return Ok(None);
        }
        let found = match &self.shape {
            Shape::Steps(steps) => steps.prev(&self.dates, to, self.lower, budget)?,
            Shape::Periods(periods) => periods.prev(&self.dates, to, budget)?,
        };
        Ok(found.filter(|wall| *wall >= self.lower))
    }

    /// Counts the local times before `end`, up to and with number `nth` (from 0).
    pub(crate) fn tally(&self, end: Wall, nth: u64, budget: &mut Budget) -> Result<Tally, Error> {
        let end = end.min(self.upper + 1);
        let tally = match &self.shape {
            _ if end <= self.lower => Tally { count: 0, nth: None },
            Shape::Steps(steps) => steps.tally(&self.dates, self.lower, end, nth, budget)?,
            // Periods that overlap may share a day, which counts once.
            Shape::Periods(_) if self.dates.spills() => self.tally_by_steps(end, nth, budget)?,
            Shape::Periods(periods) => periods.tally(&self.dates, self.lower, end, nth, budget)?,
        };
        let nth = tally.nth.filter(|wall| *wall < end);
        Ok(Tally { nth, ..tally })
    }

    fn tally_by_steps(&self, end: Wall, nth: u64, budget: &mut Budget) -> Result<Tally, Error> {
        let mut count = 0;
        let mut from = self.lower;
        while let Some(wall) = self.next(from, budget)?.filter(|wall| *wall < end) {
            if count == nth {
                return Ok(Tally {
                    count,
                    nth: Some(wall),
                });
            }
            count += 1;
            from = wall + 1;
        }
        Ok(Tally { count, nth: None })
    }
}

/// Positions from 1 and from -1 as sorted indices below `len`.
fn positions(set_pos: &[i64], len: i64) -> Vec<i64> {
    let mut indices: Vec<i64> = set_pos
        .iter()
        .map(|pos| if *pos > 0 { pos - 1 } else { len + pos })
        .filter(|index| (0..len).contains(index))
        .collect();
    indices.sort_unstable();
    indices.dedup();
    indices
}

/// The year that counts as the first.
///
/// For weeks of the year it is the year whose week the start lies in, if the start is one of the rule's days. If it is
/// not, the RFC leaves open what the rule means, and the year is that of the calendar, as elsewhere.
fn first_year(dates: &Dates, year: i32, start: Day, interval: i64) -> i32 {
    let numbered = dates.year_of(start);
    let is_one = |year: i32| {
        usize::try_from(start - dates.year_first(year)).is_ok_and(|index| dates.year(year).get(index))
    };
    if numbered == year || !dates.numbered() {
        year
    } else if interval == 1 {
        year.min(numbered)
    } else if is_one(numbered) {
        numbered
    } else {
        year
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Hours, minutes and seconds without those the interval never meets: with INTERVAL=2 from an even second the odd ones,
/// so that a rule of odd seconds is seen to be empty, which a search could not tell from one that is rare.
fn in_phase(units: (u64, u64, u64), unit: i64, interval: i64, phase: i64) -> (u64, u64, u64) {
    if interval == 1 {
        return units;
    }
    let (interval, phase) = (
        i128::from(interval) * i128::from(unit),
        i128::from(phase) * i128::from(unit),
    );
    let met = |second: i64, cycle: i64| {
        let common = gcd(cycle, i64::try_from(interval % i128::from(cycle)).unwrap_or(0));
        (i128::from(second) - phase).rem_euclid(i128::from(common)) == 0
    };
    let bits = |bits: u64| (0..64_i64).filter(move |bit| bits >> bit & 1 == 1);
    let keep = |list: u64, kept: &dyn Fn(i64) -> bool| {
        bits(list)
            .filter(|value| kept(*value))
            .fold(0_u64, |bits, value| bits | 1 << value)
    };
    let (hours, minutes, seconds) = units;
    let seconds = keep(seconds, &|second| met(second, 60));
    let minutes = keep(minutes, &|minute| {
        bits(seconds).any(|second| met(minute * 60 + second, 3600))
    });
    let hours = keep(hours, &|hour| {
        bits(minutes).any(|minute| bits(seconds).any(|second| met(hour * 3600 + minute * 60 + second, DAY)))
    });
    (hours, minutes, seconds)
}

// Days in phase are gone through where they are fewer than the dates, and up to a third more: one of them takes less time than
// the search for the next date.

/// Going from unit to unit would try this many days in vain, and more.
const MANY_DAYS: i64 = 24;
/// For more units than this going from one to the next soon meets one that is in phase.
const FEW_UNITS: usize = 24;
/// One a year: the dates of four centuries for which all units are worked out at once.
const FEW_DATES: usize = 400;

/// Solves `day * DAY + unit = phase` modulo the interval for the day, unit by unit.
fn rare(dates: &Dates, units: &Times, unit: i64, interval: i64, start: Wall) -> Option<Rare> {
    let modulus = interval * unit;
    let common = gcd(DAY, modulus);
    let step = modulus / common;
    if step <= MANY_DAYS || units.len() > FEW_UNITS {
        return None;
    }
    let dates_of_cycle = dates.cycle(FEW_DATES);
    // Else from one date to the next is nearer than from one day in phase to the next.
    let many_dates = units.len() as i64 <= step.saturating_mul(dates.share()) / 1100;
    if dates_of_cycle.is_none() && !many_dates {
        return None;
    }
    let inverse = inverse(DAY / common, step);
    let begin = start.div_euclid(unit) * unit;
    let units = (0..units.len()).filter_map(|index| {
        let second = units.nth(index)?;
        let apart = begin - second;
        (apart % common == 0).then(|| (second, residue(apart / common, inverse, step)))
    });
    let units: Vec<(i64, i64)> = units.collect();
    Some(match dates_of_cycle {
        Some(dates) => Rare::All(all(&dates, &units, step, begin)),
        None => Rare::Days { step, units },
    })
}

/// Every unit on one of those days, which repeat every four centuries, from `begin` on.
fn all(dates: &[Day], units: &[(i64, i64)], step: i64, begin: Wall) -> Vec<Wall> {
    // The days `date + n * FOUR_CENTURIES` whose remainder is that of the unit: solved for n. They repeat, too.
    let common = gcd(FOUR_CENTURIES, step);
    let (step, repeats) = (step / common, FOUR_CENTURIES * (step / common));
    let inverse = inverse(FOUR_CENTURIES / common, step);
    let (first, last) = (i64::from(split(begin).0), i64::from(split(LAST_WALL).0));
    let mut all = Vec::new();
    for (second, remainder) in units {
        for date in dates {
            let apart = remainder - i64::from(*date);
            if apart % common != 0 {
                continue;
            }
            let day = i64::from(*date) + FOUR_CENTURIES * residue(apart / common, inverse, step);
            let mut day = first + (day - first).rem_euclid(repeats);
            while day <= last {
                all.push(day * DAY + second);
                day += repeats;
            }
        }
    }
    all.sort_unstable();
    all
}

/// `value * factor` modulo `modulus`, not below 0.
fn residue(value: i64, factor: i64, modulus: i64) -> i64 {
    let product = i128::from(value.rem_euclid(modulus)) * i128::from(factor.rem_euclid(modulus));
    // Below the modulus, so it fits.
    (product % i128::from(modulus)) as i64
}

/// The number whose product with `value` leaves 1 after division by `modulus`; the two have no common divisor.
fn inverse(value: i64, modulus: i64) -> i64 {
    let (mut remainders, mut factors) = ((modulus, value % modulus), (0, 1));
    while remainders.1 != 0 {
        let quotient = remainders.0 / remainders.1;
        remainders = (remainders.1, remainders.0 - quotient * remainders.1);
        factors = (factors.1, factors.0 - quotient * factors.1);
    }
    factors.0
}

impl Rare {
    fn next(&self, dates: &Dates, at: Wall, upper: Wall, budget: &mut Budget) -> Result<Option<Wall>, Error> {
        let (step, units) = match self {
            Self::Days { step, units } => (*step, units),
            Self::All(all) => {
                let next = all.get(all.partition_point(|unit| *unit < at));
                return Ok(next.copied().filter(|unit| *unit <= upper));
            }
        };
        let (day, second) = split(at);
        let mut ahead: Vec<(i64, i64)> = units
            .iter()
            .map(|(unit, remainder)| {
                let from = i64::from(day) + i64::from(*unit < second);
                (from + (remainder - from).rem_euclid(step), *unit)
            })
            .collect();
        // The nearest first, so that a unit that no date goes with does not hold up the others.
        while let Some(nearest) = ahead.iter_mut().min() {
            budget.step()?;
            let (day, unit) = *nearest;
            if day * DAY + unit > upper {
                break;
            }
            if dates.has(day as Day) {
                return Ok(Some(day * DAY + unit));
            }
            nearest.0 += step;
        }
        Ok(None)
    }

    fn prev(&self, dates: &Dates, at: Wall, lower: Wall, budget: &mut Budget) -> Result<Option<Wall>, Error> {
        let (step, units) = match self {
            Self::Days { step, units } => (*step, units),
            Self::All(all) => {
                let before = all.partition_point(|unit| *unit <= at);
                let prev = before.checked_sub(1).and_then(|index| all.get(index));
                return Ok(prev.copied().filter(|unit| *unit >= lower));
            }
        };
        let (day, second) = split(at);
        let mut behind: Vec<(i64, i64)> = units
            .iter()
            .map(|(unit, remainder)| {
                let from = i64::from(day) - i64::from(*unit > second);
                (from - (from - remainder).rem_euclid(step), *unit)
            })
            .collect();
        while let Some(nearest) = behind.iter_mut().max() {
            budget.step()?;
            let (day, unit) = *nearest;
            if day * DAY + unit < lower {
                break;
            }
            if dates.has(day as Day) {
                return Ok(Some(day * DAY + unit));
            }
            nearest.0 -= step;
        }
        Ok(None)
    }
}

impl Steps {
    fn next(
        &self,
        dates: &Dates,
        from: Wall,
        upper: Wall,
        budget: &mut Budget,
    ) -> Result<Option<Wall>, Error> {
        let upper = upper.min(from.saturating_add(self.cycle));
        let begin = from.div_euclid(self.unit) * self.unit;
        let Some(unit) = self.next_unit(dates, begin, upper, budget)? else {
            return Ok(None);
        };
        if unit == begin {
            if let Some(time) = self.times.next(from - begin) {
                return Ok(Some(begin + time));
            }
            let next = self.next_unit(dates, begin + self.unit, upper, budget)?;
            return Ok(next.and_then(|unit| self.times.next(0).map(|time| unit + time)));
        }
        Ok(self.times.next(0).map(|time| unit + time))
    }

    fn prev(&self, dates: &Dates, to: Wall, lower: Wall, budget: &mut Budget) -> Result<Option<Wall>, Error> {
        let begin = to.div_euclid(self.unit) * self.unit;
        let Some(unit) = self.prev_unit(dates, begin, lower, budget)? else {
            return Ok(None);
        };
        let last = self.unit - 1;
        if unit == begin {
            if let Some(time) = self.times.prev(to - begin) {
                return Ok(Some(begin + time));
            }
            let prev = self.prev_unit(dates, begin - self.unit, lower, budget)?;
            return Ok(prev.and_then(|unit| self.times.prev(last).map(|time| unit + time)));
        }
        Ok(self.times.prev(last).map(|time| unit + time))
    }

    /// The first unit that counts and does not begin before `at`.
    fn next_unit(
        &self,
        dates: &Dates,
        mut at: Wall,
        upper: Wall,
        budget: &mut Budget,
    ) -> Result<Option<Wall>, Error> {
        if self.units.len() == 0 {
            return Ok(None);
        }
        if let Some(rare) = &self.rare {
            return rare.next(dates, at, upper, budget);
        }
        while at <= upper {
            budget.step()?;
            let (from, second) = split(at);
            let Some(day) = dates.next(from, budget)? else {
                return Ok(None);
            };
            let Some(unit) = self.units.next(if day == from { second } else { 0 }) else {
                at = join(day + 1, 0);
                continue;
            };
            at = join(day, unit);
            let ahead = (at / self.unit - self.phase).rem_euclid(self.interval);
            if ahead == 0 {
                return Ok(Some(at));
            }
            at += (self.interval - ahead) * self.unit;
        }
        Ok(None)
    }

    /// The last unit that counts and does not begin after `at`, unless it ends before `lower`.
    fn prev_unit(
        &self,
        dates: &Dates,
        mut at: Wall,
        lower: Wall,
        budget: &mut Budget,
    ) -> Result<Option<Wall>, Error> {
        if self.units.len() == 0 {
            return Ok(None);
        }
        if let Some(rare) = &self.rare {
            return rare.prev(dates, at, lower - self.unit + 1, budget);
        }
        while at + self.unit > lower {
            budget.step()?;
            let (to, second) = split(at);
            let Some(day) = dates.prev(to, budget)? else {
                return Ok(None);
            };
            let Some(unit) = self.units.prev(if day == to { second } else { DAY - self.unit }) else {
                at = join(day, 0) - self.unit;
                continue;
            };
            at = join(day, unit);
            let behind = (at / self.unit - self.phase).rem_euclid(self.interval);
            if behind == 0 {
                return Ok(Some(at));
            }
            at -= behind * self.unit;
        }
        Ok(None)
    }

    fn tally(
        &self,
        dates: &Dates,
        lower: Wall,
        end: Wall,
        nth: u64,
        budget: &mut Budget,
    ) -> Result<Tally, Error> {
        let times = self.times.len() as u64;
        if times == 0 || self.units.len() == 0 {
            return Ok(Tally { count: 0, nth: None });
        }
        if dates.open() && self.all_units {
            Ok(self.tally_uniform(lower, end, nth))
        } else if self.interval == 1 {
            self.tally_days(dates, lower, end, nth, budget)
        } else {
            self.tally_units(dates, lower, end, nth, budget)
        }
    }

    /// Every unit in phase counts: a division.
    fn tally_uniform(&self, lower: Wall, end: Wall, nth: u64) -> Tally {
        let times = self.times.len() as i64;
        // From the unit of the start on.
        let before = |wall: Wall| {
            let (unit, second) = (
                wall.div_euclid(self.unit) - self.phase,
                wall.rem_euclid(self.unit),
            );
            let whole = unit.div_euclid(self.interval) + i64::from(unit.rem_euclid(self.interval) > 0);
            let part = match unit.rem_euclid(self.interval) {
                0 => self.times.below(second) as i64,
                _ => 0,
            };
            whole * times + part
        };
        let skipped = before(lower);
        let count = (before(end) - skipped).unsigned_abs();
        let hit = i64::try_from(nth).ok().filter(|_| nth < count).and_then(|nth| {
            let index = nth + skipped;
            let time = self.times.nth((index % times) as usize)?;
            Some((self.phase + index / times * self.interval) * self.unit + time)
        });
        Tally {
            count: count.min(nth),
            nth: hit,
        }
    }

    /// Every date that counts has the same times.
    fn tally_days(
        &self,
        dates: &Dates,
        lower: Wall,
        end: Wall,
        nth: u64,
        budget: &mut Budget,
    ) -> Result<Tally, Error> {
        let times = self.times.len() as u64;
        let per_day = times * self.units.len() as u64;
        let in_day = |wall: Wall| {
            let (day, second) = split(wall);
            if !dates.has(day) {
                return 0;
            }
            let begin = second / self.unit * self.unit;
            let part = match self.units.next(begin) {
                Some(unit) if unit == begin => self.times.below(second - begin) as u64,
                _ => 0,
            };
            self.units.below(begin) as u64 * times + part
        };
        let (first, last) = (split(lower).0, split(end).0);
        let skipped = in_day(lower);
        let count = dates.count(first, last, budget)? * per_day + in_day(end) - skipped;
        if nth >= count {
            return Ok(Tally { count, nth: None });
        }
        let index = nth + skipped;
        let hit = dates.nth(first, index / per_day, budget)?.and_then(|day| {
            let rest = index % per_day;
            let unit = self.units.nth((rest / times) as usize)?;
            let time = self.times.nth((rest % times) as usize)?;
            Some(join(day, unit + time))
        });
        Ok(Tally { count: nth, nth: hit })
    }

    /// Unit by unit.
    fn tally_units(
        &self,
        dates: &Dates,
        lower: Wall,
        end: Wall,
        nth: u64,
        budget: &mut Budget,
    ) -> Result<Tally, Error> {
        let times = self.times.len() as u64;
        let mut count = 0;
        let mut at = lower.div_euclid(self.unit) * self.unit;
        while let Some(unit) = self
            .next_unit(dates, at, end - 1, budget)?
            .filter(|unit| *unit < end)
        {
            let skipped = self.times.below((lower - unit).max(0)) as u64;
            let here = if end - unit < self.unit {
                self.times.below(end - unit) as u64
            } else {
                times
            }
            .saturating_sub(skipped);
            if nth - count < here {
                let time = self.times.nth((nth - count + skipped) as usize);
                return Ok(Tally {
                    count: nth,
                    nth: time.map(|time| unit + time),
                });
            }
            count += here;
            at = unit + self.unit;
        }
        Ok(Tally { count, nth: None })
    }
}

impl Periods {
    /// The number of the last period that counts and begins not after the day, negative before the start.
    fn number(&self, dates: &Dates, day: Day) -> i64 {
        let (position, length) = match self.freq {
            Freq::Yearly => (i64::from(dates.year_of(day)), 1),
            Freq::Monthly => {
                let (year, month, _) = civil(day);
                (i64::from(year) * 12 + month as i64, 1)
            }
            _ => (i64::from(day), 7),
        };
        (position - self.origin).div_euclid(self.interval * length)
    }

    /// The dates of a period; `None` beyond the calendar.
    fn period(&self, dates: &Dates, number: i64) -> Option<Period> {
        let position = self.origin + number * self.interval * if self.freq == Freq::Weekly { 7 } else { 1 };
        match self.freq {
            Freq::Yearly => {
                let year = i32::try_from(position)
                    .ok()
                    .filter(|year| (0..=10_000).contains(year))?;
                Some(Period {
                    first: dates.year_first(year),
                    dates: *dates.year(year),
                })
            }
            Freq::Monthly => {
                let year = i32::try_from(position.div_euclid(12))
                    .ok()
                    .filter(|year| (0..=10_000).contains(year))?;
                let month = position.rem_euclid(12) as usize;
                Some(Period {
                    first: new_year(year) + month_start(year, month) - 1,
                    dates: dates.month(year, month).into(),
                })
            }
            _ => {
                let first = i32::try_from(position).ok()?;
                (FIRST_WALL - 7 * DAY..=LAST_WALL)
                    .contains(&join(first, 0))
                    .then(|| Period {
                        first,
                        dates: dates.week(first).into(),
                    })
            }
        }
    }

    /// How many local times of the period lie before `wall`, before BYSETPOS.
    fn below(&self, period: &Period, wall: Wall) -> i64 {
        let (day, second) = split(wall);
        let times = self.times.len();
        let below = match usize::try_from(day - period.first) {
            Err(_) => 0,
            Ok(index) if index >= Bits::LEN => period.dates.len() * times,
            Ok(index) => {
                let part = if period.dates.get(index) {
                    self.times.below(second)
                } else {
                    0
                };
                period.dates.below(index) * times + part
            }
        };
        below as i64
    }

    fn len(&self, period: &Period) -> i64 {
        (period.dates.len() * self.times.len()) as i64
    }

    fn nth(&self, period: &Period, index: i64) -> Option<Wall> {
        let index = usize::try_from(index).ok()?;
        let times = self.times.len();
        let day = period.dates.nth(index / times)?;
        Some(join(period.first + day as Day, self.times.nth(index % times)?))
    }

    fn first_in(&self, period: &Period, from: Wall) -> Option<Wall> {
        let below = self.below(period, from);
        let len = self.len(period);
        if below >= len {
            return None;
        }
        let index = if self.set_pos.is_empty() {
            below
        } else {
            let index = |pos: &i64| if *pos > 0 { pos - 1 } else { len + pos };
            self.set_pos
                .iter()
                .map(index)
                .filter(|index| (below..len).contains(index))
                .min()?
        };
        self.nth(period, index)
    }

    fn last_in(&self, period: &Period, to: Wall) -> Option<Wall> {
        let up_to = self.below(period, to + 1);
        let len = self.len(period);
        let index = if self.set_pos.is_empty() {
            up_to - 1
        } else {
            let index = |pos: &i64| if *pos > 0 { pos - 1 } else { len + pos };
            self.set_pos
                .iter()
                .map(index)
                .filter(|index| (0..up_to).contains(index))
                .max()?
        };
        self.nth(period, index)
    }

    fn next(
        &self,
        dates: &Dates,
        from: Wall,
        upper: Wall,
        budget: &mut Budget,
    ) -> Result<Option<Wall>, Error> {
        let spill = i64::from(dates.spills());
        let first = (self.number(dates, split(from).0) - spill).max(self.first);
        // As many as there are in four centuries, and the spilling one.
        let most = match self.freq {
            Freq::Yearly => 400,
            Freq::Monthly => 4_800,
            _ => 20_871,
        };
        for number in first..=first + most + spill {
            budget.step()?;
            let Some(period) = self
                .period(dates, number)
                .filter(|period| join(period.first, 0) <= upper)
            else {
                return Ok(None);
            };
            if period.dates.is_empty() {
                continue;
            }
            if let Some(found) = self.first_in(&period, from) {
                // The period after may have a day in this one.
                let other = match self.period(dates, number + 1) {
                    Some(after) if spill > 0 => self.first_in(&after, from),
                    _ => None,
                };
                return Ok(Some(other.map_or(found, |other| other.min(found))));
            }
        }
        Ok(None)
    }

    fn prev(&self, dates: &Dates, to: Wall, budget: &mut Budget) -> Result<Option<Wall>, Error> {
        let spill = i64::from(dates.spills());
        let mut number = self.number(dates, split(to).0) + spill;
        while number >= self.first {
            budget.step()?;
            if let Some(found) = self
                .period(dates, number)
                .and_then(|period| self.last_in(&period, to))
            {
                let other = match self.period(dates, number - 1) {
                    Some(before) if spill > 0 && number > self.first => self.last_in(&before, to),
                    _ => None,
                };
                return Ok(Some(other.map_or(found, |other| other.max(found))));
            }
            number -= 1;
        }
        Ok(None)
    }

    /// Positions of a period of that many local times.
    fn picked(&self, len: i64) -> Option<Vec<i64>> {
        (!self.set_pos.is_empty()).then(|| positions(&self.set_pos, len))
    }

    fn tally(
        &self,
        dates: &Dates,
        lower: Wall,
        end: Wall,
        nth: u64,
        budget: &mut Budget,
    ) -> Result<Tally, Error> {
        let mut count = 0_u64;
        let last = self.number(dates, split(end).0);
        let mut number = self.first;
        while let Some(period) = self.period(dates, number).filter(|_| number <= last) {
            budget.step()?;
            let len = self.len(&period);
            // Only the first and the last have anything before the lower end or after the upper.
            let from = if number <= 1 {
                self.below(&period, lower)
            } else {
                0
            };
            let to = if number >= last {
                self.below(&period, end)
            } else {
                len
            };
            let picked = self.picked(len);
            // Indices into the period, or into what BYSETPOS picked of it.
            let (from, to) = match &picked {
                None => (from, to),
                Some(picked) => {
                    let below = |index: i64| picked.partition_point(|pick| *pick < index) as i64;
                    (below(from), below(to))
                }
            };
            let here = (to - from).max(0) as u64;
            if nth - count < here {
                let index = from + (nth - count) as i64;
                let index = picked.map_or(Some(index), |picked| picked.get(index as usize).copied());
                return Ok(Tally {
                    count: nth,
                    nth: index.and_then(|index| self.nth(&period, index)),
                });
            }
            count += here;
            number += 1;
            // Whole weeks all alike need not be gone through.
            if self.uniform && number > 1 && here > 0 {
                let whole = (last - number).max(0) as u64;
                let weeks = whole.min((nth - count) / here);
                count += weeks * here;
                number += weeks as i64;
            }
        }
        Ok(Tally { count, nth: None })
    }
}
