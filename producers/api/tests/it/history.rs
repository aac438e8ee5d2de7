//! What happened, as the audit sink wrote it down.

use reqwest::{Method, StatusCode};
use schemas::{
    Actor, Event, Head, Notification, NotificationEvent, NotificationEventKind, Reminder, ReminderEvent,
    ReminderEventKind, TaskEventKind, Timestamp,
};
use serde_json::{Value, json};
use support::{Database, samples};
use uuid::Uuid;

use crate::outbox;
use crate::server::{Person, Server};

/// Writes events down as the audit sink does, as its role.
async fn audit(database: &Database, events: &[Event]) {
    let sink = database.pool("audit-sink");
    for (offset, event) in (0_i64..).zip(events) {
        let payload = match event {
            Event::Task(event) => serde_json::to_value(event),
            Event::Reminder(event) => serde_json::to_value(event),
            Event::Notification(event) => serde_json::to_value(event),
        };
        let (head, encoded) = (event.head(), event.encode("test").unwrap());
        sqlx::query(
            "insert into audit.events (event_id, occurred_at, topic, partition_id, offset_id, event_type, user_id, task_id,
                                       actor, payload, headers)
             values ($1, $2, $3, 0, $4, $5, $6, $7, $8, $9, '{}')",
        )
        .bind(head.event_id)
        .bind(head.occurred_at)
        .bind(encoded.topic)
        .bind(offset)
        .bind(encoded.event_type)
        .bind(head.user_id)
        .bind(event.task_id())
        .bind(serde_json::to_value(head.actor).unwrap().as_str())
        .bind(payload.unwrap())
        .execute(&sink)
        .await
        .unwrap();
    }
}

/// Everything that a person did through the API goes into the audit trail.
async fn audit_outbox(person: &Person) {
    let database = &person.server.database;
    let events: Vec<Event> = outbox::events(database, person.id)
        .await
        .into_iter()
        .map(Event::from)
        .collect();
    audit(database, &events).await;
}

/// An event of that kind, at that time, about a task of the person's.
fn event(person: &Person, task_id: Uuid, kind: TaskEventKind, at: Timestamp) -> Event {
    let task = schemas::Task {
        id: task_id,
        updated_at: at,
        ..samples::task()
    };
    samples::event(kind, person.id, &task).into()
}

/// The ids of a list, in its order.
async fn ids(person: &Person, path: &str) -> Vec<String> {
    let answer = person.get(path).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let items = answer.json()["items"].as_array().unwrap().clone();
    items
        .iter()
        .map(|item| item["id"].as_str().unwrap().to_owned())
        .collect()
}

fn event_ids<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<String> {
    events
        .into_iter()
        .map(|event| event.head().event_id.to_string())
        .collect()
}

