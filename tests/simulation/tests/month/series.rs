//! What people do with what recurs, by the API; and what the generator makes of it.

use std::collections::{BTreeSet, HashMap};

use api::Edit;
use chrono::{TimeDelta, Timelike};
use db::series::{Content, InstanceReminder, Series};
use rand::Rng;
use rand::seq::IndexedRandom;
use schemas::{Priority, Task, TaskEvent, TaskEventKind, TaskReminder, Timestamp};
use serde_json::{Map, Value, json};
use simulation::{Anchor, Changes, Course, Effect, Overlap, Refused, Rhythm, Spec, instant, own_time};
use uuid::Uuid;

use super::{HORIZON, Held, Simulation, asked, late, nag, offset};

/// What the generator is told of.
pub(crate) const HEARD: [TaskEventKind; 3] = [
    TaskEventKind::Completed,
    TaskEventKind::Reopened,
    TaskEventKind::Restored,
];

/// What a task is to become. A reminder that is to be new has no id yet.
pub(crate) struct Predicted {
    task: Task,
    specs: Vec<Spec>,
}

/// What a person asks of a series.
#[derive(Debug, Clone)]
enum Asked {
    Change(Changes),
    Split(Timestamp, Changes),
    Skip(Timestamp),
    Move(Timestamp, Timestamp),
    Pause,
    Resume,
    End,
}

impl Asked {
    fn name(&self) -> &'static str {
        match self {
            Self::Change(_) => "all changed",
            Self::Split(..) => "this and following changed",
            Self::Skip(_) => "occurrence skipped",
            Self::Move(..) => "occurrence moved",
            Self::Pause => "paused",
            Self::Resume => "resumed",
            Self::End => "ended",
        }
    }

    /// As a client sends it.
    fn edit(&self) -> Edit {
        match self {
            Self::Change(changes) => Edit::patch(body(changes)),
            Self::Split(from, changes) => {
                let mut body = body(changes);
                body.insert("from".to_owned(), json!(from));
                Edit::split(body)
            }
            Self::Skip(at) => Edit::skip(object(json!({"occurrence": at}))),
            Self::Move(at, to) => Edit::move_to(object(json!({"occurrence": at, "to": to}))),
            Self::Pause => Ok(Edit::pause()),
            Self::Resume => Ok(Edit::resume()),
            Self::End => Ok(Edit::end()),
        }
        .unwrap()
    }

    /// What is to come of it.
    fn expect(&self, course: &mut Course, now: Timestamp) -> Result<Effect, Refused> {
        match self {
            Self::Change(changes) => course.change(changes, now),
            Self::Split(from, changes) => course.split(*from, changes, now),
            Self::Skip(at) => course.skip(*at, now),
            Self::Move(at, to) => course.move_to(*at, *to),
            Self::Pause => course.pause(),
            Self::Resume => course.resume(now),
            Self::End => Ok(course.end(now)),
        }
    }
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn body(changes: &Changes) -> Map<String, Value> {
    let mut body = Map::new();
    match changes.every_days {
        Some(every_days) if changes.whole_rule => {
            body.insert("recurrence".to_owned(), json!(rrule(every_days)));
        }
        Some(every_days) => {
            body.insert("interval".to_owned(), json!(every_days));
        }
        None => {}
    }
    if let Some(start) = changes.start {
        body.insert("starts_at".to_owned(), json!(start));
    }
    if let Some(specs) = &changes.specs {
        let reminders = specs.iter().map(|spec| {
            let nag = nag(spec).map(|nag| json!({"every": nag.every, "times": nag.times}));
            json!({"offset": offset(spec), "nag": nag, "send_late_within": late(spec)})
        });
        body.insert("reminders".to_owned(), reminders.collect());
    }
    body
}

fn rrule(every_days: u64) -> String {
    if every_days == 1 {
        "FREQ=DAILY".to_owned()
    } else {
        format!("FREQ=DAILY;INTERVAL={every_days}")
    }
}

impl Simulation {
    fn instance_specs(&mut self) -> Vec<Spec> {
        (0..self.rng.random_range(1..3))
            .map(|_| {
                let minutes = *[0, 10, 60].choose(&mut self.rng).unwrap();
                self.spec_at(Ok((0, minutes)))
            })
            .collect()
    }

