//! Dead letters, read again: which are open, and what an operator does about them. docs/adr/0016 is the why.
//!
//! What was done about a letter is itself a record of its topic, a *note*: so the log says all there is to say, the audit sink
//! reads it as it reads everything, and no database has to be there.

use std::collections::{BTreeSet, HashSet};

use chrono::{DateTime, Utc};
use rdkafka::error::KafkaError;
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::future_producer::DeliveryFuture;
use schemas::topics;

use crate::dead_letter::{DEAD_LETTER_HEADERS, LEFT_OUT_HEADER};
use crate::producer::to_headers;
use crate::reader::Reader;
use crate::record::{Place, REPLAY_HEADER};
use crate::{KafkaConfig, Producer, Record};

/// The headers of a note: what was done, about the letter at which place, by whom, and why.
pub const NOTE_HEADERS: [&str; 4] = [
    "carillon-dead-letter-resolution",
    "carillon-dead-letter-place",
    "carillon-operator",
    "carillon-because",
];

/// How many letters, or bytes of letters, are replayed before it is written down that they are.
const BUNDLE_LETTERS: usize = 100;
const BUNDLE_BYTES: usize = 8 << 20;

type Header = (String, Option<Vec<u8>>);

/// A dead letter.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Where it lies.
    pub place: Place,
    /// When it was written.
    pub written_at: Option<DateTime<Utc>>,
    /// Where its source lay; `None` of what somebody put there by hand.
    pub source: Option<Place>,
    /// The group that refused it.
    pub group: String,
    /// Where it failed.
    pub stage: String,
    /// A stable word.
    pub reason: String,
    /// What exactly is wrong.
    pub message: String,
    /// Whether it was replayed and refused again.
    pub refused_again: bool,
    /// How large its source's value was, if no broker took the letter with it.
    pub left_out_bytes: Option<u64>,
    /// How large its value is.
    pub value_bytes: usize,
}

impl Letter {
    /// Reads a record of a dead-letter topic; `None` if it is a note.
    #[must_use]
    pub fn of(record: &Record) -> Option<Self> {
        if note_about(record).is_some() {
            return None;
        }
        let text = |name: &str| record.header(name).unwrap_or_default().to_owned();
        let [topic, partition, offset, _, stage, reason, message] = DEAD_LETTER_HEADERS.map(text);
        let (_, ours) = split(record);
        let found = ours.then(|| {
            Some(Place {
                topic,
                partition: partition.parse().ok()?,
                offset: offset.parse().ok()?,
            })
        });
        let found = found.flatten();
        let refused_again = found.as_ref().is_some_and(is_retry);
        let source = if refused_again {
            record.header(REPLAY_HEADER).and_then(Place::parse)
        } else {
            found
        };
        Some(Self {
            place: record.place(),
            written_at: record.timestamp,
            source,
            group: group_of(&record.topic).to_owned(),
            stage,
            reason: if ours {
                reason
            } else {
                "put_there_by_hand".to_owned()
            },
            message,
            refused_again,
            left_out_bytes: record.header(LEFT_OUT_HEADER).and_then(|n| n.parse().ok()),
            value_bytes: record.value.as_ref().map_or(0, Vec::len),
        })
    }

    /// Why it cannot be replayed, if it cannot.
    #[must_use]
    pub fn obstacle(&self) -> Option<&'static str> {
        if self.source.is_none() {
            Some("it was put there by hand: nothing says where it came from")
        } else if self.left_out_bytes.is_some() {
            Some("its value was too large to be kept: it lies in the source topic alone")
        } else {
            None
        }
    }
}

/// The group that a dead-letter topic belongs to.
#[must_use]
pub fn group_of(topic: &str) -> &str {
    let name = topic.strip_suffix(topics::DEAD_LETTER_SUFFIX).unwrap_or(topic);
    name.split_once('.').map_or("", |(_, group)| group)
}

fn is_retry(place: &Place) -> bool {
    place.topic.ends_with(topics::RETRY_SUFFIX)
}

/// The headers that the letter's source had, and whether the letter is one of ours at all.
fn split(record: &Record) -> (&[Header], bool) {
    let all = record.headers.as_slice();
    let Some((mut source, last)) = all.split_last_chunk::<{ DEAD_LETTER_HEADERS.len() }>() else {
        return (all, false);
    };
    if !last.iter().map(|(name, _)| name.as_str()).eq(DEAD_LETTER_HEADERS) {
        return (all, false);
    }
    // Ours only where we put them: a source may have had headers of these names.
    let mut strip = |name: &str| {
        if let Some(((last, _), rest)) = source.split_last()
            && last == name
        {
            source = rest;
        }
    };
    if record.value.is_none() {
        strip(LEFT_OUT_HEADER);
    }
    if record
        .header(DEAD_LETTER_HEADERS[0])
        .is_some_and(|topic| topic.ends_with(topics::RETRY_SUFFIX))
    {
        strip(REPLAY_HEADER);
    }
    (source, true)
}

