//! Whole days, dependencies, restoring, and many tasks at once.

use reqwest::{Method, StatusCode};
use schemas::TaskEventKind;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::outbox;
use crate::server::{Person, Server};

async fn ada() -> Person {
    Server::start().await.person("ada@example.org").await
}

/// What happened to a person's tasks, oldest first.
async fn events(person: &Person) -> Vec<TaskEventKind> {
    let events = outbox::events(&person.server.database, person.id).await;
    events.iter().map(|event| event.kind).collect()
}

#[tokio::test]
async fn a_task_is_due_at_a_time_or_on_a_day_and_either_replaces_the_other() {
    let ada = ada().await;
    let (path, task) = ada
        .task(&json!({"title": "t", "due_on": "2027-02-01", "reminders": [{"offset": "-PT1H"}], "recurrence": "FREQ=DAILY"}))
        .await;
    assert_eq!(
        (&task["due_at"], &task["due_on"]),
        (&json!(null), &json!("2027-02-01"))
    );
    // The day starts at midnight in Berlin.
    assert_eq!(task["occurrence"], "2027-01-31T23:00:00.000000Z");
    let at = ada
        .patch(&path, &json!({"due_at": "2027-02-01T12:00:00Z"}))
        .await
        .json();
    assert_eq!(
        (&at["due_at"], &at["due_on"]),
        (&json!("2027-02-01T12:00:00.000000Z"), &json!(null))
    );
    let on = ada.patch(&path, &json!({"due_on": "2027-02-02"})).await.json();
    assert_eq!(
        (&on["due_at"], &on["due_on"]),
        (&json!(null), &json!("2027-02-02"))
    );
    let both = json!({"due_at": "2027-02-01T12:00:00Z", "due_on": "2027-02-02"});
    assert_eq!(
        ada.patch(&path, &both).await.problem(422, "invalid-fields"),
        ["/due_on"]
    );
    let neither = ada.patch(&path, &json!({"due_on": null})).await;
    assert_eq!(neither.problem(422, "invalid-fields"), ["/due_on", "/due_on"]);
}

