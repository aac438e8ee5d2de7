//! Puts the fields that a client sent over those that a task has, and checks what must hold between them. A new task is
//! a blank one with its fields put over.

use db::series::{Content, Series};
use schedule::{Due, Trigger, Tz};
use schemas::{Task, TaskReminder, Timestamp};

use super::following::{self, Person, ring_anew};
use super::input::{ReminderInput, TaskInput};
use crate::input::read::{EARLIEST, LATEST};
use crate::input::{Field, Place};

/// The task after the merge, and the series that it starts, if it starts one. What is wrong is written down at its
/// `place`; the task means nothing then.
pub fn merge(input: TaskInput, base: Task, person: &Person, mut place: Place<'_>) -> (Task, Option<Series>) {
    let before = base.clone();
    let (mut merged, series) = put_over(input, base, person, &mut place);
    ring_anew(&before, &mut merged);
    (merged, series)
}

fn put_over(input: TaskInput, base: Task, person: &Person, place: &mut Place<'_>) -> (Task, Option<Series>) {
    // Checks between fields would only confuse where one of those fields is wrong in itself.
    let comparable = !input.due_at.is_invalid() && !input.due_on.is_invalid() && !input.timezone.is_invalid();
    // The field that says when, for what no longer fits it.
    let due_name = if input.due_on.is_given() && !matches!(input.due_at, Field::Null) {
        "due_on"
    } else {
        "due_at"
    };
    let due_given = input.due_at.is_given() || input.due_on.is_given();
    let when_given = due_given || input.timezone.is_given() || input.floating.is_given();
    // Whichever is given replaces the other.
    let (due_at, due_on) = match (input.due_at, input.due_on) {
        (Field::Value(at), _) => (Some(at), None),
        (_, Field::Value(day)) => (None, Some(day)),
        (at, day) => (
            at.map(Some).merge(base.due_at, || None),
            day.map(Some).merge(base.due_on, || None),
        ),
    };
    // A day that is new is the person's, unless a zone is asked for.
    let base_zone = match (due_on, base.due_on) {
        (Some(_), None) => &person.timezone,
        _ => &base.timezone,
    };
    let zone_asked = input.timezone.map(|zone| zone.name().to_owned());
    let floating = floating(&input.floating, &base, due_at.is_some(), due_on.is_some(), place);
    if let Field::Value(zone) = &zone_asked
        && floating
        && *zone != person.timezone
    {
        place.member("timezone").refuse::<()>(format!(
            "must be that of the account, {}, which a floating time follows",
            person.timezone
        ));
    }
    let timezone = if floating && (input.floating.is_given() || !matches!(zone_asked, Field::Absent)) {
        person.timezone.clone()
    } else {
        zone_asked.merge(base_zone.clone(), || person.timezone.clone())
    };
    let mut merged = Task {
        title: input.title.merge(base.title, String::new),
        description: input.description.map(Some).merge(base.description, || None),
        priority: input.priority.merge(base.priority, Default::default),
        tags: input.tags.merge(base.tags, Vec::new),
        due_at,
        due_on,
        timezone,
        floating,
        whole_day_minute: if input.due_on.is_given() && due_on.is_some() {
            person.whole_day_minute
        } else {
            base.whole_day_minute
        },
        depends_on: input.depends_on.merge(base.depends_on, Vec::new),
        ..base
    };
    let zone = match schedule::parse_zone(&merged.timezone) {
        Ok(zone) => zone,
        // Not one that the client sent: an account or task of a build with other zone data.
        Err(error) => {
            place
                .member("timezone")
                .refuse::<()>(format!("must be set anew: {error}"));
            return (merged, None);
        }
    };
    let due = Due::of(merged.due_at, merged.due_on);
    let anchor = due.map(|due| due.anchor(zone, merged.whole_day_minute));
    match input.reminders {
        Field::Value(asked) => {
            for (index, reminder) in asked.iter().enumerate().filter(|_| comparable) {
                let name = match reminder.trigger {
                    Trigger::Offset(_) => "offset",
                    Trigger::At(_) => "at",
                };
                if let Some(flaw) = firing_flaw(reminder.trigger, anchor, zone) {
                    let mut reminders = place.member("reminders");
                    reminders
                        .item(index)
                        .member(name)
                        .refuse::<()>(flaw.of_reminder());
                }
            }
            merged.reminders = keep_ids(asked, &merged.reminders, &mut place.member("reminders"));
        }
        Field::Null => merged.reminders = Vec::new(),
        // Reminders that stay may not fit the new time.
        Field::Absent if comparable && when_given => {
            let mut flaws = merged
                .reminders
                .iter()
                .filter_map(following::trigger)
                .filter_map(|trigger| firing_flaw(trigger, anchor, zone));
            if let Some(flaw) = flaws.next() {
                let name = if due_given { due_name } else { "timezone" };
                place.member(name).refuse::<()>(flaw.of_due_at());
            }
        }
        Field::Absent | Field::Invalid => {}
    }
    let rule = match input.recurrence {
        Field::Value(rule) if merged.recurrence.as_deref() != Some(&rule.to_string()) => rule,
        Field::Null => {
            (merged.series_id, merged.occurrence, merged.recurrence) = (None, None, None);
            return (merged, None);
        }
        Field::Value(_) | Field::Absent | Field::Invalid => {
            if comparable && merged.recurrence.is_some() && due.is_none() {
                place
                    .member(due_name)
                    .refuse::<()>("must stay while the task recurs");
            }
            return (merged, None);
        }
    };
    if !comparable {
        return (merged, None);
    }
    let Some(starts_at) = due.map(|due| due.starts_at(zone)) else {
        place
            .member("recurrence")
            .refuse::<()>("needs due_at or due_on, which is its first occurrence");
        return (merged, None);
    };
    if let Err(error) = rule.check(starts_at, zone) {
        place.member("recurrence").refuse::<()>(error.to_string());
    }
    let series = Series::new(
        rule.to_string(),
        starts_at,
        zone.name().to_owned(),
        Content::of(&merged),
        merged.updated_at,
    );
    merged.series_id = Some(series.id);
    merged.occurrence = Some(starts_at);
    merged.recurrence = Some(series.rrule.clone());
    (merged, Some(series))
}

