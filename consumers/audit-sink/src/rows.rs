//! Records as rows, column by column, the way `unnest` takes them.

use std::ops::Range;

use chrono::{DateTime, Datelike, Utc};
use kafka::{DEAD_LETTER_HEADERS, Record};
use schemas::{Actor, Event};
use uuid::Uuid;

use crate::json;

/// The type of a row whose record could not be read.
pub(crate) const UNDECODABLE: &str = "undecodable";
/// The type of a row whose record is a dead letter of another consumer.
pub(crate) const DEAD_LETTER: &str = "dead_letter";

/// Ids of rows that have no event id are UUIDv5 in this namespace: of the place that the record was found in.
const PLACES: Uuid = Uuid::from_u128(0x9d3c_5a0e_4b1f_5c77_8a42_6f0d_2e91_b7c4);

// Destructured, so that a change of their order or number does not compile or shows in the tests.
const SOURCE: [&str; 4] = {
    let [topic, partition, offset, group, ..] = DEAD_LETTER_HEADERS;
    [topic, partition, offset, group]
};
const WHY: [&str; 2] = {
    let [.., reason, message] = DEAD_LETTER_HEADERS;
    [reason, message]
};

/// Why a record could not be read.
#[derive(Debug, Clone)]
pub(crate) struct Unreadable {
    /// A stable word.
    pub(crate) reason: &'static str,
    /// What exactly is wrong.
    pub(crate) message: String,
}

/// Rows of `audit.events`.
#[derive(Debug, Default)]
pub(crate) struct Rows<'a> {
    /// The place of each row's record in the batch.
    pub(crate) indexes: Vec<usize>,
    pub(crate) event_ids: Vec<Uuid>,
    pub(crate) occurred_at: Vec<DateTime<Utc>>,
    pub(crate) topics: Vec<&'a str>,
    pub(crate) partitions: Vec<i32>,
    pub(crate) offsets: Vec<i64>,
    pub(crate) event_types: Vec<&'static str>,
    pub(crate) user_ids: Vec<Option<Uuid>>,
    pub(crate) task_ids: Vec<Option<Uuid>>,
    pub(crate) actors: Vec<Option<&'static str>>,
    pub(crate) payloads: Vec<Option<String>>,
    pub(crate) raws: Vec<Option<&'a [u8]>>,
    pub(crate) headers: Vec<String>,
}

