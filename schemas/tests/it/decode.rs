//! Reading: what was written comes back, and what is wrong has the right reason.

use chrono::{DateTime, TimeDelta};
use schemas::{
    DecodeError, EncodeError, Event, FRAME_HEADER_BYTES, MAX_EVENT_BYTES, NotificationEventKind,
    TaskReminder, WriterSchema, all_schemas, decode, frame, unframe,
};
use uuid::Uuid;

use crate::{body, read, samples, schema, writer_schema};

/// The sample of a record, changed.
fn changed(record: &str, change: impl FnOnce(&mut Event)) -> Event {
    let mut event = samples::all()
        .into_iter()
        .find(|e| e.record_name() == record)
        .unwrap();
    change(&mut event);
    event
}

/// Neither written nor read: the reason is an invariant of that field.
fn assert_refused(event: &Event, field: &str) {
    match event.encode("test") {
        Err(EncodeError::Invariant(invariant)) => assert_eq!(invariant.field, field),
        other => panic!("expected {field} to be refused, got {other:?}"),
    }
    let error = read(event.record_name(), &body(event)).unwrap_err();
    assert_eq!(error.reason(), "invalid_event");
    assert!(error.to_string().starts_with(field), "{error}");
}

#[test]
fn every_event_is_read_back_as_it_was_written() {
    for event in samples::all().into_iter().chain([samples::minimal()]) {
        let encoded = event.encode("test").unwrap();
        let framed = frame(0x0102_0304, &encoded.body);
        let (id, unframed) = unframe(Some(&framed)).unwrap();
        assert_eq!(id, 0x0102_0304);
        let writer = writer_schema(event.record_name());
        assert_eq!(decode(encoded.topic, &writer, unframed).unwrap(), event);
    }
}

#[test]
fn the_samples_are_one_of_every_event_and_all_different() {
    let names: Vec<_> = samples::all().iter().map(Event::record_name).collect();
    let expected: Vec<_> = all_schemas().iter().map(|s| s.name).collect();
    assert_eq!(names, expected);
    let mut ids: Vec<_> = samples::all().iter().map(|e| e.head().event_id).collect();
    ids.push(samples::minimal().head().event_id);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 14);
    assert!(ids.iter().all(|id| id.get_version_num() == 7));
}

#[test]
fn a_frame_is_a_zero_and_the_schema_id_in_network_order() {
    assert_eq!(frame(0x0102_0304, b"body"), b"\x00\x01\x02\x03\x04body");
    assert_eq!(
        unframe(Some(b"\x00\xff\xff\xff\xff")).unwrap(),
        (u32::MAX, &b""[..])
    );
}

#[test]
fn a_record_without_a_value_is_empty() {
    assert_eq!(unframe(None).unwrap_err().reason(), "empty");
}

#[test]
fn a_value_without_magic_byte_or_schema_id_is_not_framed() {
    let values: [&[u8]; 4] = [
        b"",
        b"\x00\x00\x00\x01",
        b"\x01\x00\x00\x00\x01body",
        b"{\"event_id\":1}",
    ];
    for value in values {
        assert_eq!(
            unframe(Some(value)).unwrap_err().reason(),
            "not_framed",
            "{value:?}"
        );
    }
}

#[test]
fn a_value_above_the_bound_is_too_large_and_one_at_the_bound_is_not() {
    let value = frame(1, &vec![0; MAX_EVENT_BYTES]);
    assert_eq!(value.len(), MAX_EVENT_BYTES + FRAME_HEADER_BYTES);
    assert!(unframe(Some(&value)).is_ok());
    let value = frame(1, &vec![0; MAX_EVENT_BYTES + 1]);
    assert_eq!(unframe(Some(&value)).unwrap_err().reason(), "too_large");
}

#[test]
fn an_event_above_the_bound_is_not_written() {
    let event = changed("TaskCreated", |event| {
        if let Event::Task(e) = event {
            e.task.description = Some("x".repeat(MAX_EVENT_BYTES));
        }
    });
    assert!(matches!(event.encode("test"), Err(EncodeError::TooLarge(n)) if n > MAX_EVENT_BYTES));
}

#[test]
fn an_event_at_the_bound_is_written_and_read() {
    let with = |bytes: usize| {
        changed("TaskCreated", |event| {
            if let Event::Task(e) = event {
                e.task.description = Some("x".repeat(bytes));
            }
        })
    };
    let rest = body(&with(MAX_EVENT_BYTES / 2)).len() - MAX_EVENT_BYTES / 2;
    let event = with(MAX_EVENT_BYTES - rest);
    let encoded = event.encode("test").unwrap();
    assert_eq!(encoded.body.len(), MAX_EVENT_BYTES);
    assert_eq!(read("TaskCreated", &encoded.body).unwrap(), event);
}