    pub(crate) async fn create_series(&mut self, person: usize, now: Timestamp) {
        let zone = self.people[person].zone;
        let wall = (now + TimeDelta::seconds(self.rng.random_range(600..86_400)))
            .with_timezone(&zone)
            .naive_local();
        let time = wall.time().with_second(0).unwrap().with_nanosecond(0).unwrap();
        // What there is on the wall at that instant: no clock shows some times on some days.
        let starts_at = instant(wall.date().and_time(time), zone);
        let start = starts_at.with_timezone(&zone).naive_local();
        let rhythm = Rhythm {
            first: start.date(),
            time: start.time(),
            every_days: self.rng.random_range(1..4),
            zone,
            until: None,
            skipped: BTreeSet::new(),
        };
        let overlap = *[
            Overlap::PassedOver,
            Overlap::PassedOver,
            Overlap::RollsForward,
            Overlap::PilesUp,
        ]
        .choose(&mut self.rng)
        .unwrap();
        let specs = self.instance_specs();
        let content = Content {
            title: "Again".to_owned(),
            priority: Priority::Medium,
            reminders: specs
                .iter()
                .map(|spec| InstanceReminder {
                    offset: offset(spec),
                    nag: nag(spec),
                    send_late_within: late(spec),
                })
                .collect(),
            ..Content::default()
        };
        let rrule = rrule(rhythm.every_days);
        let mut series = Series::new(rrule, starts_at, zone.name().to_owned(), content, now);
        let course = Course::new(rhythm, overlap, specs.clone(), now);
        series.made_through = course.reached();
        series.overlap = match overlap {
            Overlap::PassedOver => db::series::Overlap::Skip,
            Overlap::RollsForward => db::series::Overlap::RollForward,
            Overlap::PilesUp => db::series::Overlap::PileUp,
        };
        let task = series.instance(starts_at, now);
        let specs = task.reminders.iter().map(|r| r.id).zip(specs).collect();
        self.world
            .insert(self.people[person].id, &task, Some(&series))
            .await;
        self.series.insert(series.id, course);
        self.people[person].series.push(series.id);
        self.keep(Held { person, task, specs });
        self.count("series");
    }

    /// Books what became of an instance.
    pub(crate) fn note(&mut self, task: &Task) {
        if let (Some(series), Some(occurrence)) = (task.series_id, task.occurrence) {
            let instance = simulation::Instance {
                task: Some(task.id),
                open: task.is_open(),
            };
            let course = self.series.get_mut(&series).unwrap();
            course.instances.insert(occurrence, instance);
        }
    }

    /// The person asks something of one of their series, of whatever occurrence.
    pub(crate) async fn edit_series(&mut self, person: usize, now: Timestamp) {
        let Some(id) = self.people[person].series.choose(&mut self.rng).copied() else {
            return self.create_series(person, now).await;
        };
        let asked = self.something_to_ask(id, now);
        let mut course = self.series[&id].clone();
        let expected = asked.expect(&mut course, now);
        let user = self.people[person].id;
        let edited = self.world.edit(user, id, asked.edit(), now).await;
        let (effect, edited) = match (expected, edited) {
            (Ok(effect), Ok(edited)) => (effect, edited),
            (Err(Refused), Err(_)) => return self.count("edit refused"),
            (expected, edited) => panic!(
                "{asked:?} of {:?}: {expected:?}, but {edited:?}",
                self.series[&id]
            ),
        };
        self.count(asked.name());
        self.predict(
            id,
            &course,
            &effect,
            edited.split.as_ref().map(|split| split.id),
            now,
        );
        compare(&edited.series, &course, &asked);
        self.series.insert(id, course);
        let mut made_of = id;
        if let (Some(split), Some(course)) = (&edited.split, effect.split) {
            compare(split, &course, &asked);
            made_of = split.id;
            self.series.insert(split.id, course);
            self.people[person].series.push(split.id);
        }
        for (place, due) in effect.made {
            self.owed.insert((made_of, place), due);
        }
        self.listen(now, &[]).await;
        assert!(
            self.owed.is_empty(),
            "{asked:?}: to be made and were not {:?}",
            self.owed
        );
        self.nothing_left(&format!("{asked:?}"));
    }

    /// What was to change and did not.
    fn nothing_left(&mut self, why: &str) {
        for (id, predicted) in std::mem::take(&mut self.predicted) {
            assert_eq!(predicted.task, self.tasks[&id].task, "{why}: nobody told of it");
        }
    }

    fn something_to_ask(&mut self, id: Uuid, now: Timestamp) -> Asked {
        let kind = self.rng.random_range(0..100);
        let (specs, seconds) = (self.instance_specs(), self.rng.random_range(-86_400..5 * 86_400));
        let course = &self.series[&id];
        let mut places: Vec<Timestamp> = course.rhythm.after(now).take(4).collect();
        // Those of before that are open, too, and some that are none.
        places.extend(course.instances.iter().filter(|(_, i)| i.open).map(|(at, _)| *at));
        places.extend(course.instances.keys().next_back());
        places.push(now.with_nanosecond(0).unwrap());
        let (every_days, time, first, zone) = (
            course.rhythm.every_days % 3 + 1,
            course.rhythm.time,
            course.rhythm.first,
            course.rhythm.zone,
        );
        let at = *places.choose(&mut self.rng).unwrap();
        let mut changes = Changes::default();
        if self.chance(500) {
            changes.every_days = Some(every_days);
            changes.whole_rule = self.chance(500);
        }
        if self.chance(600) || changes.every_days.is_none() {
            changes.specs = Some(specs);
        }
        match kind {
            0..20 => {
                if self.chance(400) {
                    let time = time
                        .overflowing_add_signed(TimeDelta::minutes(self.rng.random_range(1..1440)))
                        .0;
                    changes.start = Some(instant(first.and_time(time), zone));
                }
                Asked::Change(changes)
            }
            20..38 => Asked::Split(at, changes),
            38..56 => Asked::Skip(at),
            56..74 => Asked::Move(at, now.with_nanosecond(0).unwrap() + TimeDelta::seconds(seconds)),
            74..83 => Asked::Pause,
            83..95 => Asked::Resume,
            _ => Asked::End,
        }
    }

