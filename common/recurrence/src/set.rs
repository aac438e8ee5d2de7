//! Recurrence sets: rules, further dates and exceptions, put together on the time line.

use std::fmt;

use chrono::{NaiveTime, TimeZone};
use chrono_tz::Tz;

use crate::calendar::{DAY, Wall, local_of, wall_of};
use crate::clock::{Clock, Place, Tick, tick_of};
use crate::error::{Budget, Error};
use crate::moment::{Moment, Start};
use crate::pattern::Pattern;
use crate::rule::{Freq, Rule, Until};

/// Most rules of one recurrence.
pub const MAX_RULES: usize = 20;
/// Most dates (RDATE and EXDATE together) of one recurrence.
pub const MAX_DATES: usize = 10_000;

/// What recurs: everything in `rules` and `dates` that is not in `exceptions`, each moment once.
///
/// Made once, it answers from any point of time without going through what lies before. Its
/// [`Display`](fmt::Display) are the properties DTSTART, RRULE, RDATE and EXDATE in their canonical form.
#[derive(Debug, Clone)]
pub struct Recurrence {
    pub(crate) start: Start,
    rules: Vec<Rule>,
    sources: Vec<Source>,
    /// Sorted, each once.
    pub(crate) dates: Vec<Tick>,
    /// The start itself, where it has to be said: without rules, and when it is the second pass of a repeated time.
    own: Option<Tick>,
    /// Sorted, each once.
    pub(crate) exceptions: Vec<Tick>,
}

/// One rule on the time line.
#[derive(Debug, Clone)]
struct Source {
    pattern: Pattern,
    start: Tick,
    /// The last second that UNTIL and COUNT leave.
    end: Tick,
}

impl Recurrence {
    /// Puts a recurrence together.
    ///
    /// Without a rule the start itself belongs to it; with rules it does if it is an occurrence of one of them. RDATE
    /// and EXDATE are of the kind of the start: dates for a date, local times for a floating one, local times or
    /// instants for one in a zone.
    ///
    /// # Errors
    ///
    /// [`Error`] says what does not go together, and which rule has no occurrence at all and why.
    pub fn new(start: Start, rules: &[Rule], dates: &[Moment], exceptions: &[Moment]) -> Result<Self, Error> {
        if rules.len() > MAX_RULES || dates.len() + exceptions.len() > MAX_DATES {
            return Err(Error::TooMany);
        }
        let ticks = |moments: &[Moment]| -> Result<Vec<Tick>, Error> {
            let mut ticks = moments
                .iter()
                .map(|moment| date_tick(&start, moment))
                .collect::<Result<Vec<_>, _>>()?;
            ticks.sort_unstable();
            ticks.dedup();
            Ok(ticks)
        };
        let mut set = Self {
            start,
            rules: rules.to_vec(),
            sources: Vec::with_capacity(rules.len()),
            dates: ticks(dates)?,
            own: rules.is_empty().then_some(start.tick),
            exceptions: ticks(exceptions)?,
        };
        for rule in rules {
            set.add(rule)?;
        }
        Ok(set)
    }