/// The reminders to store. One that names its id keeps it; one that names none keeps the id of an equal one, so that the
/// same patch twice is one change.
fn keep_ids(asked: Vec<ReminderInput>, before: &[TaskReminder], place: &mut Place<'_>) -> Vec<TaskReminder> {
    let mut free: Vec<&TaskReminder> = before.iter().collect();
    for (index, id) in asked
        .iter()
        .enumerate()
        .filter_map(|(index, reminder)| Some((index, reminder.id?)))
    {
        match free.iter().position(|reminder| reminder.id == id) {
            Some(position) => drop(free.swap_remove(position)),
            None => {
                let mut item = place.item(index);
                item.member("id")
                    .refuse::<()>("is not the id of a reminder of this task");
            }
        }
    }
    let mut keep = |trigger| {
        let position = free
            .iter()
            .position(|reminder| following::trigger(reminder) == Some(trigger))?;
        Some(free.swap_remove(position).clone())
    };
    asked
        .into_iter()
        .map(|asked| {
            let known = match asked.id {
                Some(id) => before.iter().find(|reminder| reminder.id == id).cloned(),
                None => keep(asked.trigger),
            };
            let fresh = match asked.trigger {
                Trigger::Offset(offset) => TaskReminder::relative(offset.to_string()),
                Trigger::At(at) => TaskReminder::absolute(at),
            };
            TaskReminder {
                id: known.as_ref().map_or(fresh.id, |known| known.id),
                nag: asked.nag,
                send_late_within: asked.send_late_within,
                // Whether these still hold is seen when the whole task is known.
                snoozed_until: known.as_ref().and_then(|known| known.snoozed_until),
                dismissed_at: known.and_then(|known| known.dismissed_at),
                ..fresh
            }
        })
        .collect()
}

/// Whether the task floats. One that was floating no longer does where its time is taken away.
fn floating(
    asked: &Field<bool>,
    base: &Task,
    at_a_time: bool,
    on_a_day: bool,
    place: &mut Place<'_>,
) -> bool {
    match asked {
        Field::Value(true) if on_a_day => {
            let detail = "cannot stand beside due_on: a whole day follows the person anyway";
            place.member("floating").refuse::<()>(detail);
            false
        }
        Field::Value(true) if !at_a_time => {
            place
                .member("floating")
                .refuse::<()>("needs due_at, which is to follow the person");
            false
        }
        Field::Value(true) => true,
        Field::Value(false) | Field::Null => false,
        Field::Absent | Field::Invalid => base.floating && at_a_time,
    }
}

/// Why a reminder cannot ring.
#[derive(Debug, Clone, Copy)]
pub enum FiringFlaw {
    /// It counts from a due time that is not there.
    NoDueTime,
    /// Outside of the years that instants are accepted in.
    OutOfRange,
}

impl FiringFlaw {
    /// As what is wrong with the reminder.
    pub fn of_reminder(self) -> &'static str {
        match self {
            Self::NoDueTime => "needs due_at or due_on, which the task does not have",
            Self::OutOfRange => "rings outside of the years 1970 to 9999 (UTC)",
        }
    }

    /// As what is wrong with the due time.
    pub fn of_due_at(self) -> &'static str {
        match self {
            Self::NoDueTime => "must stay while reminders count from it",
            Self::OutOfRange => "makes a reminder ring outside of the years 1970 to 9999 (UTC)",
        }
    }
}

/// Why a reminder could not ring, if it could not.
pub fn firing_flaw(trigger: Trigger, anchor: Option<Timestamp>, zone: Tz) -> Option<FiringFlaw> {
    match trigger.fire_at(anchor, zone) {
        None if anchor.is_none() => Some(FiringFlaw::NoDueTime),
        Some(at) if (EARLIEST..=LATEST).contains(&at) => None,
        _ => Some(FiringFlaw::OutOfRange),
    }
}
