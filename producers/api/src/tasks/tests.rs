use std::collections::HashSet;

use chrono::{DateTime, TimeDelta};
use schemas::{FieldChange, Priority, Task, TaskEventKind, Timestamp};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::following::{follow, follow_all};
use super::{Change, Person, TaskInput, complete, create, delete, dismiss, patch, reopen, restore, snooze};
use crate::problem::{FlawPlace, Kind, Problem};

const ZONE: &str = "Europe/Berlin";

fn ada() -> Person {
    Person {
        timezone: ZONE.to_owned(),
        whole_day_minute: 450,
    }
}

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
    create(members(body), &ada(), now()).unwrap()
}

fn patched(task: &Task, body: Value) -> Result<Option<Change>, Problem> {
    patch(TaskInput::patch(members(body))?, task, &ada(), now())
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
    let problem = create(members(body), &ada(), now()).unwrap_err();
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
        pointers(&create(members(body), &ada(), now()).unwrap_err()),
        ["/reminders/1/offset", "/recurrence"]
    );
    // With a due time that is wrong in itself, that alone is named.
    let body = json!({"title": "t", "due_at": "soon", "reminders": reminders, "recurrence": "FREQ=DAILY"});
    assert_eq!(
        pointers(&create(members(body), &ada(), now()).unwrap_err()),
        ["/due_at"]
    );
}

#[test]
fn a_reminder_cannot_ring_outside_of_the_calendar() {
    let body = json!({"title": "t", "due_at": "9999-12-31T23:00:00Z", "reminders": [{"offset": "PT2H"}, {"offset": "-PT2H"}]});
    assert_eq!(
        pointers(&create(members(body), &ada(), now()).unwrap_err()),
        ["/reminders/0/offset"]
    );
}

