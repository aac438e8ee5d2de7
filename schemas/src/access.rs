//! The one place that declares who may do what in Kafka. It follows from what is declared of topics and groups: a group reads
//! its topics and writes its dead letters, the relay writes events, and the operator looks at everything and gives groups dead
//! letters again. Whatever is not here is refused, to everybody.

use crate::topics::{
    GROUPS, Topic, all, dead_letter, dead_letter_topics, event_topics, read_by, retry_topics,
};

/// The service that writes events.
pub const OUTBOX_RELAY: &str = "outbox-relay";
/// Whoever runs `carillon`.
pub const OPERATOR: &str = "operator";
/// The group that the operator's readers name. They never join it and commit nothing; librdkafka asks the broker about it all
/// the same.
pub const READER_GROUP: &str = "carillon-reader";

/// What may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Fetch records of a topic; join a group and commit its offsets. It implies [`Operation::Describe`].
    Read,
    /// Append records to a topic. It implies [`Operation::Describe`].
    Write,
    /// Produce idempotently. Kafka lets whoever may write do that, Redpanda asks for it.
    IdempotentWrite,
    /// Know that a topic or a group is there, and how far it is.
    Describe,
    /// See the settings of a topic.
    DescribeConfigs,
}

/// To what it may be done.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// A topic, without any prefix.
    Topic(String),
    /// A consumer group, without any prefix.
    Group(String),
    /// The cluster as a whole.
    Cluster,
}

/// That a user may do something to some resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The name of the user in Kafka: a service's is the name of the service.
    pub user: &'static str,
    /// What it may do.
    pub operation: Operation,
    /// To what.
    pub resources: Vec<Resource>,
}

/// Everybody who is allowed anything.
#[must_use]
pub fn users() -> Vec<&'static str> {
    let groups = GROUPS.iter().map(|group| group.name);
    std::iter::once(OUTBOX_RELAY)
        .chain(groups)
        .chain([OPERATOR])
        .collect()
}

/// Everything that is allowed.
#[must_use]
pub fn grants() -> Vec<Grant> {
    let mut grants = Vec::new();
    let mut allow = |user, operation, resources| {
        grants.push(Grant {
            user,
            operation,
            resources,
        });
    };
    allow(OUTBOX_RELAY, Operation::Write, topics(event_topics()));
    for group in &GROUPS {
        let mut read: Vec<Resource> = read_by(group).into_iter().map(Resource::Topic).collect();
        read.push(Resource::Group(group.name.to_owned()));
        allow(group.name, Operation::Read, read);
        let letters = group.topics.iter().map(|topic| dead_letter(topic, group.name));
        allow(
            group.name,
            Operation::Write,
            letters.map(Resource::Topic).collect(),
        );
    }
    allow(OPERATOR, Operation::Read, topics(all()));
    allow(OPERATOR, Operation::DescribeConfigs, topics(all()));
    let groups = GROUPS.iter().map(|group| group.name).chain([READER_GROUP]);
    let groups = groups.map(|name| Resource::Group(name.to_owned())).collect();
    allow(OPERATOR, Operation::Describe, groups);
    let given = dead_letter_topics().into_iter().chain(retry_topics()).collect();
    allow(OPERATOR, Operation::Write, topics(given));
    for user in users() {
        allow(user, Operation::IdempotentWrite, vec![Resource::Cluster]);
    }
    grants
}

fn topics(topics: Vec<Topic>) -> Vec<Resource> {
    topics
        .into_iter()
        .map(|topic| Resource::Topic(topic.name))
        .collect()
}

/// Whether a user may do that.
#[must_use]
pub fn allows(user: &str, operation: Operation, resource: &Resource) -> bool {
    grants().iter().any(|grant| {
        let implied =
            operation == Operation::Describe && matches!(grant.operation, Operation::Read | Operation::Write);
        grant.user == user && (grant.operation == operation || implied) && grant.resources.contains(resource)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topics::{TASK_EVENTS, TASK_REMINDERS};

    fn topic(name: &str) -> Resource {
        Resource::Topic(name.to_owned())
    }

    fn who_may(operation: Operation, resource: &Resource) -> Vec<&'static str> {
        let mut users = users();
        users.retain(|user| allows(user, operation, resource));
        users
    }

    #[test]
    fn only_the_relay_writes_events_and_dead_letters_are_written_by_their_group_and_the_operator() {
        for event_topic in event_topics() {
            let writers = who_may(Operation::Write, &topic(&event_topic.name));
            assert_eq!(writers, [OUTBOX_RELAY], "{}", event_topic.name);
        }
        for group in &GROUPS {
            for source in group.topics {
                let letters = topic(&dead_letter(source, group.name));
                assert_eq!(who_may(Operation::Write, &letters), [group.name, OPERATOR]);
            }
        }
    }

    #[test]
    fn what_is_given_to_a_group_again_is_written_by_the_operator_and_read_by_that_group_alone() {
        for group in &GROUPS {
            for source in group.topics {
                let retry = topic(&crate::topics::retry(source, group.name));
                assert_eq!(who_may(Operation::Write, &retry), [OPERATOR]);
                assert_eq!(who_may(Operation::Read, &retry), [group.name, OPERATOR]);
            }
        }
    }

    #[test]
    fn a_group_reads_its_topics_under_its_own_name_and_the_relay_reads_nothing() {
        let may = |user: &str, resource: &Resource| allows(user, Operation::Read, resource);
        assert!(may("reminder-scanner", &topic(TASK_EVENTS)));
        assert!(!may("reminder-scanner", &topic(TASK_REMINDERS)));
        for group in &GROUPS {
            let members = who_may(Operation::Read, &Resource::Group(group.name.to_owned()));
            assert_eq!(members, [group.name]);
        }
        for found in all() {
            assert!(!may(OUTBOX_RELAY, &topic(&found.name)));
        }
    }
}
