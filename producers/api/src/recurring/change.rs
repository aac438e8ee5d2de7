//! What may happen to a recurring task: pure functions from the series before to the series after, and from there to its
//! open instances.

use std::collections::BTreeMap;

use chrono::{SubsecRound, TimeDelta};
use db::series::{Content, InstanceReminder, Series, Unusable};
use schedule::{Due, Offset, Rule, Trigger};
use schemas::{Task, TaskEventKind, TaskReminder, Timestamp};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::input::RecurringInput;
use super::rule::Simple;
use crate::input::{Field, Place, Problems};
use crate::problem::{Kind, Problem};
use crate::tasks::input::Purpose;
use crate::tasks::{self, Change, Person, merge};

/// Makes a series and its first instance from what a client sent.
///
/// # Errors
/// Everything that is wrong with the body.
pub fn create(
    body: Map<String, Value>,
    person: &Person,
    now: Timestamp,
) -> Result<(Series, Change), Problem> {
    let blank = Series::new(
        String::new(),
        now,
        person.timezone.clone(),
        Content::default(),
        now,
    );
    let mut problems = Problems::default();
    let input = RecurringInput::read(body, Purpose::Create, Place::root(&mut problems));
    let series = put_over(input, blank, person, &mut problems);
    let series = problems.finish(Some(series))?;
    let first = made(&series, series.starts_at, now);
    Ok((series, first))
}

/// A new instance, as a change that is to be written.
pub fn made(series: &Series, occurrence: Timestamp, now: Timestamp) -> Change {
    Change::new(TaskEventKind::Created, series.instance(occurrence, now))
}

/// Puts a patch over a series; `None` when it changes nothing.
///
/// # Errors
/// What must hold between the fields and would not; when the series has ended.
pub fn patch(
    patch: RecurringInput,
    current: &Series,
    person: &Person,
    now: Timestamp,
) -> Result<Option<Series>, Problem> {
    refuse_ended(current)?;
    let mut problems = Problems::default();
    let merged = put_over(patch, current.clone(), person, &mut problems);
    let merged = problems.finish(Some(merged))?;
    Ok((merged != *current).then(|| next_version(merged, now)))
}

/// Completing an instance brings no other from now on; `None` when that is so already.
///
/// # Errors
/// When the series has ended.
pub fn pause(current: &Series, now: Timestamp) -> Result<Option<Series>, Problem> {
    refuse_ended(current)?;
    let paused = |mut series: Series| {
        series.paused_at = Some(series.updated_at);
        series
    };
    Ok(current
        .paused_at
        .is_none()
        .then(|| paused(next_version(current.clone(), now))))
}

/// Completing an instance brings another again; `None` when that is so already.
///
/// # Errors
/// When the series has ended.
pub fn resume(current: &Series, now: Timestamp) -> Result<Option<Series>, Problem> {
    refuse_ended(current)?;
    let resumed = |mut series: Series| {
        series.paused_at = None;
        series
    };
    Ok(current
        .paused_at
        .map(|_| resumed(next_version(current.clone(), now))))
}

/// Completing an instance brings no other for good; `None` when that is so already.
pub fn end(current: &Series, now: Timestamp) -> Option<Series> {
    current.ended_at.is_none().then(|| {
        let mut series = next_version(current.clone(), now);
        series.ended_at = Some(series.updated_at);
        series
    })
}

/// Ends a series and takes it away; the row stays, for completed instances point to it.
pub fn delete(current: &Series, now: Timestamp) -> Series {
    let mut series = next_version(current.clone(), now);
    series.ended_at = series.ended_at.or(Some(series.updated_at));
    series.deleted_at = Some(series.updated_at);
    series
}

fn refuse_ended(series: &Series) -> Result<(), Problem> {
    if series.ended_at.is_none() {
        return Ok(());
    }
    let detail = "Nothing comes of it any more: create another one.";
    Err(Problem::new(Kind::RecurringTaskEnded, detail))
}

/// Times of a series only grow, whatever this machine's clock says.
fn next_version(series: Series, now: Timestamp) -> Series {
    Series {
        version: series.version + 1,
        updated_at: now.max(series.updated_at + TimeDelta::microseconds(1)),
        ..series
    }
}

