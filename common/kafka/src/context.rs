//! What librdkafka tells us from inside `recv`: rebalances, statistics, errors. These callbacks run on the polling task
//! (rust-rdkafka#738): they note and return, and never wait.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use service::Component;

use crate::{Record, metrics};

type Place = (String, i32);

/// A partition that is ours.
#[derive(Debug, Clone, Copy)]
struct Assigned {
    /// Records received under an earlier generation belong to an earlier assignment.
    since: u64,
    /// The next offset to handle: one past the last whose effect is committed in Postgres.
    next: Option<i64>,
    /// The timestamp of the record before `next`.
    handled_until: Option<DateTime<Utc>>,
    /// Whether the broker has confirmed `next`.
    committed: bool,
}

/// Which partitions are ours, and how far each is handled.
#[derive(Debug)]
pub(crate) struct Context {
    group: String,
    prefix: String,
    component: Component,
    generation: AtomicU64,
    /// Whether a batch waits for something that is away: then it is not for us to say that the consumer is ready.
    waiting: AtomicBool,
    assigned: Mutex<HashMap<Place, Assigned>>,
}

impl Context {
    pub(crate) fn new(group: &str, prefix: &str, component: Component) -> Self {
        Self {
            group: group.to_owned(),
            prefix: prefix.to_owned(),
            component,
            generation: AtomicU64::new(0),
            waiting: AtomicBool::new(false),
            assigned: Mutex::default(),
        }
    }

    /// Notes whether a batch waits for something that is away. Returns whether one did.
    pub(crate) fn set_waiting(&self, waiting: bool) -> bool {
        self.waiting.swap(waiting, Ordering::AcqRel)
    }

    /// Group and brokers are there; what else the consumer needs the loop knows.
    fn ready(&self) {
        if !self.waiting.load(Ordering::Acquire) {
            self.component.ready();
        }
    }

    fn place(&self, record: &Record) -> (Place, i64) {
        // Of a replayed record this is the place in the retry topic: that is the partition which we read and commit.
        let (topic, partition, offset) = match &record.replayed_at {
            Some(found) => (&found.topic, found.partition, found.offset),
            None => (&record.topic, record.partition, record.offset),
        };
        ((format!("{}{topic}", self.prefix), partition), offset)
    }

    fn assigned(&self) -> MutexGuard<'_, HashMap<Place, Assigned>> {
        // Nothing that holds the lock can panic half-way through a change.
        self.assigned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Grows with every rebalance.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether a record is ours to handle: its partition is, and was without a break since it was received.
    pub(crate) fn owns(&self, record: &Record) -> bool {
        let (place, _) = self.place(record);
        self.assigned()
            .get(&place)
            .is_some_and(|a| record.generation >= a.since)
    }

    /// Notes that everything up to and including `record` is handled.
    pub(crate) fn handled(&self, record: &Record) {
        let (place, offset) = self.place(record);
        if let Some(assigned) = self.assigned().get_mut(&place)
            // What an earlier assignment brought says nothing of this one: another member may be further by now.
            && record.generation >= assigned.since
            && assigned.next.is_none_or(|next| next <= offset)
        {
            // What is committed is the next offset to read: committing the last one read would bring it again at every
            // restart (rust-rdkafka#470).
            assigned.next = Some(offset + 1);
            assigned.handled_until = record.timestamp;
            assigned.committed = false;
        }
    }

    /// The offsets that the broker has not confirmed yet, as `commit` takes them: as they are (rust-rdkafka#851).
    pub(crate) fn uncommitted(&self) -> Result<Option<TopicPartitionList>, KafkaError> {
        let mut list = TopicPartitionList::new();
        for ((topic, partition), assigned) in &*self.assigned() {
            if let (Some(next), false) = (assigned.next, assigned.committed) {
                list.add_partition_offset(topic, *partition, rdkafka::Offset::Offset(next))?;
            }
        }
        Ok((list.count() > 0).then_some(list))
    }

    /// Notes that the broker confirmed these offsets.
    pub(crate) fn committed(&self, offsets: &TopicPartitionList) {
        let mut assigned = self.assigned();
        for element in offsets.elements() {
            if let Some(a) = assigned.get_mut(&(element.topic().to_owned(), element.partition()))
                && element.offset() == rdkafka::Offset::Offset(a.next.unwrap_or(-1))
            {
                a.committed = true;
            }
        }
    }

    /// Every partition that is ours.
    pub(crate) fn partitions(&self) -> Vec<Place> {
        self.assigned().keys().cloned().collect()
    }

