//! What a person does with tasks that come again.

use kafka::Handler;
use recurrence_generator::Generator;
use reqwest::header::{ETAG, IF_MATCH, LOCATION};
use reqwest::{Method, StatusCode};
use schemas::TaskEventKind;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::outbox;
use crate::server::{Answer, Person, Server};

const ALL: &str = "/api/recurring-tasks";

async fn ada() -> Person {
    Server::start().await.person("ada@example.org").await
}

/// A task that comes every day, from a day in the far future on, unless the fields say otherwise.
fn daily(fields: Value) -> Value {
    let mut body = json!({"title": "Water the plants", "recurrence_type": "daily", "starts_at": "2097-02-01T09:00:00+01:00"});
    body.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    body
}

/// Makes one and returns its path with it.
async fn recurring(person: &Person, body: &Value) -> (String, Value) {
    let answer = person.post(ALL, body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    (answer.header(LOCATION).to_owned(), answer.json())
}

async fn act(person: &Person, path: &str, what: &str) -> Value {
    let answer = person.send(Method::POST, &format!("{path}/{what}")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(answer.header(ETAG), format!("\"{}\"", answer.json()["version"]));
    answer.json()
}

/// The tasks of a person, newest first.
async fn tasks(person: &Person) -> Vec<Value> {
    person.get("/api/tasks").await.json()["items"]
        .as_array()
        .unwrap()
        .clone()
}

fn task_path(task: &Value) -> String {
    format!("/api/tasks/{}", task["id"].as_str().unwrap())
}

/// Completes the newest task, and lets the generator do what it does about everything that happened so far.
async fn complete(person: &Person, task: &Value) {
    person
        .send(Method::POST, &format!("{}/complete", task_path(task)))
        .await;
    generate(person).await;
}

async fn generate(person: &Person) {
    let database = &person.server.database;
    let events = outbox::events(database, person.id).await;
    let mut tx = database.pool("recurrence-generator").begin().await.unwrap();
    let events = events.into_iter().map(Into::into).collect();
    Generator::new().handle(&mut tx, events).await.unwrap();
    tx.commit().await.unwrap();
}

/// What happened to tasks, oldest first.
async fn events(person: &Person) -> Vec<TaskEventKind> {
    let events = outbox::events(&person.server.database, person.id).await;
    events.iter().map(|event| event.kind).collect()
}

#[tokio::test]
async fn a_recurring_task_comes_back_as_it_was_made_and_has_its_first_instance() {
    let ada = ada().await;
    let created = ada
        .post(
            ALL,
            &json!({
                "title": "Water the plants", "description": "All of *them*", "priority": "high", "tags": ["home"],
                "reminders": [{"offset": "-PT60M"}, {"offset": "PT0S"}], "timezone": "Asia/Tokyo",
                "starts_at": "2097-02-01T09:00:00.75+09:00", "recurrence_type": "weekly", "interval": 2, "count": 5,
            }),
        )
        .await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.text);
    assert_eq!(created.header(ETAG), "\"1\"");
    let series = created.json();
    let id = series["id"].as_str().unwrap();
    assert_eq!(created.header(LOCATION), format!("{ALL}/{id}"));
    let expected = json!({
        "id": id, "version": 1, "title": "Water the plants", "description": "All of *them*", "priority": "high",
        "tags": ["home"], "floating": false, "reminders": [{"offset": "-PT1H"}, {"offset": "PT0S"}],
        "timezone": "Asia/Tokyo",
        "starts_at": "2097-02-01T00:00:00.000000Z", "starts_on": null,
        "recurrence": "FREQ=WEEKLY;INTERVAL=2;COUNT=5", "recurrence_type": "weekly", "interval": 2, "count": 5,
        "ends_at": null, "rdates": [], "exdates": [], "anchor": "schedule", "overlap": "skip", "split_from": null,
        "status": "active", "paused_at": null, "ended_at": null,
        "created_at": series["created_at"], "updated_at": series["created_at"],
    });
    assert_eq!(series, expected);
    let read = ada.get(created.header(LOCATION)).await;
    assert_eq!(
        (read.status, read.header(ETAG), read.json()),
        (StatusCode::OK, "\"1\"", series.clone())
    );

    let [first] = &tasks(&ada).await[..] else {
        panic!("there is one instance")
    };
    for field in [
        "title",
        "description",
        "priority",
        "tags",
        "timezone",
        "recurrence",
    ] {
        assert_eq!(first[field], series[field], "{field}");
    }
    assert_eq!(
        (&first["series_id"], &first["due_at"]),
        (&series["id"], &series["starts_at"])
    );
    assert_eq!(first["reminders"][0]["offset"], "-PT1H");
    assert_eq!(events(&ada).await, [TaskEventKind::Created]);
}

#[tokio::test]
async fn a_task_that_is_made_with_a_recurrence_is_a_recurring_task() {
    let ada = ada().await;
    let (_, task) = ada
        .task(&json!({"title": "t", "due_at": "2097-02-01T08:00:00Z", "tags": ["a"], "recurrence": "FREQ=WEEKLY;BYDAY=FR",
                      "reminders": [{"at": "2097-02-01T06:30:00Z"}]}))
        .await;
    let (_, whole_day) = ada
        .task(&json!({"title": "u", "due_on": "2097-02-01", "recurrence": "FREQ=YEARLY"}))
        .await;
    ada.task(&json!({"title": "once"})).await;
    let list = ada.get(ALL).await.json();
    let [second, first] = &list["items"].as_array().unwrap()[..] else {
        panic!("{list}")
    };
    assert_eq!(
        (&first["id"], &first["title"], &first["tags"]),
        (&task["series_id"], &task["title"], &task["tags"])
    );
    assert_eq!(first["reminders"], json!([{"offset": "-PT1H30M"}]));
    // The simple form has no days of the week.
    for field in ["recurrence_type", "interval", "count", "ends_at"] {
        assert_eq!(first[field], Value::Null, "{field}");
    }
    assert_eq!(
        (&second["id"], &second["starts_on"]),
        (&whole_day["series_id"], &json!("2097-02-01"))
    );
    assert_eq!(
        (&second["starts_at"], &second["recurrence_type"]),
        (&Value::Null, &json!("yearly"))
    );
    let page = ada.get(&format!("{ALL}?limit=1")).await.json();
    assert_eq!(page["items"], json!([second]));
    let cursor = page["next_cursor"].as_str().unwrap();
    let page = ada.get(&format!("{ALL}?limit=1&cursor={cursor}")).await.json();
    assert_eq!(page, json!({"items": [first], "next_cursor": null}));
}

#[tokio::test]
async fn a_change_holds_for_the_open_instance_and_those_to_come() {
    let ada = ada().await;
    let (path, _) = recurring(
        &ada,
        &daily(json!({"tags": ["home"], "reminders": [{"offset": "-PT10M"}]})),
    )
    .await;
    complete(&ada, &tasks(&ada).await[0]).await;
    let open = tasks(&ada).await[0].clone();
    // Changed about this one alone.
    ada.patch(
        &task_path(&open),
        &json!({"title": "Water the cactus, too", "reminders": [{"offset": "-PT1H"}]}),
    )
    .await;

    let body =
        json!({"priority": "urgent", "tags": null, "reminders": [{"offset": "-PT1H"}, {"offset": "-PT5M"}]});
    let changed = ada.patch(&path, &body).await;
    assert_eq!((changed.status, changed.header(ETAG)), (StatusCode::OK, "\"2\""));
    let listed = tasks(&ada).await;
    let (open, done) = (&listed[0], &listed[1]);
    assert_eq!((&open["priority"], &open["tags"]), (&json!("urgent"), &json!([])));
    assert_eq!(open["title"], "Water the cactus, too");
    let offsets: Vec<_> = open["reminders"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["offset"])
        .collect();
    assert_eq!(offsets, ["-PT1H", "-PT5M"]);
    // What is done is done.
    assert_eq!(
        (&done["priority"], &done["tags"]),
        (&json!("medium"), &json!(["home"]))
    );

    complete(&ada, open).await;
    let next = tasks(&ada).await[0].clone();
    assert_eq!(
        (&next["title"], &next["priority"]),
        (&json!("Water the plants"), &json!("urgent"))
    );
    assert_eq!(next["due_at"], "2097-02-03T08:00:00.000000Z");
    let series = changed.json();
    for body in [
        json!({}),
        json!({"priority": "urgent", "recurrence": "RRULE:freq=daily", "interval": null}),
    ] {
        if body.get("interval").is_some() {
            assert_eq!(
                ada.patch(&path, &body).await.problem(422, "invalid-fields"),
                ["/interval"]
            );
        } else {
            assert_eq!(ada.patch(&path, &body).await.json(), series);
        }
    }
    assert_eq!(
        ada.patch(&path, &json!({"recurrence": "RRULE:freq=daily"}))
            .await
            .json(),
        series
    );
    let changes = outbox::events(&ada.server.database, ada.id).await;
    let last = changes
        .iter()
        .rfind(|event| event.kind == TaskEventKind::Updated)
        .unwrap();
    let fields: Vec<_> = last.changes.iter().map(|change| change.field.as_str()).collect();
    assert_eq!(fields, ["priority", "reminders", "tags"]);
}

#[tokio::test]
async fn another_rule_moves_the_open_instance_only_where_it_must() {
    let ada = ada().await;
    // The first of February 2097 is a Friday.
    let (path, _) = recurring(&ada, &daily(json!({}))).await;
    complete(&ada, &tasks(&ada).await[0]).await;
    let due = async || tasks(&ada).await[0]["due_at"].as_str().unwrap().to_owned();
    assert_eq!(due().await, "2097-02-02T08:00:00.000000Z");
    for (body, expected, recurrence) in [
        // It still has an occurrence there.
        (
            json!({"interval": 1, "count": 30}),
            "2097-02-02T08:00:00.000000Z",
            "FREQ=DAILY;COUNT=30",
        ),
        // It has not: the first one after the last that is done.
        (
            json!({"recurrence_type": "weekly", "count": null}),
            "2097-02-08T08:00:00.000000Z",
            "FREQ=WEEKLY",
        ),
        (
            json!({"recurrence": "FREQ=WEEKLY;BYDAY=MO"}),
            "2097-02-04T08:00:00.000000Z",
            "FREQ=WEEKLY;BYDAY=MO",
        ),
        (
            json!({"starts_at": "2097-02-01T18:00:00+01:00"}),
            "2097-02-01T17:00:00.000000Z",
            "FREQ=WEEKLY;BYDAY=MO",
        ),
        (
            json!({"recurrence_type": "daily", "ends_at": "2097-03-01T00:00:00Z"}),
            "2097-02-01T17:00:00.000000Z",
            "FREQ=DAILY;UNTIL=20970301T000000Z",
        ),
    ] {
        let answer = ada.patch(&path, &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{body}: {}", answer.text);
        assert_eq!(due().await, expected, "{body}");
        let task = tasks(&ada).await[0].clone();
        assert_eq!(
            (&task["occurrence"], &task["recurrence"]),
            (&task["due_at"], &json!(recurrence)),
            "{body}"
        );
    }
    // Days instead of times, and back.
    ada.patch(&path, &json!({"starts_on": "2097-02-05"})).await;
    let task = tasks(&ada).await[0].clone();
    assert_eq!(
        (&task["due_at"], &task["due_on"]),
        (&Value::Null, &json!("2097-02-05"))
    );
    ada.patch(&path, &json!({"starts_at": "2097-02-05T09:00:00Z"}))
        .await;
    let task = tasks(&ada).await[0].clone();
    assert_eq!(
        (&task["due_at"], &task["due_on"]),
        (&json!("2097-02-05T09:00:00.000000Z"), &Value::Null)
    );

    // One that would have nothing to come is refused, and changes nothing.
    let (path, series) = recurring(&ada, &daily(json!({"starts_at": "2020-01-01T09:00:00Z"}))).await;
    let task = tasks(&ada).await[0].clone();
    let body = json!({"recurrence_type": "weekly", "starts_at": "2020-01-02T09:00:00Z", "ends_at": "2020-03-01T00:00:00Z"});
    assert_eq!(ada.patch(&path, &body).await.problem(422, "invalid-fields"), [""]);
    assert_eq!(
        (ada.get(&path).await.json(), tasks(&ada).await[0].clone()),
        (series, task)
    );
}

#[tokio::test]
async fn a_paused_one_brings_nothing_until_it_is_resumed() {
    let ada = ada().await;
    let (path, series) = recurring(&ada, &daily(json!({}))).await;
    let paused = act(&ada, &path, "pause").await;
    assert_eq!(
        (&paused["status"], &paused["version"]),
        (&json!("paused"), &json!(2))
    );
    assert_eq!(paused["paused_at"], paused["updated_at"]);
    assert_eq!(act(&ada, &path, "pause").await, paused);
    complete(&ada, &tasks(&ada).await[0]).await;
    assert_eq!(tasks(&ada).await.len(), 1);

    let resumed = act(&ada, &path, "resume").await;
    assert_eq!(
        (&resumed["status"], &resumed["paused_at"], &resumed["version"]),
        (&json!("active"), &Value::Null, &json!(3))
    );
    let listed = tasks(&ada).await;
    assert_eq!(
        (listed.len(), &listed[0]["due_at"]),
        (2, &json!("2097-02-02T08:00:00.000000Z"))
    );
    assert_eq!(listed[0]["series_id"], series["id"]);
    // With an open instance there is nothing to do, nor is there for the generator.
    assert_eq!(act(&ada, &path, "resume").await, resumed);
    generate(&ada).await;
    assert_eq!(tasks(&ada).await.len(), 2);
    // One whose open instance was deleted goes on behind that.
    ada.send(Method::DELETE, &task_path(&listed[0])).await;
    assert_eq!(act(&ada, &path, "resume").await, resumed);
    assert_eq!(tasks(&ada).await[0]["due_at"], "2097-02-03T08:00:00.000000Z");
    let kinds = events(&ada).await;
    assert_eq!(
        kinds
            .iter()
            .filter(|kind| **kind == TaskEventKind::Created)
            .count(),
        3
    );

    // What was missed meanwhile is not made up for, and a rule that is over has ended.
    let (path, _) = recurring(&ada, &daily(json!({"starts_at": "2020-01-01T09:00:00Z"}))).await;
    act(&ada, &path, "pause").await;
    complete(&ada, &tasks(&ada).await[0]).await;
    act(&ada, &path, "resume").await;
    let due: schemas::Timestamp = tasks(&ada).await[0]["due_at"].as_str().unwrap().parse().unwrap();
    assert!(
        due > schemas::now() && due < schemas::now() + chrono::TimeDelta::days(2),
        "{due}"
    );
    let (path, _) = recurring(
        &ada,
        &daily(json!({"starts_at": "2020-01-01T09:00:00Z", "count": 3})),
    )
    .await;
    act(&ada, &path, "pause").await;
    complete(&ada, &tasks(&ada).await[0]).await;
    let over = act(&ada, &path, "resume").await;
    assert_eq!(
        (&over["status"], &over["ended_at"]),
        (&json!("ended"), &over["updated_at"])
    );
}

#[tokio::test]
async fn what_has_ended_stays_so() {
    let ada = ada().await;
    let (path, _) = recurring(&ada, &daily(json!({}))).await;
    let ended = act(&ada, &path, "end").await;
    assert_eq!(
        (&ended["status"], &ended["version"]),
        (&json!("ended"), &json!(2))
    );
    assert_eq!(act(&ada, &path, "end").await, ended);
    for action in ["pause", "resume"] {
        let answer = ada.send(Method::POST, &format!("{path}/{action}")).await;
        answer.problem(409, "recurring-task-ended");
    }
    ada.patch(&path, &json!({"title": "u"}))
        .await
        .problem(409, "recurring-task-ended");
    // The open instance is the last.
    let listed = tasks(&ada).await;
    assert_eq!((listed.len(), &listed[0]["status"]), (1, &json!("open")));
    complete(&ada, &listed[0]).await;
    assert_eq!(tasks(&ada).await.len(), 1);
    assert_eq!(ada.get(&path).await.json(), ended);

    // A rule that has run out ends by itself.
    let (path, _) = recurring(&ada, &daily(json!({"count": 1}))).await;
    complete(&ada, &tasks(&ada).await[0]).await;
    assert_eq!(ada.get(&path).await.json()["status"], "ended");
}

#[tokio::test]
async fn deleting_takes_the_open_instance_along_and_leaves_what_is_done() {
    let ada = ada().await;
    let (path, _) = recurring(&ada, &daily(json!({}))).await;
    complete(&ada, &tasks(&ada).await[0]).await;
    let listed = tasks(&ada).await;
    let deleted = ada.send(Method::DELETE, &path).await;
    assert_eq!(
        (deleted.status, deleted.text.as_str()),
        (StatusCode::NO_CONTENT, "")
    );
    assert_eq!(tasks(&ada).await, listed[1..]);
    assert_eq!(events(&ada).await.last(), Some(&TaskEventKind::Deleted));
    for (method, suffix) in [
        (Method::GET, ""),
        (Method::DELETE, ""),
        (Method::POST, "/pause"),
        (Method::POST, "/resume"),
        (Method::POST, "/end"),
        (Method::GET, "/occurrences"),
    ] {
        ada.send(method, &format!("{path}{suffix}"))
            .await
            .problem(404, "not-found");
    }
    ada.patch(&path, &json!({})).await.problem(404, "not-found");
    assert_eq!(ada.get(ALL).await.json()["items"], json!([]));
    // An instance that is restored is the last.
    ada.send(Method::POST, &format!("{}/restore", task_path(&listed[0])))
        .await;
    complete(&ada, &listed[0]).await;
    assert_eq!(tasks(&ada).await.len(), 2);
}

#[tokio::test]
async fn a_task_that_leaves_its_series_ends_it() {
    let ada = ada().await;
    for (patch, still) in [
        (json!({"recurrence": null}), 0),
        (json!({"recurrence": "FREQ=MONTHLY"}), 1),
        (json!({"title": "u", "recurrence": "FREQ=DAILY"}), 1),
    ] {
        let (path, series) = recurring(&ada, &daily(json!({}))).await;
        let task = tasks(&ada).await[0].clone();
        let patched = ada.patch(&task_path(&task), &patch).await.json();
        let left = patched["series_id"] != series["id"];
        assert_eq!(
            ada.get(&path).await.json()["status"],
            if left { "ended" } else { "active" },
            "{patch}"
        );
        let active = ada.get(ALL).await.json()["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|s| s["status"] == "active")
            .count();
        assert_eq!(active, still, "{patch}");
        if let Some(id) = patched["series_id"].as_str() {
            ada.send(Method::DELETE, &format!("{ALL}/{id}")).await;
        }
    }
}

#[tokio::test]
async fn the_next_occurrences_are_shown_where_the_clocks_are() {
    let ada = ada().await;
    // Over the change of clocks of 31 March 2097, in Berlin.
    let (path, _) = recurring(
        &ada,
        &daily(json!({"starts_at": "2097-03-30T02:30:00+01:00", "count": 4})),
    )
    .await;
    let preview = async |path: &str, query: &str| -> Vec<(String, String, bool)> {
        let answer = ada.get(&format!("{path}/occurrences{query}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        let items = answer.json()["items"].as_array().unwrap().clone();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        items
            .iter()
            .map(|item| {
                (
                    text(&item["at"]),
                    text(&item["local"]),
                    item["task_id"].is_string(),
                )
            })
            .collect()
    };
    let row = |at: &str, local: &str, made| (at.to_owned(), local.to_owned(), made);
    let all = [
        row("2097-03-30T02:30:00+01:00", "2097-03-30T02:30:00", true),
        row("2097-03-31T03:30:00+02:00", "2097-03-31T03:30:00", false),
        row("2097-04-01T02:30:00+02:00", "2097-04-01T02:30:00", false),
        row("2097-04-02T02:30:00+02:00", "2097-04-02T02:30:00", false),
    ];
    assert_eq!(preview(&path, "").await, all);
    assert_eq!(preview(&path, "?limit=2").await, all[..2]);
    // What is done early is not to come.
    complete(&ada, &tasks(&ada).await[0]).await;
    let next = row("2097-03-31T03:30:00+02:00", "2097-03-31T03:30:00", true);
    assert_eq!(
        preview(&path, "").await,
        [std::slice::from_ref(&next), &all[2..]].concat()
    );
    act(&ada, &path, "end").await;
    assert_eq!(preview(&path, "").await, [next]);
    // A start that its own rule does not match is an occurrence all the same.
    let (path, _) = recurring(
        &ada,
        &json!({"title": "t", "starts_at": "2097-02-01T08:00:00Z", "recurrence": "FREQ=WEEKLY;BYDAY=MO"}),
    )
    .await;
    let days: Vec<_> = preview(&path, "?limit=2")
        .await
        .into_iter()
        .map(|(at, ..)| at)
        .collect();
    assert_eq!(days, ["2097-02-01T09:00:00+01:00", "2097-02-04T09:00:00+01:00"]);
    for (query, parameter) in [
        ("limit=0", "limit"),
        ("limit=51", "limit"),
        ("limit=1&limit=1", "limit"),
        ("cursor=x", "cursor"),
    ] {
        let answer = ada.get(&format!("{path}/occurrences?{query}")).await;
        assert_eq!(answer.problem(400, "invalid-query"), [parameter]);
    }
}

#[tokio::test]
async fn recurring_tasks_that_cannot_be_are_refused_with_every_field_that_is_wrong() {
    let ada = ada().await;
    let (path, series) = recurring(&ada, &daily(json!({}))).await;
    for (fields, pointers) in [
        (json!({"title": ""}), vec!["/title"]),
        (json!({"title": null}), vec!["/title"]),
        (
            json!({"priority": "highest", "tags": ["a", "a"], "description": 1}),
            vec!["/description", "/priority", "/tags/1"],
        ),
        (json!({"timezone": "Mars/Olympus"}), vec!["/timezone"]),
        (json!({"starts_at": "tomorrow"}), vec!["/starts_at"]),
        (json!({"starts_at": null}), vec!["/starts_at"]),
        (json!({"starts_on": "2097-02-01"}), vec!["/starts_on"]),
        (
            json!({"reminders": [{"offset": "soon"}, {"at": "2097-02-01T08:00:00Z"}, {"offset": "PT0S", "id": 1}]}),
            vec![
                "/reminders/0/offset",
                "/reminders/1/offset",
                "/reminders/1/at",
                "/reminders/2/id",
            ],
        ),
        (
            json!({"reminders": vec![json!({"offset": "PT0S"}); 21]}),
            vec!["/reminders"],
        ),
        (
            json!({"starts_at": "1970-01-01T00:00:00Z", "reminders": [{"offset": "-PT1S"}]}),
            vec!["/reminders/0/offset"],
        ),
        (json!({"recurrence_type": "hourly"}), vec!["/recurrence_type"]),
        (json!({"recurrence_type": null}), vec!["/recurrence_type"]),
        (
            json!({"interval": 0, "count": 0, "ends_at": 1}),
            vec!["/interval", "/count", "/ends_at"],
        ),
        (
            json!({"interval": 1.5, "count": 10_001}),
            vec!["/interval", "/count"],
        ),
        (json!({"interval": 65_536}), vec!["/interval"]),
        (
            json!({"count": 3, "ends_at": "2097-03-01T00:00:00Z"}),
            vec!["/ends_at"],
        ),
        (
            json!({"ends_at": "2096-01-01T00:00:00Z"}),
            vec!["/recurrence_type"],
        ),
        (json!({"recurrence": "FREQ=DAILY"}), vec!["/recurrence_type"]),
        (
            json!({"due_at": "2097-02-01T08:00:00Z", "status": "active", "id": 1}),
            vec!["/due_at", "/id", "/status"],
        ),
    ] {
        let answer = ada.post(ALL, &daily(fields.clone())).await;
        assert_eq!(answer.problem(422, "invalid-fields"), pointers, "POST {fields}");
        // A patch has no more fields than these.
        let alone = fields.as_object().unwrap();
        if !alone.contains_key("recurrence") && !alone.contains_key("starts_on") {
            let mut patch = fields.clone();
            patch["recurrence_type"] = alone.get("recurrence_type").cloned().unwrap_or(json!("daily"));
            let answer = ada.patch(&path, &patch).await;
            assert_eq!(answer.problem(422, "invalid-fields"), pointers, "PATCH {fields}");
        }
    }
    assert_eq!(
        ada.post(ALL, &json!({})).await.problem(422, "invalid-fields"),
        ["/title", "/starts_at", "/recurrence_type"]
    );
    let full = json!({"title": "t", "starts_at": "2097-02-01T08:00:00Z", "recurrence": "FREQ=SECONDLY", "interval": 2});
    assert_eq!(
        ada.post(ALL, &full).await.problem(422, "invalid-fields"),
        ["/recurrence", "/interval"]
    );
    for recurrence in [
        "FREQ=DAILY;UNTIL=20000101",
        "FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=30",
    ] {
        let full = json!({"title": "t", "starts_at": "2097-02-01T08:00:00Z", "recurrence": recurrence});
        assert_eq!(
            ada.post(ALL, &full).await.problem(422, "invalid-fields"),
            ["/recurrence"]
        );
    }
    let (complex, _) = recurring(
        &ada,
        &json!({"title": "t", "starts_at": "2097-02-01T08:00:00Z", "recurrence": "FREQ=WEEKLY;BYDAY=MO"}),
    )
    .await;
    assert_eq!(
        ada.patch(&complex, &json!({"count": 3}))
            .await
            .problem(422, "invalid-fields"),
        ["/count"]
    );
    ada.patch(&complex, &json!({"reminders": [{"offset": "-P1D"}]}))
        .await;
    assert_eq!(
        ada.patch(&complex, &json!({"starts_at": "1970-01-01T08:00:00Z"}))
            .await
            .problem(422, "invalid-fields"),
        ["/starts_at"]
    );
    // Nothing of all this was written.
    assert_eq!(ada.get(&path).await.json(), series);
    assert_eq!(ada.get(ALL).await.json()["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_request_that_is_sent_again_with_its_key_is_done_once() {
    let ada = ada().await;
    let template = ada.post("/api/templates", &json!({"title": "Pack"})).await.json();
    let from_template = format!("/api/templates/{}/tasks", template["id"].as_str().unwrap());
    for (path, body) in [
        (ALL, daily(json!({}))),
        ("/api/templates", json!({"title": "Bake"})),
        (&from_template, json!({})),
    ] {
        let send = async || {
            Answer::to(
                ada.request(Method::POST, path)
                    .header("Idempotency-Key", path)
                    .json(&body),
            )
            .await
        };
        let (first, again) = (send().await, send().await);
        assert_eq!(first.status, StatusCode::CREATED, "{}", first.text);
        assert_eq!((again.status, &again.text), (first.status, &first.text));
        assert_eq!(again.header(LOCATION), first.header(LOCATION));
        assert!(again.headers.contains_key("idempotency-replayed"));
    }
    let series = ada.get(ALL).await.json()["items"].as_array().unwrap().len();
    let templates = ada.get("/api/templates").await.json()["items"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!((series, templates, tasks(&ada).await.len()), (1, 2, 2));
}

#[tokio::test]
async fn a_stale_if_match_changes_no_recurring_task() {
    let ada = ada().await;
    let (path, _) = recurring(&ada, &daily(json!({}))).await;
    ada.patch(&path, &json!({"title": "u"})).await;
    let ask = async |method: Method, suffix: &str, if_match: &str| {
        let request = ada
            .request(method.clone(), &format!("{path}{suffix}"))
            .header(IF_MATCH, if_match);
        let request = if method == Method::PATCH {
            request.json(&json!({"title": "v"}))
        } else {
            request
        };
        Answer::to(request).await
    };
    let operations = [
        (Method::PATCH, ""),
        (Method::POST, "/pause"),
        (Method::POST, "/resume"),
        (Method::POST, "/end"),
        (Method::DELETE, ""),
    ];
    for (method, suffix) in operations.clone() {
        ask(method.clone(), suffix, "\"1\"")
            .await
            .problem(412, "stale-version");
        ask(method, suffix, "1").await.problem(400, "invalid-header");
    }
    assert_eq!(ada.get(&path).await.json()["version"], 2);
    for ((method, suffix), version) in operations.into_iter().zip(2..) {
        let answer = ask(method, suffix, &format!("\"{version}\"")).await;
        assert!(answer.status.is_success(), "{suffix}: {}", answer.text);
    }
}

#[tokio::test]
async fn another_persons_recurring_task_answers_exactly_like_one_that_does_not_exist() {
    let ada = ada().await;
    let bob = ada.server.person("bob@example.org").await;
    let (path, series) = recurring(&ada, &daily(json!({}))).await;
    let unknown = format!("{ALL}/{}", Uuid::now_v7());
    for (method, suffix) in [
        (Method::GET, ""),
        (Method::PATCH, ""),
        (Method::DELETE, ""),
        (Method::POST, "/pause"),
        (Method::POST, "/resume"),
        (Method::POST, "/end"),
        (Method::GET, "/occurrences"),
    ] {
        let ask = async |path: &str| {
            let request = bob.request(method.clone(), &format!("{path}{suffix}"));
            let request = if method == Method::PATCH {
                request.json(&json!({"title": "mine"}))
            } else {
                request
            };
            Answer::to(request.header(IF_MATCH, "\"7\"")).await
        };
        let (theirs, none) = (ask(&path).await, ask(&unknown).await);
        theirs.problem(404, "not-found");
        assert_eq!(theirs.text, none.text, "{method} {suffix}");
        ask(&format!("{ALL}/x")).await.problem(404, "not-found");
    }
    assert_eq!(bob.get(ALL).await.json()["items"], json!([]));
    assert_eq!(ada.get(&path).await.json(), series);
}

#[tokio::test]
async fn a_recurring_task_and_its_instances_change_together_or_not_at_all() {
    let ada = ada().await;
    let (path, series) = recurring(&ada, &daily(json!({}))).await;
    let task = tasks(&ada).await;
    sqlx::raw_sql(
        "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;
         create trigger refuse before insert on outbox.events for each row execute function refuse();",
    )
    .execute(ada.server.database.admin())
    .await
    .unwrap();
    ada.post(ALL, &daily(json!({}))).await.problem(500, "internal");
    ada.patch(&path, &json!({"title": "u"}))
        .await
        .problem(500, "internal");
    ada.send(Method::DELETE, &path).await.problem(500, "internal");
    assert_eq!((ada.get(&path).await.json(), tasks(&ada).await), (series, task));
    assert_eq!(ada.get(ALL).await.json()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn changes_of_a_series_and_of_its_instance_meet_without_a_deadlock() {
    let ada = ada().await;
    let (path, _) = recurring(&ada, &daily(json!({}))).await;
    let task = tasks(&ada).await[0].clone();
    let requests = (0..40).map(|n| {
        let (ada, path, task) = (ada.clone(), path.clone(), task_path(&task));
        tokio::spawn(async move {
            match n % 4 {
                0 => ada.patch(&path, &json!({"title": format!("all {n}")})).await,
                1 => ada.patch(&task, &json!({"title": format!("one {n}")})).await,
                2 => {
                    ada.patch(
                        &task,
                        &json!({"recurrence": "FREQ=DAILY", "tags": [n.to_string()]}),
                    )
                    .await
                }
                _ => {
                    ada.send(
                        Method::POST,
                        &format!("{path}/{}", if n % 8 == 3 { "pause" } else { "resume" }),
                    )
                    .await
                }
            }
        })
    });
    for request in requests.collect::<Vec<_>>() {
        let answer = request.await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    }
    let events = outbox::events(&ada.server.database, ada.id).await;
    assert_eq!(
        events.iter().map(|event| event.task.version).collect::<Vec<_>>(),
        (1..=events.len() as i64).collect::<Vec<_>>()
    );
}
