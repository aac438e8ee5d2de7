//! Tasks and events like those that people make: of many users, with texts, tags and reminders of varying length.

use chrono::{TimeDelta, Timelike as _};
use schemas::{
    Actor, Encoded, Event, FieldChange, Head, Priority, Reminder, ReminderEvent, ReminderEventKind, Task,
    TaskEvent, TaskEventKind, TaskReminder, Timestamp, now,
};
use uuid::Uuid;

/// How many people the events belong to.
pub const USERS: u64 = 10_000;

/// The service that is named as the source of the events.
const SOURCE: &str = "api";

const TITLES: [&str; 8] = [
    "Call the dentist about Thursday",
    "Water the plants",
    "Send the quarterly report to accounting",
    "Renew the passport before the summer trip",
    "Book a table for six",
    "Review the pull request on retries",
    "Pay the electricity bill",
    "Buy milk, bread and a birthday card",
];
const DESCRIPTION: &str = "Ask for the *earliest* slot, bring the papers from last year, and write down what they say \
                           about the invoice that never came. The number is in the shared notes.";
const TAGS: [&str; 6] = ["home", "work", "errands", "health", "finance", "waiting-for"];
const ZONES: [&str; 4] = ["Europe/Berlin", "America/New_York", "Asia/Tokyo", "UTC"];
const PRIORITIES: [Priority; 4] = [Priority::Low, Priority::Medium, Priority::High, Priority::Urgent];

/// The user of the `n`th event: no run of events belongs to one user.
fn user(n: u64) -> Uuid {
    Uuid::from_u64_pair(scatter(scatter(n) % USERS), 0x8000_0000_0000_0000 | (n % USERS))
}

/// A number without any pattern, always the same for the same `n` (the finaliser of splitmix64).
fn scatter(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

fn pick<T: Copy>(of: &[T], by: u64) -> Option<T> {
    let index = by % u64::try_from(of.len()).ok()?;
    of.get(usize::try_from(index).ok()?).copied()
}

/// The `n`th task: half have a description, most have a due date and a reminder.
fn task(n: u64) -> Task {
    let random = scatter(n);
    let now = now();
    let due_at = (!random.is_multiple_of(8))
        .then(|| now + TimeDelta::hours(i64::try_from(random % 2000).unwrap_or(0)))
        .and_then(|at| at.with_nanosecond(0));
    let reminders = due_at.map(|_| TaskReminder::relative("-PT15M".to_owned()));
    Task {
        id: Uuid::now_v7(),
        version: 1,
        title: pick(&TITLES, random >> 8).unwrap_or_default().to_owned(),
        description: random.is_multiple_of(2).then(|| DESCRIPTION.to_owned()),
        priority: pick(&PRIORITIES, random >> 16).unwrap_or_default(),
        tags: (0..random >> 24 & 3)
            .filter_map(|tag| pick(&TAGS, (random >> 32) + tag))
            .map(str::to_owned)
            .collect(),
        due_at,
        due_on: None,
        timezone: pick(&ZONES, random >> 40).unwrap_or("UTC").to_owned(),
        floating: false,
        whole_day_minute: schemas::WHOLE_DAY_MINUTE,
        reminders: reminders.into_iter().collect(),
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

/// The `n`th event of a backlog in which every event is a task's creation.
pub fn created(n: u64) -> anyhow::Result<Encoded> {
    encode(TaskEvent::new(TaskEventKind::Created, user(n), Actor::User, task(n)).into())
}

/// The `n`th event of what a day brings: of ten events five create a task, two change one, one completes one, one arms a
/// reminder and one tells that it rang.
pub fn mixed(n: u64) -> anyhow::Result<Encoded> {
    let (user, mut task) = (user(n), task(n));
    let event: Event = match scatter(n) % 10 {
        0..5 => TaskEvent::new(TaskEventKind::Created, user, Actor::User, task).into(),
        5..7 => {
            task.version = 2;
            let mut event = TaskEvent::new(TaskEventKind::Updated, user, Actor::User, task);
            event.changes = vec![FieldChange {
                field: "title".to_owned(),
                old: Some("\"Something\"".to_owned()),
                new: Some(format!("\"{}\"", event.task.title)),
            }];
            event.into()
        }
        7 => {
            task.version = 2;
            task.completed_at = Some(task.updated_at);
            TaskEvent::new(TaskEventKind::Completed, user, Actor::User, task).into()
        }
        8 => reminder(ReminderEventKind::Scheduled, user, task),
        _ => reminder(ReminderEventKind::Fired, user, task),
    };
    encode(event)
}

fn reminder(kind: ReminderEventKind, user: Uuid, task: Task) -> Event {
    let head = Head::new(user, Actor::System, task.updated_at);
    let fire_at = task.due_at.unwrap_or(task.updated_at);
    let reminder = Reminder {
        id: Uuid::now_v7(),
        fire_at,
        ring: 0,
        fired_at: (kind == ReminderEventKind::Fired).then_some(fire_at),
        snoozed_until: None,
        reason: None,
    };
    ReminderEvent::new(kind, head, reminder, task).into()
}

fn encode(event: Event) -> anyhow::Result<Encoded> {
    Ok(event.encode(SOURCE)?)
}

/// A person's task with one reminder at that time.
pub fn task_to_ring(n: u64, at: Timestamp) -> (Uuid, Task) {
    let reminder = TaskReminder::absolute(at);
    let task = Task {
        due_at: Some(at),
        reminders: vec![reminder],
        ..task(n)
    };
    (user(n), task)
}

/// The creation of such a task.
pub fn created_to_ring(n: u64, at: Timestamp) -> anyhow::Result<Encoded> {
    let (user, task) = task_to_ring(n, at);
    encode(TaskEvent::new(TaskEventKind::Created, user, Actor::User, task).into())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_event_can_be_encoded_and_they_are_of_many_kinds_and_users() {
        let events: Vec<Encoded> = (0..2000).map(|n| mixed(n).unwrap()).collect();
        let types: HashSet<&str> = events.iter().map(|e| e.event_type).collect();
        let users: HashSet<Uuid> = events.iter().map(|e| e.user_id).collect();
        assert_eq!(types.len(), 5);
        assert!(users.len() > 1500, "{}", users.len());
        assert_eq!(created(1).unwrap().topic, schemas::topics::TASK_EVENTS);
    }
}
