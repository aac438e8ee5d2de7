//! Sample tasks and events.

use schemas::{Actor, Priority, Task, TaskEvent, TaskEventKind, TaskReminder, Timestamp, now};
use uuid::Uuid;

/// An open task with nothing in it but a title.
#[must_use]
pub fn task() -> Task {
    let now = now();
    Task {
        id: Uuid::now_v7(),
        version: 1,
        title: "Water the plants".to_owned(),
        description: None,
        priority: Priority::Medium,
        tags: Vec::new(),
        due_at: None,
        due_on: None,
        timezone: "Europe/Berlin".to_owned(),
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
    }
}

/// A task with one reminder, due then.
#[must_use]
pub fn task_with_reminder(at: Timestamp) -> Task {
    let reminder = TaskReminder::absolute(at);
    Task {
        reminders: vec![reminder],
        due_at: Some(at),
        ..task()
    }
}

/// An event of that kind about the task, by its owner.
#[must_use]
pub fn event(kind: TaskEventKind, user_id: Uuid, task: &Task) -> TaskEvent {
    TaskEvent::new(kind, user_id, Actor::User, task.clone())
}
