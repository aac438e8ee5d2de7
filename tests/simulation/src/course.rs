//! Which instances a series has, and what becomes of them: by docs/adr/0012-series.md and the description of the API alone.
//! It walks the calendar day by day and keeps its own books: nothing of `schedule`, of the API or of the generator is in here.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{Days, NaiveDate, NaiveTime, TimeDelta};
use chrono_tz::Tz;
use schemas::Timestamp;
use uuid::Uuid;

use crate::model::{Anchor, Spec, instant, own_time};

/// What happens when an occurrence falls due while an earlier one is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// It is passed over.
    PassedOver,
    /// The open one moves to it.
    RollsForward,
    /// Each has an instance of its own.
    PilesUp,
}

/// Where occurrences are: every so many days at a time on the wall.
#[derive(Debug, Clone)]
pub struct Rhythm {
    /// The first day.
    pub first: NaiveDate,
    /// The time on the wall.
    pub time: NaiveTime,
    /// From day to day.
    pub every_days: u64,
    /// Whose wall.
    pub zone: Tz,
    /// None is at this time or later.
    pub until: Option<Timestamp>,
    /// What would be one and is none.
    pub skipped: BTreeSet<Timestamp>,
}

impl Rhythm {
    /// The first of all.
    #[must_use]
    pub fn start(&self) -> Timestamp {
        self.on(self.first)
    }

    fn on(&self, day: NaiveDate) -> Timestamp {
        instant(day.and_time(self.time), self.zone)
    }

    fn day(&self, at: Timestamp) -> NaiveDate {
        at.with_timezone(&self.zone).date_naive()
    }

    /// Occurrences from the first day that may have one at `from` or later.
    fn from(&self, from: Timestamp) -> impl Iterator<Item = Timestamp> {
        let passed = (self.day(from) - self.first).num_days() - 2;
        let steps = u64::try_from(passed).map_or(0, |passed| passed / self.every_days);
        let day = self.first + Days::new(steps * self.every_days);
        std::iter::successors(Some(day), |day| Some(*day + Days::new(self.every_days)))
            .map(|day| self.on(day))
            .take_while(|at| self.until.is_none_or(|until| *at < until))
            .filter(|at| !self.skipped.contains(at))
    }

    /// Occurrences after that time.
    pub fn after(&self, after: Timestamp) -> impl Iterator<Item = Timestamp> {
        self.from(after).filter(move |at| *at > after)
    }

    /// Whether one is at that time.
    #[must_use]
    pub fn has(&self, at: Timestamp) -> bool {
        self.from(at).take_while(|one| *one <= at).any(|one| one == at)
    }

    /// The last one that is not after `now`.
    fn last_until(&self, now: Timestamp) -> Option<Timestamp> {
        let mut day = self.day(now) + Days::new(1);
        while day >= self.first {
            let in_step = (day - self.first).num_days() % i64::try_from(self.every_days).ok()? == 0;
            let at = self.on(day);
            let before_the_end = self.until.is_none_or(|until| at < until);
            if in_step && at <= now && before_the_end && !self.skipped.contains(&at) {
                return Some(at);
            }
            day = day.pred_opt()?;
        }
        None
    }
}

/// An instance: a place of the series, and whether there is still something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instance {
    /// The task; none while it is owed.
    pub task: Option<Uuid>,
    /// Whether it is neither done nor deleted.
    pub open: bool,
}

/// The course that a series takes.
#[derive(Debug, Clone)]
pub struct Course {
    /// Where its occurrences are.
    pub rhythm: Rhythm,
    /// What becomes of the next one.
    pub overlap: Overlap,
    /// What instances to come remind of.
    pub specs: Vec<Spec>,
    /// Whether it makes none for the time being.
    pub paused: bool,
    /// Whether it makes none any more.
    pub ended: bool,
    /// Which instances there are.
    pub instances: BTreeMap<Timestamp, Instance>,
    /// How far it has come, if anybody said.
    reached: Option<Timestamp>,
}

/// What an edit does to instances.
#[derive(Debug, Default)]
pub struct Effect {
    /// They are made: where, and when they are due.
    pub made: Vec<(Timestamp, Timestamp)>,
    /// They go to another place and are due there.
    pub moved: BTreeMap<Uuid, Timestamp>,
    /// They are due at another time, and keep their place.
    pub put_off: BTreeMap<Uuid, Timestamp>,
    /// They are deleted.
    pub deleted: BTreeSet<Uuid>,
    /// They are deleted and leave the series.
    pub left: BTreeSet<Uuid>,
    /// They belong to the series that goes on.
    pub gone_over: BTreeSet<Uuid>,
    /// The series that goes on.
    pub split: Option<Course>,
}

/// It cannot be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