#[test]
fn bytes_after_the_record_are_refused() {
    for event in samples::all() {
        let mut body = body(&event);
        body.push(0);
        let error = read(event.record_name(), &body).unwrap_err();
        assert!(matches!(error, DecodeError::TrailingBytes(1)), "{error:?}");
        assert_eq!(error.reason(), "trailing_bytes");
    }
}

#[test]
fn a_record_cut_off_anywhere_is_undecodable() {
    for event in samples::all() {
        let body = body(&event);
        for end in 0..body.len() {
            let error = read(event.record_name(), &body[..end]).unwrap_err();
            assert_eq!(
                error.reason(),
                "undecodable",
                "{} cut at {end}",
                event.record_name()
            );
        }
    }
}

#[test]
fn an_event_in_the_topic_of_another_is_refused() {
    for event in samples::all() {
        let own = schema(event.record_name()).topic;
        let writer = writer_schema(event.record_name());
        for topic in [
            "task-events",
            "task-reminders",
            "notification-events",
            "prefix.task-events",
            "",
        ] {
            let result = decode(topic, &writer, &body(&event));
            if topic == own {
                assert_eq!(result.unwrap(), event);
            } else {
                assert_eq!(result.unwrap_err().reason(), "wrong_topic");
            }
        }
    }
}

#[test]
fn a_record_that_is_no_event_of_ours_is_unknown() {
    let elsewhere = schema("TaskCreated")
        .json
        .replace("com.carillon.task", "com.acme.task");
    let schemas = [
        elsewhere.as_str(),
        r#"{"type": "record", "name": "TaskArchived", "namespace": "com.carillon.task", "fields": []}"#,
        r#"{"type": "record", "name": "TaskCreated", "fields": []}"#,
        r#""string""#,
    ];
    for json in schemas {
        let writer = WriterSchema::parse(json).unwrap();
        let error = decode("task-events", &writer, b"").unwrap_err();
        assert_eq!(error.reason(), "unknown_record", "{json}");
    }
}

#[test]
fn a_schema_that_is_not_avro_is_a_bad_schema() {
    for json in [
        "",
        "{",
        r#"{"type": "record", "name": "TaskCreated"}"#,
        r#"{"$schema": "x"}"#,
    ] {
        assert_eq!(
            WriterSchema::parse(json).unwrap_err().reason(),
            "bad_schema",
            "{json}"
        );
    }
}

#[test]
fn a_schema_that_says_something_else_of_our_record_is_undecodable() {
    let json = r#"{"type": "record", "name": "TaskCreated", "namespace": "com.carillon.task",
        "fields": [{"name": "event_id", "type": "long"}]}"#;
    let writer = WriterSchema::parse(json).unwrap();
    assert_eq!(
        decode("task-events", &writer, &[2]).unwrap_err().reason(),
        "undecodable"
    );
}