#[tokio::test]
async fn a_history_says_who_changed_what_from_which_to_which_and_outlives_the_task() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, task) = ada
        .task(&json!({"title": "Water the plants", "tags": ["home"], "due_at": "2027-02-01T08:00:00Z"}))
        .await;
    ada.patch(&path, &json!({"title": "Water them all", "tags": []}))
        .await;
    ada.send(Method::POST, &format!("{path}/complete")).await;
    ada.send(Method::POST, &format!("{path}/reopen")).await;
    ada.send(Method::DELETE, &path).await;
    audit_outbox(&ada).await;

    let answer = ada.get(&format!("{path}/history")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let history = answer.json();
    assert_eq!(history["next_cursor"], Value::Null);
    let items = history["items"].as_array().unwrap();
    let seen: Vec<_> = items
        .iter()
        .map(|item| {
            assert_eq!((&item["task_id"], &item["actor"]), (&task["id"], &json!("user")));
            (
                item["type"].as_str().unwrap(),
                item["task_version"].as_i64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("task.deleted", 5),
            ("task.reopened", 4),
            ("task.completed", 3),
            ("task.updated", 2),
            ("task.created", 1)
        ]
    );
    let status = |old: &str, new: &str| json!([{"field": "status", "old": old, "new": new}]);
    assert_eq!(items[0]["changes"], status("open", "deleted"));
    assert_eq!(items[1]["changes"], status("completed", "open"));
    assert_eq!(items[2]["changes"], status("open", "completed"));
    assert_eq!(
        items[3]["changes"],
        json!([
            {"field": "tags", "old": ["home"], "new": []},
            {"field": "title", "old": "Water the plants", "new": "Water them all"},
        ])
    );
    let first: Vec<_> = items[4]["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| (change["field"].as_str().unwrap(), &change["old"], &change["new"]))
        .collect();
    for expected in [
        ("title", &Value::Null, &task["title"]),
        ("tags", &Value::Null, &task["tags"]),
        ("due_at", &Value::Null, &task["due_at"]),
        ("priority", &Value::Null, &task["priority"]),
    ] {
        assert!(first.contains(&expected), "{expected:?} is not in {first:?}");
    }
    assert!(
        !first
            .iter()
            .any(|(field, ..)| ["id", "version", "description"].contains(field))
    );
    assert_eq!(items[4]["occurred_at"], task["created_at"]);
    assert_eq!(ada.get("/api/audit").await.json(), history);
}

#[tokio::test]
async fn reminders_and_notifications_tell_what_became_of_them() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let at = schemas::now();
    let task = samples::task_with_reminder(at);
    let reminder = Reminder {
        id: task.reminders[0].id,
        fire_at: at,
        ring: 0,
        fired_at: Some(at),
        snoozed_until: None,
        reason: None,
    };
    let notification = Notification {
        id: Uuid::now_v7(),
        reminder_id: reminder.id,
        task_id: task.id,
        channel: "email".to_owned(),
        fire_at: at,
        attempts: 2,
        message_id: None,
        sent_at: None,
        reason: Some("550 no such mailbox".to_owned()),
    };
    let head = |seconds| Head::new(ada.id, Actor::System, at + chrono::TimeDelta::seconds(seconds));
    let events = [
        ReminderEvent::new(ReminderEventKind::Fired, head(0), reminder.clone(), task.clone()).into(),
        NotificationEvent::new(NotificationEventKind::Failed, head(1), notification.clone()).into(),
    ];
    audit(&server.database, &events).await;
    let page = ada.get(&format!("/api/tasks/{}/history", task.id)).await.json();
    let (failed, fired) = (&page["items"][0], &page["items"][1]);
    assert_eq!(
        (&failed["type"], &fired["type"]),
        (&json!("notification.failed"), &json!("reminder.fired"))
    );
    assert_eq!(
        (&failed["actor"], &failed["task_version"]),
        (&json!("system"), &Value::Null)
    );
    assert_eq!(
        (&fired["task_version"], &fired["changes"]),
        (&json!(1), &json!([]))
    );
    let at = at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    assert_eq!(
        fired["reminder"],
        json!({"id": reminder.id, "fire_at": at, "ring": 0, "fired_at": at, "snoozed_until": null, "reason": null})
    );
    assert_eq!(
        failed["notification"],
        json!({"id": notification.id, "reminder_id": reminder.id, "channel": "email", "attempts": 2, "sent_at": null,
               "reason": "550 no such mailbox"})
    );
    assert_eq!(
        (&failed["reminder"], &fired["notification"]),
        (&Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn pages_and_filters_find_each_event_once_newest_first() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let bob = server.person("bob@example.org").await;
    let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
    // Some days, two of which have a partition, and of each instant several events.
    let start: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
    sqlx::query("select audit.ensure_partitions('2026-11-02', 2)")
        .execute(&server.database.pool("audit-sink"))
        .await
        .unwrap();
    let mut events = Vec::new();
    for n in 0..30 {
        let at = start + chrono::TimeDelta::hours(i64::from(n / 3) * 12);
        let kind = if n % 2 == 0 {
            TaskEventKind::Created
        } else {
            TaskEventKind::Completed
        };
        events.push(event(&ada, if n % 5 == 0 { other } else { one }, kind, at));
        events.push(event(&bob, Uuid::now_v7(), kind, at));
    }
    audit(&server.database, &events).await;
    events.retain(|event| event.head().user_id == ada.id);
    events.sort_by_key(|event| std::cmp::Reverse((event.head().occurred_at, event.head().event_id)));

    for (filter, expected) in [
        ("", event_ids(&events)),
        (
            "&type=task.completed",
            event_ids(events.iter().filter(|e| e.record_name() == "TaskCompleted")),
        ),
        ("&type=task.completed&type=task.created", event_ids(&events)),
        (
            &format!("&task_id={other}"),
            event_ids(events.iter().filter(|e| e.task_id() == other)),
        ),
        ("&actor=recurrence&actor=system", vec![]),
        (
            "&since=2026-11-02T00:00:00Z&until=2026-11-04T01:00:00%2B01:00",
            event_ids(events.iter().filter(|e| {
                let days = (e.head().occurred_at - start).num_days();
                (1..3).contains(&days)
            })),
        ),
        (&format!("&task_id={}", Uuid::now_v7()), vec![]),
    ] {
        let mut found = Vec::new();
        let mut path = format!("/api/audit?limit=4{filter}");
        loop {
            let page = ada.get(&path).await.json();
            let items = page["items"].as_array().unwrap();
            found.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
            let Some(cursor) = page["next_cursor"].as_str() else {
                break;
            };
            assert_eq!(items.len(), 4);
            path = format!("/api/audit?limit=4{filter}&cursor={cursor}");
        }
        assert_eq!(found, expected, "{filter}");
    }
    let of_task = event_ids(events.iter().filter(|e| e.task_id() == one));
    assert_eq!(
        ids(&ada, &format!("/api/tasks/{one}/history?limit=100")).await,
        of_task
    );
    // Partitions have what the parent has.
    let indexes: Vec<String> = sqlx::query_scalar(
        "select indexdef from pg_indexes where schemaname = 'audit' and tablename = 'events_20261103' order by 1",
    )
    .fetch_all(server.database.admin())
    .await
    .unwrap();
    assert!(
        indexes
            .iter()
            .any(|index| index.contains("(user_id, task_id, occurred_at)")),
        "{indexes:?}"
    );
}

#[tokio::test]
async fn nobody_reads_the_history_of_another_and_a_task_that_never_was_has_none() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let bob = server.person("bob@example.org").await;
    let (path, _) = ada.task(&json!({"title": "secret"})).await;
    // Before the sink has caught up a task of one's own has an empty history.
    let fresh = ada.get(&format!("{path}/history")).await;
    assert_eq!(
        (fresh.status, fresh.json()),
        (StatusCode::OK, json!({"items": [], "next_cursor": null}))
    );
    audit_outbox(&ada).await;
    let theirs = bob.get(&format!("{path}/history")).await;
    theirs.problem(404, "not-found");
    let none = bob.get(&format!("/api/tasks/{}/history", Uuid::now_v7())).await;
    assert_eq!(theirs.text, none.text);
    bob.get("/api/tasks/x/history").await.problem(404, "not-found");
    assert_eq!(bob.get("/api/audit").await.json()["items"], json!([]));
    let task_id = path.rsplit('/').next().unwrap();
    assert_eq!(
        bob.get(&format!("/api/audit?task_id={task_id}")).await.json()["items"],
        json!([])
    );

    // What is gone from the tasks for good is known by its events.
    sqlx::query("delete from tasks.tasks")
        .execute(server.database.admin())
        .await
        .unwrap();
    assert_eq!(ids(&ada, &format!("{path}/history")).await.len(), 1);
    let filtered = ada.get(&format!("{path}/history?type=task.deleted")).await;
    assert_eq!(
        (filtered.status, &filtered.json()["items"]),
        (StatusCode::OK, &json!([]))
    );

    // A record that nobody could read is no event of hers, though it was written under her key.
    sqlx::query(
        "insert into audit.events (event_id, occurred_at, topic, partition_id, offset_id, event_type, user_id, raw, headers)
         values (gen_random_uuid(), now(), 'task-events', 0, 0, 'undecodable', $1, 'x', '{}')",
    )
    .bind(ada.id)
    .execute(&server.database.pool("audit-sink"))
    .await
    .unwrap();
    assert_eq!(ids(&ada, "/api/audit").await.len(), 1);
    server.get("/api/audit").await.problem(401, "token-required");
}

#[tokio::test]
async fn history_queries_that_cannot_be_are_refused() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, task) = ada.task(&json!({"title": "t"})).await;
    for (query, parameters) in [
        ("limit=0", vec!["limit"]),
        ("limit=101&cursor=x", vec!["limit", "cursor"]),
        ("type=created", vec!["type"]),
        ("type=task.created,&actor=me", vec!["type", "actor"]),
        (
            "since=2027-01-01T00:00:00&until=2027-01-01T00:00:00+01:00",
            vec!["since", "until"],
        ),
        ("since=0000-01-01T00:00:00Z", vec!["since"]),
        ("cursor=AAAAAAAAAAAAAAAAAAAAAA", vec!["cursor"]),
        (
            "cursor=%00&page=2&limit=5&limit=5",
            vec!["limit", "cursor", "page"],
        ),
    ] {
        for path in ["/api/audit", &format!("{path}/history")] {
            let answer = ada.get(&format!("{path}?{query}")).await;
            assert_eq!(answer.problem(400, "invalid-query"), parameters, "{path}?{query}");
        }
    }
    assert_eq!(
        ada.get("/api/audit?task_id=x")
            .await
            .problem(400, "invalid-query"),
        ["task_id"]
    );
    let id = task["id"].as_str().unwrap();
    assert_eq!(
        ada.get(&format!("{path}/history?task_id={id}"))
            .await
            .problem(400, "invalid-query"),
        ["task_id"]
    );
}
