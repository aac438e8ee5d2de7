//! What may happen to single occurrences of a recurring task, and to all from one on.

use chrono::{SubsecRound, TimeDelta};
use db::series::{Anchor, MAX_DATES, Overlap, Series};
use schedule::{Due, Offset, Rule, Trigger};
use schemas::{Task, Timestamp};
use uuid::Uuid;

use super::change::{carry, ended, made, next_version, put_over, refuse_ended};
use super::input::RecurringInput;
use super::standing::{Decision, Standing, leave};
use crate::input::Problems;
use crate::problem::Problem;
use crate::tasks::following::ring_anew;
use crate::tasks::{self, Change, Person, merge};

/// An occurrence does not take place: its open instance is deleted, and it is not made again. If it was the one to do, the
/// next one is made. One that is skipped already stays so.
///
/// # Errors
/// When it is no occurrence, or done already; when the series has ended, or cannot be used.
pub fn skip(standing: &Standing, occurrence: Timestamp, now: Timestamp) -> Result<Decision, Problem> {
    let current = &standing.series;
    refuse_ended(current)?;
    let open = standing.open_at(occurrence);
    let excepted = current.exdates.contains(&occurrence.trunc_subsecs(0));
    if open.is_none() && excepted {
        return Ok(Decision::of(current.clone()));
    }
    let place = standing.place("/occurrence", occurrence)?;
    let mut series = current.clone();
    if current.anchor == Anchor::Schedule && !excepted {
        series = next_version(series, now);
        series.exdates.push(place.trunc_subsecs(0));
        series.exdates.sort_unstable();
        if series.exdates.len() > MAX_DATES {
            // The oldest of them is long over, or there are more than a person can want.
            if series.exdates[0] >= now {
                return Err(refused(
                    "/occurrence",
                    "is one too many: at most 500 can be skipped",
                ));
            }
            series.exdates.remove(0);
        }
    }
    let Some(open) = open else {
        return Ok(Decision::of(series));
    };
    let mut made_now = Vec::new();
    let was_current = standing.current().is_some_and(|task| task.id == open.id);
    if was_current && series.overlap != Overlap::PileUp && series.is_active() {
        match standing.next_to_do(&series, place.max(now))? {
            Some(next) => {
                series.made_through = Some(next);
                if !standing.taken.contains_key(&next) {
                    made_now.push(made(&series, next, now));
                }
            }
            None => {
                let exdates = series.exdates;
                series = Series {
                    exdates,
                    ..ended(current, now)
                };
            }
        }
    }
    Ok(Decision {
        made: made_now,
        changed: vec![tasks::delete(open, now)],
        ..Decision::of(series)
    })
}

/// An occurrence takes place at another time: its instance, made now if need be, is due then.
///
/// # Errors
/// When it is no occurrence, or done already; when its instance cannot be due then.
pub fn move_to(
    standing: &Standing,
    occurrence: Timestamp,
    to: Due,
    now: Timestamp,
) -> Result<Decision, Problem> {
    let series = &standing.series;
    let (due_at, due_on) = match (to, series.content.whole_day) {
        (Due::At(at), false) => (Some(at), None),
        (Due::On(day), true) => (None, Some(day)),
        (_, true) => {
            return Err(refused(
                "/to",
                "must be a day such as 2027-02-01: its instances are due on one",
            ));
        }
        (_, false) => return Err(refused("/to", "must be an instant: its instances are due at one")),
    };
    let due = |task: &Task| {
        let mut due = Task {
            due_at,
            due_on,
            ..task.clone()
        };
        ring_anew(task, &mut due);
        due
    };
    let mut decision = Decision::of(series.clone());
    let task = match standing.open_at(occurrence) {
        Some(open) if (open.due_at, open.due_on) == (due_at, due_on) => open.clone(),
        Some(open) => {
            let change = tasks::update(open, due(open), now);
            decision.changed.extend(change.clone());
            change.map_or_else(|| open.clone(), |change| change.task)
        }
        None => {
            refuse_ended(series)?;
            let place = standing.place("/occurrence", occurrence)?;
            let change = made(series, place, now);
            let task = due(&change.task);
            decision.made.push(Change {
                task: task.clone(),
                ..change
            });
            task
        }
    };
    let zone = schedule::parse_zone(&task.timezone).map_err(Problem::internal)?;
    let anchor = to.anchor(zone, task.whole_day_minute);
    let offsets = task
        .reminders
        .iter()
        .filter_map(|reminder| reminder.offset.as_deref());
    for offset in offsets.filter_map(|offset| Offset::parse(offset).ok()) {
        if let Some(flaw) = merge::firing_flaw(Trigger::Offset(offset), Some(anchor), zone) {
            return Err(refused("/to", flaw.of_due_at()));
        }
    }
    decision.shown = Some(task);
    Ok(decision)
}

