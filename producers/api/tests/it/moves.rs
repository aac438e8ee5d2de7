//! Whoever moves takes along what follows: whole days and times that float.

use reqwest::StatusCode;
use reqwest::header::ETAG;
use schemas::{TaskEvent, TaskEventKind};
use serde_json::{Value, json};
use support::eventually;

use crate::outbox::{changes, events};
use crate::server::{Person, Server};

async fn every(person: &Person) -> Vec<Value> {
    let tasks = person.get("/api/tasks?sort=created&limit=100").await;
    assert_eq!(tasks.status, StatusCode::OK, "{}", tasks.text);
    tasks.json()["items"].as_array().unwrap().clone()
}

async fn still_moving(server: &Server) -> i64 {
    sqlx::query_scalar("select count(*) from accounts.moves")
        .fetch_one(server.database.admin())
        .await
        .unwrap()
}

/// Until nobody is moving any more.
async fn settled(server: &Server) {
    eventually("nobody is moving", async || {
        (still_moving(server).await == 0).then_some(())
    })
    .await;
}

async fn to(person: &Person, body: Value) {
    let answer = person.patch("/api/me", &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    settled(&person.server).await;
}

/// What a crash right after the account was changed leaves.
async fn moved_and_crashed(person: &Person, zone: &str) {
    let pool = person.server.database.admin();
    let mut tx = pool.begin().await.unwrap();
    sqlx::query("update accounts.users set timezone = $2, version = version + 1 where id = $1")
        .bind(person.id)
        .bind(zone)
        .execute(&mut *tx)
        .await
        .unwrap();
    sqlx::query("insert into accounts.moves (user_id) values ($1)")
        .bind(person.id)
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

async fn updates(server: &Server, person: &Person) -> Vec<TaskEvent> {
    let mut events = events(&server.database, person.id).await;
    events.retain(|event| event.kind == TaskEventKind::Updated);
    events
}

#[tokio::test]
async fn what_floats_keeps_its_time_on_the_wall_and_what_is_of_a_zone_its_instant() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let at = "2097-07-01T09:00:00+02:00";
    let (floating, _) = ada
        .task(&json!({"title": "floating", "due_at": at, "floating": true, "reminders": [{"offset": "-PT10M"}]}))
        .await;
    let (day, _) = ada
        .task(&json!({"title": "day", "due_on": "2097-07-01", "reminders": [{"offset": "PT0S"}]}))
        .await;
    let (zoned, _) = ada.task(&json!({"title": "zoned", "due_at": at})).await;
    let (done, task) = ada
        .task(&json!({"title": "done", "due_at": at, "floating": true}))
        .await;
    ada.send(reqwest::Method::POST, &format!("{done}/complete")).await;

    to(&ada, json!({"timezone": "America/New_York"})).await;
    let floating_now = ada.get(&floating).await;
    assert_eq!(floating_now.header(ETAG), "\"2\"");
    let floating_now = floating_now.json();
    assert_eq!(
        (&floating_now["due_at"], &floating_now["timezone"]),
        (&json!("2097-07-01T13:00:00.000000Z"), &json!("America/New_York"))
    );
    let day_now = ada.get(&day).await.json();
    assert_eq!(
        (&day_now["due_on"], &day_now["timezone"], &day_now["version"]),
        (&json!("2097-07-01"), &json!("America/New_York"), &json!(2))
    );
    for path in [&zoned, &done] {
        let task = ada.get(path).await.json();
        assert_eq!(task["timezone"], "Europe/Berlin");
        assert_eq!(task["due_at"], "2097-07-01T07:00:00.000000Z");
    }
    let told = updates(&server, &ada).await;
    let fields: Vec<Vec<&str>> = told
        .iter()
        .map(|event| changes(event).into_keys().collect())
        .collect();
    assert_eq!(fields, [vec!["due_at", "timezone"], vec!["timezone"]]);

    // The hour of whole days, too. Nothing else moves, and it does so once.
    to(&ada, json!({"whole_day_time": "07:30"})).await;
    to(&ada, json!({"whole_day_time": "07:30", "name": "Ada"})).await;
    assert_eq!(ada.get(&day).await.json()["whole_day_time"], "07:30");
    assert_eq!(ada.get(&zoned).await.header(ETAG), "\"1\"");
    assert_eq!(
        updates(&server, &ada).await.last().unwrap().task.whole_day_minute,
        450
    );
    let day_again = ada.get(&day).await;
    assert_eq!(day_again.header(ETAG), "\"3\"");
    // What was done meanwhile follows when it is opened again, and what is new is where the person is, whatever the token says.
    let reopened = ada
        .send(reqwest::Method::POST, &format!("{done}/reopen"))
        .await
        .json();
    assert_eq!(
        (&reopened["due_at"], &reopened["id"]),
        (&json!("2097-07-01T13:00:00.000000Z"), &task["id"])
    );
    for (body, minute) in [
        (json!({"title": "t", "due_on": "2097-07-02"}), json!("07:30")),
        (json!({"title": "t", "due_at": at, "floating": true}), json!(null)),
    ] {
        let (_, task) = ada.task(&body).await;
        assert_eq!(
            (&task["timezone"], &task["whole_day_time"]),
            (&json!("America/New_York"), &minute)
        );
    }
    let batch = ada
        .post(
            "/api/tasks/batch",
            &json!({"tasks": [{"title": "t", "due_on": "2097-07-02"}]}),
        )
        .await
        .json();
    assert_eq!(batch["items"][0]["task"]["timezone"], "America/New_York");
    let (path, _) = ada.task(&json!({"title": "t"})).await;
    let patched = ada.patch(&path, &json!({"due_on": "2097-07-02"})).await.json();
    assert_eq!(
        (&patched["timezone"], &patched["whole_day_time"]),
        (&json!("America/New_York"), &json!("07:30"))
    );
}

#[tokio::test]
async fn a_time_on_the_wall_that_does_not_exist_there_is_the_one_after_the_gap() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    // Years of which zone data knows the changes: New York skips 02:30 on 2030-03-10, Berlin does not.
    let (path, _) = ada
        .task(&json!({"title": "t", "due_at": "2030-03-10T02:30:00+01:00", "floating": true}))
        .await;
    to(&ada, json!({"timezone": "America/New_York"})).await;
    assert_eq!(
        ada.get(&path).await.json()["due_at"],
        "2030-03-10T07:30:00.000000Z"
    );
}

