//! Reminders: how they are said, what became of them, putting them off.

use chrono::{TimeDelta, Utc};
use reqwest::header::{ETAG, IF_MATCH};
use reqwest::{Method, StatusCode};
use schemas::TaskEventKind;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::outbox::{changes, events};
use crate::server::{Answer, Person, Server};

/// What the scanner writes down of a reminder, `minutes` from now.
pub async fn known(person: &Person, task: &Value, reminder: usize, state: &str, minutes: i32) -> String {
    let id = task["reminders"][reminder]["id"].as_str().unwrap().to_owned();
    sqlx::query(
        "insert into reminders.reminders (user_id, task_id, id, state, fire_at, urgency, fired_at, reason, ring)
         values ($1, $2::uuid, $3::uuid, $4, now() + $5 * interval '1 minute', 1,
                 case $4 when 'fired' then now() + $5 * interval '1 minute' end, case $4 when 'cancelled' then 'completed' end, 0)",
    )
    .bind(person.id)
    .bind(task["id"].as_str().unwrap())
    .bind(&id)
    .bind(state)
    .bind(minutes)
    .execute(person.server.database.admin())
    .await
    .unwrap();
    id
}

/// A task with that many reminders.
async fn task(person: &Person, reminders: usize) -> (String, Value) {
    let reminders: Vec<Value> = (0..reminders)
        .map(|n| json!({"offset": format!("-PT{n}M")}))
        .collect();
    person
        .task(&json!({"title": "t", "due_at": "2097-02-01T08:00:00Z", "reminders": reminders}))
        .await
}

async fn ids(person: &Person, query: &str) -> Vec<String> {
    let answer = person.get(&format!("/api/reminders{query}")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let items = answer.json()["items"].as_array().unwrap().clone();
    items
        .iter()
        .map(|item| item["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn what_a_reminder_says_is_kept_shown_and_in_its_events() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let reminders = json!([
        {"offset": "PT0S", "nag": {"every": "PT10M", "times": 3}, "send_late_within": "PT2H"},
        {"at": "2097-02-01T07:00:00Z"},
    ]);
    let (path, task) = ada
        .task(&json!({"title": "t", "due_at": "2097-02-01T08:00:00Z", "reminders": reminders}))
        .await;
    let shown = &task["reminders"][0];
    assert_eq!(shown["nag"], json!({"every": "PT10M", "times": 3}));
    assert_eq!(shown["send_late_within"], "PT2H");
    assert_eq!(task["reminders"][1].as_object().unwrap().len(), 2);
    assert_eq!(ada.get(&path).await.json(), task);
    let event = events(&server.database, ada.id).await.remove(0);
    let nag = event.task.reminders[0].nag.as_ref().unwrap();
    assert_eq!((nag.every.as_str(), nag.times), ("PT10M", 3));
    assert_eq!(event.task.reminders[0].send_late_within.as_deref(), Some("PT2H"));

    let wrong = json!({"reminders": [
        {"offset": "PT0S", "nag": {"every": "PT1S", "times": 0}, "send_late_within": "-PT1S", "snoozed_until": "2097-01-01T00:00:00Z"},
    ]});
    let refused = ada.patch(&path, &wrong);
    assert_eq!(
        refused.await.problem(422, "invalid-fields"),
        [
            "/reminders/0/nag/every",
            "/reminders/0/nag/times",
            "/reminders/0/send_late_within",
            "/reminders/0/snoozed_until",
        ]
    );
}

#[tokio::test]
async fn series_and_templates_hand_on_what_their_reminders_say() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let reminders = json!([
        {"offset": "-PT10M"},
        {"offset": "PT0S", "nag": {"every": "PT5M", "times": 2}, "send_late_within": "PT0S"},
    ]);
    let without_ids = |task: &Value| {
        let mut reminders = task["reminders"].clone();
        for reminder in reminders.as_array_mut().unwrap() {
            reminder.as_object_mut().unwrap().remove("id");
        }
        reminders
    };
    let series = ada
        .post(
            "/api/recurring-tasks",
            &json!({"title": "t", "recurrence_type": "daily", "starts_at": "2097-02-01T08:00:00Z", "floating": true,
                    "reminders": reminders}),
        )
        .await
        .json();
    assert_eq!(
        (&series["reminders"], &series["floating"]),
        (&reminders, &json!(true))
    );
    let instance = ada.get("/api/tasks").await.json()["items"][0].clone();
    assert_eq!(
        (without_ids(&instance), &instance["floating"]),
        (reminders.clone(), &json!(true))
    );
    // The open instance is taken along, and a reminder that stays is the same.
    let path = format!("/api/recurring-tasks/{}", series["id"].as_str().unwrap());
    let changed = json!([{"offset": "-PT10M", "nag": {"every": "P1D", "times": 1}}]);
    assert_eq!(
        ada.patch(&path, &json!({"reminders": changed})).await.json()["reminders"],
        changed
    );
    let after = ada.get("/api/tasks").await.json()["items"][0].clone();
    assert_eq!(without_ids(&after), changed);
    assert_eq!(after["reminders"][0]["id"], instance["reminders"][0]["id"]);
    // As versions of before wrote it, and read it: a text is an offset.
    sqlx::query("update tasks.series set content = jsonb_set(content, '{reminders}', '[\"-PT1H\"]')")
        .execute(server.database.admin())
        .await
        .unwrap();
    let plain = json!([{"offset": "-PT1H"}]);
    assert_eq!(ada.get(&path).await.json()["reminders"], plain);
    ada.patch(&path, &json!({"title": "u"})).await;
    let stored: Value = sqlx::query_scalar("select content -> 'reminders' from tasks.series")
        .fetch_one(server.database.admin())
        .await
        .unwrap();
    assert_eq!(stored, json!(["-PT1H"]));

    let template = ada
        .post(
            "/api/templates",
            &json!({"title": "t", "due_offset": "P1D", "due_time": "09:00", "floating": true, "reminders": reminders}),
        )
        .await
        .json();
    assert_eq!(
        (&template["reminders"], &template["floating"]),
        (&reminders, &json!(true))
    );
    let make = format!("/api/templates/{}/tasks", template["id"].as_str().unwrap());
    let made = ada.post(&make, &json!({"base_date": "2097-02-01"})).await.json();
    assert_eq!(
        (without_ids(&made), &made["floating"]),
        (reminders.clone(), &json!(true))
    );
    // A zone that is asked for is meant.
    let made = ada.post(&make, &json!({"timezone": "Asia/Tokyo"})).await.json();
    assert_eq!(
        (&made["floating"], &made["timezone"]),
        (&json!(false), &json!("Asia/Tokyo"))
    );
    let soon = (Utc::now() + TimeDelta::days(3)).to_rfc3339();
    let (_, near) = ada
        .task(&json!({"title": "t", "due_at": soon, "floating": true, "reminders": changed}))
        .await;
    let copied = json!({"from_task": near["id"]});
    let copied = ada.post("/api/templates", &copied).await.json();
    assert_eq!(
        (&copied["reminders"], &copied["floating"]),
        (&changed, &json!(true))
    );
    let day = json!({"title": "t", "due_offset": "P1D", "floating": true});
    let refused = ada.post("/api/templates", &day);
    assert_eq!(refused.await.problem(422, "invalid-fields"), ["/floating"]);
}

