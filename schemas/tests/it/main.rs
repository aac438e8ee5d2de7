//! The wire contract, byte by byte: what is written, what is read, what is refused, and what may change.
#![expect(clippy::unwrap_used, reason = "tests")]

mod arbitrary;
mod contract;
mod decode;
mod evolution;
mod gate;
mod golden;
mod samples;

use apache_avro::Schema;
use apache_avro::writer::datum::GenericDatumWriter;
use schemas::{DecodeError, Event, EventSchema, WriterSchema, all_schemas, decode};
use serde_json::Value as Json;

/// The schema of a record.
fn schema(record: &str) -> &'static EventSchema {
    all_schemas().iter().find(|s| s.name == record).unwrap()
}

/// The schema of a record, as a consumer gets it from the registry.
fn writer_schema(record: &str) -> WriterSchema {
    WriterSchema::parse(&schema(record).json).unwrap()
}

/// The event's body, whether or not it keeps the invariants that [`Event::encode`] insists on.
fn body(event: &Event) -> Vec<u8> {
    let schema = Schema::parse_str(&schema(event.record_name()).json).unwrap();
    let writer = GenericDatumWriter::builder(&schema)
        .human_readable(true)
        .build()
        .unwrap();
    match event {
        Event::Task(e) => writer.write_ser_to_vec(e),
        Event::Reminder(e) => writer.write_ser_to_vec(e),
        Event::Notification(e) => writer.write_ser_to_vec(e),
    }
    .unwrap()
}

/// Decodes a body of that record, found in the record's own topic.
fn read(record: &str, body: &[u8]) -> Result<Event, DecodeError> {
    decode(schema(record).topic, &writer_schema(record), body)
}

/// The fields of a record's definition.
fn fields(record: &mut Json) -> &mut Vec<Json> {
    record["fields"].as_array_mut().unwrap()
}

/// The definition of a field of a record's definition.
fn field<'a>(record: &'a mut Json, name: &str) -> &'a mut Json {
    fields(record).iter_mut().find(|f| f["name"] == name).unwrap()
}
