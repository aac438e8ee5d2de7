//! The one place that declares topics and consumer groups. The job that creates topics, the consumers that subscribe,
//! the tests and the docs all read it.

use std::time::Duration;

const DAY: Duration = Duration::from_hours(24);

/// A topic of the platform, before any prefix is put to its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name, such as `task-events`.
    pub name: String,
    /// How many partitions it is created with. Never lowered; raising it moves keys between partitions.
    pub partitions: i32,
    /// How long records are kept.
    pub retention: Duration,
}

/// What happens to tasks.
pub const TASK_EVENTS: &str = "task-events";
/// What happens to reminders.
pub const TASK_REMINDERS: &str = "task-reminders";
/// What becomes of notifications.
pub const NOTIFICATION_EVENTS: &str = "notification-events";

/// A consumer group and what it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// The `group.id`: the name of the service.
    pub name: &'static str,
    /// The event topics that it reads.
    pub topics: &'static [&'static str],
}

/// Arms and fires reminders.
pub const REMINDER_SCANNER: Group = Group {
    name: "reminder-scanner",
    topics: &[TASK_EVENTS],
};
/// Mails what rang.
pub const EMAIL_SENDER: Group = Group {
    name: "email-sender",
    topics: &[TASK_REMINDERS],
};
/// Makes next instances.
pub const RECURRENCE_GENERATOR: Group = Group {
    name: "recurrence-generator",
    topics: &[TASK_EVENTS],
};
/// Keeps everything. It reads the dead letters of the other groups too: see [`audited`].
pub const AUDIT_SINK: Group = Group {
    name: "audit-sink",
    topics: &[TASK_EVENTS, TASK_REMINDERS, NOTIFICATION_EVENTS],
};

/// Tells people's own services what happened.
pub const WEBHOOK_SENDER: Group = Group {
    name: "webhook-sender",
    topics: &[TASK_EVENTS, TASK_REMINDERS, NOTIFICATION_EVENTS],
};

/// Every consumer group.
pub const GROUPS: [Group; 5] = [
    REMINDER_SCANNER,
    EMAIL_SENDER,
    RECURRENCE_GENERATOR,
    AUDIT_SINK,
    WEBHOOK_SENDER,
];

/// The dead-letter topic of a group for one of its topics.
#[must_use]
pub fn dead_letter(topic: &str, group: &str) -> String {
    format!("{topic}.{group}.dlq")
}

/// The topics that events are published to.
#[must_use]
pub fn event_topics() -> Vec<Topic> {
    [(TASK_EVENTS, 6), (TASK_REMINDERS, 6), (NOTIFICATION_EVENTS, 3)]
        .map(|(name, partitions)| Topic {
            name: name.to_owned(),
            partitions,
            retention: 7 * DAY,
        })
        .into()
}

/// The dead-letter topics of every group.
#[must_use]
pub fn dead_letter_topics() -> Vec<Topic> {
    GROUPS
        .iter()
        .flat_map(|group| group.topics.iter().map(|topic| dead_letter(topic, group.name)))
        .map(|name| Topic {
            name,
            partitions: 1,
            retention: 30 * DAY,
        })
        .collect()
}

/// Every topic that exists.
#[must_use]
pub fn all() -> Vec<Topic> {
    let mut topics = event_topics();
    topics.extend(dead_letter_topics());
    topics
}

/// What the audit sink reads: every topic but its own dead letters, which would feed it with its own refusals.
#[must_use]
pub fn audited() -> Vec<String> {
    let own = format!(".{}.dlq", AUDIT_SINK.name);
    all()
        .into_iter()
        .map(|topic| topic.name)
        .filter(|name| !name.ends_with(&own))
        .collect()
}
