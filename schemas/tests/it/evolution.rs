//! Records of writers that are older or newer than this build.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use schemas::{Event, WriterSchema, decode};
use serde_json::{Value as Json, json};

use crate::{body, field, fields, samples, schema};

fn sample(record: &str) -> Event {
    samples::all()
        .into_iter()
        .find(|e| e.record_name() == record)
        .unwrap()
}

/// The event as another schema of its record would write it, after `change` made the value fit that schema.
fn written_with(event: &Event, writer: &Json, change: impl FnOnce(&mut Vec<(String, Value)>)) -> Vec<u8> {
    let ours = Schema::parse_str(&schema(event.record_name()).json).unwrap();
    let reader = GenericDatumReader::builder(&ours).build().unwrap();
    let Value::Record(mut fields) = reader.read_value(&mut body(event).as_slice()).unwrap() else {
        panic!("an event is a record");
    };
    change(&mut fields);
    let theirs = Schema::parse_str(&writer.to_string()).unwrap();
    let writer = GenericDatumWriter::builder(&theirs).build().unwrap();
    writer.write_value_to_vec(Value::Record(fields)).unwrap()
}

fn read_with(event: &Event, writer: &Json, body: &[u8]) -> Event {
    let topic = schema(event.record_name()).topic;
    decode(topic, &WriterSchema::parse(&writer.to_string()).unwrap(), body).unwrap()
}

fn definition(record: &str) -> Json {
    serde_json::from_str(&schema(record).json).unwrap()
}

/// The fields of the record that is the value of a field.
fn inner<'a>(fields: &'a mut [(String, Value)], name: &str) -> &'a mut Vec<(String, Value)> {
    match fields.iter_mut().find(|(field, _)| field == name) {
        Some((_, Value::Record(inner))) => inner,
        other => panic!("{name} is {other:?}"),
    }
}

#[test]
fn fields_of_a_newer_writer_are_skipped_wherever_they_stand() {
    let event = sample("TaskUpdated");
    let mut writer = definition("TaskUpdated");
    let task = &mut field(&mut writer, "task")["type"];
    let colour = json!({"name": "colour", "type": ["null", "string"], "default": null});
    let places = json!({"name": "places", "type": {"type": "array", "items": {"type": "record", "name": "Place",
        "fields": [{"name": "latitude", "type": "double"}]}}, "default": []});
    fields(task).insert(3, colour);
    fields(task).push(places);
    let mood = json!({"name": "mood", "type": {"type": "enum", "name": "Mood", "symbols": ["calm", "busy"]}});
    fields(task).insert(0, mood);
    let reminder = &mut field(task, "reminders")["type"]["items"];
    let channel = json!({"name": "channel", "type": ["null", {"type": "record", "name": "Channel",
        "fields": [{"name": "kind", "type": "com.carillon.task.Mood"}, {"name": "quiet", "type": "boolean"}]}]});
    fields(reminder).insert(1, channel);
    let origin = json!({"name": "origin", "type": {"type": "map", "values": "bytes"}, "default": {}});
    fields(&mut writer).insert(0, origin);
    let place = Value::Record(vec![("latitude".to_owned(), Value::Double(52.5))]);
    let body = written_with(&event, &writer, |fields| {
        let task = inner(fields, "task");
        task.insert(0, ("mood".to_owned(), Value::Enum(1, "busy".to_owned())));
        for (_, value) in task.iter_mut().filter(|(name, _)| name == "reminders") {
            let Value::Array(reminders) = value else {
                panic!("reminders are an array");
            };
            let channel = Value::Record(vec![
                ("kind".to_owned(), Value::Enum(0, "calm".to_owned())),
                ("quiet".to_owned(), Value::Boolean(true)),
            ]);
            let channels = [
                Value::Union(1, Box::new(channel)),
                Value::Union(0, Box::new(Value::Null)),
            ];
            for (reminder, channel) in reminders.iter_mut().zip(channels) {
                let Value::Record(reminder) = reminder else {
                    panic!("a reminder is a record");
                };
                reminder.insert(1, ("channel".to_owned(), channel));
            }
        }
        let green = Value::Union(1, Box::new(Value::String("green".to_owned())));
        task.insert(3, ("colour".to_owned(), green));
        task.push(("places".to_owned(), Value::Array(vec![place.clone(), place])));
        let origin = Value::Map([("ip".to_owned(), Value::Bytes(vec![127, 0, 0, 1]))].into());
        fields.insert(0, ("origin".to_owned(), origin));
    });
    assert_eq!(read_with(&event, &writer, &body), event);
}

