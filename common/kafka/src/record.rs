//! A record as the loop hands it on: owned, so that nothing ties a batch to the consumer (rust-rdkafka#643).
//!
//! What `carillon dlq replay` gave to a group again comes from the group's retry topic and looks here as it did the first
//! time: topic, partition, offset and headers are those of its source. So nobody who handles records has to know of it.

use chrono::{DateTime, Utc};
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers};
use schemas::topics;
use service::trace::{TRACEPARENT, Trace};

/// The header that a record in a retry topic carries last, behind those of its source: where the source lay, as
/// `task-events/3/1234`.
pub(crate) const REPLAY_HEADER: &str = "carillon-replay-of";

/// Where a record lies, or lay.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The topic's name, without prefix.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: i64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.offset)
    }
}

impl Place {
    /// Reads what [`std::fmt::Display`] writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.rsplitn(3, '/');
        let offset = parts.next()?.parse().ok()?;
        let partition = parts.next()?.parse().ok()?;
        Some(Self {
            topic: parts.next()?.to_owned(),
            partition,
            offset,
        })
    }
}

/// One record.
#[derive(Debug, Clone)]
pub struct Record {
    /// The topic's name, without prefix.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: i64,
    /// When the producer, or the broker, says it was written.
    pub timestamp: Option<DateTime<Utc>>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// The headers in their order; a name may come twice.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Where it was found in a retry topic, if that is where it comes from.
    pub(crate) replayed_at: Option<Box<Place>>,
    /// Where in its trace it is handled: see [`Record::trace`].
    pub(crate) trace: Option<Trace>,
    /// Which assignment of the partition it was received under.
    pub(crate) generation: u64,
}

impl Record {
    /// As a consumer is to see it.
    pub(crate) fn of(message: &BorrowedMessage<'_>, prefix: &str, generation: u64) -> Self {
        let record = Self {
            generation,
            ..Self::found(message, prefix)
        };
        let mut record = if record.topic.ends_with(topics::RETRY_SUFFIX) {
            record.into_its_source()
        } else {
            record
        };
        record.trace = record.header(TRACEPARENT).and_then(Trace::parse);
        record
    }

    /// As it was found.
    pub(crate) fn found(message: &BorrowedMessage<'_>, prefix: &str) -> Self {
        let topic = message.topic();
        Self {
            topic: topic.strip_prefix(prefix).unwrap_or(topic).to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message
                .timestamp()
                .to_millis()
                .and_then(DateTime::from_timestamp_millis),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: message
                .headers()
                .map(|headers| {
                    headers
                        .iter()
                        .map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec)))
                        .collect()
                })
                .unwrap_or_default(),
            replayed_at: None,
            trace: None,
            generation: 0,
        }
    }

    /// A record of a retry topic as its source was. One that somebody put there by hand, without our header or with one that
    /// tells of another topic, counts as one of the topic behind: it may not choose where its dead letter goes.
    fn into_its_source(mut self) -> Self {
        let found = self.place();
        let source = self
            .headers
            .pop_if(|(name, _)| name == REPLAY_HEADER)
            .and_then(|(_, value)| Place::parse(std::str::from_utf8(&value?).ok()?))
            .filter(|source| topics::source_of(&source.topic) == topics::source_of(&found.topic));
        match source {
            Some(source) => {
                (self.topic, self.partition, self.offset) = (source.topic, source.partition, source.offset);
            }
            None => self.topic = topics::source_of(&found.topic).to_owned(),
        }
        self.replayed_at = Some(Box::new(found));
        self
    }

    /// Where it was found: in a retry topic, or where it says.
    pub(crate) fn place(&self) -> Place {
        match &self.replayed_at {
            Some(place) => Place::clone(place),
            None => self.source(),
        }
    }

    /// Where it lay the first time.
    pub(crate) fn source(&self) -> Place {
        Place {
            topic: self.topic.clone(),
            partition: self.partition,
            offset: self.offset,
        }
    }

    /// Its trace, which what follows from it goes on with; `None` for what nobody asked for, and for what is of before
    /// traces.
    #[must_use]
    pub fn trace(&self) -> Option<Trace> {
        self.trace
    }

    /// The bytes that it takes in a batch.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len)
    }

    /// The last header of that name, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().rev().find(|(key, _)| key == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }
}
