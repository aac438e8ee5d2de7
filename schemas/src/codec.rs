//! Avro bodies and the Confluent frame around them: `0x00`, the registry's schema id as 4 bytes big-endian, the body.

use std::sync::{LazyLock, Once};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::tolerant::Tolerant;
use crate::{
    Event, InvariantError, NotificationEvent, NotificationEventKind, ReminderEvent, ReminderEventKind,
    TaskEvent, TaskEventKind, cloudevents, topics,
};

/// The bytes before the Avro body.
pub const FRAME_HEADER_BYTES: usize = 5;

/// The largest event that is written or read. The API's bounds on a task keep events far below it.
pub const MAX_EVENT_BYTES: usize = 1 << 20;

/// One event's schema as this build knows it.
#[derive(Debug)]
pub struct EventSchema {
    /// The record's name, such as `TaskCreated`.
    pub name: &'static str,
    /// The record's full name, such as `com.carillon.task.TaskCreated`.
    pub fullname: String,
    /// The topic that it is published to.
    pub topic: &'static str,
    /// The CloudEvents type, such as `com.carillon.task.created.v1`.
    pub event_type: String,
    /// The schema as JSON without white space, as it is registered.
    pub json: String,
    /// Names exactly that JSON: a UUIDv5 of it. Not Avro's canonical fingerprint, which is blind to defaults and
    /// logical types, both of which the registry must know.
    pub fingerprint: Uuid,
    schema: Schema,
}

impl EventSchema {
    pub(crate) fn avro(&self) -> &Schema {
        &self.schema
    }

    /// The registry subject under the strategy TopicRecordName, for topics whose names start with `prefix`.
    #[must_use]
    pub fn subject(&self, prefix: &str) -> String {
        format!("{prefix}{}-{}", self.topic, self.fullname)
    }
}

/// A schema's JSON without white space, keys in their order of the file.
fn compact(source: &str) -> String {
    let mut in_string = false;
    let mut escaped = false;
    source
        .chars()
        .filter(|c| {
            let keep = in_string || !c.is_whitespace();
            match c {
                _ if escaped => escaped = false,
                '\\' if in_string => escaped = true,
                '"' => in_string = !in_string,
                _ => {}
            }
            keep
        })
        .collect()
}

macro_rules! avsc {
    ($topic:expr, $($name:literal),+) => {
        [$(($name, $topic, include_str!(concat!("../avro/", $name, ".avsc")))),+]
    };
}

static SCHEMAS: LazyLock<Vec<EventSchema>> = LazyLock::new(|| {
    let task = avsc!(
        topics::TASK_EVENTS,
        "TaskCreated",
        "TaskUpdated",
        "TaskCompleted",
        "TaskReopened",
        "TaskDeleted",
        "TaskRestored"
    );
    let reminder = avsc!(
        topics::TASK_REMINDERS,
        "ReminderScheduled",
        "ReminderFired",
        "ReminderSnoozed",
        "ReminderCancelled"
    );
    let notification = avsc!(
        topics::NOTIFICATION_EVENTS,
        "NotificationSent",
        "NotificationFailed",
        "NotificationSuppressed"
    );
    task.into_iter()
        .chain(reminder)
        .chain(notification)
        .map(|(name, topic, source)| parse(name, topic, source))
        .collect()
});

#[expect(
    clippy::expect_used,
    reason = "the files are compiled in, and a test parses every one of them"
)]
fn parse(name: &'static str, topic: &'static str, source: &str) -> EventSchema {
    let json = compact(source);
    let schema = Schema::parse_str(&json).expect("a compiled-in schema is valid Avro");
    let fullname = schema.name().map(ToString::to_string).unwrap_or_default();
    EventSchema {
        name,
        topic,
        event_type: cloudevents::event_type(&fullname),
        fullname,
        fingerprint: Uuid::new_v5(&Uuid::NAMESPACE_OID, json.as_bytes()),
        json,
        schema,
    }
}

/// The schemas of every event, in the order of the topics table.
#[must_use]
pub fn all_schemas() -> &'static [EventSchema] {
    &SCHEMAS
}

/// An event ready for the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Identity of the event.
    pub event_id: Uuid,
    /// The topic it belongs to, without prefix.
    pub topic: &'static str,
    /// The partition key: the user.
    pub user_id: Uuid,
    /// The CloudEvents type.
    pub event_type: &'static str,
    /// Which schema the body was written with.
    pub fingerprint: Uuid,
    /// The Avro body, not framed: only the relay knows registry ids.
    pub body: Vec<u8>,
    /// CloudEvents headers.
    pub headers: Vec<(String, String)>,
}

