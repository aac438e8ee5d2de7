//! What librdkafka tells us from inside `recv`: rebalances, statistics, errors. These callbacks run on the polling task
//! (rust-rdkafka#738): they note and return, and never wait.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use service::Component;

use crate::metrics;

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
    assigned: Mutex<HashMap<Place, Assigned>>,
}

impl Context {
    pub(crate) fn new(group: &str, prefix: &str, component: Component) -> Self {
        Self {
            group: group.to_owned(),
            prefix: prefix.to_owned(),
            component,
            generation: AtomicU64::new(0),
            assigned: Mutex::default(),
        }
    }

    fn assigned(&self) -> MutexGuard<'_, HashMap<Place, Assigned>> {
        // Nothing that holds the lock can panic half-way through a change.
        self.assigned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Grows with every rebalance.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether a record received under `generation` is still ours to handle.
    pub(crate) fn owns(&self, topic: &str, partition: i32, generation: u64) -> bool {
        let place = (format!("{}{topic}", self.prefix), partition);
        self.assigned().get(&place).is_some_and(|a| generation >= a.since)
    }

    /// Notes that everything up to and including `offset` is handled.
    pub(crate) fn handled(&self, topic: &str, partition: i32, offset: i64, timestamp: Option<DateTime<Utc>>) {
        let place = (format!("{}{topic}", self.prefix), partition);
        if let Some(assigned) = self.assigned().get_mut(&place)
            && assigned.next.is_none_or(|next| next <= offset)
        {
            // What is committed is the next offset to read: committing the last one read would bring it again at every
            // restart (rust-rdkafka#470).
            assigned.next = Some(offset + 1);
            assigned.handled_until = timestamp;
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
    pub(crate) fn partitions(&self) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in self.assigned().keys() {
            list.add_partition(topic, *partition);
        }
        list
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
                self.component.ready();
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

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => {
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
                self.component.ready();
                tracing::info!(
                    kafka.group = self.group,
                    kafka.partitions = partitions.count(),
                    "partitions assigned"
                );
            }
            Rebalance::Revoke(_) => {}
            Rebalance::Error(error) => {
                tracing::warn!(kafka.group = self.group, error = %error, "rebalance failed; librdkafka tries again");
            }
        }
    }
}