/// The series with the fields of a client put over. What is wrong goes to `problems`; the series means nothing then.
fn put_over(input: RecurringInput, base: Series, person: &Person, problems: &mut Problems) -> Series {
    // Checks between fields would only confuse where one of those fields is wrong in itself.
    let comparable =
        !input.starts_at.is_invalid() && !input.starts_on.is_invalid() && !input.timezone.is_invalid();
    let rule = rule(&input, &base.rrule, problems);
    // The field to blame for what does not fit the others.
    let blamed = match rule {
        Some(_) if input.recurrence.is_given() => "/recurrence",
        Some(_) => "/recurrence_type",
        None if input.starts_at.is_given() => "/starts_at",
        None if input.starts_on.is_given() => "/starts_on",
        None => "/timezone",
    };
    let when_given =
        rule.is_some() || blamed != "/timezone" || input.timezone.is_given() || input.floating.is_given();
    let reminders_given = input.reminders.is_given();
    let start = match (input.starts_at, input.starts_on) {
        // A rule has no finer occurrences.
        (Field::Value(at), _) => Due::At(at.trunc_subsecs(0)),
        (_, Field::Value(day)) => Due::On(day),
        _ => start(&base),
    };
    let whole_day = matches!(start, Due::On(_));
    let floating_given = input.floating.is_given();
    let floating = match input.floating {
        Field::Value(true) if whole_day => {
            let detail = "cannot stand beside starts_on: a whole day follows the person anyway";
            problems.add("/floating", detail);
            false
        }
        floating => floating.merge(base.content.floating, || false) && !whole_day,
    };
    let content = Content {
        title: input.title.merge(base.content.title, String::new),
        description: input.description.merge(base.content.description, || None),
        priority: input.priority.merge(base.content.priority, Default::default),
        tags: input.tags.merge(base.content.tags, Vec::new),
        whole_day,
        floating,
        whole_day_minute: if whole_day && !base.content.whole_day {
            person.whole_day_minute
        } else {
            base.content.whole_day_minute
        },
        reminders: input.reminders.merge(base.content.reminders, Vec::new),
    };
    let zone_asked = input.timezone.map(|zone| zone.name().to_owned());
    if let Field::Value(zone) = &zone_asked
        && floating
        && *zone != person.timezone
    {
        let detail = format!(
            "must be that of the account, {}, which a floating time follows",
            person.timezone
        );
        problems.add("/timezone", detail);
    }
    // What begins to follow is where the person is.
    let follows_now = (floating && floating_given) || (whole_day && !base.content.whole_day);
    let base_zone = if follows_now {
        person.timezone.clone()
    } else {
        base.timezone
    };
    let mut series = Series {
        content,
        timezone: zone_asked.merge(base_zone, || person.timezone.clone()),
        rrule: rule.as_ref().map_or(base.rrule, Rule::to_string),
        ..base
    };
    let zone = match schedule::parse_zone(&series.timezone) {
        Ok(zone) => zone,
        // Not one that the client sent: an account or series of a build with other zone data.
        Err(error) => {
            problems.add("/timezone", format!("must be set anew: {error}"));
            return series;
        }
    };
    series.starts_at = start.starts_at(zone);
    // A rule that is missing or wrong in itself was refused already.
    if comparable && when_given && !series.rrule.is_empty() {
        // One that was stored was good once; a build that does not take it any more says why.
        let checked = rule.map_or_else(|| Rule::parse(&series.rrule), Ok);
        if let Err(error) = checked.and_then(|rule| rule.check(series.starts_at, zone)) {
            problems.add(blamed, error.to_string());
        }
    }
    if comparable && (when_given || reminders_given) {
        let anchor = start.anchor(zone, series.content.whole_day_minute);
        for (index, reminder) in series.content.reminders.iter().enumerate() {
            let Ok(offset) = Offset::parse(&reminder.offset) else {
                continue;
            };
            match merge::firing_flaw(Trigger::Offset(offset), Some(anchor), zone) {
                Some(flaw) if reminders_given => {
                    problems.add(format_args!("/reminders/{index}/offset"), flaw.of_reminder());
                }
                Some(flaw) => problems.add(blamed, flaw.of_due_at()),
                None => {}
            }
        }
    }
    series
}

/// When the first instance of a series is due.
pub fn start(series: &Series) -> Due {
    match series.due(series.starts_at) {
        (_, Some(day)) => Due::On(day),
        _ => Due::At(series.starts_at),
    }
}

/// The rule that a client asks for, in either form; `None` where it says nothing of it, or something wrong. Fields of the
/// simple form are put over those that the rule `before` has in it.
fn rule(input: &RecurringInput, before: &str, problems: &mut Problems) -> Option<Rule> {
    if let Field::Value(rule) = &input.recurrence {
        return Some(rule.clone());
    }
    let given = [
        (
            "/recurrence_type",
            input.recurrence_type.is_given(),
            input.recurrence_type.is_invalid(),
        ),
        (
            "/interval",
            input.interval.is_given(),
            input.interval.is_invalid(),
        ),
        ("/count", input.count.is_given(), input.count.is_invalid()),
        ("/ends_at", input.ends_at.is_given(), input.ends_at.is_invalid()),
    ];
    let (first, ..) = given.into_iter().find(|(_, given, _)| *given)?;
    if given.into_iter().any(|(_, _, invalid)| invalid) || input.recurrence.is_given() {
        return None;
    }
    let base = match (input.recurrence_type, Simple::of(before)) {
        (Field::Value(recurrence_type), before) => Simple {
            recurrence_type,
            ..before.unwrap_or(Simple {
                recurrence_type,
                interval: 1,
                count: None,
                ends_at: None,
            })
        },
        (_, Some(before)) => before,
        // A new one without a type was refused already.
        (_, None) if before.is_empty() => return None,
        (_, None) => {
            problems.add(first, "needs recurrence_type: the rule is not of the simple form");
            return None;
        }
    };
    let simple = Simple {
        interval: input.interval.merge(base.interval, || 1),
        count: input.count.map(Some).merge(base.count, || None),
        ends_at: input.ends_at.map(Some).merge(base.ends_at, || None),
        ..base
    };
    if simple.count.is_some() && simple.ends_at.is_some() {
        let (name, other) = if input.ends_at.is_given() {
            ("ends_at", "count")
        } else {
            ("count", "ends_at")
        };
        problems.add(
            format_args!("/{name}"),
            format!("cannot stand beside {other}: one of them must be null"),
        );
        return None;
    }
    match simple.to_rule() {
        Ok(rule) => Some(rule),
        Err(error) => {
            problems.add(first, error.to_string());
            None
        }
    }
}