    /// What each open instance of a series is to become by an edit after which the series is on that course.
    fn predict(&mut self, id: Uuid, course: &Course, effect: &Effect, split: Option<Uuid>, now: Timestamp) {
        let before = &self.series[&id];
        for (_, instance) in before.instances.iter().filter(|(_, instance)| instance.open) {
            let held = &self.tasks[&instance.task.unwrap()];
            let mut task = held.task.clone();
            let specs_of = |task: &Task| -> Vec<Spec> {
                task.reminders.iter().map(|r| held.specs[&r.id].clone()).collect()
            };
            let mut specs = specs_of(&task);
            if effect.left.contains(&task.id) {
                (task.series_id, task.occurrence, task.recurrence) = (None, None, None);
                task.deleted_at = Some(now);
            } else if effect.deleted.contains(&task.id) {
                task.deleted_at = Some(now);
            } else {
                let mut after = course;
                if effect.gone_over.contains(&task.id) {
                    task.series_id = split;
                    after = effect.split.as_ref().unwrap();
                }
                let mut due = task.due_at;
                if let Some(place) = effect.moved.get(&task.id) {
                    task.occurrence = Some(*place);
                    due = Some(*place);
                }
                if let Some(to) = effect.put_off.get(&task.id) {
                    due = Some(*to);
                }
                if after.specs != before.specs {
                    (task.reminders, specs) = replaced(&task.reminders, &held.specs, &after.specs);
                }
                be_due(&mut task, &specs, due, after.rhythm.zone);
            }
            self.predicted.insert(task.id, Predicted { task, specs });
        }
    }

    /// A task that the API or the generator changed.
    pub(crate) fn take_along(&mut self, event: &TaskEvent) {
        let Some(Predicted { mut task, specs }) = self.predicted.remove(&event.task.id) else {
            panic!(
                "nobody expects {event:?} of {:?}",
                self.tasks[&event.task.id].task
            );
        };
        // Not ours to foretell: ids, the text of the rule, and to the microsecond when it was.
        for (foretold, told) in task.reminders.iter_mut().zip(&event.task.reminders) {
            if foretold.id.is_nil() {
                foretold.id = told.id;
            }
        }
        if task.series_id.is_some() {
            task.recurrence.clone_from(&event.task.recurrence);
        }
        task.version += 1;
        task.updated_at = event.task.updated_at;
        task.deleted_at = task.deleted_at.and(event.task.deleted_at);
        assert_eq!(event.task, task);
        self.note(&task);
        let held = self.tasks.get_mut(&task.id).unwrap();
        held.specs.extend(task.reminders.iter().map(|r| r.id).zip(specs));
        held.task = task;
    }

    /// An instance that the API or the generator made.
    pub(crate) fn take_over(&mut self, event: &TaskEvent, now: Timestamp) {
        let task = &event.task;
        assert_eq!(task.created_at, now, "{event:?} was made by another clock");
        let (id, at) = (task.series_id.unwrap(), task.occurrence.unwrap());
        let Some(due) = self.owed.remove(&(id, at)) else {
            panic!("nobody is owed {task:?} by {:?}", self.series[&id]);
        };
        let course = &self.series[&id];
        assert_eq!(
            (task.due_at, task.timezone.as_str()),
            (Some(due), course.rhythm.zone.name())
        );
        let foretold: Vec<TaskReminder> = task
            .reminders
            .iter()
            .zip(&course.specs)
            .map(|(told, spec)| asked(told.id, spec))
            .collect();
        assert_eq!(
            (&task.reminders, task.reminders.len()),
            (&foretold, course.specs.len())
        );
        let specs = task
            .reminders
            .iter()
            .map(|r| r.id)
            .zip(course.specs.clone())
            .collect();
        let person = self.numbers[&event.user_id];
        let task = task.clone();
        self.keep(Held { person, task, specs });
        self.count("made again");
    }

