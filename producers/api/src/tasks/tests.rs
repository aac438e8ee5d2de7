use chrono::{DateTime, TimeDelta};
use schemas::{FieldChange, Priority, Task, TaskEventKind, Timestamp};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Change, TaskInput, complete, create, delete, patch, reopen};
use crate::problem::{FlawPlace, Kind, Problem};

const ZONE: &str = "Europe/Berlin";

fn now() -> Timestamp {
    at("2027-01-01T00:00:00Z")
}

fn at(text: &str) -> Timestamp {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => panic!("{other} is no object"),
    }
}

fn created(body: Value) -> Change {
    create(members(body), ZONE, now()).unwrap()
}

fn patched(task: &Task, body: Value) -> Result<Option<Change>, Problem> {
    patch(TaskInput::patch(members(body))?, task, ZONE, now())
}

/// The pointers of a refusal, in order.
fn pointers(problem: &Problem) -> Vec<String> {
    assert_eq!(problem.kind(), Kind::InvalidFields);
    let pointer = |place: &'_ FlawPlace| match place {
        FlawPlace::Pointer(pointer) => pointer.clone(),
        FlawPlace::Parameter(name) => panic!("{name} is no pointer"),
    };
    problem.flaws().iter().map(|flaw| pointer(&flaw.place)).collect()
}

fn weekly() -> Task {
    created(json!({
        "title": "Water the plants",
        "due_at": "2027-02-01T08:00:00Z",
        "reminders": [{"offset": "-PT10M"}, {"at": "2027-01-31T20:00:00Z"}],
        "recurrence": "FREQ=WEEKLY",
    }))
    .task
}

#[test]
fn a_title_is_enough() {
    let Change {
        kind,
        task,
        series,
        fields,
    } = created(json!({"title": "Water the plants"}));
    assert_eq!((kind, series, fields), (TaskEventKind::Created, None, vec![]));
    assert_eq!(
        (task.version, task.created_at, task.updated_at),
        (1, now(), now())
    );
    assert_eq!(
        (task.title.as_str(), task.priority, task.timezone.as_str()),
        ("Water the plants", Priority::Medium, ZONE)
    );
    assert_eq!(
        (task.due_at, task.recurrence, task.series_id, task.occurrence),
        (None, None, None, None)
    );
}

#[test]
fn null_stands_for_the_default() {
    let nulls = json!({
        "title": "t", "description": null, "priority": null, "tags": null, "due_at": null, "timezone": null,
        "reminders": null, "recurrence": null,
    });
    let (nulls, absent) = (created(nulls).task, created(json!({"title": "t"})).task);
    assert_eq!(
        nulls,
        Task {
            id: nulls.id,
            ..absent
        }
    );
}

#[test]
fn a_recurring_task_is_the_first_occurrence_of_its_series() {
    let change = created(json!({
        "title": "t", "due_at": "2027-02-01T08:00:00Z", "timezone": "Asia/Tokyo",
        "recurrence": "RRULE:byday=fr,mo;freq=weekly",
    }));
    let series = change.series.unwrap();
    assert_eq!(series.rrule, "FREQ=WEEKLY;BYDAY=MO,FR");
    assert_eq!(
        (series.starts_at, series.timezone.as_str()),
        (at("2027-02-01T08:00:00Z"), "Asia/Tokyo")
    );
    let task = change.task;
    assert_eq!(task.recurrence.as_deref(), Some("FREQ=WEEKLY;BYDAY=MO,FR"));
    assert_eq!(
        (task.series_id, task.occurrence),
        (Some(series.id), Some(series.starts_at))
    );
}

#[test]
fn everything_that_is_wrong_is_named_at_once() {
    let body = json!({
        "title": " ",
        "description": 1,
        "priority": "highest",
        "tags": ["a", "", "a"],
        "timezone": "Mars/Olympus",
        "reminders": [{"offset": "10 minutes"}, {"at": "soon"}, {}, {"offset": "PT1M", "at": "2027-01-01T00:00:00Z"}, 5],
        "recurrence": "FREQ=SOMETIMES",
        "due": "2027-01-01T00:00:00Z",
    });
    let problem = create(members(body), ZONE, now()).unwrap_err();
    assert_eq!(
        pointers(&problem),
        [
            "/title",
            "/description",
            "/priority",
            "/tags/1",
            "/tags/2",
            "/timezone",
            "/reminders/0/offset",
            "/reminders/1/at",
            "/reminders/2",
            "/reminders/3",
            "/reminders/4",
            "/recurrence",
            "/due",
        ]
    );
}

