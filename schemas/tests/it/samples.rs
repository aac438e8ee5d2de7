//! One fixed event of every record, every field set. The golden files hold their bytes; change nothing here without
//! need.

use chrono::{DateTime, NaiveDate};
use schemas::{
    Actor, Event, FieldChange, Head, Nag, Notification, NotificationEvent, NotificationEventKind, Priority,
    Reminder, ReminderEvent, ReminderEventKind, Task, TaskEvent, TaskEventKind, TaskReminder, Timestamp,
};
use uuid::Uuid;

/// `2026-03-28T22:59:59.123456Z` and so many seconds more: the night in which Berlin's clocks go forward.
fn at(seconds: i64) -> Timestamp {
    DateTime::from_timestamp_micros(1_774_738_799_123_456 + seconds * 1_000_000).unwrap_or_default()
}

/// A UUIDv7 of that night.
fn id(number: u16) -> Uuid {
    Uuid::from_u128(0x019d_3699_8a33_7000_8000_0000_0000_0000 | u128::from(number))
}

fn head(number: u16, actor: Actor, seconds: i64) -> Head {
    Head {
        event_id: id(number),
        occurred_at: at(seconds),
        user_id: id(1),
        actor,
    }
}

/// A task with every field set.
pub(crate) fn task() -> Task {
    Task {
        id: id(2),
        version: 3,
        title: "Blumen gießen 🌱 \"am Fenster\"".to_owned(),
        description: Some("- die *großen* zuerst\n- \\ und \t bleiben".to_owned()),
        priority: Priority::Urgent,
        tags: vec!["home".to_owned(), "später".to_owned(), String::new()],
        due_at: Some(at(3600)),
        due_on: None,
        timezone: "Europe/Berlin".to_owned(),
        floating: true,
        whole_day_minute: 450,
        reminders: vec![
            TaskReminder {
                id: id(3),
                nag: Some(Nag {
                    every: "PT5M".to_owned(),
                    times: 3,
                }),
                send_late_within: Some("PT2H".to_owned()),
                ..TaskReminder::relative("-PT10M".to_owned())
            },
            TaskReminder {
                id: id(4),
                snoozed_until: Some(at(2400)),
                dismissed_at: Some(at(2000)),
                ..TaskReminder::absolute(at(1800))
            },
        ],
        depends_on: vec![id(8), id(9)],
        series_id: Some(id(5)),
        occurrence: Some(at(3599)),
        recurrence: Some("FREQ=WEEKLY;BYDAY=MO,TH;COUNT=12".to_owned()),
        created_at: at(-86_400),
        updated_at: at(10),
        completed_at: Some(at(20)),
        deleted_at: Some(at(30)),
    }
}

/// A task with nothing in it but what it must have.
fn bare_task() -> Task {
    Task {
        id: id(6),
        version: 1,
        title: "x".to_owned(),
        description: None,
        priority: Priority::Low,
        tags: Vec::new(),
        due_at: None,
        due_on: None,
        timezone: "UTC".to_owned(),
        floating: false,
        whole_day_minute: schemas::WHOLE_DAY_MINUTE,
        reminders: Vec::new(),
        depends_on: Vec::new(),
        series_id: None,
        occurrence: None,
        recurrence: None,
        created_at: DateTime::UNIX_EPOCH,
        updated_at: DateTime::UNIX_EPOCH,
        completed_at: None,
        deleted_at: None,
    }
}

fn task_event(kind: TaskEventKind, head: Head, task: Task) -> TaskEvent {
    TaskEvent {
        kind,
        event_id: head.event_id,
        occurred_at: head.occurred_at,
        user_id: head.user_id,
        actor: head.actor,
        task,
        changes: Vec::new(),
    }
}

/// A TaskCreated with nothing in it but what it must have.
pub(crate) fn minimal() -> Event {
    let head = Head {
        occurred_at: DateTime::UNIX_EPOCH,
        ..head(0x10, Actor::System, 0)
    };
    task_event(TaskEventKind::Created, head, bare_task()).into()
}

fn task_events() -> Vec<Event> {
    let mut updated = task_event(TaskEventKind::Updated, head(0x12, Actor::Assistant, 10), task());
    updated.changes = vec![
        FieldChange {
            field: "title".to_owned(),
            old: Some("\"Blumen\"".to_owned()),
            new: Some("\"Blumen gießen 🌱 \\\"am Fenster\\\"\"".to_owned()),
        },
        FieldChange {
            field: "due_at".to_owned(),
            old: None,
            new: Some("\"2026-03-28T23:59:59.123456Z\"".to_owned()),
        },
        FieldChange {
            field: "tags".to_owned(),
            old: Some("[]".to_owned()),
            new: None,
        },
    ];
    let whole_day = Task {
        due_at: None,
        due_on: NaiveDate::from_ymd_opt(2026, 3, 29),
        ..task()
    };
    vec![
        task_event(TaskEventKind::Created, head(0x11, Actor::User, 0), task()).into(),
        updated.into(),
        task_event(TaskEventKind::Completed, head(0x13, Actor::User, 20), task()).into(),
        task_event(
            TaskEventKind::Reopened,
            head(0x14, Actor::Recurrence, 25),
            whole_day,
        )
        .into(),
        task_event(TaskEventKind::Deleted, head(0x15, Actor::System, 30), task()).into(),
        task_event(TaskEventKind::Restored, head(0x16, Actor::User, 35), bare_task()).into(),
    ]
}

/// A reminder with every field set that its kind allows.
pub(crate) fn reminder(kind: ReminderEventKind) -> Reminder {
    Reminder {
        id: id(4),
        fire_at: at(1800),
        ring: 1,
        fired_at: (kind == ReminderEventKind::Fired).then(|| at(1801)),
        snoozed_until: Some(at(2400)),
        reason: Some("rescheduled".to_owned()),
    }
}

fn reminder_events() -> impl Iterator<Item = Event> {
    (0x21..).zip(ReminderEventKind::ALL).map(|(number, kind)| {
        ReminderEvent::new(kind, head(number, Actor::System, 1801), reminder(kind), task()).into()
    })
}

/// A notification with every field set that its kind allows.
pub(crate) fn notification(kind: NotificationEventKind) -> Notification {
    Notification {
        id: id(7),
        reminder_id: id(4),
        task_id: id(2),
        channel: "email".to_owned(),
        fire_at: at(1800),
        attempts: 3,
        message_id: Some("<019d3699@carillon.test>".to_owned()),
        sent_at: (kind == NotificationEventKind::Sent).then(|| at(1802)),
        reason: Some("550 5.1.1 no such user".to_owned()),
    }
}

fn notification_events() -> impl Iterator<Item = Event> {
    (0x31..).zip(NotificationEventKind::ALL).map(|(number, kind)| {
        NotificationEvent::new(kind, head(number, Actor::System, 1802), notification(kind)).into()
    })
}

/// One event of every record, in the order of the topics table.
pub(crate) fn all() -> Vec<Event> {
    let mut events = task_events();
    events.extend(reminder_events());
    events.extend(notification_events());
    events
}