/// What a note is about; `None` of what is none. A letter always ends with headers of ours, so no source can pass for a note.
fn note_about(record: &Record) -> Option<Place> {
    let names = record.headers.iter().map(|(name, _)| name.as_str());
    if !names.eq(NOTE_HEADERS) {
        return None;
    }
    Place::parse(record.header(NOTE_HEADERS[1])?)
}

/// What was done about a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// Its source was given to the group again.
    Replayed,
    /// It is not to be handled.
    Dropped,
}

impl Resolution {
    fn name(self) -> &'static str {
        match self {
            Self::Replayed => "replayed",
            Self::Dropped => "dropped",
        }
    }
}

/// The letters of a topic that nothing was done about, one after the other: there may be more than memory holds.
#[derive(Debug)]
pub struct OpenLetters {
    reader: Reader,
    done: HashSet<(i32, i64)>,
}

impl OpenLetters {
    /// Reads what was done about the letters of a topic, all of it, and then gives those that are open.
    ///
    /// # Errors
    /// When no broker answers, or the topic is not there.
    pub async fn of(config: &KafkaConfig, topic: &str) -> Result<Self, KafkaError> {
        let mut done = HashSet::new();
        let mut reader = Reader::all(config, topic).await?;
        while let Some(record) = reader.next().await? {
            done.extend(note_about(&record).map(|place| (place.partition, place.offset)));
        }
        Ok(Self {
            reader: Reader::all(config, topic).await?,
            done,
        })
    }

    /// Whether nothing was done about a letter of the topic.
    #[must_use]
    pub fn is_open(&self, letter: &Letter) -> bool {
        !self.done.contains(&(letter.place.partition, letter.place.offset))
    }

    /// The next one, in their order; `None` when there are no more.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn next(&mut self) -> Result<Option<Letter>, KafkaError> {
        while let Some(record) = self.reader.next().await? {
            if let Some(letter) = Letter::of(&record).filter(|letter| self.is_open(letter)) {
                return Ok(Some(letter));
            }
        }
        Ok(None)
    }
}

/// The record at a place of a topic, if there is one.
///
/// # Errors
/// When no broker answers, or the topic is not there.
pub async fn record_at(
    config: &KafkaConfig,
    topic: &str,
    partition: i32,
    offset: i64,
) -> Result<Option<Record>, KafkaError> {
    let range = |at: i32, _| {
        if at == partition {
            (offset, offset + 1)
        } else {
            (0, 0)
        }
    };
    let record = Reader::open(config, topic, range).await?.next().await?;
    Ok(record.filter(|record| record.offset == offset))
}

/// Who does something about letters, and why.
#[derive(Debug, Clone)]
pub struct Operator {
    /// The name.
    pub name: String,
    /// The reason, in words.
    pub because: String,
}

/// Gives records to groups again, and writes down what was done about letters.
#[derive(Debug)]
pub struct Replayer {
    config: KafkaConfig,
    producer: Producer,
}