#[tokio::test]
async fn a_task_says_what_blocks_it_until_that_is_done() {
    let ada = ada().await;
    let (first_path, first) = ada.task(&json!({"title": "first"})).await;
    let (second_path, second) = ada.task(&json!({"title": "second"})).await;
    let (path, task) = ada
        .task(&json!({"title": "last", "depends_on": [first["id"], second["id"]]}))
        .await;
    assert_eq!(task["depends_on"], json!([first["id"], second["id"]]));
    assert_eq!(task["blocked_by"], json!([first["id"], second["id"]]));
    ada.send(Method::POST, &format!("{first_path}/complete")).await;
    assert_eq!(ada.get(&path).await.json()["blocked_by"], json!([second["id"]]));
    assert_eq!(
        ada.get("/api/tasks").await.json()["items"][0]["blocked_by"],
        json!([second["id"]])
    );
    ada.send(Method::DELETE, &second_path).await;
    let after = ada.get(&path).await.json();
    assert_eq!(
        (&after["blocked_by"], &after["depends_on"]),
        (&json!([]), &task["depends_on"])
    );
    // What it depends on already may be gone; what it is to depend on newly may not.
    assert_eq!(
        ada.patch(&path, &json!({"title": "still"})).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn dependencies_on_nothing_on_others_tasks_and_in_circles_are_refused() {
    let ada = ada().await;
    let bob = ada.server.person("bob@example.org").await;
    let (_, bobs) = bob.task(&json!({"title": "his"})).await;
    let (first_path, first) = ada.task(&json!({"title": "first"})).await;
    let (_, second) = ada
        .task(&json!({"title": "second", "depends_on": [first["id"]]}))
        .await;
    let (_, third) = ada
        .task(&json!({"title": "third", "depends_on": [second["id"]]}))
        .await;
    let wrong = json!({"title": "t", "depends_on": [first["id"], bobs["id"], Uuid::now_v7()]});
    let answer = ada.post("/api/tasks", &wrong).await;
    assert_eq!(
        answer.problem(422, "invalid-fields"),
        ["/depends_on/1", "/depends_on/2"]
    );
    for circle in [json!([first["id"]]), json!([third["id"]]), json!([second["id"]])] {
        let answer = ada.patch(&first_path, &json!({"depends_on": circle})).await;
        assert_eq!(answer.problem(422, "invalid-fields"), ["/depends_on/0"]);
    }
    let twice = json!({"title": "t", "depends_on": [first["id"], first["id"]]});
    assert_eq!(
        ada.post("/api/tasks", &twice)
            .await
            .problem(422, "invalid-fields"),
        ["/depends_on/1"]
    );
}

#[tokio::test]
async fn of_two_dependencies_that_would_be_a_circle_together_one_is_refused() {
    let ada = ada().await;
    for _ in 0..10 {
        let (one_path, one) = ada.task(&json!({"title": "one"})).await;
        let (other_path, other) = ada.task(&json!({"title": "other"})).await;
        let (to_other, to_one) = (
            json!({"depends_on": [other["id"]]}),
            json!({"depends_on": [one["id"]]}),
        );
        let (a, b) = tokio::join!(ada.patch(&one_path, &to_other), ada.patch(&other_path, &to_one));
        let mut statuses = [a.status.as_u16(), b.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 422]);
    }
}

#[tokio::test]
async fn a_deleted_task_is_gone_until_it_is_restored() {
    let ada = ada().await;
    let (path, task) = ada.task(&json!({"title": "t", "tags": ["a"]})).await;
    ada.send(Method::DELETE, &path).await;
    for (method, suffix) in [
        (Method::GET, ""),
        (Method::DELETE, ""),
        (Method::POST, "/complete"),
        (Method::POST, "/reopen"),
    ] {
        ada.send(method, &format!("{path}{suffix}"))
            .await
            .problem(404, "not-found");
    }
    let restore = format!("{path}/restore");
    let stranger = ada.server.person("bob@example.org").await;
    stranger
        .send(Method::POST, &restore)
        .await
        .problem(404, "not-found");
    let restored = ada.send(Method::POST, &restore).await;
    assert_eq!(restored.status, StatusCode::OK);
    let restored = restored.json();
    assert_eq!(
        (&restored["version"], &restored["deleted_at"], &restored["tags"]),
        (&json!(3), &json!(null), &task["tags"])
    );
    let again = ada.send(Method::POST, &restore).await;
    assert_eq!((again.status, again.json()), (StatusCode::OK, restored.clone()));
    assert_eq!(ada.get(&path).await.json(), restored);
    let types = events(&ada).await;
    assert_eq!(
        types,
        [
            TaskEventKind::Created,
            TaskEventKind::Deleted,
            TaskEventKind::Restored
        ]
    );
}

fn statuses(answer: &Value) -> Vec<u64> {
    let items = answer["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["status"].as_u64().unwrap())
        .collect()
}

#[tokio::test]
async fn many_tasks_are_made_all_or_none_or_each_for_itself() {
    let ada = ada().await;
    let (_, first) = ada.task(&json!({"title": "first"})).await;
    let tasks = json!([
        {"title": "plain"},
        {"title": "", "priority": "some"},
        {"title": "recurring", "due_on": "2027-02-01", "recurrence": "FREQ=DAILY"},
        {"title": "after", "depends_on": [first["id"]]},
        {"title": "after nothing", "depends_on": [first["id"], Uuid::now_v7()]},
    ]);
    let refused = ada.post("/api/tasks/batch", &json!({"tasks": tasks})).await;
    // What is wrong in itself, and what is wrong with others, each in its place.
    assert_eq!(
        refused.problem(422, "invalid-fields"),
        ["/tasks/1/title", "/tasks/1/priority", "/tasks/4/depends_on/1"]
    );
    assert_eq!(events(&ada).await.len(), 1);

    let answer = ada
        .post("/api/tasks/batch", &json!({"tasks": tasks, "mode": "per_item"}))
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let answer = answer.json();
    assert_eq!(statuses(&answer), [201, 422, 201, 201, 422]);
    assert_eq!(answer["items"][1]["problem"]["errors"][0]["pointer"], "/title");
    assert_eq!(answer["items"][3]["task"]["blocked_by"], json!([first["id"]]));
    assert_eq!(events(&ada).await.len(), 4);
    let task = &answer["items"][2]["task"];
    let path = format!("/api/tasks/{}", task["id"].as_str().unwrap());
    assert_eq!(ada.get(&path).await.json(), *task);

    let many: Vec<Value> = (0..500).map(|n| json!({"title": format!("task {n}")})).collect();
    let answer = ada.post("/api/tasks/batch", &json!({"tasks": many})).await;
    assert_eq!(statuses(&answer.json()), [201].repeat(500));
    let too_many: Vec<Value> = (0..501).map(|_| json!({"title": "t"})).collect();
    for tasks in [json!(too_many), json!([]), json!({}), json!(null)] {
        let answer = ada
            .post("/api/tasks/batch", &json!({"tasks": tasks, "mode": "some"}))
            .await;
        assert_eq!(answer.problem(422, "invalid-fields"), ["/mode", "/tasks"]);
    }
}

#[tokio::test]
async fn many_tasks_are_completed_all_or_none_or_each_for_itself() {
    let ada = ada().await;
    let bob = ada.server.person("bob@example.org").await;
    let (_, bobs) = bob.task(&json!({"title": "his"})).await;
    let (_, first) = ada.task(&json!({"title": "first"})).await;
    let (_, second) = ada
        .task(&json!({"title": "second", "depends_on": [first["id"]]}))
        .await;
    let (gone_path, gone) = ada.task(&json!({"title": "gone"})).await;
    ada.send(Method::DELETE, &gone_path).await;
    let ids = json!([second["id"], bobs["id"], first["id"], gone["id"], Uuid::now_v7()]);
    let refused = ada.post("/api/tasks/batch/complete", &json!({"ids": ids})).await;
    assert_eq!(
        refused.problem(422, "invalid-fields"),
        ["/ids/1", "/ids/3", "/ids/4"]
    );
    let answer = ada
        .post(
            "/api/tasks/batch/complete",
            &json!({"ids": ids, "mode": "per_item"}),
        )
        .await
        .json();
    assert_eq!(statuses(&answer), [200, 404, 200, 404, 404]);
    assert_eq!(answer["items"][0]["task"]["status"], "completed");
    assert_eq!(answer["items"][0]["task"]["blocked_by"], json!([]));
    let (before, types) = (answer, events(&ada).await);
    assert_eq!(
        types
            .iter()
            .filter(|kind| **kind == TaskEventKind::Completed)
            .count(),
        2
    );
    // Again, and nothing happens.
    let answer = ada
        .post(
            "/api/tasks/batch/complete",
            &json!({"ids": [second["id"], first["id"]]}),
        )
        .await
        .json();
    assert_eq!(answer["items"][0], before["items"][0]);
    assert_eq!(events(&ada).await, types);
    let twice = ada
        .post(
            "/api/tasks/batch/complete",
            &json!({"ids": [first["id"], first["id"]]}),
        )
        .await;
    assert_eq!(twice.problem(422, "invalid-fields"), ["/ids/1"]);
}