/// Takes an open instance along when its series changes: the fields that changed there change here, and what somebody
/// changed about this instance alone stays otherwise. `place` is where it stands in the series from now on. `None` when
/// nothing changes.
pub fn carry(
    before: &Series,
    after: &Series,
    instance: &Task,
    place: Option<Timestamp>,
    now: Timestamp,
) -> Option<Change> {
    let (old, new) = (&before.content, &after.content);
    let mut task = instance.clone();
    if new.title != old.title {
        task.title.clone_from(&new.title);
    }
    if new.description != old.description {
        task.description.clone_from(&new.description);
    }
    if new.priority != old.priority {
        task.priority = new.priority;
    }
    if new.tags != old.tags {
        task.tags.clone_from(&new.tags);
    }
    if new.reminders != old.reminders {
        task.reminders = reminders(&instance.reminders, &new.reminders);
    }
    if after.timezone != before.timezone {
        task.timezone.clone_from(&after.timezone);
    }
    if (new.floating, new.whole_day_minute) != (old.floating, old.whole_day_minute) {
        task.floating = new.floating && task.due_on.is_none();
        task.whole_day_minute = new.whole_day_minute;
    }
    task.recurrence = Some(after.rrule.clone());
    if let Some(at) = place.filter(|_| place != instance.occurrence || new.whole_day != old.whole_day) {
        task.occurrence = place;
        (task.due_at, task.due_on) = after.due(at);
        task.floating &= task.due_at.is_some();
    }
    tasks::following::ring_anew(instance, &mut task);
    tasks::update(instance, task, now)
}

/// Reminders of an instance; one that is there already keeps its id, as it may have rung.
fn reminders(before: &[TaskReminder], wanted: &[InstanceReminder]) -> Vec<TaskReminder> {
    let mut free: Vec<&TaskReminder> = before.iter().collect();
    wanted
        .iter()
        .map(|wanted| {
            let kept = free
                .iter()
                .position(|reminder| reminder.offset.as_ref() == Some(&wanted.offset));
            match kept {
                Some(position) => TaskReminder {
                    nag: wanted.nag.clone(),
                    send_late_within: wanted.send_late_within.clone(),
                    ..free.remove(position).clone()
                },
                None => TaskReminder::from(wanted.clone()),
            }
        })
        .collect()
}

/// Whether an instance of that occurrence stands where the series has one.
///
/// # Errors
/// When the series cannot be used.
pub fn has_occurrence(series: &Series, occurrence: Timestamp) -> Result<bool, Unusable> {
    let second = occurrence.trunc_subsecs(0);
    let next = series.next_after(second - TimeDelta::seconds(1))?;
    Ok(occurrence == series.starts_at || next == Some(second))
}

/// One of the occurrences to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occurrence {
    /// When it is.
    pub at: Timestamp,
    /// The open instance that stands for it, if it is made already.
    pub task_id: Option<Uuid>,
}

/// The first `limit` occurrences after `after`: those of the rule, unless the series has ended, and those that have an
/// open instance.
///
/// # Errors
/// When the series cannot be used.
pub fn upcoming(
    series: &Series,
    open: &[Task],
    after: Timestamp,
    limit: usize,
) -> Result<Vec<Occurrence>, Unusable> {
    let mut found = BTreeMap::new();
    for task in open {
        if let Some(at) = task.occurrence.filter(|at| *at > after) {
            // By the second: a first occurrence may have a fraction of one, those of a rule have none.
            found.insert(
                at.trunc_subsecs(0),
                Occurrence {
                    at,
                    task_id: Some(task.id),
                },
            );
        }
    }
    let mut last = after;
    for _ in 0..limit {
        let next = if series.ended_at.is_none() {
            series.next_after(last)?
        } else {
            None
        };
        let Some(at) = next else { break };
        found
            .entry(at.trunc_subsecs(0))
            .or_insert(Occurrence { at, task_id: None });
        last = at;
    }
    Ok(found.into_values().take(limit).collect())
}
