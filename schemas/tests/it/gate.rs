//! The gate before a release: what may change in the contract and what may not.

use std::path::{Path, PathBuf};

use schemas::{all_schemas, compat};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::{field, fields, schema};

/// A contract in a folder of its own, today's and its releases; gone when it is dropped.
struct Contract(PathBuf);

impl Contract {
    /// Today's schemas, released once.
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("carillon-gate-{}", Uuid::new_v4()));
        let contract = Self(folder);
        std::fs::create_dir_all(contract.avro()).unwrap();
        for schema in all_schemas() {
            std::fs::write(
                contract.avro().join(format!("{}.avsc", schema.name)),
                &schema.json,
            )
            .unwrap();
        }
        contract.release("0.1.0");
        contract
    }

    fn avro(&self) -> PathBuf {
        self.0.join("avro")
    }

    fn released(&self) -> PathBuf {
        self.0.join("released")
    }

    /// Copies today's schemas to a release.
    fn release(&self, version: &str) {
        let folder = self.released().join(version);
        std::fs::create_dir_all(&folder).unwrap();
        for entry in std::fs::read_dir(self.avro()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
        }
    }

    /// Changes one of today's schemas.
    fn change(&self, record: &str, change: impl FnOnce(&mut Json)) {
        let path = self.avro().join(format!("{record}.avsc"));
        let mut json: Json = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        change(&mut json);
        std::fs::write(path, json.to_string()).unwrap();
    }

    fn check(&self) -> Vec<String> {
        let breaks = compat::check(&self.avro(), &self.released()).unwrap();
        breaks.iter().map(ToString::to_string).collect()
    }

    /// The one thing that breaks, which says all of `words`.
    fn assert_refused(&self, words: &[&str]) {
        let breaks = self.check();
        let [only] = breaks.as_slice() else {
            panic!("expected one break, got {breaks:#?}");
        };
        for word in words {
            assert!(only.contains(word), "{only:?} does not say {word:?}");
        }
    }
}

impl Drop for Contract {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// The definition of a field of the task inside an event.
fn of_task<'a>(event: &'a mut Json, name: &str) -> &'a mut Json {
    field(&mut field(event, "task")["type"], name)
}

fn remove(record: &mut Json, name: &str) {
    fields(record).retain(|f| f["name"] != name);
}

#[test]
fn the_contract_of_this_checkout_passes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let released = folder.join("released");
    assert!(released.join("0.1.0/TaskCreated.avsc").exists());
    assert_eq!(compat::check(&folder.join("avro"), &released).unwrap(), []);
}

#[test]
fn an_unchanged_contract_passes() {
    assert_eq!(Contract::new().check(), Vec::<String>::new());
}

#[test]
fn a_new_field_with_a_default_a_new_symbol_and_a_new_event_pass() {
    let contract = Contract::new();
    contract.change("TaskCreated", |event| {
        let colour = json!({"name": "colour", "type": ["null", "string"], "default": null});
        fields(&mut field(event, "task")["type"]).insert(2, colour);
        let symbols = &mut field(event, "actor")["type"]["symbols"];
        *symbols = json!(["robot", "user", "assistant", "recurrence", "system"]);
    });
    let archived = schema("TaskDeleted").json.replace("TaskDeleted", "TaskArchived");
    std::fs::write(contract.avro().join("TaskArchived.avsc"), archived).unwrap();
    assert_eq!(contract.check(), Vec::<String>::new());
}

#[test]
fn other_words_in_the_documentation_pass() {
    let contract = Contract::new();
    contract.change("TaskCreated", |event| {
        event["doc"] = json!("Other words.");
        of_task(event, "title")["doc"] = json!("Other words.");
    });
    assert_eq!(contract.check(), Vec::<String>::new());
}

#[test]
fn a_new_field_without_a_default_is_refused() {
    let contract = Contract::new();
    contract.change("TaskCreated", |event| {
        fields(&mut field(event, "task")["type"]).push(json!({"name": "colour", "type": "string"}));
    });
    contract.assert_refused(&["TaskCreated", "0.1.0", "task.colour", "default"]);
}

#[test]
fn a_removed_default_is_refused() {
    let contract = Contract::new();
    contract.change("TaskUpdated", |event| {
        field(event, "changes").as_object_mut().unwrap().remove("default");
    });
    contract.assert_refused(&["TaskUpdated", "0.1.0", "changes", "default"]);
}

#[test]
fn a_default_that_only_an_older_release_needs_may_not_go_either() {
    let contract = Contract::new();
    contract.change("TaskCreated", |event| {
        let colour = json!({"name": "colour", "type": ["null", "string"], "default": null});
        fields(&mut field(event, "task")["type"]).push(colour);
    });
    contract.release("0.2.0");
    assert_eq!(contract.check(), Vec::<String>::new());
    contract.change("TaskCreated", |event| {
        of_task(event, "colour")
            .as_object_mut()
            .unwrap()
            .remove("default");
    });
    let breaks = contract.check();
    assert_eq!(breaks.len(), 2, "{breaks:?}");
    assert!(
        breaks[0].contains("0.1.0") && breaks[0].contains("task.colour"),
        "{breaks:?}"
    );
    assert!(
        breaks[1].contains("0.2.0") && breaks[1].contains("task.colour"),
        "{breaks:?}"
    );
}

