//! What the API hands to the relay.

use std::collections::BTreeMap;

use reqwest::Method;
use schemas::{Actor, Event, TaskEvent, TaskEventKind, WriterSchema};
use serde_json::json;
use sqlx::Row;
use support::Database;
use uuid::Uuid;

use crate::server::Server;

/// A person's events in the order in which they are published, read as a consumer reads them.
pub async fn events(database: &Database, user_id: Uuid) -> Vec<TaskEvent> {
    let rows = sqlx::query(
        "select e.topic, e.body, s.schema_json from outbox.events e join outbox.schemas s using (fingerprint)
         where user_id = $1 order by seq",
    )
    .bind(user_id)
    .fetch_all(database.admin())
    .await
    .unwrap();
    rows.iter()
        .map(|row| {
            let schema = WriterSchema::parse(row.get("schema_json")).unwrap();
            match schemas::decode(row.get("topic"), &schema, row.get("body")).unwrap() {
                Event::Task(event) => event,
                other => panic!("{other:?} is no task event"),
            }
        })
        .collect()
}

/// What a TaskUpdated says has changed: old and new by field.
pub fn changes(event: &TaskEvent) -> BTreeMap<&str, (String, String)> {
    let change = |change: &schemas::FieldChange| (change.old.clone().unwrap(), change.new.clone().unwrap());
    event
        .changes
        .iter()
        .map(|c| (c.field.as_str(), change(c)))
        .collect()
}

#[tokio::test]
async fn every_change_is_an_event_with_the_task_as_it_is_then() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, task) = ada
        .task(&json!({"title": "t", "due_at": "2027-02-01T08:00:00Z", "reminders": [{"offset": "-PT10M"}], "recurrence": "FREQ=DAILY"}))
        .await;
    ada.patch(&path, &json!({"title": "u", "due_at": "2027-02-02T08:00:00Z"}))
        .await;
    ada.send(Method::POST, &format!("{path}/complete")).await;
    ada.send(Method::POST, &format!("{path}/reopen")).await;
    ada.send(Method::DELETE, &path).await;

    let events = events(&server.database, ada.id).await;
    assert_eq!(
        events.iter().map(|event| event.kind).collect::<Vec<_>>(),
        [
            TaskEventKind::Created,
            TaskEventKind::Updated,
            TaskEventKind::Completed,
            TaskEventKind::Reopened,
            TaskEventKind::Deleted
        ]
    );
    for (event, version) in events.iter().zip(1..) {
        assert_eq!(
            (event.user_id, event.actor, event.task.version),
            (ada.id, Actor::User, version)
        );
        assert_eq!(event.occurred_at, event.task.updated_at);
        assert_eq!(event.task.id.to_string(), task["id"]);
        assert_eq!(event.task.recurrence.as_deref(), Some("FREQ=DAILY"));
    }
    assert_eq!(
        changes(&events[1]),
        BTreeMap::from([
            (
                "due_at",
                (
                    "\"2027-02-01T08:00:00.000000Z\"".to_owned(),
                    "\"2027-02-02T08:00:00.000000Z\"".to_owned()
                )
            ),
            ("title", ("\"t\"".to_owned(), "\"u\"".to_owned())),
        ])
    );
    assert_eq!(events[2].task.completed_at, Some(events[2].occurred_at));
    assert_eq!(events[3].task.completed_at, None);
    assert_eq!(events[4].task.deleted_at, Some(events[4].occurred_at));

    let headers: serde_json::Value =
        sqlx::query_scalar("select headers from outbox.events order by seq limit 1")
            .fetch_one(server.database.admin())
            .await
            .unwrap();
    assert_eq!(headers["ce_type"], "com.carillon.task.created.v1");
    assert_eq!(headers["ce_source"], "/carillon/api");
}

#[tokio::test]
async fn a_task_and_its_event_are_written_together_or_not_at_all() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, task) = ada.task(&json!({"title": "t"})).await;
    let done = ada.task(&json!({"title": "done"})).await.0;
    let done = ada.send(Method::POST, &format!("{done}/complete")).await.json();
    let snapshot = async || -> (i64, i64, i64, i64) {
        sqlx::query_as(
            "select (select count(*) from tasks.tasks), (select sum(version)::bigint from tasks.tasks),
                    (select count(*) from tasks.series), (select count(*) from outbox.events)",
        )
        .fetch_one(server.database.admin())
        .await
        .unwrap()
    };
    let before = snapshot().await;
    assert_eq!(before, (2, 3, 0, 3));

    // The outbox refuses every event from now on.
    sqlx::raw_sql(
        "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;
         create trigger refuse before insert on outbox.events for each row execute function refuse();",
    )
    .execute(server.database.admin())
    .await
    .unwrap();
    let reopen = format!("/api/tasks/{}/reopen", done["id"].as_str().unwrap());
    let recurring = json!({"due_at": "2027-02-01T08:00:00Z", "recurrence": "FREQ=DAILY"});
    let recurring_task = json!({"title": "t", "due_at": "2027-02-01T08:00:00Z", "recurrence": "FREQ=DAILY"});
    for answer in [
        ada.post("/api/tasks", &json!({"title": "t"})).await,
        ada.post("/api/tasks", &recurring_task).await,
        ada.patch(&path, &json!({"title": "u"})).await,
        ada.patch(&path, &recurring).await,
        ada.send(Method::DELETE, &path).await,
        ada.send(Method::POST, &format!("{path}/complete")).await,
        ada.send(Method::POST, &reopen).await,
    ] {
        answer.problem(500, "internal");
        assert!(answer.json()["request_id"].is_string());
        assert!(
            !answer.text.contains("no\""),
            "the cause is for the log: {}",
            answer.text
        );
    }
    assert_eq!(snapshot().await, before);
    assert_eq!(ada.get(&path).await.json(), task);
}