#[test]
fn a_rule_without_an_occurrence_is_refused() {
    let body =
        json!({"title": "t", "due_at": "2027-02-01T08:00:00Z", "recurrence": "FREQ=DAILY;UNTIL=20261231"});
    assert_eq!(
        pointers(&create(members(body), &ada(), now()).unwrap_err()),
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
        pointers(&create(members(body), &ada(), now()).unwrap_err()),
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
    assert_eq!(reopen(&open, &ada(), now()), None);
    let reopened = reopen(&completed.task, &ada(), now()).unwrap();
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

#[test]
fn a_reminder_may_nag_and_say_how_late_it_may_ring() {
    let body = json!({"title": "t", "due_at": "2027-02-01T08:00:00Z", "reminders": [
        {"offset": "PT0S", "nag": {"every": "PT600S", "times": 3}, "send_late_within": "PT120M"},
        {"at": "2027-02-01T07:00:00Z", "nag": null, "send_late_within": null},
    ]});
    let task = created(body.clone()).task;
    let nag = task.reminders[0].nag.as_ref().unwrap();
    assert_eq!((nag.every.as_str(), nag.times), ("PT10M", 3));
    assert_eq!(task.reminders[0].send_late_within.as_deref(), Some("PT2H"));
    assert_eq!(
        (&task.reminders[1].nag, &task.reminders[1].send_late_within),
        (&None, &None)
    );
    assert_eq!(
        patched(&task, json!({"reminders": body["reminders"]})).unwrap(),
        None
    );
    // A list is replaced as a whole: who no longer says that it nags wants no nag. It is the same reminder still.
    let change = patched(&task, json!({"reminders": [{"offset": "PT0S"}]}))
        .unwrap()
        .unwrap();
    assert_eq!(
        (change.task.reminders[0].id, &change.task.reminders[0].nag),
        (task.reminders[0].id, &None)
    );

    let refused = |reminder: Value| {
        let body = json!({"title": "t", "due_at": "2027-02-01T08:00:00Z", "reminders": [reminder]});
        pointers(&create(members(body), &ada(), now()).unwrap_err())
    };
    for (nag, places) in [
        (
            json!({"every": "PT59S", "times": 3}),
            vec!["/reminders/0/nag/every"],
        ),
        (
            json!({"every": "P7DT1S", "times": 3}),
            vec!["/reminders/0/nag/every"],
        ),
        (
            json!({"every": "-PT10M", "times": 0}),
            vec!["/reminders/0/nag/every", "/reminders/0/nag/times"],
        ),
        (
            json!({"every": 10, "times": 101}),
            vec!["/reminders/0/nag/every", "/reminders/0/nag/times"],
        ),
        (
            json!({"every": "PT1M", "times": 1.5}),
            vec!["/reminders/0/nag/times"],
        ),
        (
            json!({"times": null, "x": 1}),
            vec![
                "/reminders/0/nag/every",
                "/reminders/0/nag/times",
                "/reminders/0/nag/x",
            ],
        ),
        (json!([]), vec!["/reminders/0/nag"]),
    ] {
        assert_eq!(refused(json!({"offset": "PT0S", "nag": nag})), places, "{nag}");
    }
    for late in [json!("-PT1S"), json!("P366DT1S"), json!("soon"), json!(60)] {
        let places = refused(json!({"offset": "PT0S", "send_late_within": late}));
        assert_eq!(places, ["/reminders/0/send_late_within"], "{late}");
    }
    for field in ["snoozed_until", "dismissed_at"] {
        let places = refused(json!({"offset": "PT0S", field: "2027-02-01T08:00:00Z"}));
        assert_eq!(places, [format!("/reminders/0/{field}")]);
    }
}

#[test]
fn a_floating_time_is_in_the_zone_of_its_person() {
    let floating = json!({"title": "t", "due_at": "2027-02-01T08:00:00Z", "floating": true});
    let task = created(floating.clone()).task;
    assert!(task.floating);
    assert_eq!(task.timezone, ZONE);
    let mut named = members(floating);
    named.insert("timezone".to_owned(), json!(ZONE));
    assert!(create(named.clone(), &ada(), now()).is_ok());
    named.insert("timezone".to_owned(), json!("Asia/Tokyo"));
    assert_eq!(
        pointers(&create(named, &ada(), now()).unwrap_err()),
        ["/timezone"]
    );
    assert_eq!(
        pointers(&patched(&task, json!({"timezone": "Asia/Tokyo"})).unwrap_err()),
        ["/timezone"]
    );

    for (body, place) in [
        (json!({"title": "t", "floating": true}), "/floating"),
        (
            json!({"title": "t", "floating": true, "due_on": "2027-02-01"}),
            "/floating",
        ),
        (json!({"title": "t", "floating": 1}), "/floating"),
    ] {
        assert_eq!(
            pointers(&create(members(body), &ada(), now()).unwrap_err()),
            [place]
        );
    }

    // One of another zone that begins to float: the same instant, read from the person's wall.
    let tokyo =
        created(json!({"title": "t", "due_at": "2027-02-01T08:00:00Z", "timezone": "Asia/Tokyo"})).task;
    let change = patched(&tokyo, json!({"floating": true})).unwrap().unwrap();
    assert_eq!(
        (
            change.task.due_at,
            change.task.timezone.as_str(),
            change.task.floating
        ),
        (tokyo.due_at, ZONE, true)
    );
    let names: Vec<_> = change.fields.iter().map(|change| change.field.as_str()).collect();
    assert_eq!(names, ["floating", "timezone"]);
    // And back, into a zone; it stays where it was.
    let change = patched(&change.task, json!({"floating": false, "timezone": "Asia/Tokyo"}));
    let change = change.unwrap().unwrap();
    assert_eq!((change.task.due_at, change.task.floating), (tokyo.due_at, false));
    // Without a time nothing floats.
    for body in [json!({"due_at": null}), json!({"due_on": "2027-02-02"})] {
        assert!(!patched(&task, body).unwrap().unwrap().task.floating);
    }
}

#[test]
fn a_whole_day_counts_from_the_persons_hour_and_is_in_the_persons_zone() {
    let day = created(json!({"title": "t", "due_on": "2027-02-01", "reminders": [{"offset": "PT0S"}]})).task;
    assert_eq!((day.whole_day_minute, day.timezone.as_str()), (450, ZONE));
    let tokyo =
        created(json!({"title": "t", "due_at": "2027-02-01T08:00:00Z", "timezone": "Asia/Tokyo"})).task;
    let task = Task {
        whole_day_minute: 540,
        ..tokyo
    };
    let change = patched(&task, json!({"due_on": "2027-02-01"})).unwrap().unwrap();
    assert_eq!(
        (change.task.whole_day_minute, change.task.timezone.as_str()),
        (450, ZONE)
    );
    let change = patched(&task, json!({"due_on": "2027-02-01", "timezone": "Asia/Tokyo"}));
    assert_eq!(change.unwrap().unwrap().task.timezone, "Asia/Tokyo");
}

fn in_new_york() -> Person {
    Person {
        timezone: "America/New_York".to_owned(),
        whole_day_minute: 600,
    }
}

fn followed(task: &Task) -> Option<Task> {
    follow(task, &in_new_york(), &HashSet::new(), now()).map(|change| change.task)
}

#[test]
fn what_follows_keeps_the_clock_on_the_wall_and_what_is_of_a_zone_keeps_its_instant() {
    let floating = json!({"title": "t", "due_at": "2027-02-01T09:00:00+01:00", "floating": true});
    let task = followed(&created(floating).task).unwrap();
    assert_eq!(task.due_at, Some(at("2027-02-01T09:00:00-05:00")));
    assert_eq!((task.timezone.as_str(), task.version), ("America/New_York", 2));
    assert_eq!(followed(&task), None);

    let day = followed(&created(json!({"title": "t", "due_on": "2027-02-01"})).task).unwrap();
    assert_eq!(day.due_on, Some("2027-02-01".parse().unwrap()));
    assert_eq!(
        (day.timezone.as_str(), day.whole_day_minute),
        ("America/New_York", 600)
    );

    for body in [
        json!({"title": "t"}),
        json!({"title": "t", "due_at": "2027-02-01T09:00:00+01:00"}),
    ] {
        assert_eq!(followed(&created(body).task), None);
    }
}

#[test]
fn a_clock_that_never_shows_the_time_of_a_floating_task_shows_the_one_after_the_gap() {
    let of = |due_at: &str| {
        let task = created(json!({"title": "t", "due_at": due_at, "floating": true})).task;
        followed(&task).unwrap().due_at.unwrap()
    };
    // 2027-03-14 02:30 does not exist in New York, 2027-11-07 01:30 does twice.
    assert_eq!(of("2027-03-14T02:30:00+01:00"), at("2027-03-14T03:30:00-04:00"));
    assert_eq!(of("2027-11-07T01:30:00+01:00"), at("2027-11-07T01:30:00-04:00"));
    // Written down in the hour that Berlin has twice: its wall shows 02:30 both times.
    assert_eq!(of("2027-10-31T02:30:00+02:00"), at("2027-10-31T02:30:00-04:00"));
    assert_eq!(of("2027-10-31T02:30:00+01:00"), at("2027-10-31T02:30:00-04:00"));
}

#[test]
fn an_instance_that_follows_keeps_its_place_unless_another_has_it() {
    let body = json!({"title": "t", "due_at": "2027-02-01T09:00:00+01:00", "floating": true, "recurrence": "FREQ=DAILY"});
    let Change { task, series, .. } = created(body);
    assert!(series.unwrap().content.floating);
    let place = at("2027-02-01T09:00:00-05:00");
    assert_eq!(followed(&task).unwrap().occurrence, Some(place));
    let taken = follow(
        &task,
        &in_new_york(),
        &HashSet::from([(task.series_id.unwrap(), place)]),
        now(),
    )
    .unwrap();
    assert_eq!(
        (taken.task.occurrence, taken.task.due_at),
        (task.occurrence, Some(place))
    );
}

#[test]
fn what_was_done_when_its_person_moved_follows_when_it_is_opened_again() {
    let task = created(json!({"title": "t", "due_at": "2027-02-01T09:00:00+01:00", "floating": true})).task;
    let completed = complete(&task, now()).unwrap().task;
    let reopened = reopen(&completed, &in_new_york(), now()).unwrap().task;
    assert_eq!(
        (reopened.due_at, reopened.version),
        (Some(at("2027-02-01T09:00:00-05:00")), 3)
    );
    let deleted = delete(&task, now()).task;
    let restored = restore(&deleted, &in_new_york(), now()).unwrap().task;
    assert_eq!(restored.due_at, reopened.due_at);
    // What is done stays as it was.
    let restored = restore(&delete(&completed, now()).task, &in_new_york(), now()).unwrap();
    assert_eq!(restored.task.due_at, task.due_at);
}

#[test]
fn a_reminder_is_put_off_and_dismissed_until_its_own_time_moves() {
    let task = weekly();
    let [relative, absolute] = [task.reminders[0].id, task.reminders[1].id];
    let until = at("2027-02-01T08:30:00Z");
    let snoozed = snooze(&task, relative, until, now()).unwrap().unwrap();
    assert_eq!(snoozed.kind, TaskEventKind::Updated);
    assert_eq!(snoozed.fields[0].field, "reminders");
    assert_eq!(snoozed.task.reminders[0].snoozed_until, Some(until));
    assert_eq!(snooze(&snoozed.task, relative, until, now()), Some(None));
    assert_eq!(snooze(&task, Uuid::now_v7(), until, now()), None);

    let dismissed = dismiss(&snoozed.task, absolute, now()).unwrap().unwrap().task;
    assert_eq!(dismissed.reminders[1].dismissed_at, Some(now()));
    let later = now() + TimeDelta::hours(1);
    assert_eq!(dismiss(&dismissed, absolute, later), Some(None));
    assert_eq!(dismiss(&dismissed, Uuid::now_v7(), later), None);
    let again = snooze(&dismissed, absolute, until, now()).unwrap().unwrap().task;
    assert_eq!(
        (again.reminders[1].snoozed_until, again.reminders[1].dismissed_at),
        (Some(until), None)
    );

    let standing = |body: Value| {
        let after = patched(&dismissed, body).unwrap().unwrap().task;
        let standing = |reminder: &schemas::TaskReminder| {
            reminder.snoozed_until.is_some() || reminder.dismissed_at.is_some()
        };
        after.reminders.iter().map(standing).collect::<Vec<_>>()
    };
    // What does not touch the time of a reminder leaves it as it is.
    assert_eq!(standing(json!({"title": "x"})), [true, true]);
    assert_eq!(
        standing(
            json!({"reminders": [{"offset": "-PT10M", "nag": {"every": "PT5M", "times": 1}}, {"at": "2027-01-31T20:00:00Z"}]})
        ),
        [true, true]
    );
    // The due time moves what counts from it; another zone does not move ten minutes.
    assert_eq!(standing(json!({"due_at": "2027-02-01T09:00:00Z"})), [false, true]);
    assert_eq!(standing(json!({"timezone": "Asia/Tokyo"})), [true, true]);
    assert_eq!(
        standing(
            json!({"reminders": [{"id": relative, "offset": "-PT5M"}, {"id": absolute, "at": "2027-01-31T21:00:00Z"}]})
        ),
        [false, false]
    );
    // And a person who moves takes along what is due on a day.
    let day = created(json!({"title": "t", "due_on": "2027-02-01", "reminders": [{"offset": "PT0S"}, {"at": "2027-02-01T08:00:00Z"}]})).task;
    let day = snooze(&day, day.reminders[0].id, until, now())
        .unwrap()
        .unwrap()
        .task;
    let day = dismiss(&day, day.reminders[1].id, now()).unwrap().unwrap().task;
    let moved = followed(&day).unwrap();
    assert_eq!(
        (moved.reminders[0].snoozed_until, moved.reminders[1].dismissed_at),
        (None, Some(now()))
    );
}

#[test]
fn of_two_instances_that_clocks_show_as_one_the_first_moves() {
    let body = json!({"title": "t", "due_at": "2027-03-14T02:30:00+01:00", "floating": true, "recurrence": "FREQ=HOURLY"});
    let first = created(body).task;
    let hour = TimeDelta::hours(1);
    let second = Task {
        id: Uuid::now_v7(),
        due_at: first.due_at.map(|at| at + hour),
        occurrence: first.occurrence.map(|at| at + hour),
        ..first.clone()
    };
    // New York has no half past two that night, and so two at half past three.
    let changes = follow_all(&[first, second.clone()], &in_new_york(), HashSet::new(), now());
    let shown: Vec<_> = changes
        .iter()
        .map(|change| (change.task.due_at, change.task.occurrence))
        .collect();
    let half_past_three = Some(at("2027-03-14T03:30:00-04:00"));
    assert_eq!(
        shown,
        [
            (half_past_three, half_past_three),
            (half_past_three, second.occurrence)
        ]
    );
}