#[tokio::test]
async fn series_that_follow_go_with_their_open_instances() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let create = async |body: Value| {
        let answer = ada.post("/api/recurring-tasks", &body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        format!("/api/recurring-tasks/{}", answer.json()["id"].as_str().unwrap())
    };
    let daily = |title: &str, more: Value| {
        let mut body = json!({"title": title, "recurrence_type": "daily"});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    let at = "2097-07-01T09:00:00+02:00";
    let floating = create(daily("floating", json!({"starts_at": at, "floating": true}))).await;
    let day = create(daily("day", json!({"starts_on": "2097-07-01"}))).await;
    let zoned = create(daily("zoned", json!({"starts_at": at}))).await;
    let ended = create(daily("ended", json!({"starts_on": "2097-07-01"}))).await;
    ada.send(reqwest::Method::POST, &format!("{ended}/end")).await;

    to(
        &ada,
        json!({"timezone": "America/New_York", "whole_day_time": "10:00"}),
    )
    .await;
    let seen = async |path: &str| {
        let series = ada.get(path).await.json();
        (
            series["timezone"].clone(),
            series["starts_at"].clone(),
            series["starts_on"].clone(),
        )
    };
    let new_york = json!("America/New_York");
    assert_eq!(
        seen(&floating).await,
        (
            new_york.clone(),
            json!("2097-07-01T13:00:00.000000Z"),
            json!(null)
        )
    );
    assert_eq!(
        seen(&day).await,
        (new_york.clone(), json!(null), json!("2097-07-01"))
    );
    assert_eq!(
        seen(&zoned).await,
        (
            json!("Europe/Berlin"),
            json!("2097-07-01T07:00:00.000000Z"),
            json!(null)
        )
    );
    for task in every(&ada).await {
        let (occurrence, zone) = match task["title"].as_str().unwrap() {
            "floating" => ("2097-07-01T13:00:00.000000Z", &new_york),
            "day" | "ended" => ("2097-07-01T04:00:00.000000Z", &new_york),
            _ => ("2097-07-01T07:00:00.000000Z", &json!("Europe/Berlin")),
        };
        assert_eq!(
            (&task["occurrence"], &task["timezone"]),
            (&json!(occurrence), zone),
            "{task}"
        );
    }
    // The open instance is the one of its day still: none comes twice.
    let next = ada.get(&format!("{floating}/occurrences?limit=2")).await.json();
    assert_eq!(next["items"][0]["local"], "2097-07-01T09:00:00");
    assert!(next["items"][0]["task_id"].is_string());
    assert_eq!(next["items"][1]["local"], "2097-07-02T09:00:00");
}

#[tokio::test]
async fn an_instance_whose_new_place_another_has_keeps_its_own() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (done, task) = ada
        .task(&json!({"title": "t", "due_at": "2097-07-01T09:00:00+02:00", "floating": true, "recurrence": "FREQ=HOURLY"}))
        .await;
    ada.send(reqwest::Method::POST, &format!("{done}/complete")).await;
    // The next hour's, as the generator makes it. In Helsinki its time is the instant of the one before.
    sqlx::query(
        "insert into tasks.tasks (user_id, id, version, title, priority, tags, due_at, timezone, floating, reminders, series_id,
                                  occurrence, recurrence, created_at, updated_at)
         select user_id, gen_random_uuid(), 1, title, priority, tags, due_at + interval '1 hour', timezone, true, reminders,
                series_id, occurrence + interval '1 hour', recurrence, now(), now()
         from tasks.tasks where user_id = $1",
    )
    .bind(ada.id)
    .execute(server.database.admin())
    .await
    .unwrap();
    to(&ada, json!({"timezone": "Europe/Helsinki"})).await;
    let open = every(&ada)
        .await
        .into_iter()
        .find(|other| other["id"] != task["id"])
        .unwrap();
    assert_eq!(
        (&open["occurrence"], &open["due_at"], &open["timezone"]),
        (
            &json!("2097-07-01T08:00:00.000000Z"),
            &task["due_at"],
            &json!("Europe/Helsinki")
        )
    );
}

