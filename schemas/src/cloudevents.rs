//! CloudEvents 1.0, Kafka protocol binding, binary content mode (cloudevents/spec, kafka-protocol-binding.md section 3.2).

use chrono::SecondsFormat;

use crate::Event;

/// Names of the headers that every event carries, in their order.
pub const CE_HEADERS: [&str; 7] = [
    "ce_specversion",
    "ce_id",
    "ce_type",
    "ce_source",
    "ce_time",
    "ce_subject",
    "content-type",
];

/// The value's media type: Avro in Confluent framing.
pub const CONTENT_TYPE: &str = "application/avro";

/// `com.carillon.task.created.v1` for the record `com.carillon.task.TaskCreated`.
pub(crate) fn event_type(fullname: &str) -> String {
    let (namespace, name) = fullname.rsplit_once('.').unwrap_or(("", fullname));
    let family_bytes = namespace.rsplit('.').next().map_or(0, str::len);
    let what = name.get(family_bytes..).unwrap_or(name).to_ascii_lowercase();
    format!("{namespace}.{what}.v1")
}

/// A type as people read it: `task.created` of `com.carillon.task.created.v1`.
#[must_use]
pub fn short_type(event_type: &str) -> &str {
    let name = event_type.strip_prefix("com.carillon.").unwrap_or(event_type);
    name.strip_suffix(".v1").unwrap_or(name)
}

/// The headers of an event that `source` (a service's name) writes.
pub(crate) fn headers(event: &Event, event_type: &str, source: &str) -> Vec<(String, String)> {
    let head = event.head();
    let values = [
        "1.0".to_owned(),
        head.event_id.to_string(),
        event_type.to_owned(),
        format!("/carillon/{source}"),
        head.occurred_at.to_rfc3339_opts(SecondsFormat::Micros, true),
        format!("task/{}", event.task_id()),
        CONTENT_TYPE.to_owned(),
    ];
    CE_HEADERS
        .iter()
        .map(|name| (*name).to_owned())
        .zip(values)
        .collect()
}
