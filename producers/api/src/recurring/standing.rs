//! What there is of a series when somebody changes it, and what is to be written of a change.

use std::collections::BTreeMap;

use chrono::{SubsecRound, TimeDelta};
use db::series::{Anchor, Overlap, Series, Unusable};
use schedule::{Due, Tz};
use schemas::{Task, Timestamp};
use uuid::Uuid;

use super::change::{carry, made};
use crate::input::Problems;
use crate::problem::Problem;
use crate::tasks::{self, Change};

/// A series and its instances, locked.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The series.
    pub series: Series,
    /// Its open instances.
    pub open: Vec<Task>,
    /// Which occurrences have an instance, and whether it is open: those after now, and more.
    pub taken: BTreeMap<Timestamp, bool>,
    /// The latest occurrence with an instance before the one that the series has come to.
    pub before: Option<Timestamp>,
}

/// What is to be written.
#[derive(Debug)]
pub struct Decision {
    /// The series, of a new version if it changes.
    pub series: Series,
    /// The series that goes on from it.
    pub split: Option<Series>,
    /// New instances.
    pub made: Vec<Change>,
    /// Instances that change.
    pub changed: Vec<Change>,
    /// The instance that is to be shown, where it is about one.
    pub shown: Option<Task>,
}

impl Decision {
    /// The series, and nothing else.
    pub fn of(series: Series) -> Self {
        Self {
            series,
            split: None,
            made: Vec::new(),
            changed: Vec::new(),
            shown: None,
        }
    }
}

impl Standing {
    /// The open instance that the series has come to: of one that does not pile up the one to do. A person may have had a
    /// later one made to move it.
    pub fn current(&self) -> Option<&Task> {
        let reached = |task: &&Task| task.occurrence <= self.series.made_through;
        self.open
            .iter()
            .filter(reached)
            .max_by_key(|task| task.occurrence)
    }

    /// The open instance of that occurrence, by the second.
    pub fn open_at(&self, occurrence: Timestamp) -> Option<&Task> {
        let second = |at: Timestamp| at.trunc_subsecs(0);
        let mut open = self.open.iter();
        open.find(|task| task.occurrence.map(second) == Some(second(occurrence)))
    }

    /// The first occurrence after `now`, and after what `series` has come to, that is not done or deleted already.
    ///
    /// # Errors
    /// When the series cannot be used.
    pub fn next_to_do(&self, series: &Series, now: Timestamp) -> Result<Option<Timestamp>, Unusable> {
        let after = match series.anchor {
            Anchor::Schedule => series.made_through.map_or(now, |reached| reached.max(now)),
            Anchor::Completion => now,
        };
        let closed = |at: &Timestamp| self.taken.get(at) == Some(&false);
        let timeline = series.timeline()?;
        let mut to_come = timeline.after(after);
        to_come.find(|next| !next.as_ref().is_ok_and(closed)).transpose()
    }

    /// Takes the open instances along when the series becomes `after`.
    ///
    /// # Errors
    /// When the series cannot be used, or would have nothing to come.
    pub fn carry_along(&self, mut after: Series, now: Timestamp) -> Result<Decision, Problem> {
        let before = &self.series;
        let retimed = timing(before) != timing(&after);
        let mut places = BTreeMap::new();
        let mut leaving = Vec::new();
        let mut made_now = Vec::new();
        if after.overlap == Overlap::PileUp {
            if retimed {
                for task in self.ahead(now) {
                    match self.place_on_its_day(&after, task, &places, now)? {
                        Some(place) => drop(places.insert(task.id, place)),
                        None => leaving.push(task.id),
                    }
                }
                // Whoever makes them ahead passes over those that there are.
                after.made_through = Some(now);
            } else if before.overlap != Overlap::PileUp {
                after.made_through = after.made_through.max(Some(now));
            }
        } else {
            let mut current = self.current();
            if before.overlap == Overlap::PileUp {
                // One stays: the last that has fallen due, or the first to come.
                let due = |task: &&Task| task.occurrence <= Some(now);
                let last_due = self.open.iter().filter(due).max_by_key(|task| task.occurrence);
                current = last_due.or_else(|| self.ahead(now).min_by_key(|task| task.occurrence));
                let stays = current.map(|task| task.id);
                leaving.extend(
                    self.ahead(now)
                        .map(|task| task.id)
                        .filter(|id| Some(*id) != stays),
                );
                after.made_through = current.map_or(Some(now), |task| task.occurrence);
            }
            match current {
                Some(task) => {
                    if let Some(place) = self.moved(&after, task, retimed, now)? {
                        places.insert(task.id, place);
                        after.made_through = Some(place);
                    } else if after.anchor == Anchor::Completion {
                        after.made_through = task.occurrence;
                    }
                }
                None if before.overlap == Overlap::PileUp && after.is_active() => {
                    let next = self.next_to_do(&after, now)?.ok_or_else(nothing_to_come)?;
                    after.made_through = Some(next);
                    made_now.push(made(&after, next, now));
                }
                None => {}
            }
        }
        let changed = self.open.iter().filter_map(|task| {
            if leaving.contains(&task.id) {
                return Some(leave(task, now));
            }
            let place = places.get(&task.id).copied().or(task.occurrence);
            carry(before, &after, task, place, now)
        });
        Ok(Decision {
            changed: changed.collect(),
            made: made_now,
            ..Decision::of(after.clone())
        })
    }

    /// Open instances of what is to come.
    fn ahead(&self, now: Timestamp) -> impl Iterator<Item = &Task> {
        self.open.iter().filter(move |task| task.occurrence > Some(now))
    }

