//! Templates, and tasks from them.

use reqwest::header::{ETAG, IF_MATCH, LOCATION};
use reqwest::{Method, StatusCode};
use schemas::TaskEventKind;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::outbox;
use crate::server::{Answer, Person, Server};

const ALL: &str = "/api/templates";

async fn ada() -> Person {
    Server::start().await.person("ada@example.org").await
}

/// Makes one and returns its path with it.
async fn template(person: &Person, body: &Value) -> (String, Value) {
    let answer = person.post(ALL, body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    (answer.header(LOCATION).to_owned(), answer.json())
}

/// Makes a task from one.
async fn task_from(person: &Person, path: &str, body: &Value) -> Value {
    let answer = person.post(&format!("{path}/tasks"), body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{body}: {}", answer.text);
    let task = answer.json();
    assert_eq!(
        answer.header(LOCATION),
        format!("/api/tasks/{}", task["id"].as_str().unwrap())
    );
    assert_eq!(answer.header(ETAG), "\"1\"");
    assert_eq!(person.get(answer.header(LOCATION)).await.json(), task);
    task
}

fn packing() -> Value {
    json!({
        "title": "Pack", "description": "*All* of it", "priority": "high", "tags": ["travel"],
        "due_offset": "-P1D", "due_time": "18:30", "reminders": [{"offset": "-PT60M"}],
    })
}

#[tokio::test]
async fn a_template_comes_back_as_it_was_made_and_changes_from_version_to_version() {
    let ada = ada().await;
    let (path, made) = template(&ada, &packing()).await;
    let expected = json!({
        "id": made["id"], "version": 1, "title": "Pack", "description": "*All* of it", "priority": "high",
        "tags": ["travel"], "due_offset": "-P1D", "due_time": "18:30", "floating": false,
        "reminders": [{"offset": "-PT1H"}],
        "created_at": made["created_at"], "updated_at": made["created_at"],
    });
    assert_eq!(made, expected);
    let read = ada.get(&path).await;
    assert_eq!((read.header(ETAG), read.json()), ("\"1\"", made.clone()));

    let patched = ada
        .patch(
            &path,
            &json!({"due_offset": "P14D", "due_time": null, "tags": null, "title": "Pack it"}),
        )
        .await;
    assert_eq!((patched.status, patched.header(ETAG)), (StatusCode::OK, "\"2\""));
    let patched = patched.json();
    assert_eq!(
        (&patched["due_offset"], &patched["due_time"]),
        (&json!("P2W"), &Value::Null)
    );
    assert_eq!(
        (&patched["tags"], &patched["title"]),
        (&json!([]), &json!("Pack it"))
    );
    assert!(patched["updated_at"].as_str() > made["updated_at"].as_str());
    assert_eq!(
        ada.patch(&path, &json!({"title": "Pack it"})).await.json(),
        patched
    );

    let (other, second) = template(&ada, &json!({"title": "Bake"})).await;
    assert_eq!(
        (&second["priority"], &second["due_offset"], &second["reminders"]),
        (&json!("medium"), &Value::Null, &json!([]))
    );
    assert_eq!(
        ada.get(ALL).await.json(),
        json!({"items": [second, patched], "next_cursor": null})
    );
    let page = ada.get(&format!("{ALL}?limit=1")).await.json();
    let cursor = page["next_cursor"].as_str().unwrap();
    assert_eq!(
        ada.get(&format!("{ALL}?limit=1&cursor={cursor}")).await.json()["items"],
        json!([patched])
    );
    assert_eq!(
        ada.send(Method::DELETE, &other).await.status,
        StatusCode::NO_CONTENT
    );
    ada.get(&other).await.problem(404, "not-found");
    ada.send(Method::DELETE, &other).await.problem(404, "not-found");
    assert_eq!(ada.get(ALL).await.json()["items"], json!([patched]));
}

#[tokio::test]
async fn a_task_is_made_with_dates_relative_to_a_day() {
    let ada = ada().await;
    let (path, _) = template(&ada, &packing()).await;
    let task = task_from(&ada, &path, &json!({"base_date": "2027-07-02"})).await;
    for (field, value) in [
        ("title", json!("Pack")),
        ("description", json!("*All* of it")),
        ("priority", json!("high")),
        ("tags", json!(["travel"])),
        ("timezone", json!("Europe/Berlin")),
        ("due_at", json!("2027-07-01T16:30:00.000000Z")),
        ("due_on", Value::Null),
        ("status", json!("open")),
    ] {
        assert_eq!(task[field], value, "{field}");
    }
    assert_eq!(task["reminders"][0]["offset"], "-PT1H");
    // Each task has reminders of its own, and is an event.
    let again = task_from(&ada, &path, &json!({"base_date": "2027-07-02"})).await;
    assert_ne!(again["reminders"][0]["id"], task["reminders"][0]["id"]);
    let events = outbox::events(&ada.server.database, ada.id).await;
    assert_eq!(
        events.iter().map(|e| e.kind).collect::<Vec<_>>(),
        [TaskEventKind::Created, TaskEventKind::Created]
    );

    for (body, due_at, due_on) in [
        (
            json!({"base_date": "2027-01-02"}),
            json!("2027-01-01T17:30:00.000000Z"),
            Value::Null,
        ),
        (
            json!({"base_date": "2027-07-02", "timezone": "Asia/Tokyo"}),
            json!("2027-07-01T09:30:00.000000Z"),
            Value::Null,
        ),
        (
            json!({"base_date": "2027-07-02", "due_on": "2027-08-01"}),
            Value::Null,
            json!("2027-08-01"),
        ),
        (
            json!({"due_at": "2027-08-01T08:00:00Z"}),
            json!("2027-08-01T08:00:00.000000Z"),
            Value::Null,
        ),
        (json!({"due_at": null}), Value::Null, Value::Null),
    ] {
        let task = task_from(&ada, &path, &body).await;
        assert_eq!((&task["due_at"], &task["due_on"]), (&due_at, &due_on), "{body}");
    }
    // What is given counts instead of the template's.
    let body = json!({"title": "Pack for Lisbon", "tags": ["lisbon"], "reminders": [], "recurrence": "FREQ=YEARLY", "base_date": "2097-07-02"});
    let task = task_from(&ada, &path, &body).await;
    assert_eq!(
        (&task["title"], &task["tags"], &task["reminders"]),
        (&json!("Pack for Lisbon"), &json!(["lisbon"]), &json!([]))
    );
    assert_eq!(task["recurrence"], "FREQ=YEARLY");

    // Without a time of day it is due on the day, and without a day it is made for today.
    ada.patch(&path, &json!({"due_offset": "P1W", "due_time": null}))
        .await;
    let task = task_from(&ada, &path, &json!({"base_date": "2027-02-25"})).await;
    assert_eq!(
        (&task["due_at"], &task["due_on"]),
        (&Value::Null, &json!("2027-03-04"))
    );
    let today = || {
        (schemas::now().with_timezone(&chrono_tz_berlin()).date_naive() + chrono::TimeDelta::days(7))
            .to_string()
    };
    let before = today();
    let due_on = task_from(&ada, &path, &json!({})).await["due_on"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!([before, today()].contains(&due_on), "{due_on}");
    // The template knows nothing of all that.
    assert_eq!(ada.get(&path).await.json()["version"], 2);
}

fn chrono_tz_berlin() -> schedule::Tz {
    schedule::parse_zone("Europe/Berlin").unwrap()
}

#[tokio::test]
async fn a_task_can_be_saved_as_a_template() {
    let ada = ada().await;
    let day = |days: i64| {
        schemas::now().with_timezone(&chrono_tz_berlin()).date_naive() + chrono::TimeDelta::days(days)
    };
    let (_, task) = ada
        .task(&json!({
            "title": "Pack", "description": "d", "priority": "urgent", "tags": ["travel"], "due_at": format!("{}T12:00:00Z", day(3)),
            "timezone": "Europe/Berlin", "reminders": [{"offset": "-PT10M"}, {"at": format!("{}T11:00:00Z", day(3))}],
        }))
        .await;
    let made: schemas::Timestamp = task["created_at"].as_str().unwrap().parse().unwrap();
    let due: schemas::Timestamp = task["due_at"].as_str().unwrap().parse().unwrap();
    let local = |at: schemas::Timestamp| at.with_timezone(&chrono_tz_berlin()).naive_local();
    let days = (local(due).date() - local(made).date()).num_days();
    let (path, saved) = template(&ada, &json!({"from_task": task["id"], "tags": ["trips"]})).await;
    for (field, value) in [
        ("title", json!("Pack")),
        ("description", json!("d")),
        ("priority", json!("urgent")),
        ("tags", json!(["trips"])),
        ("due_offset", json!(format!("P{days}D"))),
        ("due_time", json!(local(due).format("%H:%M").to_string())),
        ("reminders", json!([{"offset": "-PT10M"}, {"offset": "-PT1H"}])),
    ] {
        assert_eq!(saved[field], value, "{field}");
    }
    let again = task_from(&ada, &path, &json!({"base_date": local(made).date().to_string()})).await;
    assert_eq!(again["due_at"], task["due_at"]);

    let (_, whole_day) = ada
        .task(&json!({"title": "t", "due_on": day(0).to_string()}))
        .await;
    let (_, saved) = template(&ada, &json!({"from_task": whole_day["id"]})).await;
    assert_eq!(saved["due_time"], Value::Null);
    assert!(
        ["P0D", "-P1D"].contains(&saved["due_offset"].as_str().unwrap()),
        "{saved}"
    );
    // Too far away for an offset.
    let (_, far) = ada
        .task(&json!({"title": "t", "due_on": "2097-01-01", "reminders": [{"offset": "PT0S"}]}))
        .await;
    let (_, saved) = template(&ada, &json!({"from_task": far["id"]})).await;
    assert_eq!(
        (&saved["due_offset"], &saved["reminders"]),
        (&Value::Null, &json!([]))
    );
    for id in [json!(Uuid::now_v7()), json!("x"), json!(1)] {
        let answer = ada.post(ALL, &json!({"from_task": id})).await;
        assert_eq!(answer.problem(422, "invalid-fields"), ["/from_task"]);
    }
}

#[tokio::test]
async fn templates_that_cannot_be_are_refused_with_every_field_that_is_wrong() {
    let ada = ada().await;
    let (path, made) = template(&ada, &packing()).await;
    for (fields, pointers) in [
        (
            json!({"title": " ", "description": "\u{1b}", "priority": 1, "tags": [""]}),
            vec!["/title", "/description", "/priority", "/tags/0"],
        ),
        (json!({"title": null}), vec!["/title"]),
        (json!({"due_offset": "3 days"}), vec!["/due_offset"]),
        (json!({"due_offset": "PT36H"}), vec!["/due_offset"]),
        (json!({"due_offset": "P1DT1H"}), vec!["/due_offset"]),
        (json!({"due_offset": "P367D"}), vec!["/due_offset"]),
        (json!({"due_offset": 3}), vec!["/due_offset"]),
        (json!({"due_time": "24:00"}), vec!["/due_time"]),
        (json!({"due_time": "9:30"}), vec!["/due_time"]),
        (json!({"due_time": "23:59:60"}), vec!["/due_time"]),
        (json!({"due_time": "09:30Z"}), vec!["/due_time"]),
        (json!({"due_offset": null}), vec!["/due_offset"]),
        (
            json!({"due_offset": null, "due_time": "09:30", "reminders": null}),
            vec!["/due_time"],
        ),
        (
            json!({"due_offset": null, "reminders": [{"offset": "PT0S"}]}),
            vec!["/reminders"],
        ),
        (
            json!({"reminders": [{"at": "2027-01-01T00:00:00Z"}, {"offset": "x"}]}),
            vec!["/reminders/0/offset", "/reminders/0/at", "/reminders/1/offset"],
        ),
        (
            json!({"due_at": "2027-01-01T00:00:00Z", "id": 1}),
            vec!["/due_at", "/id"],
        ),
    ] {
        let patched = ada.patch(&path, &fields).await;
        assert_eq!(patched.problem(422, "invalid-fields"), pointers, "PATCH {fields}");
        let mut body = packing();
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        let created = ada.post(ALL, &body).await;
        let no_day = fields.get("due_offset").is_some_and(Value::is_null) && fields.get("due_time").is_none();
        let pointers = if no_day {
            vec!["/due_time", "/reminders"]
        } else {
            pointers
        };
        assert_eq!(created.problem(422, "invalid-fields"), pointers, "POST {fields}");
    }
    assert_eq!(
        ada.post(ALL, &json!({})).await.problem(422, "invalid-fields"),
        ["/title"]
    );
    assert_eq!(
        ada.patch(&path, &json!({"from_task": made["id"]}))
            .await
            .problem(422, "invalid-fields"),
        ["/from_task"]
    );
    for (body, pointers) in [
        (
            json!({"base_date": "tomorrow", "title": "", "x": 1}),
            vec!["/base_date", "/title", "/x"],
        ),
        (json!({"base_date": "1969-01-01"}), vec!["/base_date"]),
        (json!({"base_date": 1}), vec!["/base_date"]),
        (json!({"timezone": "Mars/Olympus"}), vec!["/timezone"]),
        (
            json!({"base_date": "1970-01-02", "reminders": [{"offset": "-P1W"}]}),
            vec!["/reminders/0/offset"],
        ),
        (json!({"due_at": "soon"}), vec!["/due_at"]),
        (json!({"depends_on": [Uuid::now_v7()]}), vec!["/depends_on/0"]),
    ] {
        let answer = ada.post(&format!("{path}/tasks"), &body).await;
        assert_eq!(answer.problem(422, "invalid-fields"), pointers, "{body}");
    }
    assert_eq!(ada.get(ALL).await.json()["items"], json!([made]));
    assert_eq!(ada.get("/api/tasks").await.json()["items"], json!([]));
}

#[tokio::test]
async fn a_template_is_changed_at_the_version_that_was_seen_and_only_by_its_owner() {
    let ada = ada().await;
    let bob = ada.server.person("bob@example.org").await;
    let (path, _) = template(&ada, &packing()).await;
    ada.patch(&path, &json!({"title": "Pack it"})).await;
    let before = ada.get(&path).await.json();
    let unknown = format!("{ALL}/{}", Uuid::now_v7());
    let (_, task) = ada.task(&json!({"title": "secret"})).await;
    let ask = async |person: &Person, method: &Method, path: &str, if_match: &str| {
        let request = person.request(method.clone(), path).header(IF_MATCH, if_match);
        let request = if *method == Method::PATCH {
            request.json(&json!({"title": "mine"}))
        } else {
            request
        };
        Answer::to(request).await
    };
    for method in [Method::PATCH, Method::DELETE] {
        ask(&ada, &method, &path, "\"1\"")
            .await
            .problem(412, "stale-version");
        ask(&ada, &method, &path, "1")
            .await
            .problem(400, "invalid-header");
    }
    for method in [Method::GET, Method::PATCH, Method::DELETE] {
        let (theirs, none) = (
            ask(&bob, &method, &path, "\"2\"").await,
            ask(&bob, &method, &unknown, "\"2\"").await,
        );
        theirs.problem(404, "not-found");
        assert_eq!(theirs.text, none.text);
        ask(&bob, &method, &format!("{ALL}/x"), "\"2\"")
            .await
            .problem(404, "not-found");
    }
    for body in [json!({}), json!({"title": ""})] {
        bob.post(&format!("{path}/tasks"), &body)
            .await
            .problem(404, "not-found");
    }
    let answer = bob.post(ALL, &json!({"from_task": task["id"]})).await;
    assert_eq!(answer.problem(422, "invalid-fields"), ["/from_task"]);
    assert_eq!(bob.get(ALL).await.json()["items"], json!([]));
    assert_eq!(ada.get(&path).await.json(), before);
    assert_eq!(
        ask(&ada, &Method::DELETE, &path, "\"2\"").await.status,
        StatusCode::NO_CONTENT
    );
}