/// What an edit of all occurrences, or of all from one on, changes.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Another interval.
    pub every_days: Option<u64>,
    /// Whether that is said as a whole rule, which has no end then.
    pub whole_rule: bool,
    /// Another time on the wall: the first occurrence is then.
    pub start: Option<Timestamp>,
    /// Other reminders.
    pub specs: Option<Vec<Spec>>,
}

impl Changes {
    fn put_over(&self, course: &mut Course) {
        let rhythm = &mut course.rhythm;
        if let Some(every_days) = self.every_days {
            rhythm.every_days = every_days;
            rhythm.until = rhythm.until.filter(|_| !self.whole_rule);
        }
        if let Some(start) = self.start {
            let wall = start.with_timezone(&rhythm.zone).naive_local();
            (rhythm.first, rhythm.time) = (wall.date(), wall.time());
        }
        if let Some(specs) = &self.specs {
            course.specs.clone_from(specs);
        }
    }
}

impl Course {
    /// One that begins with an instance at its start.
    #[must_use]
    pub fn new(rhythm: Rhythm, overlap: Overlap, specs: Vec<Spec>, now: Timestamp) -> Self {
        let start = rhythm.start();
        let reached = match overlap {
            Overlap::PilesUp => start.max(now),
            _ => start,
        };
        Self {
            rhythm,
            overlap,
            specs,
            paused: false,
            ended: false,
            instances: BTreeMap::new(),
            reached: Some(reached),
        }
    }

    /// How far it has come.
    #[must_use]
    pub fn reached(&self) -> Option<Timestamp> {
        self.reached
            .or_else(|| self.instances.last_key_value().map(|(at, _)| *at))
    }

    fn goes_on(&self) -> bool {
        !self.paused && !self.ended
    }

    fn open(&self) -> impl Iterator<Item = (Timestamp, Uuid)> {
        let open = self.instances.iter().filter(|(_, instance)| instance.open);
        open.filter_map(|(at, instance)| Some((*at, instance.task?)))
    }

    fn is_open(&self, at: Timestamp) -> bool {
        self.instances.get(&at).is_some_and(|instance| instance.open)
    }

    fn is_closed(&self, at: Timestamp) -> bool {
        self.instances.get(&at).is_some_and(|instance| !instance.open)
    }

    fn own(&mut self, at: Timestamp) {
        let owed = Instance {
            task: None,
            open: true,
        };
        self.instances.insert(at, owed);
    }

    /// The one to do.
    fn current(&self) -> Option<(Timestamp, Uuid)> {
        let reached = self.reached()?;
        self.open().filter(|(at, _)| *at <= reached).last()
    }

    /// The first occurrence after that, and after what it has come to, that is not done already.
    fn next_to_do(&self, after: Timestamp) -> Option<Timestamp> {
        let after = self.reached().map_or(after, |reached| reached.max(after));
        self.rhythm.after(after).find(|at| !self.is_closed(*at))
    }

    /// The generator hears that the instance was completed then. Gives the place of the one that it owes for that.
    pub fn completed(&mut self, occurrence: Timestamp, at: Timestamp) -> Option<Timestamp> {
        if !self.goes_on() {
            return None;
        }
        if self.overlap == Overlap::PilesUp {
            let last = self.reached().unwrap_or(self.rhythm.start());
            if self.rhythm.after(last).next().is_none() && self.open().next().is_none() {
                self.ended = true;
            }
            return None;
        }
        let its_turn = match self.reached() {
            Some(reached) if occurrence > reached => !self
                .instances
                .range(reached..occurrence)
                .any(|(_, instance)| instance.open),
            reached => reached == Some(occurrence),
        };
        if !its_turn {
            return None;
        }
        let next = self
            .rhythm
            .after(occurrence.max(at))
            .find(|at| !self.is_closed(*at));
        let Some(next) = next else {
            self.ended = true;
            return None;
        };
        self.reached = Some(next);
        if self.is_open(next) {
            return None;
        }
        self.own(next);
        Some(next)
    }

    /// The generators look at the clock. Gives the places of those that they owe.
    pub fn pile_up(&mut self, until: Timestamp) -> Vec<Timestamp> {
        if !self.goes_on() || self.overlap != Overlap::PilesUp {
            return Vec::new();
        }
        let from = self
            .reached()
            .unwrap_or(self.rhythm.start() - TimeDelta::seconds(1));
        let ahead: Vec<Timestamp> = self.rhythm.after(from).take_while(|at| *at <= until).collect();
        self.reached = ahead.last().copied().or(self.reached);
        let made: Vec<Timestamp> = ahead
            .into_iter()
            .filter(|at| !self.instances.contains_key(at))
            .collect();
        for at in &made {
            self.own(*at);
        }
        made
    }

