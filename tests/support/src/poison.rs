//! Records that no consumer can handle.

use schemas::Event;
use uuid::Uuid;

use crate::LearningRegistry;

/// The schema id that [`LearningRegistry`] does not know until it learns it, of a kind of events: an id names one schema.
#[must_use]
pub fn unknown_schema_id(event: &Event) -> u32 {
    match event {
        Event::Task(_) => 4711,
        Event::Reminder(_) => 4712,
        Event::Notification(_) => 4713,
    }
}

/// More than any event has, and less than a dead-letter topic takes.
const LARGE_BYTES: usize = 5 << 20;

/// Eight kinds of them, each with the reason that its dead letter gives: no magic byte, an unknown schema id, a truncated body,
/// bytes left over, a forged length, a broken invariant, another topic's event, and 5 MiB that no compression makes small.
///
/// `event` is one that could be handled, and is what the record with the unknown schema holds; `elsewhere` belongs to another
/// topic.
///
/// # Panics
/// When they are no valid events.
#[must_use]
pub fn eight(registry: &LearningRegistry, event: &Event, elsewhere: &Event) -> [(&'static str, Vec<u8>); 8] {
    let valid = registry.frame(event);
    let id = event.head().event_id.to_string();
    let at = valid
        .windows(id.len())
        .position(|window| window == id.as_bytes())
        .unwrap();
    let mut nobody = valid.clone();
    nobody[at..at + id.len()].copy_from_slice(Uuid::nil().to_string().as_bytes());
    // The first field is a text; its length is a zigzag varint, here of 2^40.
    let bomb = [
        &valid[..schemas::FRAME_HEADER_BYTES],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x40],
        b"boom",
    ]
    .concat();
    [
        ("not_framed", b"{\"title\":\"Water the plants\"}".to_vec()),
        (
            "unknown_schema_id",
            registry.frame_as(unknown_schema_id(event), event),
        ),
        ("undecodable", valid[..valid.len() - 3].to_vec()),
        ("trailing_bytes", [&valid[..], b"xy"].concat()),
        ("undecodable", bomb),
        ("invalid_event", nobody),
        ("wrong_topic", registry.frame(elsewhere)),
        ("too_large", noise(LARGE_BYTES)),
    ]
}

/// Bytes that no compression makes small.
#[must_use]
pub fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = Vec::with_capacity(bytes + 16);
    while noise.len() < bytes {
        noise.extend_from_slice(Uuid::new_v4().as_bytes());
    }
    noise.truncate(bytes);
    noise
}