/// Avro's variable-length, zig-zag coded long.
fn long(value: i64) -> Vec<u8> {
    let mut rest = (value << 1 ^ value >> 63) as u64;
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

#[test]
fn a_forged_length_is_undecodable_and_allocates_nothing() {
    let event = samples::minimal();
    let body = body(&event);
    // The bytes up to a field: event_id, then the title (after id and version), then the tags.
    let title = body.windows(2).position(|pair| pair == [2, b'x']).unwrap();
    let tags = title + 2 + 1 + 1; // description and priority take a byte each
    assert_eq!(body[tags], 0, "the tags are empty");
    for at in [0, title, tags] {
        for length in [1 << 40, 1 << 62, i64::MAX, -1, i64::MIN] {
            let forged = [&body[..at], &long(length), &body[at..]].concat();
            let error = read("TaskCreated", &forged).unwrap_err();
            assert_eq!(error.reason(), "undecodable", "{length} at {at}: {error:?}");
        }
    }
    let forged = [&long(1 << 40)[..], &body].concat();
    let DecodeError::Body(error) = read("TaskCreated", &forged).unwrap_err() else {
        panic!("another error");
    };
    let report = format!("{error:?}");
    assert!(
        report.contains(&MAX_EVENT_BYTES.to_string()),
        "our bound is in force: {report}"
    );
}

#[test]
fn a_nil_id_is_refused() {
    type Change = fn(&mut Event);
    let set: [(&str, &str, Change); 6] = [
        ("TaskCreated", "event_id", |e| {
            if let Event::Task(e) = e {
                e.event_id = Uuid::nil();
            }
        }),
        ("ReminderFired", "event_id", |e| {
            if let Event::Reminder(e) = e {
                e.event_id = Uuid::nil();
            }
        }),
        ("NotificationSent", "user_id", |e| {
            if let Event::Notification(e) = e {
                e.user_id = Uuid::nil();
            }
        }),
        ("TaskDeleted", "task.id", |e| {
            if let Event::Task(e) = e {
                e.task.id = Uuid::nil();
            }
        }),
        ("ReminderSnoozed", "reminder.id", |e| {
            if let Event::Reminder(e) = e {
                e.reminder.id = Uuid::nil();
            }
        }),
        ("NotificationFailed", "notification.id", |e| {
            if let Event::Notification(e) = e {
                e.notification.id = Uuid::nil();
            }
        }),
    ];
    for (record, field, change) in set {
        assert_refused(&changed(record, change), field);
    }
}

#[test]
fn an_id_that_is_no_uuid_is_undecodable() {
    let mut body = body(&samples::minimal());
    body[1] = b'z';
    assert_eq!(read("TaskCreated", &body).unwrap_err().reason(), "undecodable");
}

#[test]
fn text_that_is_not_utf8_is_undecodable() {
    let mut body = body(&samples::minimal());
    let title = body.windows(2).position(|pair| pair == [2, b'x']).unwrap() + 1;
    body[title] = 0xff;
    assert_eq!(read("TaskCreated", &body).unwrap_err().reason(), "undecodable");
}

#[test]
fn a_reminder_with_both_offset_and_instant_or_neither_is_refused() {
    let both = |reminder: &mut TaskReminder| {
        reminder.offset = Some("-PT10M".to_owned());
        reminder.at = Some(DateTime::UNIX_EPOCH);
    };
    let neither = |reminder: &mut TaskReminder| {
        reminder.offset = None;
        reminder.at = None;
    };
    let changes: [fn(&mut TaskReminder); 2] = [both, neither];
    for change in changes {
        for record in ["TaskCreated", "ReminderScheduled"] {
            let event = changed(record, |event| match event {
                Event::Task(e) => change(&mut e.task.reminders[1]),
                Event::Reminder(e) => change(&mut e.task.reminders[1]),
                Event::Notification(_) => {}
            });
            assert_refused(&event, "task.reminders");
        }
    }
}

#[test]
fn a_task_that_cannot_be_is_refused() {
    type Change = fn(&mut schemas::Task);
    let set: [(&str, Change); 5] = [
        ("task.version", |task| task.version = 0),
        ("task.title", |task| task.title.clear()),
        ("task.reminders", |task| {
            task.reminders = vec![task.reminders[0].clone(); 21];
        }),
        ("task.occurrence", |task| task.series_id = None),
        ("task.occurrence", |task| task.occurrence = None),
    ];
    for (field, change) in set {
        let event = changed("TaskUpdated", |event| {
            if let Event::Task(e) = event {
                change(&mut e.task);
            }
        });
        assert_refused(&event, field);
    }
}

#[test]
fn a_reminder_that_fired_before_it_was_due_is_refused() {
    let fired = |offset: TimeDelta| {
        changed("ReminderFired", |event| {
            if let Event::Reminder(e) = event {
                e.reminder.fired_at = Some(e.reminder.fire_at + offset);
            }
        })
    };
    assert_refused(&fired(TimeDelta::microseconds(-1)), "reminder.fired_at");
    let on_time = fired(TimeDelta::zero());
    assert_eq!(read("ReminderFired", &body(&on_time)).unwrap(), on_time);
}

#[test]
fn only_a_fired_reminder_says_when_it_fired() {
    for record in [
        "ReminderScheduled",
        "ReminderFired",
        "ReminderSnoozed",
        "ReminderCancelled",
    ] {
        let event = changed(record, |event| {
            if let Event::Reminder(e) = event {
                e.reminder.fired_at = match e.reminder.fired_at {
                    Some(_) => None,
                    None => Some(e.reminder.fire_at),
                };
            }
        });
        assert_refused(&event, "reminder.fired_at");
    }
}

#[test]
fn only_a_sent_notification_says_when_it_was_sent() {
    for kind in NotificationEventKind::ALL {
        let event = changed(kind.record_name(), |event| {
            if let Event::Notification(e) = event {
                e.notification.sent_at = match e.notification.sent_at {
                    Some(_) => None,
                    None => Some(e.notification.fire_at),
                };
            }
        });
        assert_refused(&event, "notification.sent_at");
    }
    let event = changed("NotificationSent", |event| {
        if let Event::Notification(e) = event {
            e.notification.attempts = -1;
        }
    });
    assert_refused(&event, "notification.attempts");
}
