//! What may happen to a task: pure functions from the task before to the change that is to be written.

use chrono::TimeDelta;
use db::series::Series;
use schemas::{Actor, EncodeError, Encoded, Event, FieldChange, Task, TaskEvent, TaskEventKind, Timestamp};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::input::{Purpose, TaskInput};
use super::merge::merge;
use super::view::TaskView;
use crate::input::{Place, Problems};
use crate::problem::Problem;
use crate::trace::{TRACEPARENT, Trace};

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
        let parent = Trace::current().map(|trace| (TRACEPARENT.to_owned(), trace.to_string()));
        event.headers.extend(parent);
        Ok(event)
    }
}

/// Makes a task from what a client sent. `default_zone` is the person's.
///
/// # Errors
/// Everything that is wrong with the body.
pub fn create(body: Map<String, Value>, default_zone: &str, now: Timestamp) -> Result<Change, Problem> {
    let blank = Task {
        id: Uuid::now_v7(),
        version: 1,
        title: String::new(),
        description: None,
        priority: schemas::Priority::default(),
        tags: Vec::new(),
        due_at: None,
        due_on: None,
        timezone: default_zone.to_owned(),
        floating: false,
        whole_day_minute: schemas::WHOLE_DAY_MINUTE,
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
    let (task, series) = merge(input, blank, default_zone, Place::root(&mut problems));
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
    default_zone: &str,
    now: Timestamp,
) -> Result<Option<Change>, Problem> {
    let mut problems = Problems::default();
    let merged = merge(patch, current.clone(), default_zone, Place::root(&mut problems));
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

/// Opens a task again; `None` when it is open already.
pub fn reopen(current: &Task, now: Timestamp) -> Option<Change> {
    current.completed_at.map(|_| {
        let mut task = next_version(current.clone(), now);
        task.completed_at = None;
        Change::new(TaskEventKind::Reopened, task)
    })
}

/// Deletes a task; the row stays, so that its series does not bring it back.
pub fn delete(current: &Task, now: Timestamp) -> Change {
    let mut task = next_version(current.clone(), now);
    task.deleted_at = Some(task.updated_at);
    Change::new(TaskEventKind::Deleted, task)
}

/// Brings a deleted task back; `None` when it is not deleted.
pub fn restore(current: &Task, now: Timestamp) -> Option<Change> {
    current.deleted_at.map(|_| {
        let mut task = next_version(current.clone(), now);
        task.deleted_at = None;
        Change::new(TaskEventKind::Restored, task)
    })
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