    /// What the generator owes for a completion that it hears of.
    pub(crate) fn owe(&mut self, event: &TaskEvent) {
        let (TaskEventKind::Completed, Some(id), Some(occurrence), Some(at)) = (
            event.kind,
            event.task.series_id,
            event.task.occurrence,
            event.task.completed_at,
        ) else {
            return;
        };
        let course = self.series.get_mut(&id).unwrap();
        if let Some(next) = course.completed(occurrence, at) {
            self.owed.insert((id, next), next);
        }
    }

    /// The generators look at the clock.
    pub(crate) async fn make_ahead(&mut self, now: Timestamp) {
        // That there is something to move again they know when they have heard of it, and what was done a moment ago is still on
        // its way.
        self.listen(now, &[]).await;
        if self
            .to_generator
            .iter()
            .any(|event| event.kind != TaskEventKind::Completed)
        {
            self.pump(now, true).await;
        }
        let mut rolled = Vec::new();
        let mut piled_up = 0;
        for (id, course) in &mut self.series {
            for place in course.pile_up(now + HORIZON) {
                self.owed.insert((*id, place), place);
                piled_up += 1;
            }
            rolled.extend(
                course
                    .roll(now)
                    .map(|(task, place)| (task, place, course.rhythm.zone)),
            );
        }
        for (id, place, zone) in &rolled {
            let held = &self.tasks[id];
            let mut task = held.task.clone();
            let was_put_off = task.due_at > Some(*place) && task.due_at != task.occurrence;
            task.occurrence = Some(*place);
            let specs: Vec<Spec> = task.reminders.iter().map(|r| held.specs[&r.id].clone()).collect();
            if !was_put_off {
                be_due(&mut task, &specs, Some(*place), *zone);
                // It is another occurrence, whether or not the time is another.
                for reminder in task.reminders.iter_mut().filter(|r| r.at.is_none()) {
                    (reminder.snoozed_until, reminder.dismissed_at) = (None, None);
                }
            }
            self.predicted.insert(*id, Predicted { task, specs });
        }
        self.world.make_ahead(HORIZON).await;
        self.listen(now, &[]).await;
        assert!(
            self.owed.is_empty(),
            "at {now}: to be made ahead and were not {:?}",
            self.owed
        );
        if let Some((id, predicted)) = self.predicted.iter().next() {
            let course = predicted.task.series_id.map(|series| &self.series[&series]);
            let was = &self.tasks[id].task;
            panic!(
                "at {now}: to be moved to {:?} and was not {was:?} of {course:?}",
                predicted.task.occurrence
            );
        }
        for _ in 0..piled_up {
            self.count("made ahead");
        }
        for _ in rolled {
            self.count("rolled forward");
        }
    }

    /// In the end every series is where it is to be.
    pub(crate) async fn compare_series(&self) {
        for (id, course) in &self.series {
            let series = self.world.series(*id).await;
            compare(&series, course, &"the month");
        }
    }
}

/// A task is due at another time: what its reminders were put off or dismissed for is over where their own time is another.
fn be_due(task: &mut Task, specs: &[Spec], due: Option<Timestamp>, zone: chrono_tz::Tz) {
    let anchor = |at: Option<Timestamp>| at.map(|at| Anchor { at, zone });
    for (reminder, spec) in task.reminders.iter_mut().zip(specs) {
        if own_time(spec, anchor(task.due_at)) != own_time(spec, anchor(due)) {
            (reminder.snoozed_until, reminder.dismissed_at) = (None, None);
        }
    }
    task.due_at = due;
}

/// Other reminders for an instance: what has the same distance stays the same reminder.
fn replaced(
    before: &[TaskReminder],
    known: &HashMap<Uuid, Spec>,
    wanted: &[Spec],
) -> (Vec<TaskReminder>, Vec<Spec>) {
    let mut free: Vec<&TaskReminder> = before.iter().collect();
    let reminders = wanted.iter().map(|spec| {
        let new = asked(Uuid::nil(), spec);
        match free.iter().position(|old| known[&old.id].when == spec.when) {
            None => new,
            Some(at) => {
                let old = free.remove(at);
                TaskReminder {
                    id: old.id,
                    snoozed_until: old.snoozed_until,
                    dismissed_at: old.dismissed_at,
                    ..new
                }
            }
        }
    });
    (reminders.collect(), wanted.to_vec())
}

fn compare(series: &Series, course: &Course, why: &impl std::fmt::Debug) {
    let last = || course.instances.last_key_value().map(|(at, _)| *at);
    let ended = series.ended_at.is_some();
    // Whether it was paused before it ended is all the same.
    let is = (
        series.made_through.or_else(last),
        ended,
        ended || series.paused_at.is_some(),
    );
    assert_eq!(
        is,
        (course.reached(), course.ended, course.ended || course.paused),
        "{why:?} makes of {course:?} {series:?}"
    );
}
