//! What people read in the contract is what the code says, and the contract does not contradict itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use schemas::{all_schemas, topics};
use serde_json::Value as Json;

use crate::samples;

fn avsc(name: &str) -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("avro/{name}.avsc"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Calls `see` with the full name and the definition of every named type in a schema.
fn definitions(schema: &Json, namespace: &str, see: &mut impl FnMut(String, &Json)) {
    match schema {
        Json::Array(branches) => {
            for branch in branches {
                definitions(branch, namespace, see);
            }
        }
        Json::Object(object) => {
            let namespace = object
                .get("namespace")
                .and_then(Json::as_str)
                .unwrap_or(namespace);
            if let Some(name) = object.get("name").and_then(Json::as_str) {
                see(format!("{namespace}.{name}"), schema);
            }
            for inner in ["items", "values", "type"] {
                if let Some(inner) = object.get(inner) {
                    definitions(inner, namespace, see);
                }
            }
            for field in object
                .get("fields")
                .and_then(Json::as_array)
                .into_iter()
                .flatten()
            {
                definitions(&field["type"], namespace, see);
            }
        }
        _ => {}
    }
}

#[test]
fn the_files_of_the_contract_are_the_schemas_compiled_in() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("avro");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let expected: BTreeSet<String> = all_schemas().iter().map(|s| format!("{}.avsc", s.name)).collect();
    assert_eq!(files, expected);
    assert_eq!(expected.len(), 13);
    for schema in all_schemas() {
        let file = avsc(schema.name);
        assert_eq!(serde_json::from_str::<Json>(&schema.json).unwrap(), file);
        assert_eq!(file["name"], schema.name);
        assert!(!schema.json.contains(['\n', '\t']), "{}", schema.name);
    }
}

#[test]
fn every_file_that_embeds_a_type_embeds_the_same_definition() {
    let mut seen: BTreeMap<String, (&str, Json)> = BTreeMap::new();
    let mut embeddings: BTreeMap<String, usize> = BTreeMap::new();
    for schema in all_schemas() {
        definitions(&avsc(schema.name), "", &mut |fullname, definition| {
            *embeddings.entry(fullname.clone()).or_default() += 1;
            let (first, expected) = seen
                .entry(fullname.clone())
                .or_insert_with(|| (schema.name, definition.clone()));
            assert_eq!(
                definition, expected,
                "{fullname} in {}.avsc and {first}.avsc",
                schema.name
            );
        });
    }
    let expected = [
        ("com.carillon.Actor", 13),
        ("com.carillon.task.Task", 10),
        ("com.carillon.task.TaskReminder", 10),
        ("com.carillon.task.Priority", 10),
        ("com.carillon.task.FieldChange", 1),
        ("com.carillon.reminder.Reminder", 4),
        ("com.carillon.notification.Notification", 3),
    ];
    for (fullname, files) in expected {
        assert_eq!(embeddings.get(fullname), Some(&files), "{fullname}");
    }
}

#[test]
fn every_event_starts_with_the_same_four_fields() {
    for schema in all_schemas() {
        let file = avsc(schema.name);
        let names: Vec<_> = file["fields"]
            .as_array()
            .unwrap()
            .iter()
            .map(|f| &f["name"])
            .collect();
        assert_eq!(
            names[..4],
            ["event_id", "occurred_at", "user_id", "actor"],
            "{}",
            schema.name
        );
    }
}

#[test]
fn every_optional_field_is_a_union_with_null_first_and_defaults_to_it() {
    for schema in all_schemas() {
        definitions(&avsc(schema.name), "", &mut |fullname, definition| {
            for field in definition["fields"].as_array().into_iter().flatten() {
                if let Some(branches) = field["type"].as_array() {
                    let name = format!("{fullname}.{}", field["name"]);
                    assert_eq!(branches.len(), 2, "{name}");
                    assert_eq!(branches[0], "null", "{name}");
                    assert_eq!(field.get("default"), Some(&Json::Null), "{name}");
                }
            }
        });
    }
}

