//! What a person does with tasks.

use reqwest::header::{ETAG, LOCATION};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::server::Server;

#[tokio::test]
async fn a_task_comes_back_as_it_was_made() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let created = ada
        .post(
            "/api/tasks",
            &json!({
                "title": "Water the plants 🌱",
                "description": "# All\r\n\n\t*of* them",
                "priority": "high",
                "tags": ["home", "Garten"],
                "due_at": "2027-02-01T09:00:00.1234567+01:00",
                "timezone": "Asia/Tokyo",
                "reminders": [{"offset": "-PT10M"}, {"at": "2027-01-31T20:00:00Z"}],
                "recurrence": "rrule:FREQ=weekly;BYDAY=MO",
            }),
        )
        .await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.text);
    assert_eq!(created.header(ETAG), "\"1\"");
    let task = created.json();
    let id = task["id"].as_str().unwrap();
    assert_eq!(created.header(LOCATION), format!("/api/tasks/{id}"));
    let expected = json!({
        "id": id,
        "version": 1,
        "title": "Water the plants 🌱",
        "description": "# All\r\n\n\t*of* them",
        "priority": "high",
        "tags": ["home", "Garten"],
        "due_at": "2027-02-01T08:00:00.123456Z",
        "due_on": null,
        "timezone": "Asia/Tokyo",
        "floating": false,
        "whole_day_time": null,
        "depends_on": [],
        "blocked_by": [],
        "reminders": [
            {"id": task["reminders"][0]["id"], "offset": "-PT10M"},
            {"id": task["reminders"][1]["id"], "at": "2027-01-31T20:00:00.000000Z"},
        ],
        "recurrence": "FREQ=WEEKLY;BYDAY=MO",
        "series_id": task["series_id"],
        "occurrence": "2027-02-01T08:00:00.123456Z",
        "status": "open",
        "created_at": task["created_at"],
        "updated_at": task["created_at"],
        "completed_at": null,
        "deleted_at": null,
    });
    assert_eq!(task, expected);
    assert!(task["series_id"].is_string() && task["reminders"][0]["id"].is_string());

    let read = ada.get(created.header(LOCATION)).await;
    assert_eq!((read.status, read.header(ETAG)), (StatusCode::OK, "\"1\""));
    assert_eq!(read.json(), task);
    let series: (String, String) =
        sqlx::query_as("select rrule, timezone from tasks.series where user_id = $1")
            .bind(ada.id)
            .fetch_one(server.database.admin())
            .await
            .unwrap();
    assert_eq!(
        series,
        ("FREQ=WEEKLY;BYDAY=MO".to_owned(), "Asia/Tokyo".to_owned())
    );
}

#[tokio::test]
async fn a_title_is_enough_and_the_longest_task_is_taken() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (_, task) = ada.task(&json!({"title": "t"})).await;
    assert_eq!(task["priority"], "medium");
    assert_eq!(task["timezone"], "Europe/Berlin");
    for (field, empty) in [
        ("description", json!(null)),
        ("tags", json!([])),
        ("due_at", json!(null)),
        ("reminders", json!([])),
        ("recurrence", json!(null)),
        ("series_id", json!(null)),
        ("occurrence", json!(null)),
    ] {
        assert_eq!(task[field], empty, "{field}");
    }

    let reminders: Vec<_> = (0..20).map(|n| json!({"offset": format!("-PT{n}M")})).collect();
    let tags: Vec<_> = (0..20).map(|n| format!("{n:02}{}", "🏷".repeat(48))).collect();
    let largest = json!({
        "title": "𝕋".repeat(500), "description": "𝔻".repeat(10_000), "tags": tags, "reminders": reminders,
        "due_at": "9999-12-31T23:59:59.999999Z", "timezone": "America/Argentina/ComodRivadavia",
    });
    let (path, task) = ada.task(&largest).await;
    assert_eq!(task["title"], largest["title"]);
    // The event of its largest update holds it three times.
    let answer = ada
        .patch(
            &path,
            &json!({"description": "𝔼".repeat(10_000), "title": "𝔼".repeat(500)}),
        )
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
}