    /// Where an instance that was made ahead goes when its series changes: it stays, or moves to a free occurrence of the same
    /// day. `None` when there is none.
    fn place_on_its_day(
        &self,
        after: &Series,
        task: &Task,
        others: &BTreeMap<Uuid, Timestamp>,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Unusable> {
        let Some(occurrence) = task.occurrence else {
            return Ok(None);
        };
        let timeline = after.timeline()?;
        if timeline.at(occurrence)? == Some(occurrence) {
            return Ok(Some(occurrence));
        }
        let zone = |series: &Series| schedule::parse_zone(&series.timezone).unwrap_or(Tz::UTC);
        let (before, zone) = (zone(&self.series), zone(after));
        let day = occurrence.with_timezone(&before).date_naive();
        let start = Due::On(day).starts_at(zone).max(now);
        for found in timeline.after(just_before(start)) {
            let found = found?;
            if found.with_timezone(&zone).date_naive() > day {
                break;
            }
            let free = !self.taken.contains_key(&found) && others.values().all(|other| *other != found);
            if found > now && free {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Where the one to do goes when it stands where the changed series has no occurrence: to the next one after now, and
    /// after those of all instances before it. Only the newest instance moves, so that their order stays.
    fn moved(
        &self,
        after: &Series,
        task: &Task,
        retimed: bool,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Problem> {
        let Some(occurrence) = task.occurrence.filter(|_| retimed) else {
            return Ok(None);
        };
        if after.anchor == Anchor::Completion {
            return Ok(self
                .at_new_time(after, occurrence)
                .filter(|place| *place != occurrence));
        }
        if self.series.anchor == Anchor::Schedule && Some(occurrence) < self.series.made_through {
            return Ok(None);
        }
        let timeline = after.timeline()?;
        if timeline.at(occurrence)? == Some(occurrence) {
            return Ok(None);
        }
        let from = self.before.map_or(now, |before| before.max(now));
        let mut to_come = timeline.after(from);
        let free = |at: &Timestamp| !self.taken.contains_key(at) || *at == occurrence;
        match to_come.find(|next| next.as_ref().is_err() || next.as_ref().is_ok_and(free)) {
            Some(place) => Ok(Some(place?)),
            None => Err(nothing_to_come()),
        }
    }

    /// Where an instance of a series goes that counts from completions, when the time of its day or its zone changes.
    fn at_new_time(&self, after: &Series, occurrence: Timestamp) -> Option<Timestamp> {
        let before = &self.series;
        if (after.starts_at, &after.timezone) == (before.starts_at, &before.timezone) {
            return None;
        }
        if occurrence == before.starts_at {
            return Some(after.starts_at);
        }
        let zone = |series: &Series| schedule::parse_zone(&series.timezone).unwrap_or(Tz::UTC);
        let day = occurrence.with_timezone(&zone(before)).date_naive();
        let time = after.starts_at.with_timezone(&zone(after)).time();
        Some(schedule::resolve_local(day.and_time(time), zone(after)).trunc_subsecs(0))
    }
}

/// What says where the occurrences of a series are.
fn timing(series: &Series) -> impl PartialEq {
    (
        series.rrule.clone(),
        series.starts_at,
        series.timezone.clone(),
        (series.rdates.clone(), series.exdates.clone()),
        series.anchor,
    )
}

/// An instance whose place is gone: deleted, and out of the series, where its place may come back.
pub fn leave(task: &Task, now: Timestamp) -> Change {
    let mut change = tasks::delete(task, now);
    (
        change.task.series_id,
        change.task.occurrence,
        change.task.recurrence,
    ) = (None, None, None);
    change
}

fn nothing_to_come() -> Problem {
    let mut problems = Problems::default();
    let detail = "leaves no occurrence after now: end the recurring task instead";
    problems.add("", detail);
    problems.refused()
}

/// One of the occurrences to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occurrence {
    /// When it is due.
    pub at: Timestamp,
    /// Its place in the series.
    pub place: Timestamp,
    /// The open instance that stands for it, if it is made already.
    pub task_id: Option<Uuid>,
}

impl Standing {
    /// The first `limit` occurrences after `now`: those that have an open instance, when that is due; and, unless the series
    /// has ended, those that it has not come to yet and that are not done or deleted already.
    ///
    /// # Errors
    /// When the series cannot be used.
    pub fn upcoming(&self, now: Timestamp, limit: usize) -> Result<Vec<Occurrence>, Unusable> {
        let due = |task: &Task| {
            let zone = schedule::parse_zone(&task.timezone).unwrap_or(Tz::UTC);
            Due::of(task.due_at, task.due_on).map(|due| due.starts_at(zone))
        };
        let open = self.open.iter().filter_map(|task| {
            let place = task.occurrence?;
            Some(Occurrence {
                at: due(task).unwrap_or(place),
                place,
                task_id: Some(task.id),
            })
        });
        let mut found: Vec<_> = open.filter(|occurrence| occurrence.at > now).collect();
        if self.series.ended_at.is_none() {
            let reached = self.series.made_through;
            let timeline = self.series.timeline()?;
            let to_come = timeline
                .after(reached.map_or(now, |reached| reached.max(now)))
                .filter(|next| !next.as_ref().is_ok_and(|at| self.taken.contains_key(at)));
            for next in to_come.take(limit) {
                let at = next?;
                found.push(Occurrence {
                    at,
                    place: at,
                    task_id: None,
                });
            }
        }
        found.sort_unstable_by_key(|occurrence| (occurrence.at, occurrence.place));
        found.truncate(limit);
        Ok(found)
    }
}

/// The instant just before that second: what comes after it may be in that second.
pub fn just_before(at: Timestamp) -> Timestamp {
    at.trunc_subsecs(0) - TimeDelta::microseconds(1)
}