#[test]
fn every_type_and_field_is_documented() {
    for schema in all_schemas() {
        definitions(&avsc(schema.name), "", &mut |fullname, definition| {
            assert!(definition["doc"].is_string(), "{fullname}");
            for field in definition["fields"].as_array().into_iter().flatten() {
                assert!(field["doc"].is_string(), "{fullname}.{}", field["name"]);
            }
        });
    }
}

#[test]
fn event_types_are_named_after_their_records() {
    let types: Vec<_> = all_schemas()
        .iter()
        .map(|s| (s.name, s.event_type.as_str()))
        .collect();
    let expected = [
        ("TaskCreated", "com.carillon.task.created.v1"),
        ("TaskUpdated", "com.carillon.task.updated.v1"),
        ("TaskCompleted", "com.carillon.task.completed.v1"),
        ("TaskReopened", "com.carillon.task.reopened.v1"),
        ("TaskDeleted", "com.carillon.task.deleted.v1"),
        ("TaskRestored", "com.carillon.task.restored.v1"),
        ("ReminderScheduled", "com.carillon.reminder.scheduled.v1"),
        ("ReminderFired", "com.carillon.reminder.fired.v1"),
        ("ReminderSnoozed", "com.carillon.reminder.snoozed.v1"),
        ("ReminderCancelled", "com.carillon.reminder.cancelled.v1"),
        ("NotificationSent", "com.carillon.notification.sent.v1"),
        ("NotificationFailed", "com.carillon.notification.failed.v1"),
        (
            "NotificationSuppressed",
            "com.carillon.notification.suppressed.v1",
        ),
    ];
    assert_eq!(types, expected);
}

#[test]
fn subjects_follow_topic_and_record_name_with_the_prefix_of_the_topic() {
    let fired = all_schemas().iter().find(|s| s.name == "ReminderFired").unwrap();
    assert_eq!(
        fired.subject(""),
        "task-reminders-com.carillon.reminder.ReminderFired"
    );
    assert_eq!(
        fired.subject("staging."),
        "staging.task-reminders-com.carillon.reminder.ReminderFired"
    );
}

#[test]
fn every_schema_has_a_fingerprint_of_its_own() {
    let fingerprints: BTreeSet<_> = all_schemas().iter().map(|s| s.fingerprint).collect();
    assert_eq!(fingerprints.len(), 13);
}

#[test]
fn an_encoded_event_carries_exactly_the_cloudevents_headers() {
    let created = samples::all().remove(0).encode("api").unwrap();
    let headers: Vec<_> = created
        .headers
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    let expected = [
        ("ce_specversion", "1.0"),
        ("ce_id", "019d3699-8a33-7000-8000-000000000011"),
        ("ce_type", "com.carillon.task.created.v1"),
        ("ce_source", "/carillon/api"),
        ("ce_time", "2026-03-28T22:59:59.123456Z"),
        ("ce_subject", "task/019d3699-8a33-7000-8000-000000000002"),
        ("content-type", "application/avro"),
    ];
    assert_eq!(headers, expected);
    assert_eq!(created.event_type, "com.carillon.task.created.v1");
    assert_eq!(created.topic, "task-events");
    assert_eq!(
        created.user_id.to_string(),
        "019d3699-8a33-7000-8000-000000000001"
    );
    assert_eq!(
        created.event_id.to_string(),
        "019d3699-8a33-7000-8000-000000000011"
    );
}

#[test]
fn every_event_says_its_type_its_time_and_its_task_in_the_headers() {
    for event in samples::all().into_iter().chain([samples::minimal()]) {
        let encoded = event.encode("relay").unwrap();
        let header = |name: &str| {
            let mut found = encoded.headers.iter().filter(|(key, _)| key == name);
            let (_, value) = found.next().unwrap();
            assert!(found.next().is_none(), "{name} is there once");
            value.clone()
        };
        let names: Vec<_> = encoded.headers.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(names, schemas::CE_HEADERS);
        assert_eq!(header("ce_id"), event.head().event_id.to_string());
        assert_eq!(header("ce_type"), encoded.event_type);
        assert_eq!(header("ce_subject"), format!("task/{}", event.task_id()));
        let time = chrono::DateTime::parse_from_rfc3339(&header("ce_time")).unwrap();
        assert_eq!(time, event.head().occurred_at);
        assert_eq!(header("content-type"), schemas::CONTENT_TYPE);
    }
}