#[test]
fn a_removed_field_without_a_default_is_refused() {
    let contract = Contract::new();
    contract.change("ReminderFired", |event| {
        remove(&mut field(event, "task")["type"], "timezone");
    });
    contract.assert_refused(&["ReminderFired", "0.1.0", "task.timezone", "removed"]);
}

#[test]
fn a_removed_field_with_a_default_passes() {
    let contract = Contract::new();
    contract.change("ReminderFired", |event| {
        remove(&mut field(event, "task")["type"], "recurrence");
    });
    assert_eq!(contract.check(), Vec::<String>::new());
}

#[test]
fn a_renamed_field_is_refused_even_with_an_alias_that_our_structs_do_not_know() {
    let contract = Contract::new();
    contract.change("TaskCreated", |event| {
        let title = of_task(event, "title");
        title["name"] = json!("name");
        title["aliases"] = json!(["title"]);
    });
    contract.assert_refused(&["TaskCreated", "task.title", "task.name"]);
}

#[test]
fn a_changed_type_is_refused_even_where_avro_would_convert_it() {
    let types = [
        ("title", json!("long")),
        ("title", json!("bytes")),
        ("version", json!("double")),
        ("version", json!("int")),
        ("tags", json!({"type": "array", "items": "bytes"})),
        ("tags", json!({"type": "map", "values": "string"})),
        ("created_at", json!("long")),
        (
            "created_at",
            json!({"type": "long", "logicalType": "timestamp-millis"}),
        ),
        ("id", json!("string")),
        ("title", json!(["null", "string"])),
        (
            "due_at",
            json!(["null", {"type": "long", "logicalType": "timestamp-millis"}]),
        ),
        ("due_at", json!(["null", "string"])),
        ("priority", json!("string")),
        (
            "priority",
            json!({"type": "enum", "name": "Urgency", "symbols": ["low", "medium", "high", "urgent"]}),
        ),
    ];
    for (name, changed) in types {
        let contract = Contract::new();
        contract.change("TaskCreated", |event| of_task(event, name)["type"] = changed);
        contract.assert_refused(&["TaskCreated", &format!("task.{name}")]);
    }
}

#[test]
fn a_field_that_is_no_longer_optional_is_refused() {
    let contract = Contract::new();
    contract.change("TaskCreated", |event| {
        let description = of_task(event, "description");
        description["type"] = json!("string");
        description["default"] = json!("");
    });
    contract.assert_refused(&["TaskCreated", "task.description"]);
}

#[test]
fn a_removed_symbol_is_refused_even_with_a_default_symbol() {
    for default in [None, Some("low")] {
        let contract = Contract::new();
        contract.change("TaskCreated", |event| {
            let priority = of_task(event, "priority");
            priority["type"]["symbols"] = json!(["low", "medium", "high"]);
            if let Some(default) = default {
                priority["type"]["default"] = json!(default);
            }
        });
        contract.assert_refused(&["TaskCreated", "task.priority", "urgent"]);
    }
}

#[test]
fn a_change_deep_inside_is_refused_with_its_path() {
    let contract = Contract::new();
    contract.change("TaskCreated", |event| {
        remove(&mut of_task(event, "reminders")["type"]["items"], "id");
    });
    contract.assert_refused(&["TaskCreated", "task.reminders[].id"]);
}

#[test]
fn a_removed_event_is_refused() {
    let contract = Contract::new();
    std::fs::remove_file(contract.avro().join("TaskRestored.avsc")).unwrap();
    contract.assert_refused(&["TaskRestored", "0.1.0", "no longer"]);
}

#[test]
fn an_event_in_another_namespace_is_refused() {
    let contract = Contract::new();
    contract.change("TaskCreated", |event| {
        event["namespace"] = json!("com.carillon.other");
    });
    contract.assert_refused(&["TaskCreated", "com.carillon.other.TaskCreated"]);
}

#[test]
fn every_problem_of_an_event_is_named() {
    let contract = Contract::new();
    contract.change("TaskCreated", |event| {
        remove(&mut field(event, "task")["type"], "title");
        remove(&mut field(event, "task")["type"], "timezone");
    });
    contract.assert_refused(&["task.title", "task.timezone"]);
}

#[test]
fn a_type_that_moved_to_an_earlier_field_is_still_compared() {
    let contract = Contract::new();
    // Where Actor is defined first, later places only name it.
    let define_earlier = |event: &mut Json| {
        let actor = field(event, "actor")["type"].take();
        field(event, "actor")["type"] = json!("com.carillon.Actor");
        let by = json!({"name": "by", "type": ["null", actor], "default": null});
        fields(event).insert(0, by);
    };
    contract.change("TaskCreated", define_earlier);
    assert_eq!(contract.check(), Vec::<String>::new());
    contract.change("TaskCreated", |event| {
        field(event, "by")["type"][1]["symbols"] = json!(["user", "assistant", "recurrence"]);
    });
    contract.assert_refused(&["TaskCreated", "actor", "system"]);
}

#[test]
fn a_file_that_is_no_schema_is_an_error_that_names_it() {
    let contract = Contract::new();
    std::fs::write(contract.avro().join("TaskCreated.avsc"), "{").unwrap();
    let error = compat::check(&contract.avro(), &contract.released()).unwrap_err();
    assert!(error.to_string().contains("TaskCreated.avsc"), "{error}");
}

#[test]
fn a_folder_that_is_not_there_is_an_error_that_names_it() {
    let contract = Contract::new();
    let error = compat::check(&contract.avro(), &contract.0.join("nowhere")).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}