#[tokio::test]
async fn a_reminder_is_found_before_and_after_the_scanner_has_seen_it() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, task) = task(&ada, 2).await;
    let id = task["reminders"][1]["id"].as_str().unwrap().to_owned();
    let place = format!("/api/reminders/{id}");
    let shown = ada.get(&place).await.json();
    assert_eq!(
        shown,
        json!({
            "id": id, "task_id": task["id"], "task_version": 1, "title": "t", "state": null, "fire_at": null, "ring": null,
            "fired_at": null, "reason": null, "reminder": task["reminders"][1],
        })
    );
    assert!(ids(&ada, "").await.is_empty());
    known(&ada, &task, 1, "armed", 5).await;
    let shown = ada.get(&place).await.json();
    assert_eq!((&shown["state"], &shown["ring"]), (&json!("armed"), &json!(0)));
    assert!(shown["fire_at"].is_string());
    assert_eq!(ada.get("/api/reminders").await.json()["items"], json!([shown]));

    // Taken out of its task, it is still what became of it.
    ada.patch(&path, &json!({"reminders": []})).await;
    let shown = ada.get(&place).await.json();
    assert_eq!(
        (&shown["reminder"], &shown["task_version"]),
        (&json!(null), &json!(2))
    );
    ada.send(Method::DELETE, &path).await;
    ada.get(&place).await.problem(404, "not-found");
    assert!(ids(&ada, "").await.is_empty());
    for unknown in [Uuid::now_v7().to_string(), "x".to_owned()] {
        let answer = ada.get(&format!("/api/reminders/{unknown}")).await;
        answer.problem(404, "not-found");
    }
}

