//! Bytes that nobody meant: whatever arrives, reading it ends, and never in a panic.

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;
use schemas::{Event, MAX_EVENT_BYTES, WriterSchema, all_schemas, decode, frame, unframe};

use crate::{body, samples, writer_schema};

/// Every schema with its topic and a body of it.
static KNOWN: LazyLock<Vec<(WriterSchema, &str, Vec<u8>)>> = LazyLock::new(|| {
    all_schemas()
        .iter()
        .zip(samples::all())
        .map(|(schema, event)| (writer_schema(schema.name), schema.topic, body(&event)))
        .collect()
});

/// What can be read can be written again, and is read the same then.
fn assert_stable(writer: &WriterSchema, topic: &str, event: &Event) {
    let again = event.encode("test").unwrap();
    assert_eq!(&decode(topic, writer, &again.body).unwrap(), event);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn arbitrary_values_are_read_or_refused(value in proptest::collection::vec(any::<u8>(), 0..512)) {
        if let Ok((id, body)) = unframe(Some(&value)) {
            prop_assert_eq!(frame(id, body), value);
        }
    }

    #[test]
    fn arbitrary_bodies_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..512)) {
        for (writer, topic, _) in KNOWN.iter() {
            if let Ok(event) = decode(topic, writer, &body) {
                assert_stable(writer, topic, &event);
            }
        }
    }

    #[test]
    fn damaged_events_are_read_or_refused(
        damage in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..4),
        cut in any::<Option<Index>>(),
        inserted in proptest::collection::vec(any::<u8>(), 0..12),
        place in any::<Index>(),
    ) {
        for (writer, topic, body) in KNOWN.iter() {
            let mut body = body.clone();
            for (at, byte) in &damage {
                let at = at.index(body.len());
                body[at] = *byte;
            }
            if let Some(cut) = cut {
                body.truncate(cut.index(body.len()));
            }
            let place = place.index(body.len() + 1);
            body.splice(place..place, inserted.iter().copied());
            if let Ok(event) = decode(topic, writer, &body) {
                assert_stable(writer, topic, &event);
            }
        }
    }

    #[test]
    fn a_frame_is_undone_by_unframing(id in any::<u32>(), body in proptest::collection::vec(any::<u8>(), 0..64)) {
        let framed = frame(id, &body);
        let (found, rest) = unframe(Some(&framed)).unwrap();
        prop_assert_eq!((found, rest), (id, body.as_slice()));
    }
}

#[test]
fn a_value_of_nothing_but_one_byte_is_read_or_refused_whatever_its_length() {
    for byte in [0x00, 0x01, 0x02, 0x7f, 0x80, 0xfe, 0xff] {
        for length in [1, 10, 100, 10_000, MAX_EVENT_BYTES] {
            let body = vec![byte; length];
            for (writer, topic, _) in KNOWN.iter() {
                assert!(decode(topic, writer, &body).is_err(), "{length} times {byte:#x}");
            }
        }
    }
}