/// The rows of the README's table of topics: topic, key, partitions, retention, events.
fn readme_topics() -> Vec<[String; 5]> {
    include_str!("../../README.md")
        .lines()
        .skip_while(|line| !line.starts_with("| topic | key |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split('|').collect();
            let cells = cells.iter().map(|cell| cell.trim().replace('`', ""));
            cells.collect::<Vec<_>>().try_into().unwrap()
        })
        .collect()
}

#[test]
fn the_table_of_topics_in_the_readme_is_what_is_declared() {
    let days = |retention: Duration| format!("{} d", retention.as_secs() / 86_400);
    let mut expected: Vec<[String; 5]> = topics::event_topics()
        .into_iter()
        .map(|topic| {
            let events: Vec<_> = all_schemas()
                .iter()
                .filter(|s| s.topic == topic.name)
                .map(|s| s.name)
                .collect();
            [
                topic.name,
                "user_id".to_owned(),
                topic.partitions.to_string(),
                days(topic.retention),
                events.join(", "),
            ]
        })
        .collect();
    let mut readme = readme_topics();
    let [name, key, partitions, retention, _] = readme.pop().unwrap();
    assert_eq!(
        [name.as_str(), &key, &partitions],
        ["<topic>.<group>.retry", "as source", "as source"]
    );
    for topic in topics::retry_topics() {
        let source = topics::event_topics()
            .into_iter()
            .find(|source| source.name == topics::source_of(&topic.name))
            .unwrap();
        assert_eq!(topic.partitions, source.partitions, "{}", topic.name);
        assert_eq!(days(topic.retention), retention);
    }
    let [name, key, partitions, retention, _] = readme.pop().unwrap();
    assert_eq!(
        (name.as_str(), key.as_str()),
        ("<topic>.<group>.dlq", "as source")
    );
    for topic in topics::dead_letter_topics() {
        assert_eq!(topic.partitions.to_string(), partitions);
        assert_eq!(days(topic.retention), retention);
    }
    expected.sort();
    readme.sort();
    assert_eq!(readme, expected);
}

#[test]
fn every_group_reads_declared_topics_and_has_a_dead_letter_topic_and_a_retry_topic_for_each() {
    let events: BTreeSet<_> = topics::event_topics().into_iter().map(|t| t.name).collect();
    let all: Vec<_> = topics::all().into_iter().map(|t| t.name).collect();
    let unique: BTreeSet<_> = all.iter().cloned().collect();
    assert_eq!(unique.len(), all.len(), "no topic is declared twice");
    for group in topics::GROUPS {
        for topic in group.topics {
            assert!(events.contains(*topic), "{} reads {topic}", group.name);
            let (letters, retry) = (
                topics::dead_letter(topic, group.name),
                topics::retry(topic, group.name),
            );
            assert_eq!(topics::source_of(&letters), *topic);
            assert_eq!(topics::source_of(&retry), *topic);
            assert!(unique.contains(&letters) && unique.contains(&retry));
        }
        assert_eq!(topics::retries_of(group.name).len(), group.topics.len());
    }
    for schema in all_schemas() {
        assert!(events.contains(schema.topic), "{}", schema.name);
    }
}

#[test]
fn the_audit_sink_reads_all_topics_but_its_own_dead_letters_and_what_is_given_to_others_again() {
    let audited: BTreeSet<_> = topics::audited().into_iter().collect();
    let left_out: Vec<_> = topics::all()
        .into_iter()
        .map(|t| t.name)
        .filter(|name| !audited.contains(name) && !name.ends_with(topics::RETRY_SUFFIX))
        .collect();
    assert!(audited.iter().all(|name| !name.ends_with(topics::RETRY_SUFFIX)));
    let expected =
        ["task-events", "task-reminders", "notification-events"].map(|t| format!("{t}.audit-sink.dlq"));
    assert_eq!(left_out, expected);
}
