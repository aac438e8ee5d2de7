//! A reminder as the API shows it by itself.

use chrono::{DateTime, Utc};
use db::reminders::Reminder;
use schemas::Task;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use why::{Fate, Happened, Story};

use crate::tasks::view::{ReminderView, optional_timestamp, timestamp};

/// A reminder: what its task says of it, and what became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReminderStatus<'a> {
    id: Uuid,
    task_id: Uuid,
    /// The task's version; its ETag is this number in quotes.
    #[schema(minimum = 1)]
    task_version: i64,
    /// The task's title.
    title: &'a str,
    /// Null until it was looked at for the first time, shortly after the task was written, and of one whose time was past then.
    #[schema(required, value_type = Option<ReminderState>)]
    state: Option<&'static str>,
    /// When it rings next; of one that is not armed, when it rang or would have.
    #[schema(required)]
    #[serde(serialize_with = "optional_timestamp")]
    fire_at: Option<DateTime<Utc>>,
    /// Which ring that is: 0 the first, k the k-th repetition.
    #[schema(required)]
    ring: Option<i32>,
    /// When it last rang.
    #[schema(required)]
    #[serde(serialize_with = "optional_timestamp")]
    fired_at: Option<DateTime<Utc>>,
    /// Why it does not ring.
    #[schema(required, example = "completed")]
    reason: Option<&'a str>,
    /// As it stands in the task; null when it was taken out of it.
    #[schema(required)]
    reminder: Option<ReminderView<'a>>,
}

/// Where a reminder is in its life.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "a description of names that are written elsewhere")]
pub enum ReminderState {
    /// It will ring.
    Armed,
    /// It has rung.
    Fired,
    /// It was too late to ring.
    Missed,
    /// It will not ring.
    Cancelled,
}

impl<'a> ReminderStatus<'a> {
    /// Shows the reminder `id` of a task. `known` is what the scanner knows of it.
    pub fn new(id: Uuid, task: &'a Task, known: Option<&'a Reminder>) -> Self {
        Self {
            id,
            task_id: task.id,
            task_version: task.version,
            title: &task.title,
            state: known.map(|known| known.state.as_str()),
            fire_at: known.map(|known| known.fire_at),
            ring: known.map(|known| known.ring),
            fired_at: known.and_then(|known| known.fired_at),
            reason: known.and_then(|known| known.reason.as_deref()),
            reminder: task
                .reminders
                .iter()
                .find(|reminder| reminder.id == id)
                .map(ReminderView::from),
        }
    }
}

/// How far a reminder is put off: exactly one of `for` and `until`.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a description of what is read field by field")]
pub struct Snooze {
    /// ISO 8601 duration from now, a day being 24 hours; at most 366 days.
    #[schema(example = "PT10M")]
    r#for: Option<String>,
    /// An instant to come, within 366 days.
    until: Option<DateTime<Utc>>,
}

/// Why a reminder rang, or did not, in sentences.
#[derive(Serialize, ToSchema)]
pub struct Why {
    id: Uuid,
    task_id: Uuid,
    /// From what its time is computed.
    #[schema(example = json!(["The task \"Call the dentist\" is due Tue 24 Nov 2026, 10:00 (Europe/Berlin)."]))]
    rule: Vec<String>,
    /// What happened, oldest first; the latest 200 things.
    happened: Vec<HappenedView>,
    /// How it stands, and what will happen.
    outlook: Vec<String>,
}

/// One thing that happened to a reminder.
#[derive(Serialize, ToSchema)]
struct HappenedView {
    #[serde(serialize_with = "timestamp")]
    at: DateTime<Utc>,
    text: String,
}

impl Why {
    /// Tells what is known.
    pub fn of(fate: &Fate) -> Self {
        let Story {
            rule,
            happened,
            outlook,
        } = why::tell(fate);
        Self {
            id: fate.reminder_id,
            task_id: fate.task.id,
            rule,
            happened: happened
                .into_iter()
                .map(|Happened { at, text }| HappenedView { at, text })
                .collect(),
            outlook,
        }
    }
}