    fn add(&mut self, rule: &Rule) -> Result<(), Error> {
        let (start, clock) = (self.start, self.start.clock);
        if start.whole_days && rule.freq > Freq::Daily {
            return Err(Error::NoTimeOfDay);
        }
        let mut budget = Budget::new();
        let mut source = Source {
            pattern: Pattern::new(rule, start.wall, start.whole_days),
            start: start.tick,
            end: Tick::MAX,
        };
        let mut count = rule.count.map(u64::from);
        // A start in the second pass of a repeated local time stays there. The others of that hour are first passes,
        // and so before it.
        let mut own = false;
        if let Place::SecondPass(change) = clock.place(start.tick) {
            own = source.pattern.next(start.wall, &mut budget)? == Some(start.wall);
            source.pattern.bound(change.old_wall(), Wall::MAX);
            count = count.map(|count| count - u64::from(own));
        }
        let first = match own {
            true => Some(start.tick),
            false => source.at_or_after(clock, start.tick, &mut budget)?,
        };
        let Some(first) = first else {
            return Err(Error::NeverMatches);
        };
        if let Some(until) = rule.until {
            source.end = until_tick(until, clock);
            if source.end < start.tick {
                return Err(Error::EndsBeforeStart);
            }
            if source.end < first {
                return Err(Error::EndsBeforeFirst);
            }
        }
        if own {
            self.own = Some(start.tick);
        }
        match count {
            Some(0) => return Ok(()),
            Some(count) => source.end = source.end_of(clock, count, &mut budget)?,
            None => {}
        }
        if source.end < Tick::MAX {
            // No local time is read more than a day away from what the clock shows.
            source.pattern.bound(Wall::MIN, clock.wall(source.end) + 2 * DAY);
        }
        self.sources.push(source);
        Ok(())
    }

    /// The rules it was made of.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The first occurrence.
    ///
    /// # Errors
    /// [`Error::TooMuchWork`].
    pub fn first(&self) -> Result<Option<Moment>, Error> {
        Ok(self
            .next_tick(Tick::MIN, &mut Budget::new())?
            .map(|tick| self.moment(tick)))
    }

    /// The last occurrence, of those within the calendar if there is no other end.
    ///
    /// # Errors
    /// [`Error::TooMuchWork`].
    pub fn last(&self) -> Result<Option<Moment>, Error> {
        Ok(self
            .prev_tick(Tick::MAX, &mut Budget::new())?
            .map(|tick| self.moment(tick)))
    }

    /// The first occurrence later than `at`.
    ///
    /// # Errors
    /// [`Error::TooMuchWork`], and [`Error::Mixed`] for an instant when there is no zone.
    pub fn after(&self, at: Moment) -> Result<Option<Moment>, Error> {
        let (tick, _) = self.query(&at)?;
        let next = self.next_tick(tick + 1, &mut Budget::new())?;
        Ok(next.map(|tick| self.moment(tick)))
    }

    /// The last occurrence earlier than `at`.
    ///
    /// # Errors
    /// As [`Recurrence::after`].
    pub fn before(&self, at: Moment) -> Result<Option<Moment>, Error> {
        let prev = self.prev_tick(self.last_before(&at)?, &mut Budget::new())?;
        Ok(prev.map(|tick| self.moment(tick)))
    }

    /// Whether `at` is an occurrence.
    ///
    /// # Errors
    /// As [`Recurrence::after`].
    pub fn contains(&self, at: Moment) -> Result<bool, Error> {
        let (tick, cut) = self.query(&at)?;
        Ok(!cut && self.has(tick, &mut Budget::new())?)
    }

    /// How many occurrences are earlier than `at`. Without going through them, if there is no more than one rule.
    ///
    /// # Errors
    /// As [`Recurrence::after`].
    pub fn count_before(&self, at: Moment) -> Result<u64, Error> {
        let last = self.last_before(&at)?;
        let budget = &mut Budget::new();
        let clock = self.start.clock;
        if let [_, _, ..] = self.sources[..] {
            let mut count = 0;
            let mut next = self.next_tick(Tick::MIN, budget)?;
            while let Some(tick) = next.filter(|tick| *tick <= last) {
                budget.step()?;
                count += 1;
                next = self.next_tick(tick + 1, budget)?;
            }
            return Ok(count);
        }
        let mut count = match self.sources.first() {
            Some(source) => source.count_to(clock, last, budget)?,
            None => 0,
        };
        let in_rule = |tick: Tick, budget: &mut Budget| match self.sources.first() {
            Some(source) => source.has(clock, tick, budget),
            None => Ok(false),
        };
        let further = self
            .own
            .iter()
            .filter(|own| self.dates.binary_search(own).is_err());
        for tick in self.dates.iter().chain(further) {
            count += u64::from(*tick <= last && !in_rule(*tick, budget)?);
        }
        for tick in &self.exceptions {
            if *tick <= last && (in_rule(*tick, budget)? || self.is_date(*tick)) {
                count -= 1;
            }
        }
        Ok(count)
    }

