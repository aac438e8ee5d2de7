//! What may happen to a recurring task: pure functions from the series before to the series after, and from there to its
//! open instances.

use chrono::{SubsecRound, TimeDelta};
use db::series::{Anchor, Content, InstanceReminder, Overlap, Series};
use schedule::{Due, Interval, Offset, Rule, Trigger};
use schemas::{Task, TaskEventKind, TaskReminder, Timestamp};
use serde_json::{Map, Value};

use super::input::RecurringInput;
use super::rule::Simple;
use super::standing::{Decision, Standing};
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
    let mut series = problems.finish(Some(series))?;
    series.made_through = Some(match series.overlap {
        // What was before it was made is not made up for.
        Overlap::PileUp => series.starts_at.max(now),
        _ => series.starts_at,
    });
    let first = made(&series, series.starts_at, now);
    Ok((series, first))
}

/// A new instance, as a change that is to be written.
pub fn made(series: &Series, occurrence: Timestamp, now: Timestamp) -> Change {
    Change::new(TaskEventKind::Created, series.instance(occurrence, now))
}

/// Puts a patch over a series, and takes its open instances along.
///
/// # Errors
/// What must hold between the fields and would not; when the series has ended.
pub fn patch(
    patch: RecurringInput,
    standing: &Standing,
    person: &Person,
    now: Timestamp,
) -> Result<Decision, Problem> {
    let current = &standing.series;
    refuse_ended(current)?;
    let mut problems = Problems::default();
    let merged = put_over(patch, current.clone(), person, &mut problems);
    let merged = problems.finish(Some(merged))?;
    if merged == *current {
        return Ok(Decision::of(merged));
    }
    standing.carry_along(next_version(merged, now), now)
}

/// Completing an instance brings no other from now on, and none is made ahead. What is so already stays as it is.
///
/// # Errors
/// When the series has ended.
pub fn pause(standing: &Standing, now: Timestamp) -> Result<Decision, Problem> {
    let current = &standing.series;
    refuse_ended(current)?;
    if current.paused_at.is_some() {
        return Ok(Decision::of(current.clone()));
    }
    let mut series = next_version(current.clone(), now);
    series.paused_at = Some(series.updated_at);
    Ok(Decision::of(series))
}

/// Completing an instance brings another again. A series without an open one goes on with the next occurrence after now; if
/// there is none, it has ended. One that piles up goes on from now.
///
/// # Errors
/// When the series has ended, or cannot be used.
pub fn resume(standing: &Standing, now: Timestamp) -> Result<Decision, Problem> {
    let current = &standing.series;
    refuse_ended(current)?;
    let mut series = current.clone();
    if current.paused_at.is_some() {
        series = next_version(series, now);
        series.paused_at = None;
    }
    if series.overlap == Overlap::PileUp {
        // One that is not paused has made what it has to.
        if current.paused_at.is_some() {
            series.made_through = series.made_through.max(Some(now));
        }
        return Ok(Decision::of(series));
    }
    if !standing.open.is_empty() {
        return Ok(Decision::of(series));
    }
    match standing.next_to_do(&series, now)? {
        Some(next) => {
            series.made_through = Some(next);
            let made = vec![made(&series, next, now)];
            Ok(Decision {
                made,
                ..Decision::of(series)
            })
        }
        // The rule is over.
        None => Ok(Decision::of(ended(current, now))),
    }
}

/// Completing an instance brings no other for good, and what was made ahead is deleted. What has ended stays as it is.
pub fn end(standing: &Standing, now: Timestamp) -> Decision {
    let current = &standing.series;
    if current.ended_at.is_some() {
        return Decision::of(current.clone());
    }
    let ahead = |task: &&Task| current.overlap == Overlap::PileUp && task.occurrence > Some(now);
    Decision {
        changed: standing
            .open
            .iter()
            .filter(ahead)
            .map(|task| tasks::delete(task, now))
            .collect(),
        ..Decision::of(ended(current, now))
    }
}

/// Ends a series and takes it away with its open instances; the row stays, for completed instances point to it.
pub fn delete(standing: &Standing, now: Timestamp) -> Decision {
    let mut series = next_version(standing.series.clone(), now);
    series.ended_at = series.ended_at.or(Some(series.updated_at));
    series.deleted_at = Some(series.updated_at);
    Decision {
        changed: standing
            .open
            .iter()
            .map(|task| tasks::delete(task, now))
            .collect(),
        ..Decision::of(series)
    }
}

/// The series, ended.
pub fn ended(current: &Series, now: Timestamp) -> Series {
    let mut series = next_version(current.clone(), now);
    series.ended_at = Some(series.updated_at);
    series
}

/// Refuses to go on with what has ended.
///
/// # Errors
/// When it has.
pub fn refuse_ended(series: &Series) -> Result<(), Problem> {
    if series.ended_at.is_none() {
        return Ok(());
    }
    let detail = "Nothing comes of it any more: create another one.";
    Err(Problem::new(Kind::RecurringTaskEnded, detail))
}

/// Times of a series only grow, whatever this machine's clock says.
pub fn next_version(series: Series, now: Timestamp) -> Series {
    Series {
        version: series.version + 1,
        updated_at: now.max(series.updated_at + TimeDelta::microseconds(1)),
        ..series
    }
}

/// The series with the fields of a client put over. What is wrong goes to `problems`; the series means nothing then.
pub fn put_over(input: RecurringInput, base: Series, person: &Person, problems: &mut Problems) -> Series {
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
    let (anchor_given, overlap_given) = (input.anchor.is_given(), input.overlap.is_given());
    let dates_given = [
        ("/rdates", input.rdates.is_given()),
        ("/exdates", input.exdates.is_given()),
    ];
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
        rdates: input.rdates.merge(base.rdates, Vec::new),
        exdates: input.exdates.merge(base.exdates, Vec::new),
        anchor: input.anchor.merge(base.anchor, Default::default),
        overlap: input.overlap.merge(base.overlap, Default::default),
        ..base
    };
    if series.anchor == Anchor::Completion {
        let blamed_for = |given: bool, place: &'static str| if given { place } else { "/anchor" };
        if series.overlap != Overlap::Skip {
            let detail = "must be skip while the next counts from the completion of the last";
            problems.add(blamed_for(overlap_given, "/overlap"), detail);
        }
        for ((place, given), dates) in dates_given.into_iter().zip([&series.rdates, &series.exdates]) {
            if !dates.is_empty() {
                let detail = "must be empty while the next counts from the completion of the last";
                problems.add(blamed_for(given, place), detail);
            }
        }
        let parsed = rule.clone().or_else(|| Rule::parse(&series.rrule).ok());
        if let Some(Err(error)) = parsed.map(|rule| Interval::of(&rule))
            && (rule.is_some() || anchor_given)
        {
            let place = if rule.is_some() { blamed } else { "/anchor" };
            problems.add(place, error.to_string());
        }
    }
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
    task.series_id = Some(after.id);
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