#[tokio::test]
async fn reminders_are_listed_by_state_and_task_the_armed_ones_soonest_first() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let bob = server.person("bob@example.org").await;
    let ((_, first), (_, second), (_, theirs)) =
        (task(&ada, 4).await, task(&ada, 3).await, task(&bob, 1).await);
    let late = known(&ada, &first, 0, "armed", 30).await;
    let soon = known(&ada, &first, 1, "armed", 10).await;
    let between = known(&ada, &second, 0, "armed", 20).await;
    let old = known(&ada, &first, 2, "fired", -20).await;
    let new = known(&ada, &second, 1, "fired", -10).await;
    let missed = known(&ada, &second, 2, "missed", -10).await;
    let cancelled = known(&ada, &first, 3, "cancelled", 10).await;
    let his = known(&bob, &theirs, 0, "armed", 15).await;

    assert_eq!(ids(&ada, "").await, [&*soon, &between, &late]);
    assert_eq!(ids(&ada, "?state=armed").await, [&*soon, &between, &late]);
    assert_eq!(ids(&ada, "?state=fired").await, [&*new, &old]);
    assert_eq!(ids(&ada, "?state=missed").await, [missed]);
    assert_eq!(ids(&ada, "?state=cancelled").await, [cancelled]);
    let of = format!("?task={}", first["id"].as_str().unwrap());
    assert_eq!(ids(&ada, &of).await, [&*soon, &late]);
    assert_eq!(ids(&bob, "").await, [his]);
    assert!(ids(&bob, &of).await.is_empty());

    for (state, all) in [
        ("armed", [soon, between, late].as_slice()),
        ("fired", &[new, old]),
    ] {
        let mut seen = Vec::new();
        let mut query = format!("?limit=1&state={state}");
        loop {
            seen.extend(ids(&ada, &query).await);
            let next = ada.get(&format!("/api/reminders{query}")).await.json()["next_cursor"].clone();
            let Some(next) = next.as_str() else { break };
            query = format!("?limit=1&state={state}&cursor={next}");
        }
        assert_eq!(seen, all);
    }
    // A cursor is good for its state, task and person only.
    let cursor = ada.get("/api/reminders?limit=1").await.json()["next_cursor"].clone();
    let cursor = cursor.as_str().unwrap();
    for (who, query) in [
        (&ada, format!("?state=fired&cursor={cursor}")),
        (&ada, format!("{of}&cursor={cursor}")),
        (&bob, format!("?cursor={cursor}")),
    ] {
        let refused = who.get(&format!("/api/reminders{query}")).await;
        assert_eq!(refused.problem(400, "invalid-query"), ["cursor"]);
    }
    let refused = ada.get("/api/reminders?state=ringing&task=1&limit=0&x=1").await;
    assert_eq!(
        refused.problem(400, "invalid-query"),
        ["state", "task", "limit", "x"]
    );
}

#[tokio::test]
async fn a_reminder_is_put_off_for_a_while_or_until_an_instant() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, task) = task(&ada, 1).await;
    let snooze = format!(
        "/api/reminders/{}/snooze",
        task["reminders"][0]["id"].as_str().unwrap()
    );
    let before = Utc::now();
    let answer = ada.post(&snooze, &json!({"for": "PT10M"})).await;
    assert_eq!(
        (answer.status, answer.header(ETAG)),
        (StatusCode::OK, "\"2\""),
        "{}",
        answer.text
    );
    let put_off: chrono::DateTime<Utc> = answer.json()["reminders"][0]["snoozed_until"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    // This machine is the database's too.
    assert!(
        put_off >= before - TimeDelta::seconds(1) + TimeDelta::minutes(10),
        "{put_off}"
    );
    assert_eq!(ada.get(&path).await.json(), answer.json());
    known(&ada, &task, 0, "fired", -1).await;
    let until = json!({"until": (before + TimeDelta::days(366) - TimeDelta::minutes(1)).to_rfc3339()});
    let again = ada.post(&snooze, &until).await;
    assert_eq!(again.header(ETAG), "\"3\"", "{}", again.text);
    assert_eq!(
        ada.post(&snooze, &until).await.header(ETAG),
        "\"3\"",
        "it is put off to then already"
    );

    let all = events(&server.database, ada.id).await;
    let last = all.last().unwrap();
    assert_eq!((all.len(), last.kind), (3, TaskEventKind::Updated));
    assert!(last.task.reminders[0].snoozed_until.is_some());
    assert_eq!(changes(last).keys().collect::<Vec<_>>(), [&"reminders"]);

    for (body, places) in [
        (json!({}), vec![""]),
        (
            json!({"for": "PT1M", "until": "2097-01-01T00:00:00Z"}),
            vec!["/until"],
        ),
        (json!({"for": "P367D"}), vec!["/for"]),
        (
            json!({"until": "2020-01-01T00:00:00Z", "why": 1}),
            vec!["/until", "/why"],
        ),
    ] {
        let refused = ada.post(&snooze, &body).await.problem(422, "invalid-fields");
        assert_eq!(refused, places, "{body}");
    }
    // Its own time moves: what was said of the old one no longer holds.
    let moved = ada
        .patch(&path, &json!({"due_at": "2097-03-01T08:00:00Z"}))
        .await
        .json();
    assert_eq!(moved["reminders"][0].get("snoozed_until"), None);
}