impl<'a> Rows<'a> {
    /// No rows yet, with room for some.
    pub(crate) fn with_capacity(rows: usize) -> Self {
        Self {
            indexes: Vec::with_capacity(rows),
            event_ids: Vec::with_capacity(rows),
            occurred_at: Vec::with_capacity(rows),
            topics: Vec::with_capacity(rows),
            partitions: Vec::with_capacity(rows),
            offsets: Vec::with_capacity(rows),
            event_types: Vec::with_capacity(rows),
            user_ids: Vec::with_capacity(rows),
            task_ids: Vec::with_capacity(rows),
            actors: Vec::with_capacity(rows),
            payloads: Vec::with_capacity(rows),
            raws: Vec::with_capacity(rows),
            headers: Vec::with_capacity(rows),
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> Range<usize> {
        0..self.indexes.len()
    }

    /// Adds the row of an event.
    pub(crate) fn push_event(
        &mut self,
        index: usize,
        record: &'a Record,
        event_type: &'static str,
        event: &Event,
    ) {
        let head = event.head();
        if !storable(head.occurred_at) {
            let why = Unreadable {
                reason: "invalid_event",
                message: format!("occurred_at {} is outside of the calendar", head.occurred_at),
            };
            return self.push_unreadable(index, record, &why);
        }
        // Serialised once, as text: the database makes jsonb of it.
        let payload = match event {
            Event::Task(event) => serde_json::to_string(event),
            Event::Reminder(event) => serde_json::to_string(event),
            Event::Notification(event) => serde_json::to_string(event),
        };
        let problem = match &payload {
            Ok(json) => json::find_nul(json)
                .map(|_| "kept as raw bytes: a text in it holds U+0000, which jsonb cannot".to_owned()),
            Err(error) => Some(format!("kept as raw bytes: {error}")),
        };
        let (payload, raw) = match (payload, &problem) {
            (Ok(json), None) => (Some(json), None),
            _ => (None, record.value.as_deref()),
        };
        self.place(index, record);
        self.event_ids.push(head.event_id);
        self.occurred_at.push(head.occurred_at);
        self.event_types.push(event_type);
        self.user_ids.push(Some(head.user_id));
        self.task_ids.push(Some(event.task_id()));
        self.actors.push(Some(actor(head.actor)));
        self.payloads.push(payload);
        self.raws.push(raw);
        self.headers.push(match &problem {
            None => json::headers(headers(record)),
            Some(why) => json::headers(headers(record).chain([(WHY[1], Some(why.as_bytes()))])),
        });
    }

    /// Adds the row of a record that cannot be read: its bytes as they are, and why.
    pub(crate) fn push_unreadable(&mut self, index: usize, record: &'a Record, why: &Unreadable) {
        // The same headers as a dead letter's, so that one query finds both.
        let reason = WHY
            .into_iter()
            .zip([Some(why.reason.as_bytes()), Some(why.message.as_bytes())]);
        let headers = json::headers(headers(record).chain(reason));
        self.push_raw(index, record, own_place(record), UNDECODABLE, headers);
    }

    /// Adds the row of a dead letter. Its id is that of the place where its source was found and the group that gave it
    /// up: a dead letter that was written twice is two records and one row.
    pub(crate) fn push_dead_letter(&mut self, index: usize, record: &'a Record) {
        let source = SOURCE.map(|name| record.header(name));
        let id = if let [Some(topic), Some(partition), Some(offset), Some(group)] = source {
            place_id(&[topic, partition, offset, group])
        } else {
            // Put there by hand.
            own_place(record)
        };
        self.push_raw(index, record, id, DEAD_LETTER, json::headers(headers(record)));
    }

    fn push_raw(
        &mut self,
        index: usize,
        record: &'a Record,
        id: Uuid,
        event_type: &'static str,
        headers: String,
    ) {
        self.place(index, record);
        self.event_ids.push(id);
        // Always the same for the same record, so never our clock.
        self.occurred_at.push(
            record
                .timestamp
                .filter(|at| storable(*at))
                .unwrap_or(DateTime::UNIX_EPOCH),
        );
        self.event_types.push(event_type);
        self.user_ids.push(user_in_key(record));
        self.task_ids.push(None);
        self.actors.push(None);
        self.payloads.push(None);
        self.raws.push(record.value.as_deref());
        self.headers.push(headers);
    }

    fn place(&mut self, index: usize, record: &'a Record) {
        self.indexes.push(index);
        self.topics.push(&record.topic);
        self.partitions.push(record.partition);
        self.offsets.push(record.offset);
    }
}

fn headers(record: &Record) -> impl Iterator<Item = (&str, Option<&[u8]>)> + Clone {
    record
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_deref()))
}

fn own_place(record: &Record) -> Uuid {
    place_id(&[
        &record.topic,
        &record.partition.to_string(),
        &record.offset.to_string(),
    ])
}

fn place_id(parts: &[&str]) -> Uuid {
    Uuid::new_v5(&PLACES, parts.join("/").as_bytes())
}

/// Whose a record is that tells it by nothing but its key.
fn user_in_key(record: &Record) -> Option<Uuid> {
    let key = std::str::from_utf8(record.key.as_deref()?).ok()?;
    Uuid::try_parse(key).ok()
}

/// Whether Postgres can hold that time: it ends before chrono does, and nobody means a year of five digits.
fn storable(at: DateTime<Utc>) -> bool {
    (1..=9999).contains(&at.year())
}

fn actor(actor: Actor) -> &'static str {
    match actor {
        Actor::User => "user",
        Actor::Assistant => "assistant",
        Actor::Recurrence => "recurrence",
        Actor::System => "system",
    }
}