#[tokio::test]
async fn a_task_lives_from_creation_to_deletion() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, created) = ada
        .task(&json!({"title": "Water the plants", "tags": ["home"]}))
        .await;

    let patch = ada
        .request(Method::PATCH, &path)
        .header("content-type", "application/merge-patch+json");
    let updated = crate::server::Answer::to(patch.body(r#"{"title": "Feed the cat", "tags": null}"#)).await;
    assert_eq!((updated.status, updated.header(ETAG)), (StatusCode::OK, "\"2\""));
    let updated = updated.json();
    assert_eq!(
        (&updated["title"], &updated["tags"]),
        (&json!("Feed the cat"), &json!([]))
    );
    assert!(updated["updated_at"].as_str() > created["updated_at"].as_str());
    assert_eq!(updated["created_at"], created["created_at"]);

    let completed = ada.send(Method::POST, &format!("{path}/complete")).await;
    assert_eq!(
        (completed.status, completed.header(ETAG)),
        (StatusCode::OK, "\"3\"")
    );
    let completed = completed.json();
    assert_eq!(completed["status"], "completed");
    assert_eq!(completed["completed_at"], completed["updated_at"]);
    let again = ada.send(Method::POST, &format!("{path}/complete")).await;
    assert_eq!((again.status, again.json()), (StatusCode::OK, completed));

    let reopened = ada.send(Method::POST, &format!("{path}/reopen")).await;
    assert_eq!(reopened.header(ETAG), "\"4\"");
    assert_eq!(
        (&reopened.json()["status"], &reopened.json()["completed_at"]),
        (&json!("open"), &Value::Null)
    );
    assert_eq!(
        ada.send(Method::POST, &format!("{path}/reopen")).await.json()["version"],
        4
    );

    let deleted = ada.send(Method::DELETE, &path).await;
    assert_eq!(
        (deleted.status, deleted.text.as_str()),
        (StatusCode::NO_CONTENT, "")
    );
    ada.get(&path).await.problem(404, "not-found");
    ada.send(Method::DELETE, &path).await.problem(404, "not-found");
    ada.patch(&path, &json!({"title": "x"}))
        .await
        .problem(404, "not-found");
    ada.send(Method::POST, &format!("{path}/complete"))
        .await
        .problem(404, "not-found");
    ada.send(Method::POST, &format!("{path}/reopen"))
        .await
        .problem(404, "not-found");
    assert_eq!(
        ada.get("/api/tasks").await.json(),
        json!({"items": [], "next_cursor": null})
    );
}

#[tokio::test]
async fn lists_are_paged_newest_first() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let mut ids = Vec::new();
    for n in 0..7 {
        ids.push(ada.task(&json!({"title": format!("{n}")})).await.1["id"].clone());
    }
    ids.reverse();
    let mut path = "/api/tasks?limit=3".to_owned();
    let mut pages = Vec::new();
    loop {
        let page = ada.get(&path).await.json();
        pages.push(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|task| task["id"].clone())
                .collect::<Vec<_>>(),
        );
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!("/api/tasks?limit=3&cursor={cursor}");
        // What comes in meanwhile is newer than every page to come.
        ada.task(&json!({"title": "late"})).await;
    }
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 1]);
    assert_eq!(pages.concat(), ids);
    assert_eq!(
        ada.get("/api/tasks").await.json()["items"]
            .as_array()
            .unwrap()
            .len(),
        9
    );
    // A page that is just full is the last one when nothing follows.
    assert_eq!(
        ada.get("/api/tasks?limit=9").await.json()["next_cursor"],
        Value::Null
    );
}

#[tokio::test]
async fn recurrence_and_reminders_change_in_patches() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, task) = ada
        .task(&json!({"title": "t", "due_at": "2027-02-01T08:00:00Z", "reminders": [{"offset": "-PT10M"}]}))
        .await;
    let reminder = &task["reminders"][0]["id"];
    let body = json!({"recurrence": "FREQ=DAILY", "reminders": [{"id": reminder, "offset": "-PT5M"}, {"offset": "PT0S"}]});
    let recurring = ada.patch(&path, &body).await.json();
    assert_eq!(
        (&recurring["reminders"][0]["id"], &recurring["occurrence"]),
        (reminder, &recurring["due_at"])
    );
    let changed = ada
        .patch(&path, &json!({"recurrence": "FREQ=MONTHLY"}))
        .await
        .json();
    assert_ne!(changed["series_id"], recurring["series_id"]);
    let detached = ada.patch(&path, &json!({"recurrence": null})).await.json();
    assert_eq!(
        (
            &detached["series_id"],
            &detached["occurrence"],
            &detached["version"]
        ),
        (&Value::Null, &Value::Null, &json!(4))
    );
}