    /// All occurrences, ascending, and from the back descending.
    #[must_use]
    pub fn iter(&self) -> Occurrences<'_> {
        Occurrences {
            set: self,
            next: Tick::MIN,
            last: Tick::MAX,
        }
    }

    /// The occurrences later than `after` and earlier than `before`, where given.
    ///
    /// # Errors
    /// [`Error::Mixed`] for an instant when there is no zone.
    pub fn range(&self, after: Option<Moment>, before: Option<Moment>) -> Result<Occurrences<'_>, Error> {
        Ok(Occurrences {
            set: self,
            next: match after {
                Some(after) => self.query(&after)?.0 + 1,
                None => Tick::MIN,
            },
            last: match before {
                Some(before) => self.last_before(&before)?,
                None => Tick::MAX,
            },
        })
    }

    /// The occurrences from `from` on and before `to`.
    ///
    /// # Errors
    /// [`Error::Mixed`] for an instant when there is no zone.
    pub fn between(&self, from: Moment, to: Moment) -> Result<Occurrences<'_>, Error> {
        Ok(Occurrences {
            set: self,
            next: self.last_before(&from)? + 1,
            last: self.last_before(&to)?,
        })
    }

    /// The second `at` lies in, and whether it lies behind its beginning.
    pub(crate) fn query(&self, at: &Moment) -> Result<(Tick, bool), Error> {
        let (seconds, cut) = at.seconds();
        let tick = match (self.start.clock, at) {
            (Clock::Zone(_), Moment::Instant(_)) => seconds,
            (Clock::Floating, Moment::Instant(_)) => return Err(self.mixed(at)),
            (clock, _) => clock.tick(seconds),
        };
        Ok((tick, cut))
    }

    fn last_before(&self, at: &Moment) -> Result<Tick, Error> {
        let (tick, cut) = self.query(at)?;
        Ok(if cut { tick } else { tick - 1 })
    }

    fn mixed(&self, given: &Moment) -> Error {
        Error::Mixed {
            given: given.kind(),
            start: self.start.kind(),
        }
    }

    pub(crate) fn moment(&self, tick: Tick) -> Moment {
        match self.start.clock {
            Clock::Zone(zone) => Moment::Instant(zone.from_utc_datetime(&local_of(tick)).fixed_offset()),
            Clock::Floating if self.start.whole_days => Moment::Date(local_of(tick).date()),
            Clock::Floating => Moment::Local(local_of(tick)),
        }
    }

    fn is_date(&self, tick: Tick) -> bool {
        self.own == Some(tick) || self.dates.binary_search(&tick).is_ok()
    }

    fn has(&self, tick: Tick, budget: &mut Budget) -> Result<bool, Error> {
        if self.exceptions.binary_search(&tick).is_ok() {
            return Ok(false);
        }
        if self.is_date(tick) {
            return Ok(true);
        }
        for source in &self.sources {
            if source.has(self.start.clock, tick, budget)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The first occurrence that is not before `from`.
    fn next_tick(&self, mut from: Tick, budget: &mut Budget) -> Result<Option<Tick>, Error> {
        loop {
            budget.step()?;
            let mut next = self
                .dates
                .get(self.dates.partition_point(|date| *date < from))
                .copied();
            let mut found = |tick: Option<Tick>| {
                next = match (next, tick) {
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                }
            };
            found(self.own.filter(|own| *own >= from));
            for source in &self.sources {
                found(source.at_or_after(self.start.clock, from, budget)?);
            }
            match next {
                Some(tick) if self.exceptions.binary_search(&tick).is_ok() => from = tick + 1,
                next => return Ok(next),
            }
        }
    }

    /// The last occurrence that is not after `to`.
    fn prev_tick(&self, mut to: Tick, budget: &mut Budget) -> Result<Option<Tick>, Error> {
        loop {
            budget.step()?;
            let below = self.dates.partition_point(|date| *date <= to);
            let mut prev = below.checked_sub(1).map(|index| self.dates[index]);
            // None is less than any.
            prev = prev.max(self.own.filter(|own| *own <= to));
            for source in &self.sources {
                prev = prev.max(source.at_or_before(self.start.clock, to, budget)?);
            }
            match prev {
                Some(tick) if self.exceptions.binary_search(&tick).is_ok() => to = tick - 1,
                prev => return Ok(prev),
            }
        }
    }
}

/// An RDATE or EXDATE.
fn date_tick(start: &Start, moment: &Moment) -> Result<Tick, Error> {
    moment.in_calendar()?;
    let (seconds, _) = moment.seconds();
    match (start.clock, moment) {
        (Clock::Floating, Moment::Date(_)) if start.whole_days => Ok(seconds),
        (Clock::Floating, Moment::Local(_)) if !start.whole_days => Ok(seconds),
        (Clock::Zone(_), Moment::Instant(_)) => Ok(seconds),
        (clock @ Clock::Zone(_), Moment::Local(_)) => Ok(clock.tick(seconds)),
        _ => Err(Error::Mixed {
            given: moment.kind(),
            start: start.kind(),
        }),
    }
}

/// The last second of a rule. Forms the RFC wants of other kinds of start are read as what they say on the wall.
fn until_tick(until: Until, clock: Clock) -> Tick {
    match until {
        Until::Utc(utc) => tick_of(utc),
        Until::Local(local) => clock.tick(wall_of(local)),
        // Up to the next day and not to 23:59:59, which exists twice where clocks go back at midnight.
        Until::Date(date) => clock.tick(wall_of(date.and_time(NaiveTime::MIN)) + DAY) - 1,
    }
}

impl Source {
    fn has(&self, clock: Clock, tick: Tick, budget: &mut Budget) -> Result<bool, Error> {
        Ok(self.at_or_after(clock, tick, budget)? == Some(tick))
    }

    /// The first occurrence that is not before `from`.
    fn at_or_after(&self, clock: Clock, from: Tick, budget: &mut Budget) -> Result<Option<Tick>, Error> {
        let from = from.max(self.start);
        if from > self.end {
            return Ok(None);
        }
        let mut best: Option<Tick> = None;
        let wall = match clock.place(from) {
            Place::Plain => clock.wall(from),
            Place::SecondPass(change) => change.old_wall(),
            Place::AfterGap(change) => {
                let wall = clock.wall(from);
                let in_gap = self.pattern.next(wall - change.gap(), budget)?;
                best = in_gap
                    .filter(|wall| *wall < change.new_wall())
                    .map(|wall| clock.tick(wall));
                wall
            }
        };
        if let Some(wall) = self.pattern.next(wall, budget)? {
            let (tick, gap) = clock.read(wall);
            best = Some(best.map_or(tick, |best| best.min(tick)));
            // A time of the gap is read as one after it, where an earlier one may stand.
            if let Some(gap) = gap
                && let Some(wall) = self.pattern.next(gap.new_wall(), budget)?
            {
                best = best.min(Some(clock.tick(wall)));
            }
        }
        Ok(best.filter(|tick| *tick <= self.end))
    }

    /// The last occurrence that is not after `to`.
    fn at_or_before(&self, clock: Clock, to: Tick, budget: &mut Budget) -> Result<Option<Tick>, Error> {
        // The calendar ends before the numbers do.
        let to = to.min(self.end).min(crate::calendar::LAST_WALL + DAY);
        if to < self.start {
            return Ok(None);
        }
        let best = match clock.place(to) {
            Place::AfterGap(change) => {
                let wall = clock.wall(to);
                let after = self
                    .pattern
                    .prev(wall, budget)?
                    .filter(|wall| *wall >= change.new_wall());
                let in_gap = self.pattern.prev(wall - change.gap(), budget)?;
                after
                    .map(|wall| clock.tick(wall))
                    .max(in_gap.map(|wall| clock.tick(wall)))
            }
            place => {
                let wall = match place {
                    Place::SecondPass(change) => change.old_wall() - 1,
                    _ => clock.wall(to),
                };
                match self.pattern.prev(wall, budget)? {
                    None => None,
                    Some(wall) => {
                        let (tick, gap) = clock.read(wall);
                        // A time of the gap before it may be read as a later one.
                        match (gap, clock.place(tick)) {
                            (None, Place::AfterGap(change)) => {
                                let in_gap = self.pattern.prev(change.new_wall() - 1, budget)?;
                                Some(tick).max(in_gap.map(|wall| clock.tick(wall)))
                            }
                            _ => Some(tick),
                        }
                    }
                }
            }
        };
        Ok(best.filter(|tick| *tick >= self.start))
    }

    /// How many seconds up to and with `to` are occurrences.
    fn count_to(&self, clock: Clock, to: Tick, budget: &mut Budget) -> Result<u64, Error> {
        let to = to.min(self.end).min(crate::calendar::LAST_WALL + DAY);
        if to < self.start {
            return Ok(0);
        }
        Ok(self.ticks_to(clock, to, budget)? - self.ticks_to(clock, self.start - 1, budget)?)
    }

    /// How many seconds up to and with `to` local times of the pattern are read as. Those before the start come from a
    /// start in a gap only: times after the gap, read as earlier than the start.
    fn ticks_to(&self, clock: Clock, to: Tick, budget: &mut Budget) -> Result<u64, Error> {
        Ok(self.walls_to(clock, to, budget)? - self.twins_to(clock, to, budget)?)
    }

    /// How many local times are read as seconds up to and with `to`.
    fn walls_to(&self, clock: Clock, to: Tick, budget: &mut Budget) -> Result<u64, Error> {
        let below = |wall: Wall, budget: &mut Budget| Ok(self.pattern.tally(wall, u64::MAX, budget)?.count);
        match clock.place(to) {
            Place::Plain => below(clock.wall(to) + 1, budget),
            Place::SecondPass(change) => below(change.old_wall(), budget),
            Place::AfterGap(change) => {
                let wall = clock.wall(to) + 1;
                let late = below(change.new_wall(), budget)? - below(wall - change.gap(), budget)?;
                Ok(below(wall, budget)? - late)
            }
        }
    }

    /// How many local times up to `to` are the same second as another: one is in a gap, the other after it.
    fn twins_to(&self, clock: Clock, to: Tick, budget: &mut Budget) -> Result<u64, Error> {
        // One time a day has a twin only where a whole day is skipped; the start itself may lie in it.
        let offset = |tick: Tick| clock.wall(tick) - tick;
        if !self.pattern.several_a_day() && offset(to) - offset(self.start - DAY) < DAY / 2 {
            return Ok(0);
        }
        let mut twins = 0;
        for gap in clock.gaps(self.start - DAY, to) {
            let mut wall = gap.old_wall();
            while let Some(found) = self
                .pattern
                .next(wall, budget)?
                .filter(|wall| *wall < gap.new_wall())
            {
                let twin = found + gap.gap();
                let same = self.pattern.next(twin, budget)? == Some(twin);
                // As clock.tick(found) says, which would have to look for the gap first.
                let tick = gap.at + (found - gap.old_wall());
                twins += u64::from(same && tick <= to);
                wall = found + 1;
            }
        }
        Ok(twins)
    }

    /// The occurrence with number `count`, from 1.
    fn end_of(&self, clock: Clock, count: u64, budget: &mut Budget) -> Result<Tick, Error> {
        let early = self.ticks_to(clock, self.start - 1, budget)?;
        let mut guess = count + early;
        loop {
            let Some(wall) = self.pattern.tally(Wall::MAX, guess - 1, budget)?.nth else {
                // The calendar ends first.
                return Ok(Tick::MAX);
            };
            let (mut tick, gap) = clock.read(wall);
            let walls = match (gap, clock.place(tick)) {
                (None, Place::Plain) => guess,
                _ => self.walls_to(clock, tick, budget)?,
            };
            // Below 0 it would be where a start in a gap is read as a later second than local times after it.
            let mut have = walls.saturating_sub(self.twins_to(clock, tick, budget)? + early);
            if have < count {
                // As many local times were the same second as another, or before the start's.
                guess += count - have;
                continue;
            }
            while have > count {
                have -= 1;
                match self.at_or_before(clock, tick - 1, budget)? {
                    Some(before) => tick = before,
                    None => break,
                }
            }
            return Ok(tick);
        }
    }
}

/// See [`Recurrence::iter`]. Ends after an error.
#[derive(Debug, Clone)]
pub struct Occurrences<'a> {
    set: &'a Recurrence,
    /// Nothing earlier is left.
    next: Tick,
    /// Nothing later is left.
    last: Tick,
}