    /// The generators look at the clock: the open instance moves to the occurrence whose time has come, or that is about to
    /// remind.
    pub fn roll(&mut self, now: Timestamp) -> Option<(Uuid, Timestamp)> {
        if !self.goes_on() || self.overlap != Overlap::RollsForward {
            return None;
        }
        let reached = self.reached()?;
        let come = self.rhythm.last_until(now).unwrap_or(reached).max(reached);
        let next = self.rhythm.after(come).next();
        let about_to_remind = next.filter(|next| self.rolls_at(come, *next) <= now);
        let place = about_to_remind.unwrap_or(come);
        if place <= reached || self.is_closed(place) {
            return None;
        }
        let (from, task) = self.open().filter(|(at, _)| *at < place).last()?;
        self.reached = Some(place);
        if self.is_open(place) {
            return None;
        }
        let instance = self.instances.remove(&from)?;
        self.instances.insert(place, instance);
        Some((task, place))
    }

    /// A minute before its first reminder, but for those that are before the open one is due.
    fn rolls_at(&self, open: Timestamp, next: Timestamp) -> Timestamp {
        let anchor = Anchor {
            at: next,
            zone: self.rhythm.zone,
        };
        let rings = self.specs.iter().filter_map(|spec| own_time(spec, Some(anchor)));
        rings
            .map(|ring| ring - TimeDelta::minutes(1))
            .filter(|at| *at > open)
            .fold(next, Timestamp::min)
    }

