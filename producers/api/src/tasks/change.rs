//! What may happen to a task: pure functions from the task before to the change that is to be written.

use std::collections::HashSet;

use chrono::TimeDelta;
use db::series::Series;
use schemas::{
    Actor, EncodeError, Encoded, Event, FieldChange, Task, TaskEvent, TaskEventKind, TaskReminder, Timestamp,
};
use serde_json::{Map, Value};
use service::trace::Trace;
use uuid::Uuid;

use super::following::{Person, follow};
use super::input::{Purpose, TaskInput};
use super::merge::merge;
use super::view::TaskView;
use crate::input::{Place, Problems};
use crate::problem::Problem;

/// How long a deleted task can be restored.
pub const KEPT_AFTER_DELETION: TimeDelta = TimeDelta::days(30);

/// This service, as events name their source.
const SOURCE: &str = "api";

/// A change of a task that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What the event is called.
    pub kind: TaskEventKind,
    /// The task after the change.
    pub task: Task,
    /// A series that must be there before the task.
    pub series: Option<Series>,
    /// What changed; empty unless the task was updated.
    pub fields: Vec<FieldChange>,
}

impl Change {
    /// A change that says by its kind what changed.
    pub fn new(kind: TaskEventKind, task: Task) -> Self {
        Self {
            kind,
            task,
            series: None,
            fields: Vec::new(),
        }
    }

    /// The event that tells of it.
    ///
    /// # Errors
    /// When the task breaks an invariant: a bug of this crate.
    pub fn event(&self, user_id: Uuid) -> Result<Encoded, EncodeError> {
        let mut event = TaskEvent::new(self.kind, user_id, Actor::User, self.task.clone());
        event.changes.clone_from(&self.fields);
        let mut event = Event::from(event).encode(SOURCE)?;
        event.headers.extend(Trace::current().map(|trace| trace.header()));
        tracing::debug!(
            event.id = %event.event_id,
            "event.type" = event.event_type,
            task.id = %self.task.id,
            "an event is to be written"
        );
        Ok(event)
    }
}

/// The tasks after those changes, and the events that tell of them, in the same order: what is written together.
///
/// # Errors
/// As [`Change::event`].
pub fn with_events(
    user_id: Uuid,
    changes: impl IntoIterator<Item = Change>,
) -> Result<(Vec<Task>, Vec<Encoded>), EncodeError> {
    let paired = changes.into_iter().map(|change| {
        let event = change.event(user_id)?;
        Ok((change.task, event))
    });
    paired.collect()
}

/// Makes a task from what a client sent.
///
/// # Errors
/// Everything that is wrong with the body.
pub fn create(body: Map<String, Value>, person: &Person, now: Timestamp) -> Result<Change, Problem> {
    let blank = Task {
        id: Uuid::now_v7(),
        version: 1,
        title: String::new(),
        description: None,
        priority: schemas::Priority::default(),
        tags: Vec::new(),
        due_at: None,
        due_on: None,
        timezone: person.timezone.clone(),
        floating: false,
        whole_day_minute: person.whole_day_minute,
        reminders: Vec::new(),
        depends_on: Vec::new(),
        series_id: None,
        occurrence: None,
        recurrence: None,
        created_at: now,
        updated_at: now,
        completed_at: None,
        deleted_at: None,
    };
    let mut problems = Problems::default();
    let input = TaskInput::read(body, Purpose::Create, Place::root(&mut problems));
    let (task, series) = merge(input, blank, person, Place::root(&mut problems));
    problems.finish(Some(Change {
        series,
        ..Change::new(TaskEventKind::Created, task)
    }))
}

/// Puts a patch over a task; `None` when it changes nothing.
///
/// # Errors
/// What must hold between the fields and would not.
pub fn patch(
    patch: TaskInput,
    current: &Task,
    person: &Person,
    now: Timestamp,
) -> Result<Option<Change>, Problem> {
    let mut problems = Problems::default();
    let merged = merge(patch, current.clone(), person, Place::root(&mut problems));
    let (merged, series) = problems.finish(Some(merged))?;
    Ok(update(current, merged, now).map(|change| Change {
        series: series.map(|series| Series {
            created_at: change.task.updated_at,
            updated_at: change.task.updated_at,
            ..series
        }),
        ..change
    }))
}

/// Makes a task what `after` says; `None` when it is that already.
pub fn update(current: &Task, after: Task, now: Timestamp) -> Option<Change> {
    (after != *current).then(|| {
        let task = next_version(after, now);
        Change {
            fields: differences(current, &task),
            ..Change::new(TaskEventKind::Updated, task)
        }
    })
}