impl Occurrences<'_> {
    fn step(&mut self, found: Result<Option<Tick>, Error>, forward: bool) -> Option<Result<Moment, Error>> {
        match found {
            Ok(Some(tick)) if (self.next..=self.last).contains(&tick) => {
                if forward {
                    self.next = tick + 1;
                } else {
                    self.last = tick - 1;
                }
                Some(Ok(self.set.moment(tick)))
            }
            found => {
                (self.next, self.last) = (Tick::MAX, Tick::MIN);
                found.err().map(Err)
            }
        }
    }
}

impl Iterator for Occurrences<'_> {
    type Item = Result<Moment, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next > self.last {
            return None;
        }
        let found = self.set.next_tick(self.next, &mut Budget::new());
        self.step(found, true)
    }
}

impl DoubleEndedIterator for Occurrences<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.next > self.last {
            return None;
        }
        let found = self.set.prev_tick(self.last, &mut Budget::new());
        self.step(found, false)
    }
}

impl std::iter::FusedIterator for Occurrences<'_> {}

impl<'a> IntoIterator for &'a Recurrence {
    type Item = Result<Moment, Error>;
    type IntoIter = Occurrences<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Recurrence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date_time = |tick: Tick| local_of(tick).format("%Y%m%dT%H%M%S");
        let date = |tick: Tick| local_of(tick).format("%Y%m%d");
        let wall = self.start.wall;
        match self.start.clock {
            Clock::Floating if self.start.whole_days => write!(f, "DTSTART;VALUE=DATE:{}", date(wall)),
            Clock::Floating => write!(f, "DTSTART:{}", date_time(wall)),
            Clock::Zone(Tz::UTC) => write!(f, "DTSTART:{}Z", date_time(wall)),
            Clock::Zone(zone) => write!(f, "DTSTART;TZID={}:{}", zone.name(), date_time(wall)),
        }?;
        for rule in &self.rules {
            write!(f, "\nRRULE:{rule}")?;
        }
        for (name, ticks) in [("RDATE", &self.dates), ("EXDATE", &self.exceptions)] {
            for (index, tick) in ticks.iter().enumerate() {
                let separator = match (index, self.start.whole_days) {
                    (0, true) => format!("\n{name};VALUE=DATE:"),
                    (0, false) => format!("\n{name}:"),
                    _ => ",".to_owned(),
                };
                match self.start.clock {
                    _ if self.start.whole_days => write!(f, "{separator}{}", date(*tick)),
                    Clock::Floating => write!(f, "{separator}{}", date_time(*tick)),
                    // In UTC, which says of a repeated local time which of the two it is.
                    Clock::Zone(_) => write!(f, "{separator}{}Z", date_time(*tick)),
                }?;
            }
        }
        Ok(())
    }
}
