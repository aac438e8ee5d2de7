//! The events that tell of what was made and moved.

use schemas::topics::RECURRENCE_GENERATOR;
use schemas::{Actor, EncodeError, Encoded, Event, FieldChange, Task, TaskEvent, TaskEventKind, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

/// A new instance.
pub(crate) fn created(user_id: Uuid, task: &Task) -> Result<Encoded, EncodeError> {
    let event = TaskEvent::new(TaskEventKind::Created, user_id, Actor::Recurrence, task.clone());
    Event::from(event).encode(RECURRENCE_GENERATOR.name)
}

/// An instance that was moved to another occurrence.
pub(crate) fn rolled(user_id: Uuid, before: &Task, after: &Task) -> Result<Encoded, EncodeError> {
    let mut event = TaskEvent::new(TaskEventKind::Updated, user_id, Actor::Recurrence, after.clone());
    let fields = |task: &Task| {
        [
            ("due_at", instant(task.due_at)),
            ("due_on", json!(task.due_on)),
            ("occurrence", instant(task.occurrence)),
        ]
    };
    event.changes = fields(before)
        .into_iter()
        .zip(fields(after))
        .filter(|((_, old), (_, new))| old != new)
        .map(|((field, old), (_, new))| FieldChange {
            field: field.to_owned(),
            old: Some(old.to_string()),
            new: Some(new.to_string()),
        })
        .collect();
    Event::from(event).encode(RECURRENCE_GENERATOR.name)
}

/// As the API writes it.
fn instant(at: Option<Timestamp>) -> Value {
    let text = |at: Timestamp| at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    json!(at.map(text))
}