/// This and following: the series ends before the occurrence `from`, and a new one begins there with what a client sent put
/// over it. Open instances from there on go along; those that have no place in the new one are deleted.
///
/// # Errors
/// When `from` is no occurrence, the first, or done already; what must hold between the fields and would not; when the
/// series has ended, or cannot be used.
pub fn split(
    standing: &Standing,
    from: Timestamp,
    input: RecurringInput,
    person: &Person,
    now: Timestamp,
) -> Result<Decision, Problem> {
    let current = &standing.series;
    refuse_ended(current)?;
    let from = standing.place("/from", from)?;
    if from <= current.starts_at {
        return Err(refused(
            "/from",
            "is the first occurrence: change the recurring task itself",
        ));
    }
    let mut problems = Problems::default();
    let base = going_on(standing, from, now)?;
    let new = put_over(input, base, person, &mut problems);
    let mut new = problems.finish(Some(new))?;

    let mut changed = Vec::new();
    let mut reached = None;
    let timeline = new.timeline()?;
    for task in standing.open.iter().filter(|task| task.occurrence >= Some(from)) {
        let Some(occurrence) = task.occurrence else {
            continue;
        };
        let place = if occurrence == from {
            Some(new.starts_at)
        } else {
            timeline
                .at(occurrence)?
                .filter(|at| *at == occurrence && occurrence > new.starts_at)
        };
        match place {
            Some(place) => {
                changed.extend(carry(current, &new, task, Some(place), now));
                if task.occurrence <= current.made_through {
                    reached = reached.max(Some(place));
                }
            }
            None => changed.push(leave(task, now)),
        }
    }
    let has_first = standing.open_at(from).is_some();
    new.made_through = match (new.overlap, new.is_active() || has_first) {
        (Overlap::PileUp, _) => Some(new.starts_at.max(now)),
        (_, true) => reached.max(Some(new.starts_at)),
        (_, false) => None,
    };
    let mut made_now = Vec::new();
    if !has_first && new.is_active() {
        made_now.push(made(&new, new.starts_at, now));
    }

    let mut old = next_version(current.clone(), now);
    old.rdates.retain(|date| *date < from);
    old.exdates.retain(|date| *date < from);
    let stays = |task: &&Task| task.occurrence < Some(from);
    match current.anchor {
        Anchor::Schedule => {
            let rule = Rule::parse(&current.rrule).map_err(Problem::internal)?;
            let last = from - TimeDelta::seconds(1);
            old.rrule = rule.until(last).map_err(Problem::internal)?.to_string();
        }
        Anchor::Completion => old.ended_at = Some(old.updated_at),
    }
    if standing.open.iter().filter(stays).count() == 0 {
        // Nobody could complete one any more.
        old.ended_at = Some(old.updated_at);
    }
    let kept = standing.open.iter().filter(stays);
    changed.extend(kept.filter_map(|task| carry(current, &old, task, task.occurrence, now)));
    Ok(Decision {
        split: Some(new),
        made: made_now,
        changed,
        ..Decision::of(old)
    })
}

/// The series that goes on from the occurrence `from`, as it is without a change: what is done from there on already stays
/// done.
fn going_on(standing: &Standing, from: Timestamp, now: Timestamp) -> Result<Series, Problem> {
    let current = &standing.series;
    let mut new = Series {
        id: Uuid::now_v7(),
        version: 1,
        starts_at: from,
        split_from: Some(current.id),
        created_at: now,
        updated_at: now,
        ..current.clone()
    };
    new.rdates.retain(|date| *date > from);
    new.exdates.retain(|date| *date > from);
    if current.anchor == Anchor::Schedule {
        let closed = standing.taken.range(from..).filter(|(_, open)| !**open);
        new.exdates.extend(closed.map(|(at, _)| at.trunc_subsecs(0)));
        new.exdates.sort_unstable();
        new.exdates.dedup();
        new.exdates.truncate(MAX_DATES);
    }
    let rule = Rule::parse(&current.rrule).map_err(Problem::internal)?;
    if let Some(count) = rule.count() {
        let plain = Series {
            rdates: Vec::new(),
            exdates: Vec::new(),
            ..current.clone()
        };
        let zone = schedule::parse_zone(&plain.timezone).map_err(Problem::internal)?;
        let timeline = rule
            .timeline(plain.starts_at, zone, &[], &[])
            .map_err(Problem::internal)?;
        let passed = timeline
            .after(plain.starts_at - TimeDelta::seconds(1))
            .take_while(|at| at.as_ref().is_ok_and(|at| *at < from))
            .count();
        let left = u32::try_from(passed).map_or(1, |passed| count.saturating_sub(passed).max(1));
        new.rrule = rule.counting(left).map_err(Problem::internal)?.to_string();
    }
    Ok(new)
}

impl Standing {
    /// The occurrence as the series has it; `pointer` is where a client named it.
    fn place(&self, pointer: &'static str, occurrence: Timestamp) -> Result<Timestamp, Problem> {
        if let Some(open) = self.open_at(occurrence).and_then(|task| task.occurrence) {
            return Ok(open);
        }
        let place = match self.series.anchor {
            Anchor::Schedule => self.series.timeline()?.at(occurrence)?,
            Anchor::Completion => None,
        };
        match place {
            Some(place) if self.taken.contains_key(&place) => {
                Err(refused(pointer, "is completed or deleted already"))
            }
            Some(place) => Ok(place),
            None => Err(refused(pointer, "is no occurrence of this recurring task")),
        }
    }
}

fn refused(pointer: &'static str, detail: &'static str) -> Problem {
    let mut problems = Problems::default();
    problems.add(pointer, detail);
    problems.refused()
}