#[test]
fn an_older_writer_without_a_defaulted_field_gives_the_default() {
    for event in samples::all() {
        let mut writer = definition(event.record_name());
        let mut gone: Vec<(Option<&str>, String)> = Vec::new();
        let mut take = |record: &mut Json, within: Option<&'static str>| {
            fields(record).retain(|f| {
                if f.get("default").is_some() {
                    gone.push((within, f["name"].as_str().unwrap().to_owned()));
                }
                f.get("default").is_none()
            });
        };
        take(&mut writer, None);
        for within in ["task", "reminder", "notification"] {
            if fields(&mut writer).iter().any(|f| f["name"] == within) {
                take(&mut field(&mut writer, within)["type"], Some(within));
            }
        }
        assert!(gone.len() >= 3, "{}: {gone:?}", event.record_name());

        // What cannot be told without the optional fields is not told: such events do not fit this test.
        let event = without_optional(event);
        if event.encode("test").is_err() {
            continue;
        }
        let body = written_with(&event, &writer, |fields| {
            for (within, name) in &gone {
                match within {
                    None => fields.retain(|(field, _)| field != name),
                    Some(within) => inner(fields, within).retain(|(field, _)| field != name),
                }
            }
        });
        assert_eq!(read_with(&event, &writer, &body), event);
    }
}

/// The event with every optional field empty.
fn without_optional(mut event: Event) -> Event {
    let bare = |task: &mut schemas::Task| {
        task.description = None;
        task.due_at = None;
        task.due_on = None;
        task.floating = false;
        task.whole_day_minute = schemas::WHOLE_DAY_MINUTE;
        task.depends_on = Vec::new();
        task.series_id = None;
        task.occurrence = None;
        task.recurrence = None;
        task.completed_at = None;
        task.deleted_at = None;
    };
    match &mut event {
        Event::Task(e) => {
            bare(&mut e.task);
            e.changes.clear();
        }
        Event::Reminder(e) => {
            bare(&mut e.task);
            e.reminder.ring = 0;
            e.reminder.fired_at = None;
            e.reminder.snoozed_until = None;
            e.reminder.reason = None;
        }
        Event::Notification(e) => {
            e.notification.message_id = None;
            e.notification.sent_at = None;
            e.notification.reason = None;
        }
    }
    event
}

#[test]
fn symbols_are_matched_by_name_not_by_place() {
    let event = sample("TaskCreated");
    let mut writer = definition("TaskCreated");
    field(&mut writer, "actor")["type"]["symbols"] =
        json!(["system", "robot", "recurrence", "assistant", "user"]);
    let priority = field(&mut field(&mut writer, "task")["type"], "priority");
    priority["type"]["symbols"] = json!(["someday", "urgent", "low", "medium", "high"]);
    let body = written_with(&event, &writer, |fields| {
        for (name, value) in fields.iter_mut() {
            if name == "actor" {
                *value = Value::Enum(4, "user".to_owned());
            }
        }
        for (name, value) in inner(fields, "task") {
            if name == "priority" {
                *value = Value::Enum(1, "urgent".to_owned());
            }
        }
    });
    assert_eq!(read_with(&event, &writer, &body), event);
}

#[test]
fn a_symbol_that_this_build_does_not_know_is_undecodable() {
    let event = sample("TaskCreated");
    let mut writer = definition("TaskCreated");
    let actor = &mut field(&mut writer, "actor")["type"]["symbols"];
    *actor = json!(["user", "assistant", "recurrence", "system", "robot"]);
    let body = written_with(&event, &writer, |fields| {
        for (name, value) in fields.iter_mut() {
            if name == "actor" {
                *value = Value::Enum(4, "robot".to_owned());
            }
        }
    });
    let writer = WriterSchema::parse(&writer.to_string()).unwrap();
    assert_eq!(
        decode("task-events", &writer, &body).unwrap_err().reason(),
        "undecodable"
    );
}
