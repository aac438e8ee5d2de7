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
    /// The largest record that it takes, with its headers and as it is sent, so compressed.
    pub max_record_bytes: usize,
}

/// The largest record of an event topic: an event of the largest size there is, its frame, and headers beside it.
pub const MAX_EVENT_RECORD_BYTES: usize = 2 << 20;
/// The largest record of a dead-letter or retry topic: what an event topic of another's making once took, and more headers.
pub const MAX_DEAD_LETTER_BYTES: usize = 10 << 20;

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

/// Keeps the list of notifications in the page.
pub const NOTIFICATION_INBOX: Group = Group {
    name: "notification-inbox",
    topics: &[TASK_REMINDERS, NOTIFICATION_EVENTS],
};

/// Every consumer group.
pub const GROUPS: [Group; 6] = [
    REMINDER_SCANNER,
    EMAIL_SENDER,
    RECURRENCE_GENERATOR,
    AUDIT_SINK,
    WEBHOOK_SENDER,
    NOTIFICATION_INBOX,
];

/// What the names of dead-letter topics end with.
pub const DEAD_LETTER_SUFFIX: &str = ".dlq";
/// What the names of retry topics end with.
pub const RETRY_SUFFIX: &str = ".retry";

/// The dead-letter topic of a group for one of its topics.
#[must_use]
pub fn dead_letter(topic: &str, group: &str) -> String {
    format!("{topic}.{group}{DEAD_LETTER_SUFFIX}")
}

/// The retry topic of a group for one of its topics: what `carillon dlq replay` gives that group alone to handle again.
#[must_use]
pub fn retry(topic: &str, group: &str) -> String {
    format!("{topic}.{group}{RETRY_SUFFIX}")
}

/// The retry topics of a group. A group that is not declared has none.
#[must_use]
pub fn retries_of(group: &str) -> Vec<String> {
    GROUPS
        .iter()
        .filter(|declared| declared.name == group)
        .flat_map(|declared| declared.topics.iter().map(|topic| retry(topic, declared.name)))
        .collect()
}

/// The event topic that stands behind a dead-letter or retry topic; of any other topic, itself. No event topic has a dot in
/// its name.
#[must_use]
pub fn source_of(topic: &str) -> &str {
    topic.split('.').next().unwrap_or(topic)
}

/// The topics that events are published to.
#[must_use]
pub fn event_topics() -> Vec<Topic> {
    [(TASK_EVENTS, 6), (TASK_REMINDERS, 6), (NOTIFICATION_EVENTS, 3)]
        .map(|(name, partitions)| Topic {
            name: name.to_owned(),
            partitions,
            retention: 7 * DAY,
            max_record_bytes: MAX_EVENT_RECORD_BYTES,
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
            max_record_bytes: MAX_DEAD_LETTER_BYTES,
        })
        .collect()
}

/// The retry topics of every group. As many partitions as the topic behind each: what is replayed of one user goes to the
/// member that has the user's other events, in the order in which it is replayed.
#[must_use]
pub fn retry_topics() -> Vec<Topic> {
    let sources = event_topics();
    GROUPS
        .iter()
        .flat_map(|group| retries_of(group.name))
        .map(|name| Topic {
            partitions: sources
                .iter()
                .find(|source| source.name == source_of(&name))
                .map_or(1, |source| source.partitions),
            retention: 7 * DAY,
            max_record_bytes: MAX_DEAD_LETTER_BYTES,
            name,
        })
        .collect()
}

/// Every topic that exists.
#[must_use]
pub fn all() -> Vec<Topic> {
    let mut topics = event_topics();
    topics.extend(dead_letter_topics());
    topics.extend(retry_topics());
    topics
}

/// What the audit sink reads: every topic but its own dead letters, which would feed it with its own refusals, and but the
/// retry topics, which hold nothing that it has not read before. (Its own retry topics come to it as to every group.)
#[must_use]
pub fn audited() -> Vec<String> {
    let own = format!(".{}.dlq", AUDIT_SINK.name);
    event_topics()
        .into_iter()
        .chain(dead_letter_topics())
        .map(|topic| topic.name)
        .filter(|name| !name.ends_with(&own))
        .collect()
}

/// All that a group reads, its retry topics among them.
#[must_use]
pub fn read_by(group: &Group) -> Vec<String> {
    let mut topics = if *group == AUDIT_SINK {
        audited()
    } else {
        group.topics.iter().map(|topic| (*topic).to_owned()).collect()
    };
    topics.extend(retries_of(group.name));
    topics
}