#[tokio::test]
async fn a_reminder_is_dismissed_and_may_be_put_off_after_that() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (_, task) = task(&ada, 1).await;
    let place = format!("/api/reminders/{}", task["reminders"][0]["id"].as_str().unwrap());
    let dismiss = format!("{place}/dismiss");
    let dismissed = ada.send(Method::POST, &dismiss).await;
    assert_eq!(
        (dismissed.status, dismissed.header(ETAG)),
        (StatusCode::OK, "\"2\"")
    );
    assert!(dismissed.json()["reminders"][0]["dismissed_at"].is_string());
    let again = ada.send(Method::POST, &dismiss).await;
    assert_eq!((again.header(ETAG), again.json()), ("\"2\"", dismissed.json()));
    let shown = ada.get(&place).await.json();
    assert_eq!(shown["reminder"], dismissed.json()["reminders"][0]);
    let put_off = ada
        .post(&format!("{place}/snooze"), &json!({"for": "PT1S"}))
        .await
        .json();
    assert_eq!(put_off["reminders"][0].get("dismissed_at"), None);
}

#[tokio::test]
async fn reminders_of_a_completed_task_are_left_alone() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, task) = task(&ada, 1).await;
    let place = format!("/api/reminders/{}", task["reminders"][0]["id"].as_str().unwrap());
    ada.send(Method::POST, &format!("{path}/complete")).await;
    for known_to_the_scanner in [false, true] {
        if known_to_the_scanner {
            known(&ada, &task, 0, "cancelled", 5).await;
        }
        let refused = ada
            .post(&format!("{place}/snooze"), &json!({"for": "PT1M"}))
            .await;
        refused.problem(409, "task-not-open");
        let refused = ada.send(Method::POST, &format!("{place}/dismiss")).await;
        refused.problem(409, "task-not-open");
    }
    assert_eq!(ada.get(&path).await.header(ETAG), "\"2\"");
    ada.send(Method::POST, &format!("{path}/reopen")).await;
    let answer = ada.send(Method::POST, &format!("{place}/dismiss")).await;
    assert_eq!(answer.header(ETAG), "\"4\"");
    // Whoever has it no more.
    ada.patch(&path, &json!({"reminders": []})).await;
    let gone = ada.send(Method::POST, &format!("{place}/dismiss")).await;
    gone.problem(404, "not-found");
}

#[tokio::test]
async fn putting_off_is_done_once_and_for_the_version_that_was_seen() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (_, task) = task(&ada, 1).await;
    let place = format!("/api/reminders/{}", task["reminders"][0]["id"].as_str().unwrap());
    let post = async |key: &str, version: &str| {
        let request = ada
            .request(Method::POST, &format!("{place}/snooze"))
            .header("idempotency-key", key)
            .header(IF_MATCH, version);
        Answer::to(request.json(&json!({"for": "PT10M"}))).await
    };
    post("a", "\"7\"").await.problem(412, "stale-version");
    let first = post("a", "\"1\"").await;
    assert_eq!((first.status, first.header(ETAG)), (StatusCode::OK, "\"2\""));
    let again = post("a", "\"1\"").await;
    assert_eq!((&again.text, again.header(ETAG)), (&first.text, "\"2\""));
    post("b", "\"1\"").await.problem(412, "stale-version");
    let request = ada.request(Method::POST, &format!("{place}/dismiss"));
    let minimal = Answer::to(request.header("prefer", "return=minimal")).await;
    assert_eq!(
        (minimal.status, minimal.header(ETAG)),
        (StatusCode::NO_CONTENT, "\"3\"")
    );
}