impl Replayer {
    /// A replayer; it connects in the background.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn new(config: &KafkaConfig) -> Result<Self, KafkaError> {
        Ok(Self {
            config: config.clone(),
            producer: Producer::new(config, "carillon")?,
        })
    }

    /// Gives the sources of these letters of one topic to the group that refused them, in their order, and notes that. Ended in
    /// the middle, some were given without a note: given again, they have no second effect. `progress` hears how many are done.
    ///
    /// # Errors
    /// When no broker answers, or one refuses a record.
    pub async fn replay(
        &self,
        topic: &str,
        letters: &[Letter],
        operator: &Operator,
        mut progress: impl FnMut(usize),
    ) -> Result<usize, KafkaError> {
        let chosen: BTreeSet<(i32, i64)> = letters
            .iter()
            .filter(|letter| letter.obstacle().is_none())
            .map(|letter| (letter.place.partition, letter.place.offset))
            .collect();
        let mut reader = self.reader(topic, &chosen).await?;
        let retry = topics::retry(topics::source_of(topic), group_of(topic));
        let (mut sent, mut notes, mut bytes, mut done) = (Vec::new(), Vec::new(), 0, 0);
        while let Some(record) = reader.next().await? {
            let Some(letter) =
                Letter::of(&record).filter(|_| chosen.contains(&(record.partition, record.offset)))
            else {
                continue;
            };
            let Some(source) = &letter.source else { continue };
            let (headers, _) = split(&record);
            sent.push(self.give(&retry, source, headers, &record).await?);
            bytes += record.size_bytes();
            notes.push((letter.place, record.key));
            if notes.len() >= BUNDLE_LETTERS || bytes >= BUNDLE_BYTES {
                done += self.settle(&mut sent, &mut notes, operator).await?;
                bytes = 0;
                progress(done);
            }
        }
        done += self.settle(&mut sent, &mut notes, operator).await?;
        progress(done);
        Ok(done)
    }

    /// Notes that these letters of one topic are not to be handled. They stay where they are.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn drop_letters(
        &self,
        topic: &str,
        letters: &[Letter],
        operator: &Operator,
    ) -> Result<usize, KafkaError> {
        let chosen = letters
            .iter()
            .map(|letter| (letter.place.partition, letter.place.offset))
            .collect();
        let mut reader = self.reader(topic, &chosen).await?;
        let mut sent = Vec::new();
        while let Some(record) = reader.next().await? {
            if chosen.contains(&(record.partition, record.offset)) {
                sent.push(
                    self.note(
                        Resolution::Dropped,
                        &record.place(),
                        record.key.as_deref(),
                        operator,
                    )
                    .await?,
                );
            }
        }
        let dropped = sent.len();
        acknowledged(sent).await?;
        Ok(dropped)
    }

    /// Gives a group a record of one of its topics again. The future resolves when the broker has it.
    ///
    /// # Errors
    /// When librdkafka refuses the record.
    pub async fn give_again(&self, group: &str, record: &Record) -> Result<DeliveryFuture, KafkaError> {
        let retry = topics::retry(&record.topic, group);
        self.give(&retry, &record.place(), &record.headers, record).await
    }

    async fn reader(&self, topic: &str, chosen: &BTreeSet<(i32, i64)>) -> Result<Reader, KafkaError> {
        let range = |partition: i32, _| {
            let offsets = || {
                chosen
                    .iter()
                    .filter(|(p, _)| *p == partition)
                    .map(|(_, offset)| *offset)
            };
            match (offsets().min(), offsets().max()) {
                (Some(first), Some(last)) => (first, last + 1),
                _ => (0, 0),
            }
        };
        Reader::open(&self.config, topic, range).await
    }

    /// Writes key, value and headers of a source as they were to a retry topic.
    async fn give(
        &self,
        retry: &str,
        source: &Place,
        headers: &[Header],
        record: &Record,
    ) -> Result<DeliveryFuture, KafkaError> {
        let source = source.to_string();
        let headers = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()))
            .chain([(REPLAY_HEADER, Some(source.as_bytes()))]);
        self.enqueue(
            retry,
            record.key.as_deref(),
            record.value.as_deref(),
            to_headers(headers),
        )
        .await
    }

    async fn note(
        &self,
        resolution: Resolution,
        letter: &Place,
        key: Option<&[u8]>,
        operator: &Operator,
    ) -> Result<DeliveryFuture, KafkaError> {
        let place = letter.to_string();
        let words = [resolution.name(), &place, &operator.name, &operator.because];
        let headers = NOTE_HEADERS
            .into_iter()
            .zip(words.map(|word| Some(word.as_bytes())));
        self.enqueue(&letter.topic, key, None, to_headers(headers)).await
    }

    async fn enqueue(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: OwnedHeaders,
    ) -> Result<DeliveryFuture, KafkaError> {
        let topic = self.config.prefixed(topic);
        self.producer.enqueue(&topic, key, value, headers).await
    }

    /// Waits until the group has what was sent, and only then notes it.
    async fn settle(
        &self,
        sent: &mut Vec<DeliveryFuture>,
        notes: &mut Vec<(Place, Option<Vec<u8>>)>,
        operator: &Operator,
    ) -> Result<usize, KafkaError> {
        acknowledged(std::mem::take(sent)).await?;
        let done = notes.len();
        let mut noted = Vec::new();
        for (place, key) in notes.drain(..) {
            noted.push(
                self.note(Resolution::Replayed, &place, key.as_deref(), operator)
                    .await?,
            );
        }
        acknowledged(noted).await?;
        Ok(done)
    }
}

/// Waits until the broker has all of them.
///
/// # Errors
/// When it refuses one.
pub async fn acknowledged(sent: Vec<DeliveryFuture>) -> Result<(), KafkaError> {
    for delivery in sent {
        match delivery.await {
            Ok(Ok(_)) => {}
            Ok(Err((error, _))) => return Err(error),
            Err(_) => return Err(KafkaError::Canceled),
        }
    }
    Ok(())
}