    fn export_lag(&self, statistics: &Statistics) {
        let assigned = self.assigned();
        let mut seconds: BTreeMap<&str, f64> = BTreeMap::new();
        for ((topic, partition), assigned) in &*assigned {
            let Some(stats) = statistics
                .topics
                .get(topic)
                .and_then(|t| t.partitions.get(partition))
            else {
                continue;
            };
            let name = topic.strip_prefix(&self.prefix).unwrap_or(topic);
            // Negative offsets are librdkafka's way to say "not known yet".
            let next = assigned
                .next
                .unwrap_or(stats.committed_offset.max(stats.lo_offset));
            let lag = if stats.hi_offset < 0 {
                0
            } else {
                (stats.hi_offset - next.max(0)).max(0)
            };
            metrics::LAG
                .with_label_values(&[self.group.as_str(), name, &partition.to_string()])
                .set(lag);
            let behind = match assigned.handled_until {
                Some(until) if lag > 0 => (Utc::now() - until).as_seconds_f64().max(0.0),
                _ => 0.0,
            };
            let worst = seconds.entry(name).or_default();
            *worst = worst.max(behind);
        }
        for (topic, behind) in seconds {
            metrics::LAG_SECONDS
                .with_label_values(&[self.group.as_str(), topic])
                .set(behind);
        }
    }
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        if statistics.brokers.values().any(|broker| broker.state == "UP") {
            let joined = statistics
                .cgrp
                .as_ref()
                .is_some_and(|group| group.join_state == "steady");
            if joined {
                self.ready();
            } else {
                self.component.not_ready("joining the consumer group");
            }
        } else {
            self.component.not_ready("no Kafka broker answers");
        }
        self.export_lag(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => self.component.not_ready("no Kafka broker answers"),
            _ => tracing::debug!(error = %error, "librdkafka reports: {reason}"),
        }
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }
}

/// librdkafka's own log lines. What it calls an error is mostly a broker being away, which we report ourselves once.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(kafka.facility = facility, "{message}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            tracing::debug!(kafka.facility = facility, "{message}");
        }
        _ => tracing::trace!(kafka.facility = facility, "{message}"),
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        // Offsets need no commit here: a batch is handled and committed before the next `recv`, which is what called us.
        if let Rebalance::Revoke(partitions) = rebalance {
            self.revoke(partitions);
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => self.assign(partitions),
            Rebalance::Revoke(_) => {}
            Rebalance::Error(error) => {
                tracing::warn!(kafka.group = self.group, error = %error, "rebalance failed; librdkafka tries again");
            }
        }
    }
}

impl Context {
    fn assign(&self, partitions: &TopicPartitionList) {
        let since = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        let mut assigned = self.assigned();
        for element in partitions.elements() {
            assigned.insert(
                (element.topic().to_owned(), element.partition()),
                Assigned {
                    since,
                    next: None,
                    handled_until: None,
                    committed: true,
                },
            );
        }
        drop(assigned);
        self.ready();
        tracing::info!(
            kafka.group = self.group,
            kafka.partitions = partitions.count(),
            "partitions assigned"
        );
    }