/// Completes a task; `None` when it is completed already.
pub fn complete(current: &Task, now: Timestamp) -> Option<Change> {
    let open = current.completed_at.is_none();
    open.then(|| {
        let mut task = next_version(current.clone(), now);
        task.completed_at = Some(task.updated_at);
        Change::new(TaskEventKind::Completed, task)
    })
}

/// Opens a task again, where the person is now; `None` when it is open already.
pub fn reopen(current: &Task, person: &Person, now: Timestamp) -> Option<Change> {
    current.completed_at.map(|_| {
        let mut task = next_version(caught_up(current, person, now), now);
        task.completed_at = None;
        Change::new(TaskEventKind::Reopened, task)
    })
}

/// The task as it would be, had it followed the person while it was not open. Its occurrence stays: the series has gone on.
fn caught_up(current: &Task, person: &Person, now: Timestamp) -> Task {
    let followed = follow(current, person, &HashSet::new(), now).map(|change| change.task);
    Task {
        version: current.version,
        updated_at: current.updated_at,
        occurrence: current.occurrence,
        ..followed.unwrap_or_else(|| current.clone())
    }
}

/// Deletes a task; the row stays, so that its series does not bring it back.
pub fn delete(current: &Task, now: Timestamp) -> Change {
    let mut task = next_version(current.clone(), now);
    task.deleted_at = Some(task.updated_at);
    Change::new(TaskEventKind::Deleted, task)
}

/// Brings a deleted task back, where the person is now if it is open; `None` when it is not deleted.
pub fn restore(current: &Task, person: &Person, now: Timestamp) -> Option<Change> {
    current.deleted_at.map(|_| {
        let task = match current.completed_at {
            None => caught_up(current, person, now),
            Some(_) => current.clone(),
        };
        let mut task = next_version(task, now);
        task.deleted_at = None;
        Change::new(TaskEventKind::Restored, task)
    })
}

/// Puts a reminder off: it rings then instead, be it dismissed or rung already. `None` when that is so; the outer `None`, when
/// the task has no such reminder.
pub fn snooze(current: &Task, reminder: Uuid, until: Timestamp, now: Timestamp) -> Option<Option<Change>> {
    with_reminder(current, reminder, now, |reminder| {
        (reminder.snoozed_until, reminder.dismissed_at) = (Some(until), None);
    })
}

/// Silences a reminder: none of its rings that are left comes. `None` when that is so; the outer `None`, when the task has no
/// such reminder.
pub fn dismiss(current: &Task, reminder: Uuid, now: Timestamp) -> Option<Option<Change>> {
    with_reminder(current, reminder, now, |reminder| {
        reminder.dismissed_at = reminder.dismissed_at.or(Some(now));
    })
}

fn with_reminder(
    current: &Task,
    id: Uuid,
    now: Timestamp,
    change: impl FnOnce(&mut TaskReminder),
) -> Option<Option<Change>> {
    let mut task = current.clone();
    change(task.reminders.iter_mut().find(|reminder| reminder.id == id)?);
    Some(update(current, task, now))
}

/// Calls a tag by another name, which the task may have already, or takes it away.
pub fn retag(current: &Task, tag: &str, name: Option<&str>, now: Timestamp) -> Change {
    let mut task = next_version(current.clone(), now);
    let has_it = name.is_some_and(|name| current.tags.iter().any(|other| other == name));
    task.tags = match name.filter(|_| !has_it) {
        Some(name) => {
            let rename = |other: String| if other == tag { name.to_owned() } else { other };
            task.tags.into_iter().map(rename).collect()
        }
        None => task.tags.into_iter().filter(|other| other != tag).collect(),
    };
    Change {
        fields: differences(current, &task),
        ..Change::new(TaskEventKind::Updated, task)
    }
}

/// The clock of this machine may be behind that of the one that wrote the version before: times of a task only grow.
fn next_version(task: Task, now: Timestamp) -> Task {
    let updated_at = now.max(task.updated_at + TimeDelta::microseconds(1));
    Task {
        version: task.version + 1,
        updated_at,
        ..task
    }
}

/// What differs, as the API spells names and values. The fields that change with every change are left out.
fn differences(before: &Task, after: &Task) -> Vec<FieldChange> {
    let json = |task| match serde_json::to_value(TaskView::new(task, &[])) {
        Ok(Value::Object(members)) => members,
        _ => Map::new(),
    };
    let (before, after) = (json(before), json(after));
    after
        .into_iter()
        .filter(|(field, _)| !matches!(field.as_str(), "version" | "updated_at"))
        .filter_map(|(field, new)| {
            let old = before.get(&field)?;
            (*old != new).then(|| FieldChange {
                old: Some(old.to_string()),
                new: Some(new.to_string()),
                field,
            })
        })
        .collect()
}