#[test]
fn what_counts_from_the_due_time_needs_one() {
    let reminders = json!([{"at": "2027-01-01T00:00:00Z"}, {"offset": "PT0S"}]);
    let body = json!({"title": "t", "reminders": reminders, "recurrence": "FREQ=DAILY"});
    assert_eq!(
        pointers(&create(members(body), ZONE, now()).unwrap_err()),
        ["/reminders/1/offset", "/recurrence"]
    );
    // With a due time that is wrong in itself, that alone is named.
    let body = json!({"title": "t", "due_at": "soon", "reminders": reminders, "recurrence": "FREQ=DAILY"});
    assert_eq!(
        pointers(&create(members(body), ZONE, now()).unwrap_err()),
        ["/due_at"]
    );
}

#[test]
fn a_reminder_cannot_ring_outside_of_the_calendar() {
    let body = json!({"title": "t", "due_at": "9999-12-31T23:00:00Z", "reminders": [{"offset": "PT2H"}, {"offset": "-PT2H"}]});
    assert_eq!(
        pointers(&create(members(body), ZONE, now()).unwrap_err()),
        ["/reminders/0/offset"]
    );
}

#[test]
fn a_rule_without_an_occurrence_is_refused() {
    let body =
        json!({"title": "t", "due_at": "2027-02-01T08:00:00Z", "recurrence": "FREQ=DAILY;UNTIL=20261231"});
    assert_eq!(
        pointers(&create(members(body), ZONE, now()).unwrap_err()),
        ["/recurrence"]
    );
}

#[test]
fn a_patch_says_what_changed() {
    let task = weekly();
    let change = patched(&task, json!({"title": "Feed the cat", "priority": "high"}))
        .unwrap()
        .unwrap();
    let field = |field: &str, old: &str, new: &str| FieldChange {
        field: field.to_owned(),
        old: Some(old.to_owned()),
        new: Some(new.to_owned()),
    };
    assert_eq!(
        change.fields,
        [
            field("priority", "\"medium\"", "\"high\""),
            field("title", "\"Water the plants\"", "\"Feed the cat\"")
        ]
    );
    assert_eq!((change.kind, change.task.version), (TaskEventKind::Updated, 2));
    assert_eq!(change.task.reminders, task.reminders);
}

#[test]
fn a_patch_that_changes_nothing_is_no_change() {
    let task = weekly();
    let view = serde_json::to_value(super::view::TaskView::new(&task, &[])).unwrap();
    for body in [
        json!({}),
        json!({"title": view["title"], "due_at": "2027-02-01T09:00:00+01:00", "description": null}),
        json!({"recurrence": "rrule:freq=weekly;interval=1"}),
        json!({"reminders": view["reminders"]}),
        json!({"reminders": [{"offset": "-PT600S"}, {"at": "2027-01-31T20:00:00Z"}]}),
    ] {
        assert_eq!(patched(&task, body.clone()).unwrap(), None, "{body}");
    }
}

#[test]
fn null_in_a_patch_puts_a_field_back_to_its_default() {
    let task = created(json!({
        "title": "t", "description": "d", "priority": "urgent", "tags": ["a"], "timezone": "Asia/Tokyo",
        "due_at": "2027-02-01T08:00:00Z", "reminders": [{"offset": "PT0S"}], "recurrence": "FREQ=DAILY",
    }))
    .task;
    let nulls = json!({
        "description": null, "priority": null, "tags": null, "due_at": null, "timezone": null, "reminders": null,
        "recurrence": null,
    });
    let change = patched(&task, nulls).unwrap().unwrap();
    let blank = Task {
        id: task.id,
        version: 2,
        updated_at: change.task.updated_at,
        ..created(json!({"title": "t"})).task
    };
    assert_eq!(change.task, blank);
    assert_eq!(change.series, None);
    let names: Vec<_> = change.fields.iter().map(|change| change.field.as_str()).collect();
    assert_eq!(
        names,
        [
            "description",
            "due_at",
            "occurrence",
            "priority",
            "recurrence",
            "reminders",
            "series_id",
            "tags",
            "timezone"
        ]
    );
    assert_eq!(
        pointers(&patched(&task, json!({"title": null})).unwrap_err()),
        ["/title"]
    );
}

#[test]
fn a_due_time_stays_while_something_counts_from_it() {
    let task = weekly();
    assert_eq!(
        pointers(&patched(&task, json!({"due_at": null})).unwrap_err()),
        ["/due_at", "/due_at"]
    );
    let body = json!({"due_at": null, "recurrence": null, "reminders": [{"offset": "PT0S"}]});
    assert_eq!(
        pointers(&patched(&task, body).unwrap_err()),
        ["/reminders/0/offset"]
    );
    assert!(
        patched(
            &task,
            json!({"due_at": null, "recurrence": null, "reminders": []})
        )
        .is_ok()
    );
}