#[tokio::test]
async fn what_a_crash_left_undone_is_finished_by_whoever_runs_next() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let tasks: Vec<Value> = (0..500)
        .map(|n| json!({"title": format!("{n}"), "due_on": "2097-07-01"}))
        .collect();
    for _ in 0..3 {
        let made = ada.post("/api/tasks/batch", &json!({"tasks": tasks})).await;
        assert_eq!(made.status, StatusCode::OK, "{}", made.text);
    }
    server.stop.cancel();
    moved_and_crashed(&ada, "Asia/Tokyo").await;
    // It had come as far as a part of them.
    sqlx::query(
        "update tasks.tasks set timezone = 'Asia/Tokyo', version = 2, due_on_starts_at = '2097-06-30T15:00:00Z'
         where user_id = $1 and title >= '5'",
    )
    .bind(ada.id)
    .execute(server.database.admin())
    .await
    .unwrap();
    // Two at once take bites in turn, and none is taken twice.
    let (_one, _other) = tokio::join!(server.replica(), server.replica());
    settled(&server).await;
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "select timezone, version, count(*) from tasks.tasks where user_id = $1 group by timezone, version",
    )
    .bind(ada.id)
    .fetch_all(server.database.admin())
    .await
    .unwrap();
    assert_eq!(rows, [("Asia/Tokyo".to_owned(), 2, 1500)]);
    let told = updates(&server, &ada).await;
    let not_done: i64 =
        sqlx::query_scalar("select count(*) from tasks.tasks where user_id = $1 and title < '5'")
            .bind(ada.id)
            .fetch_one(server.database.admin())
            .await
            .unwrap();
    assert!(not_done > 500);
    assert_eq!(i64::try_from(told.len()).unwrap(), not_done);
}

#[tokio::test]
async fn whoever_moves_while_tasks_are_made_leaves_none_behind() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let make = async |n: usize| {
        for m in 0..10 {
            ada.task(&json!({"title": format!("{n} {m}"), "due_on": "2097-07-01"}))
                .await;
        }
    };
    let making = futures::future::join_all((0..6).map(make));
    let moving = async {
        for zone in [
            "Asia/Tokyo",
            "America/New_York",
            "Asia/Kolkata",
            "Pacific/Auckland",
        ] {
            let answer = ada.patch("/api/me", &json!({"timezone": zone})).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        }
    };
    tokio::join!(making, moving);
    settled(&server).await;
    let zones: Vec<(String, i64)> =
        sqlx::query_as("select timezone, count(*) from tasks.tasks where user_id = $1 group by timezone")
            .bind(ada.id)
            .fetch_all(server.database.admin())
            .await
            .unwrap();
    assert_eq!(zones, [("Pacific/Auckland".to_owned(), 60)]);
}