/// An event could not be written down.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// It breaks an invariant; a writer's bug.
    #[error(transparent)]
    Invariant(#[from] InvariantError),
    /// It does not fit its schema; a bug of this crate.
    #[error("the event does not fit its schema")]
    Avro(#[from] Box<apache_avro::Error>),
    /// It is larger than [`MAX_EVENT_BYTES`].
    #[error("the event has {0} bytes, more than {MAX_EVENT_BYTES}")]
    TooLarge(usize),
}

impl Event {
    /// The event as an outbox row, written by `source` (the service's name).
    ///
    /// # Errors
    /// When the event breaks an invariant or is too large.
    pub fn encode(&self, source: &str) -> Result<Encoded, EncodeError> {
        self.check()?;
        let name = self.record_name();
        let schema = SCHEMAS.iter().find(|s| s.name == name).ok_or(InvariantError {
            field: "kind",
            problem: "has no schema",
        })?;
        // human_readable: uuids travel as text, as their logical type on a string demands.
        let writer = GenericDatumWriter::builder(&schema.schema)
            .human_readable(true)
            .build()
            .map_err(Box::new)?;
        let body = match self {
            Self::Task(e) => writer.write_ser_to_vec(e),
            Self::Reminder(e) => writer.write_ser_to_vec(e),
            Self::Notification(e) => writer.write_ser_to_vec(e),
        }
        .map_err(Box::new)?;
        if body.len() > MAX_EVENT_BYTES {
            return Err(EncodeError::TooLarge(body.len()));
        }
        let head = self.head();
        Ok(Encoded {
            event_id: head.event_id,
            topic: schema.topic,
            user_id: head.user_id,
            event_type: &schema.event_type,
            fingerprint: schema.fingerprint,
            body,
            headers: cloudevents::headers(self, &schema.event_type, source),
        })
    }
}

/// Puts the Confluent header before an Avro body.
#[must_use]
pub fn frame(schema_id: u32, body: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(FRAME_HEADER_BYTES + body.len());
    framed.push(0);
    framed.extend_from_slice(&schema_id.to_be_bytes());
    framed.extend_from_slice(body);
    framed
}

/// Why a record cannot be read. Waiting mends none of these.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The record has no value.
    #[error("the record has no value")]
    Empty,
    /// The value does not start with the magic byte and a schema id.
    #[error("the value is not in Confluent framing: its first byte is not 0, or it is shorter than 5 bytes")]
    NotFramed,
    /// The value is larger than [`MAX_EVENT_BYTES`].
    #[error("the value has {0} bytes, more than {MAX_EVENT_BYTES}")]
    TooLarge(usize),
    /// The registry knows no schema of that id.
    #[error("the registry knows no schema with id {0}")]
    UnknownSchemaId(u32),
    /// The registry's schema is not Avro.
    #[error("the schema is not valid Avro")]
    BadSchema(#[source] Box<apache_avro::Error>),
    /// The schema's record is no event that this build knows.
    #[error("{0:?} is no event of this version")]
    UnknownRecord(String),
    /// The record belongs to another topic.
    #[error("{record} belongs to {belongs}, not to {found}")]
    WrongTopic {
        /// The record's name.
        record: &'static str,
        /// The topic that it belongs to.
        belongs: &'static str,
        /// The topic that it was found in.
        found: String,
    },
    /// The body is not what the schema says.
    #[error("the body does not match its schema")]
    Body(#[source] Box<apache_avro::Error>),
    /// Bytes are left after the record.
    #[error("{0} bytes are left over after the record")]
    TrailingBytes(usize),
    /// The record is well-formed and says what cannot be.
    #[error(transparent)]
    Invariant(#[from] InvariantError),
}

impl DecodeError {
    /// A stable word for metrics and dead-letter headers.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::NotFramed => "not_framed",
            Self::TooLarge(_) => "too_large",
            Self::UnknownSchemaId(_) => "unknown_schema_id",
            Self::BadSchema(_) => "bad_schema",
            Self::UnknownRecord(_) => "unknown_record",
            Self::WrongTopic { .. } => "wrong_topic",
            Self::Body(_) => "undecodable",
            Self::TrailingBytes(_) => "trailing_bytes",
            Self::Invariant(_) => "invalid_event",
        }
    }
}

/// Splits a framed value into the schema id and the Avro body.
///
/// # Errors
/// When the value is empty, too large or not framed.
pub fn unframe(value: Option<&[u8]>) -> Result<(u32, &[u8]), DecodeError> {
    let value = value.ok_or(DecodeError::Empty)?;
    if value.len() > MAX_EVENT_BYTES + FRAME_HEADER_BYTES {
        return Err(DecodeError::TooLarge(value.len()));
    }
    match value.split_first_chunk::<FRAME_HEADER_BYTES>() {
        Some(([0, a, b, c, d], body)) => Ok((u32::from_be_bytes([*a, *b, *c, *d]), body)),
        _ => Err(DecodeError::NotFramed),
    }
}

/// A schema that some record was written with, as the registry gave it.
#[derive(Debug)]
pub struct WriterSchema {
    schema: Schema,
    known: Option<&'static EventSchema>,
}

impl WriterSchema {
    /// Reads a schema's JSON text.
    ///
    /// # Errors
    /// [`DecodeError::BadSchema`] when it is not valid Avro.
    pub fn parse(json: &str) -> Result<Self, DecodeError> {
        let schema = Schema::parse_str(json).map_err(|e| DecodeError::BadSchema(Box::new(e)))?;
        let known = schema.name().and_then(|name| {
            let name = name.to_string();
            SCHEMAS.iter().find(|s| s.fullname == name)
        });
        Ok(Self { schema, known })
    }

    fn record_name(&self) -> String {
        self.schema.name().map(ToString::to_string).unwrap_or_default()
    }
}

/// Reads an Avro body found in `topic` (its name without prefix) and checks what must hold of it.
///
/// # Errors
/// Anything wrong with the record, see [`DecodeError`].
pub fn decode(topic: &str, schema: &WriterSchema, body: &[u8]) -> Result<Event, DecodeError> {
    let known = schema
        .known
        .ok_or_else(|| DecodeError::UnknownRecord(schema.record_name()))?;
    if known.topic != topic {
        return Err(DecodeError::WrongTopic {
            record: known.name,
            belongs: known.topic,
            found: topic.to_owned(),
        });
    }
    let event = if let Some(kind) = TaskEventKind::ALL
        .into_iter()
        .find(|k| k.record_name() == known.name)
    {
        Event::Task(TaskEvent {
            kind,
            ..read(schema, body)?
        })
    } else if let Some(kind) = ReminderEventKind::ALL
        .into_iter()
        .find(|k| k.record_name() == known.name)
    {
        Event::Reminder(ReminderEvent {
            kind,
            ..read(schema, body)?
        })
    } else if let Some(kind) = NotificationEventKind::ALL
        .into_iter()
        .find(|k| k.record_name() == known.name)
    {
        Event::Notification(NotificationEvent {
            kind,
            ..read(schema, body)?
        })
    } else {
        return Err(DecodeError::UnknownRecord(schema.record_name()));
    };
    event.check()?;
    Ok(event)
}

/// A forged length must not make us allocate: apache-avro's own bound is 512 MiB.
fn bound_allocations() {
    static BOUND: Once = Once::new();
    BOUND.call_once(|| {
        apache_avro::util::max_allocation_bytes(MAX_EVENT_BYTES);
    });
}

/// Any Avro body as its schema describes it, for people to look at: nothing is checked of what it says, it need not be an event
/// of this version, and bytes may be left over.
///
/// # Errors
/// When the body is not what the schema says.
pub fn to_json(schema: &WriterSchema, body: &[u8]) -> Result<serde_json::Value, DecodeError> {
    bound_allocations();
    let body_error = |e| DecodeError::Body(Box::new(e));
    let reader = GenericDatumReader::builder(&schema.schema)
        .build()
        .map_err(body_error)?;
    let mut rest = body;
    let value = reader.read_value(&mut rest).map_err(body_error)?;
    serde_json::Value::try_from(value).map_err(body_error)
}

/// Decodes with the writer's schema straight into the struct: fields that are new to us are skipped, fields that the
/// writer did not have yet take their serde default, symbols match by name.
fn read<T: DeserializeOwned>(schema: &WriterSchema, body: &[u8]) -> Result<T, DecodeError> {
    bound_allocations();
    let reader = GenericDatumReader::builder(&schema.schema)
        .human_readable(true)
        .build()
        .map_err(|e| DecodeError::Body(Box::new(e)))?;
    let mut rest = body;
    let Tolerant(value) = reader
        .read_deser(&mut rest)
        .map_err(|e| DecodeError::Body(Box::new(e)))?;
    // apache-avro ignores what is left; for us it means that the bytes are not what they claim.
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(DecodeError::TrailingBytes(rest.len()))
    }
}