    /// Nothing comes of it for the time being.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pause(&mut self) -> Result<Effect, Refused> {
        self.refuse_ended()?;
        self.paused = true;
        Ok(Effect::default())
    }

    /// It goes on.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resume(&mut self, now: Timestamp) -> Result<Effect, Refused> {
        self.refuse_ended()?;
        let was_paused = std::mem::take(&mut self.paused);
        let mut effect = Effect::default();
        if self.overlap == Overlap::PilesUp {
            if was_paused {
                self.reached = self.reached().max(Some(now));
            }
        } else if self.open().next().is_none() {
            match self.next_to_do(now) {
                Some(next) => {
                    self.reached = Some(next);
                    self.own(next);
                    effect.made.push((next, next));
                }
                None => self.ended = true,
            }
        }
        Ok(effect)
    }

    /// Nothing comes of it any more. What was made ahead goes.
    pub fn end(&mut self, now: Timestamp) -> Effect {
        let mut effect = Effect::default();
        self.reached = self.reached();
        if !std::mem::replace(&mut self.ended, true) && self.overlap == Overlap::PilesUp {
            effect.deleted = self
                .open()
                .filter(|(at, _)| *at > now)
                .map(|(_, id)| id)
                .collect();
        }
        effect
    }

    /// An occurrence does not take place. Where it was the one to do, the next one is.
    ///
    /// # Errors
    /// When it is none, or done; when the series has ended.
    pub fn skip(&mut self, occurrence: Timestamp, now: Timestamp) -> Result<Effect, Refused> {
        self.refuse_ended()?;
        let mut effect = Effect::default();
        if !self.is_open(occurrence) {
            if !self.rhythm.skipped.contains(&occurrence) {
                self.refuse_taken(occurrence)?;
                self.rhythm.skipped.insert(occurrence);
            }
            return Ok(effect);
        }
        self.rhythm.skipped.insert(occurrence);
        let to_do = self.current().is_some_and(|(at, _)| at == occurrence);
        effect.deleted.extend(self.instances[&occurrence].task);
        if to_do && self.overlap != Overlap::PilesUp && self.goes_on() {
            match self.next_to_do(occurrence.max(now)) {
                Some(next) => {
                    self.reached = Some(next);
                    if !self.instances.contains_key(&next) {
                        self.own(next);
                        effect.made.push((next, next));
                    }
                }
                None => self.ended = true,
            }
        }
        Ok(effect)
    }

    /// An occurrence is due at another time, and keeps its place.
    ///
    /// # Errors
    /// When it is none, or done; when it has no instance and the series has ended.
    pub fn move_to(&mut self, occurrence: Timestamp, to: Timestamp) -> Result<Effect, Refused> {
        let mut effect = Effect::default();
        if let Some(Instance {
            task: Some(task),
            open: true,
        }) = self.instances.get(&occurrence)
        {
            effect.put_off.insert(*task, to);
            return Ok(effect);
        }
        self.refuse_ended()?;
        self.refuse_taken(occurrence)?;
        self.own(occurrence);
        effect.made.push((occurrence, to));
        Ok(effect)
    }

    /// All of it changes.
    ///
    /// # Errors
    /// When it has ended; when nothing would be left to come.
    pub fn change(&mut self, changes: &Changes, now: Timestamp) -> Result<Effect, Refused> {
        self.refuse_ended()?;
        let mut effect = Effect::default();
        let mut after = self.clone();
        changes.put_over(&mut after);
        let where_it_is = |rhythm: &Rhythm| (rhythm.first, rhythm.time, rhythm.every_days, rhythm.until);
        if where_it_is(&self.rhythm) == where_it_is(&after.rhythm) {
            *self = after;
            return Ok(effect);
        }
        if self.overlap == Overlap::PilesUp {
            // An instance made ahead stays where there is still an occurrence, goes to one on its day, or leaves.
            let mut given = BTreeSet::new();
            let mut ahead: Vec<(Timestamp, Uuid)> = self.open().filter(|(at, _)| *at > now).collect();
            ahead.sort_by_key(|(_, id)| *id);
            for (at, id) in ahead {
                if after.rhythm.has(at) {
                    given.insert(at);
                    continue;
                }
                let day = self.rhythm.day(at);
                let on_its_day = after.rhythm.on(day);
                let free = on_its_day > now
                    && after.rhythm.has(on_its_day)
                    && !self.instances.contains_key(&on_its_day)
                    && given.insert(on_its_day);
                if free {
                    effect.moved.insert(id, on_its_day);
                } else {
                    effect.left.insert(id);
                }
            }
            after.reached = Some(now);
        } else if let Some((at, id)) = self.current()
            && Some(at) == self.reached()
            && !after.rhythm.has(at)
        {
            // The one to do goes to the next occurrence after all that there were.
            let before = self.instances.range(..at).next_back().map(|(at, _)| *at);
            let from = before.map_or(now, |before| before.max(now));
            let free = |place: &Timestamp| !self.instances.contains_key(place);
            let place = after.rhythm.after(from).find(free).ok_or(Refused)?;
            effect.moved.insert(id, place);
            after.reached = Some(place);
        }
        *self = after;
        self.carry(&effect);
        Ok(effect)
    }

    /// It changes from an occurrence on: another series begins there.
    ///
    /// # Errors
    /// When it is none, or done, or the first; when the series has ended.
    pub fn split(&mut self, from: Timestamp, changes: &Changes, now: Timestamp) -> Result<Effect, Refused> {
        self.refuse_ended()?;
        if !self.is_open(from) {
            self.refuse_taken(from)?;
        }
        if from <= self.rhythm.start() {
            return Err(Refused);
        }
        let mut effect = Effect::default();
        let mut new = self.clone();
        changes.put_over(&mut new);
        let wall = from.with_timezone(&self.rhythm.zone).naive_local();
        (new.rhythm.first, new.rhythm.time) = (wall.date(), wall.time());
        new.rhythm.skipped.retain(|at| *at > from);
        let closed = self
            .instances
            .range(from..)
            .filter(|(_, instance)| !instance.open);
        new.rhythm.skipped.extend(closed.map(|(at, _)| *at));
        new.instances.clear();
        let mut reached = None;
        for (at, id) in self.open().filter(|(at, _)| *at >= from) {
            if at == from || new.rhythm.has(at) {
                new.instances.insert(at, self.instances[&at]);
                effect.gone_over.insert(id);
                if Some(at) <= self.reached() {
                    reached = reached.max(Some(at));
                }
            } else {
                effect.left.insert(id);
            }
        }
        let has_first = self.is_open(from);
        new.reached = match self.overlap {
            Overlap::PilesUp => Some(from.max(now)),
            _ if has_first || new.goes_on() => reached.max(Some(from)),
            _ => None,
        };
        if !has_first && new.goes_on() {
            new.own(from);
            effect.made.push((from, from));
        }
        let leaves = |task: Uuid| effect.gone_over.contains(&task) || effect.left.contains(&task);
        self.instances
            .retain(|_, instance| !instance.task.is_some_and(leaves));
        self.rhythm.until = Some(from);
        self.rhythm.skipped.retain(|at| *at < from);
        if !self.instances.range(..from).any(|(_, instance)| instance.open) {
            self.ended = true;
        }
        effect.split = Some(new);
        Ok(effect)
    }

    /// Instances take the places that an edit gives them.
    fn carry(&mut self, effect: &Effect) {
        let stays = |instance: &Instance| {
            !instance
                .task
                .is_some_and(|task| effect.moved.contains_key(&task) || effect.left.contains(&task))
        };
        self.instances.retain(|_, instance| stays(instance));
        for (task, place) in &effect.moved {
            let moved = Instance {
                task: Some(*task),
                open: true,
            };
            self.instances.insert(*place, moved);
        }
    }

    /// How far it has come is said from its first edit on, where nobody said it.
    fn refuse_ended(&mut self) -> Result<(), Refused> {
        self.reached = self.reached();
        if self.ended { Err(Refused) } else { Ok(()) }
    }

    fn refuse_taken(&self, occurrence: Timestamp) -> Result<(), Refused> {
        let free = self.rhythm.has(occurrence) && !self.instances.contains_key(&occurrence);
        if free { Ok(()) } else { Err(Refused) }
    }
}