    fn revoke(&self, partitions: &TopicPartitionList) {
        let mut assigned = self.assigned();
        for element in partitions.elements() {
            assigned.remove(&(element.topic().to_owned(), element.partition()));
            let name = element
                .topic()
                .strip_prefix(&self.prefix)
                .unwrap_or(element.topic());
            let partition = element.partition().to_string();
            // What we no longer read we no longer report on; an error means that there was nothing to remove.
            metrics::LAG
                .remove_label_values(&[self.group.as_str(), name, &partition])
                .ok();
        }
        drop(assigned);
        self.generation.fetch_add(1, Ordering::AcqRel);
        tracing::info!(
            kafka.group = self.group,
            kafka.partitions = partitions.count(),
            "partitions revoked"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rdkafka::Offset;
    use rdkafka::statistics::{Broker, ConsumerGroup};

    use super::*;

    fn context() -> (Context, service::Health) {
        let health = service::Health::new();
        let component = health.component("consumer", Duration::from_mins(1));
        (Context::new("group", "prefix.", component), health)
    }

    /// Partitions of the one topic.
    fn list(partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition("prefix.topic", *partition);
        }
        list
    }

    /// A record received now.
    fn record(context: &Context, partition: i32, offset: i64) -> Record {
        Record {
            topic: "topic".to_owned(),
            partition,
            offset,
            timestamp: None,
            key: None,
            value: None,
            headers: Vec::new(),
            replayed_at: None,
            trace: None,
            generation: context.generation(),
        }
    }

    fn uncommitted(context: &Context) -> Vec<(String, i32, i64)> {
        let Some(list) = context.uncommitted().unwrap() else {
            return Vec::new();
        };
        let mut all: Vec<_> = list
            .elements()
            .iter()
            .map(|e| {
                let Offset::Offset(offset) = e.offset() else {
                    panic!("no offset")
                };
                (e.topic().to_owned(), e.partition(), offset)
            })
            .collect();
        all.sort();
        all
    }

    fn next(partition: i32, offset: i64) -> (String, i32, i64) {
        ("prefix.topic".to_owned(), partition, offset)
    }

    #[test]
    fn what_is_committed_is_the_offset_after_the_last_one_handled() {
        let (context, _) = context();
        context.assign(&list(&[0, 1]));
        assert_eq!(uncommitted(&context), []);
        context.handled(&record(&context, 0, 0));
        context.handled(&record(&context, 1, 41));
        assert_eq!(uncommitted(&context), [next(0, 1), next(1, 42)]);
    }

    #[test]
    fn what_is_handled_never_goes_backwards() {
        let (context, _) = context();
        context.assign(&list(&[0]));
        for offset in [7, 3, 8, 8, 1] {
            context.handled(&record(&context, 0, offset));
        }
        assert_eq!(uncommitted(&context), [next(0, 9)]);
    }

    #[test]
    fn an_offset_is_committed_until_the_next_one_is_handled_and_a_late_confirmation_confirms_nothing_newer() {
        let (context, _) = context();
        context.assign(&list(&[0]));
        context.handled(&record(&context, 0, 4));
        let first = context.uncommitted().unwrap().unwrap();
        context.handled(&record(&context, 0, 5));
        context.committed(&first);
        assert_eq!(uncommitted(&context), [next(0, 6)]);
        context.committed(&context.uncommitted().unwrap().unwrap());
        assert_eq!(uncommitted(&context), []);
        context.handled(&record(&context, 0, 6));
        assert_eq!(uncommitted(&context), [next(0, 7)]);
    }

    #[test]
    fn a_record_of_an_earlier_assignment_is_not_ours_and_moves_nothing_though_the_partition_is_ours_again() {
        let (context, _) = context();
        context.assign(&list(&[0, 1]));
        let (stale, kept) = (record(&context, 0, 10), record(&context, 1, 10));
        assert!(context.owns(&stale));
        context.revoke(&list(&[0]));
        assert!(!context.owns(&stale));
        context.handled(&stale);
        context.assign(&list(&[0]));
        assert!(!context.owns(&stale));
        // Another member may have committed far beyond it: committing 11 would throw the group back.
        context.handled(&stale);
        assert_eq!(uncommitted(&context), []);
        assert!(context.owns(&kept), "what was never revoked is ours as before");
        let fresh = record(&context, 0, 200);
        assert!(context.owns(&fresh));
        context.handled(&fresh);
        assert_eq!(uncommitted(&context), [next(0, 201)]);
    }

    #[test]
    fn a_revoked_partition_is_neither_committed_nor_reported() {
        let (context, _) = context();
        context.assign(&list(&[0, 1]));
        context.handled(&record(&context, 0, 1));
        context.handled(&record(&context, 1, 1));
        context.revoke(&list(&[0]));
        assert_eq!(uncommitted(&context), [next(1, 2)]);
        assert_eq!(context.partitions(), [("prefix.topic".to_owned(), 1)]);
    }

    #[test]
    fn news_of_the_group_do_not_make_a_consumer_ready_that_waits_for_something_else() {
        let (context, health) = context();
        let steady = || {
            let broker = Broker {
                state: "UP".to_owned(),
                ..Broker::default()
            };
            let group = ConsumerGroup {
                join_state: "steady".to_owned(),
                ..ConsumerGroup::default()
            };
            Statistics {
                brokers: [("broker".to_owned(), broker)].into(),
                cgrp: Some(group),
                ..Statistics::default()
            }
        };
        context.assign(&list(&[0]));
        assert!(health.report().is_ready());
        context.set_waiting(true);
        context.component.not_ready("Postgres is away");
        context.stats(steady());
        context.assign(&list(&[0, 1]));
        assert!(!health.report().is_ready());
        context.set_waiting(false);
        context.stats(steady());
        assert!(health.report().is_ready());
    }
}