#[test]
fn reminders_keep_their_ids() {
    let task = weekly();
    let [first, second] = [task.reminders[0].id, task.reminders[1].id];
    let ids = |body: Value| -> Vec<Uuid> {
        let change = patched(&task, json!({"reminders": body})).unwrap().unwrap();
        change.task.reminders.iter().map(|reminder| reminder.id).collect()
    };
    // By naming them, with another time; by being equal to one; and a new one gets a new one.
    assert_eq!(ids(json!([{"id": second, "offset": "-PT5M"}])), [second]);
    let kept = ids(json!([{"offset": "-P1D"}, {"offset": "-PT10M"}, {"offset": "-PT10M"}]));
    assert_eq!(kept[1], first);
    assert!(![first, second].contains(&kept[0]) && ![first, second].contains(&kept[2]));
    // One that is named elsewhere is not taken by an equal one.
    let kept = ids(json!([{"offset": "-PT10M"}, {"id": first, "offset": "-PT1M"}]));
    assert_ne!(kept[0], first);
    assert_eq!(kept[1], first);

    let refused = |body: Value| pointers(&patched(&task, json!({"reminders": body})).unwrap_err());
    assert_eq!(
        refused(json!([{"id": Uuid::now_v7(), "offset": "PT0S"}])),
        ["/reminders/0/id"]
    );
    assert_eq!(
        refused(json!([{"id": first, "offset": "PT0S"}, {"id": first, "offset": "PT1M"}])),
        ["/reminders/1/id"]
    );
    assert_eq!(refused(json!([{"id": first}])), ["/reminders/0"]);
    let body = json!({"title": "t", "reminders": [{"id": first, "at": "2027-01-01T00:00:00Z"}]});
    assert_eq!(
        pointers(&create(members(body), ZONE, now()).unwrap_err()),
        ["/reminders/0/id"]
    );
}

#[test]
fn a_recurrence_can_be_set_changed_and_removed() {
    let once = created(json!({"title": "t", "due_at": "2027-02-01T08:00:00Z"})).task;
    let set = patched(&once, json!({"recurrence": "FREQ=DAILY"}))
        .unwrap()
        .unwrap();
    let first = set.series.unwrap();
    assert_eq!(
        (set.task.series_id, set.task.occurrence),
        (Some(first.id), once.due_at)
    );

    // Moving one instance moves neither its place in the series nor the series.
    let moved = patched(&set.task, json!({"due_at": "2027-02-01T12:00:00Z"}))
        .unwrap()
        .unwrap();
    assert_eq!((moved.series, moved.task.series_id), (None, Some(first.id)));
    assert_eq!(moved.task.occurrence, once.due_at);

    let changed = patched(&moved.task, json!({"recurrence": "FREQ=MONTHLY"}))
        .unwrap()
        .unwrap();
    let second = changed.series.unwrap();
    assert_ne!(second.id, first.id);
    assert_eq!(second.starts_at, at("2027-02-01T12:00:00Z"));
    assert_eq!(
        (changed.task.series_id, changed.task.occurrence),
        (Some(second.id), Some(second.starts_at))
    );

    let removed = patched(&changed.task, json!({"recurrence": null}))
        .unwrap()
        .unwrap();
    assert_eq!(
        (
            removed.task.series_id,
            removed.task.occurrence,
            removed.task.recurrence
        ),
        (None, None, None)
    );
}

#[test]
fn completing_and_reopening_twice_is_done_once() {
    let open = weekly();
    let completed = complete(&open, now()).unwrap();
    assert_eq!(
        (completed.kind, completed.task.version),
        (TaskEventKind::Completed, 2)
    );
    assert_eq!(completed.task.completed_at, Some(completed.task.updated_at));
    assert_eq!(complete(&completed.task, now()), None);
    assert_eq!(reopen(&open, now()), None);
    let reopened = reopen(&completed.task, now()).unwrap();
    assert_eq!(
        (reopened.kind, reopened.task.version, reopened.task.completed_at),
        (TaskEventKind::Reopened, 3, None)
    );
    let deleted = delete(&reopened.task, now());
    assert_eq!(
        (deleted.kind, deleted.task.deleted_at),
        (TaskEventKind::Deleted, Some(deleted.task.updated_at))
    );
}

#[test]
fn times_grow_even_when_the_clock_goes_back() {
    let task = weekly();
    let change = complete(&task, now() - TimeDelta::hours(1)).unwrap();
    assert_eq!(
        change.task.updated_at,
        task.updated_at + TimeDelta::microseconds(1)
    );
}

#[test]
fn every_change_has_an_event() {
    let task = weekly();
    let update = patched(&task, json!({"title": "x"})).unwrap().unwrap();
    for change in [
        created(json!({"title": "t"})),
        update,
        complete(&task, now()).unwrap(),
        delete(&task, now()),
    ] {
        let event = change.event(Uuid::now_v7()).unwrap();
        assert!(
            event.event_type.starts_with("com.carillon.task."),
            "{}",
            event.event_type
        );
    }
}
