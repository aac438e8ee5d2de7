//! What a person does with single occurrences of what recurs, with all from one on, and with those that wait for nothing.

use chrono::{Days, SubsecRound, TimeDelta};
use kafka::Handler;
use recurrence_generator::{Generator, attend_all};
use reqwest::header::{ETAG, IF_MATCH, LOCATION};
use reqwest::{Method, StatusCode};
use schemas::{TaskEventKind, Timestamp};
use serde_json::{Value, json};
use support::Clock;
use tokio_util::sync::CancellationToken;

use crate::outbox;
use crate::server::{Answer, Person, Server};
use crate::sessions::{person, register};

const ALL: &str = "/api/recurring-tasks";

async fn ada() -> Person {
    Server::start().await.person("ada@example.org").await
}

/// A task that comes every day at nine, from a day in the far future on, unless the fields say otherwise.
async fn daily(person: &Person, fields: Value) -> (String, Value) {
    let mut body = json!({"title": "Water the plants", "recurrence_type": "daily", "timezone": "UTC",
                          "starts_at": "2097-02-01T09:00:00Z"});
    body.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    let answer = person.post(ALL, &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    (answer.header(LOCATION).to_owned(), answer.json())
}

/// Nine o'clock on that day of February 2097.
fn nine(day: u8) -> String {
    format!("2097-02-{day:02}T09:00:00Z")
}

async fn act(person: &Person, path: &str, body: &Value) -> Value {
    let answer = person.post(path, body).await;
    assert!(answer.status.is_success(), "{path}: {}", answer.text);
    answer.json()
}

/// The open tasks of a person by when they are due.
async fn open(person: &Person) -> Vec<Value> {
    let listed = person.get("/api/tasks?status=open&sort=due&limit=100").await;
    assert_eq!(listed.status, StatusCode::OK, "{}", listed.text);
    listed.json()["items"].as_array().unwrap().clone()
}

/// Their due times, as short as can be.
async fn due(person: &Person) -> Vec<String> {
    let short = |task: &Value| {
        let text = task["due_at"]
            .as_str()
            .unwrap_or_else(|| task["due_on"].as_str().unwrap());
        text.get(5..16).unwrap_or(text).to_owned()
    };
    open(person).await.iter().map(short).collect()
}

async fn complete(person: &Person, task: &Value) {
    let path = format!("/api/tasks/{}/complete", task["id"].as_str().unwrap());
    assert_eq!(person.send(Method::POST, &path).await.status, StatusCode::OK);
    let database = &person.server.database;
    let events = outbox::events(database, person.id).await;
    let mut tx = database.pool("recurrence-generator").begin().await.unwrap();
    Generator::new()
        .handle(&mut tx, events.into_iter().map(Into::into).collect())
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

/// Lets the generator look at what does not wait for a completion, so many days ahead.
async fn attend(person: &Person, days: i64) -> usize {
    attend_until(person, schemas::now() + TimeDelta::days(days)).await
}

/// The same up to a time: what is made does not depend on the time of the day then.
async fn attend_until(person: &Person, until: Timestamp) -> usize {
    let pool = person.server.database.pool("recurrence-generator");
    let attended = attend_all(&pool, until - schemas::now(), &CancellationToken::new())
        .await
        .unwrap();
    attended.made
}

async fn preview(person: &Person, path: &str) -> Vec<(String, String, bool)> {
    let items = person.get(&format!("{path}/occurrences?limit=4")).await.json()["items"].clone();
    let text = |value: &Value| value.as_str().unwrap()[5..16].to_owned();
    let items = items.as_array().unwrap().iter();
    items
        .map(|item| {
            (
                text(&item["at"]),
                text(&item["occurrence"]),
                item["task_id"].is_string(),
            )
        })
        .collect()
}

fn row(at: &str, occurrence: &str, made: bool) -> (String, String, bool) {
    (at.to_owned(), occurrence.to_owned(), made)
}

async fn history(person: &Person, path: &str) -> Vec<(String, String, bool)> {
    let items = person.get(&format!("{path}/history")).await.json()["items"].clone();
    let items = items.as_array().unwrap().iter();
    items
        .map(|item| {
            let text = |name: &str| item[name].as_str().unwrap().to_owned();
            assert_eq!(
                item["completed_at"].is_string(),
                text("status") == "completed",
                "{item}"
            );
            (
                text("occurrence")[5..16].to_owned(),
                text("status"),
                item["moved"] == true,
            )
        })
        .collect()
}

#[tokio::test]
async fn an_occurrence_that_is_skipped_does_not_take_place_and_the_next_one_comes() {
    let ada = ada().await;
    let (path, _) = daily(&ada, json!({})).await;
    let skip = format!("{path}/occurrences/skip");
    // One to come, and the one to do.
    let skipped = act(&ada, &skip, &json!({"occurrence": nine(2)})).await;
    assert_eq!(
        (&skipped["version"], &skipped["exdates"]),
        (&json!(2), &json!(["2097-02-02T09:00:00.000000Z"]))
    );
    assert_eq!(act(&ada, &skip, &json!({"occurrence": nine(2)})).await, skipped);
    act(&ada, &skip, &json!({"occurrence": "2097-02-01T10:00:00+01:00"})).await;
    assert_eq!(due(&ada).await, ["02-03T09:00"]);
    assert_eq!(
        preview(&ada, &path).await[..2],
        [
            row("02-03T09:00", "02-03T09:00", true),
            row("02-04T09:00", "02-04T09:00", false)
        ]
    );
    let done = open(&ada).await[0].clone();
    complete(&ada, &done).await;
    assert_eq!(due(&ada).await, ["02-04T09:00"]);
    assert_eq!(
        history(&ada, &path).await,
        [
            ("02-04T09:00".to_owned(), "open".to_owned(), false),
            ("02-03T09:00".to_owned(), "completed".to_owned(), false),
            ("02-02T09:00".to_owned(), "skipped".to_owned(), false),
            ("02-01T09:00".to_owned(), "skipped".to_owned(), false),
        ]
    );
    for (occurrence, pointer) in [
        (json!(nine(3)), "/occurrence"),
        (json!("2097-02-05T10:00:00Z"), "/occurrence"),
        (json!("2090-01-01T09:00:00Z"), "/occurrence"),
        (json!("tomorrow"), "/occurrence"),
        (Value::Null, "/occurrence"),
    ] {
        let answer = ada.post(&skip, &json!({"occurrence": occurrence})).await;
        assert_eq!(answer.problem(422, "invalid-fields"), [pointer]);
    }
    // With an older one open again, too: it goes on from the one that is skipped.
    let reopen = format!("/api/tasks/{}/reopen", done["id"].as_str().unwrap());
    assert_eq!(ada.send(Method::POST, &reopen).await.status, StatusCode::OK);
    act(&ada, &skip, &json!({"occurrence": nine(4)})).await;
    assert_eq!(due(&ada).await, ["02-03T09:00", "02-05T09:00"]);
    // The last one of a rule: it has ended.
    let (path, _) = daily(&ada, json!({"count": 1})).await;
    let over = act(
        &ada,
        &format!("{path}/occurrences/skip"),
        &json!({"occurrence": nine(1)}),
    )
    .await;
    assert_eq!((&over["status"], &over["version"]), (&json!("ended"), &json!(2)));
    ada.post(
        &format!("{path}/occurrences/skip"),
        &json!({"occurrence": nine(2)}),
    )
    .await
    .problem(409, "recurring-task-ended");
}

#[tokio::test]
async fn an_occurrence_that_is_moved_is_due_then_and_keeps_its_place() {
    let ada = ada().await;
    let (path, series) = daily(&ada, json!({"reminders": [{"offset": "-PT10M"}]})).await;
    let to = format!("{path}/occurrences/move");
    let later = "2097-02-03T18:30:00+01:00";
    let moved = ada.post(&to, &json!({"occurrence": nine(3), "to": later})).await;
    assert_eq!((moved.status, moved.header(ETAG)), (StatusCode::OK, "\"1\""));
    let moved = moved.json();
    assert_eq!(
        (&moved["due_at"], &moved["occurrence"], &moved["series_id"]),
        (
            &json!("2097-02-03T17:30:00.000000Z"),
            &json!("2097-02-03T09:00:00.000000Z"),
            &series["id"]
        )
    );
    assert_eq!(
        act(&ada, &to, &json!({"occurrence": nine(3), "to": later})).await,
        moved
    );
    let earlier = act(
        &ada,
        &to,
        &json!({"occurrence": nine(1), "to": "2097-02-01T07:00:00Z"}),
    )
    .await;
    assert_eq!(
        (&earlier["version"], due(&ada).await),
        (
            &json!(2),
            vec!["02-01T07:00".to_owned(), "02-03T17:30".to_owned()]
        )
    );
    assert_eq!(
        preview(&ada, &path).await,
        [
            row("02-01T07:00", "02-01T09:00", true),
            row("02-02T09:00", "02-02T09:00", false),
            row("02-03T17:30", "02-03T09:00", true),
            row("02-04T09:00", "02-04T09:00", false),
        ]
    );
    assert_eq!(
        ada.get(&path).await.json(),
        series,
        "nothing changed about the series"
    );

    // Its place is taken, and those before it come all the same.
    complete(&ada, &earlier).await;
    assert_eq!(due(&ada).await, ["02-02T09:00", "02-03T17:30"]);
    complete(&ada, &open(&ada).await[0]).await;
    assert_eq!(due(&ada).await, ["02-03T17:30"]);
    complete(&ada, &open(&ada).await[0]).await;
    assert_eq!(due(&ada).await, ["02-04T09:00"]);
    let past = history(&ada, &path).await;
    let moved: Vec<_> = past
        .iter()
        .map(|(_, status, moved)| (status.as_str(), *moved))
        .collect();
    assert_eq!(
        moved,
        [
            ("open", false),
            ("completed", true),
            ("completed", false),
            ("completed", true)
        ]
    );

    let body =
        json!({"title": "t", "recurrence_type": "daily", "timezone": "UTC", "starts_on": "2097-03-01"});
    let whole_day = ada.post(ALL, &body).await.header(LOCATION).to_owned();
    let day = act(
        &ada,
        &format!("{whole_day}/occurrences/move"),
        &json!({"occurrence": "2097-03-01T00:00:00Z", "to": "2097-03-09"}),
    )
    .await;
    assert_eq!(
        (&day["due_on"], &day["version"]),
        (&json!("2097-03-09"), &json!(2))
    );
    for (path, body, pointers) in [
        (
            &path,
            json!({"occurrence": nine(5), "to": "2097-03-09"}),
            vec!["/to"],
        ),
        (
            &whole_day,
            json!({"occurrence": "2097-03-01T00:00:00Z", "to": later}),
            vec!["/to"],
        ),
        (
            &path,
            json!({"occurrence": nine(5), "to": "1970-01-01T00:05:00Z"}),
            vec!["/to"],
        ),
        (
            &path,
            json!({"occurrence": nine(1), "to": later}),
            vec!["/occurrence"],
        ),
        (
            &path,
            json!({"occurrence": "x", "to": 7, "why": "?"}),
            vec!["/occurrence", "/to", "/why"],
        ),
    ] {
        let answer = ada.post(&format!("{path}/occurrences/move"), &body).await;
        assert_eq!(answer.problem(422, "invalid-fields"), pointers, "{body}");
    }
}

#[tokio::test]
async fn from_an_occurrence_on_it_is_another_recurring_task_and_what_is_open_goes_along() {
    let ada = ada().await;
    let (path, series) = daily(&ada, json!({"count": 10, "tags": ["home"]})).await;
    complete(&ada, &open(&ada).await[0]).await;
    act(
        &ada,
        &format!("{path}/occurrences/move"),
        &json!({"occurrence": nine(6), "to": "2097-02-06T20:00:00Z"}),
    )
    .await;
    act(
        &ada,
        &format!("{path}/occurrences/skip"),
        &json!({"occurrence": nine(8)}),
    )
    .await;
    let before = ada.get(&path).await;
    for (suffix, body) in [
        ("split", json!({"from": nine(5)})),
        ("occurrences/skip", json!({"occurrence": nine(5)})),
        ("occurrences/move", json!({"occurrence": nine(5), "to": nine(6)})),
    ] {
        let request = ada.request(Method::POST, &format!("{path}/{suffix}"));
        let stale = Answer::to(request.header(IF_MATCH, "\"1\"").json(&body)).await;
        stale.problem(412, "stale-version");
    }
    let request = ada.request(Method::POST, &format!("{path}/split"));
    let split = Answer::to(
        request
            .header(IF_MATCH, before.header(ETAG))
            .header("idempotency-key", "k")
            .json(&json!({"from": nine(5), "title": "Water the garden"})),
    )
    .await;
    assert_eq!(
        (split.status, split.header(ETAG)),
        (StatusCode::CREATED, "\"1\""),
        "{}",
        split.text
    );
    let new = split.json();
    let new_path = split.header(LOCATION).to_owned();
    assert_eq!(ada.get(&new_path).await.json(), new);
    for (field, expected) in [
        ("title", json!("Water the garden")),
        ("tags", json!(["home"])),
        ("starts_at", json!("2097-02-05T09:00:00.000000Z")),
        ("recurrence", json!("FREQ=DAILY;COUNT=6")),
        ("exdates", json!(["2097-02-08T09:00:00.000000Z"])),
        ("split_from", series["id"].clone()),
    ] {
        assert_eq!(new[field], expected, "{field}");
    }
    let old = ada.get(&path).await.json();
    assert_eq!(
        (&old["recurrence"], &old["exdates"], &old["status"], &old["title"]),
        (
            &json!("FREQ=DAILY;UNTIL=20970205T085959Z"),
            &json!([]),
            &json!("active"),
            &series["title"]
        )
    );
    // The one to do is the old one's; the first of the new one is made, and the moved one came along.
    let listed = open(&ada).await;
    let whose: Vec<_> = listed
        .iter()
        .map(|task| (&task["series_id"], &task["title"]))
        .collect();
    let (ours, theirs) = ((&series["id"], &series["title"]), (&new["id"], &new["title"]));
    assert_eq!(whose, [ours, theirs, theirs]);
    assert_eq!(due(&ada).await, ["02-02T09:00", "02-05T09:00", "02-06T20:00"]);
    for _ in 0..3 {
        complete(&ada, &open(&ada).await[0]).await;
    }
    assert_eq!(ada.get(&path).await.json()["status"], "ended");
    assert_eq!(due(&ada).await, ["02-05T09:00", "02-06T20:00"]);
    for expected in [
        vec!["02-06T20:00"],
        vec!["02-07T09:00"],
        vec!["02-09T09:00"],
        vec!["02-10T09:00"],
        vec![],
    ] {
        complete(&ada, &open(&ada).await[0]).await;
        assert_eq!(due(&ada).await, expected);
    }
    assert_eq!(ada.get(&new_path).await.json()["status"], "ended");

    // From the one to do on: nothing is left of the old one.
    let (path, series) = daily(&ada, json!({})).await;
    complete(&ada, &open(&ada).await[0]).await;
    let task = open(&ada).await[0].clone();
    let new = act(
        &ada,
        &format!("{path}/split"),
        &json!({"from": nine(2), "recurrence_type": "weekly", "starts_at": "2097-02-02T18:00:00Z"}),
    )
    .await;
    assert_eq!(ada.get(&path).await.json()["status"], "ended");
    let moved = open(&ada).await;
    assert_eq!(
        (
            moved.len(),
            &moved[0]["id"],
            &moved[0]["series_id"],
            &moved[0]["due_at"]
        ),
        (1, &task["id"], &new["id"], &json!("2097-02-02T18:00:00.000000Z"))
    );
    complete(&ada, &moved[0]).await;
    assert_eq!(due(&ada).await, ["02-09T18:00"]);
    assert_eq!(new["split_from"], series["id"]);

    let (path, _) = daily(&ada, json!({})).await;
    for (body, pointers) in [
        (json!({"from": nine(1)}), vec!["/from"]),
        (json!({"from": "2097-02-05T10:00:00Z"}), vec!["/from"]),
        (json!({"title": "u"}), vec!["/from"]),
        (json!({"from": "x", "title": ""}), vec!["/from", "/title"]),
        (json!({"from": nine(5), "overlap": "sometimes"}), vec!["/overlap"]),
    ] {
        let answer = ada.post(&format!("{path}/split"), &body).await;
        assert_eq!(answer.problem(422, "invalid-fields"), pointers, "{body}");
    }
    act(&ada, &format!("{path}/end"), &json!({})).await;
    ada.post(&format!("{path}/split"), &json!({"from": nine(5)}))
        .await
        .problem(409, "recurring-task-ended");
}

/// Tomorrow and so many days, at that hour (UTC).
fn day(days: u64, hour: u32) -> Timestamp {
    let day = schemas::now().date_naive() + Days::new(1 + days);
    day.and_hms_opt(hour, 0, 0).unwrap().and_utc()
}

fn short(at: Timestamp) -> String {
    at.format("%m-%dT%H:%M").to_string()
}

#[tokio::test]
async fn what_piles_up_is_there_ahead_and_follows_each_change() {
    let ada = ada().await;
    let (path, series) = daily(&ada, json!({"overlap": "pile_up", "starts_at": day(0, 9)})).await;
    assert_eq!(
        (&series["overlap"], due(&ada).await),
        (&json!("pile_up"), vec![short(day(0, 9))])
    );
    assert_eq!(attend_until(&ada, day(4, 23)).await, 4);
    let at_nine: Vec<_> = (0..5).map(|n| short(day(n, 9))).collect();
    assert_eq!(due(&ada).await, at_nine);
    assert_eq!(
        preview(&ada, &path)
            .await
            .iter()
            .map(|(_, _, made)| *made)
            .collect::<Vec<_>>(),
        [true; 4]
    );
    // Another time of the day: each stays the task it was.
    let ids = async || {
        open(&ada)
            .await
            .iter()
            .map(|task| task["id"].clone())
            .collect::<Vec<_>>()
    };
    let before = ids().await;
    assert_eq!(
        ada.patch(&path, &json!({"starts_at": day(0, 10), "title": "u"}))
            .await
            .status,
        StatusCode::OK
    );
    assert_eq!(
        due(&ada).await,
        (0..5).map(|n| short(day(n, 10))).collect::<Vec<_>>()
    );
    assert_eq!(ids().await, before);
    assert!(open(&ada).await.iter().all(|task| task["title"] == "u"));
    assert_eq!(attend_until(&ada, day(4, 23)).await, 0);
    // Another rule: those without a place are gone, and their places come back with the rule.
    ada.patch(&path, &json!({"interval": 2})).await;
    assert_eq!(
        due(&ada).await,
        [short(day(0, 10)), short(day(2, 10)), short(day(4, 10))]
    );
    ada.patch(&path, &json!({"interval": 1})).await;
    assert_eq!(attend_until(&ada, day(4, 23)).await, 2);
    assert_eq!(due(&ada).await.len(), 5);

    // Skipped, moved, done: none comes back.
    let skip = act(
        &ada,
        &format!("{path}/occurrences/skip"),
        &json!({"occurrence": day(1, 10)}),
    )
    .await;
    assert_eq!(skip["exdates"].as_array().unwrap().len(), 1);
    act(
        &ada,
        &format!("{path}/occurrences/move"),
        &json!({"occurrence": day(8, 10), "to": day(8, 20)}),
    )
    .await;
    complete(&ada, &open(&ada).await[0]).await;
    assert_eq!(due(&ada).await.len(), 4);
    assert_eq!(attend_until(&ada, day(8, 23)).await, 3);
    assert_eq!(due(&ada).await.last().unwrap(), &short(day(8, 20)));

    // Paused it makes none, and resumed it goes on; ended, what is to come is gone.
    act(&ada, &format!("{path}/pause"), &json!({})).await;
    assert_eq!(attend_until(&ada, day(11, 23)).await, 0);
    act(&ada, &format!("{path}/resume"), &json!({})).await;
    assert_eq!(attend_until(&ada, day(11, 23)).await, 3);
    let count = due(&ada).await.len();
    assert_eq!(attend_until(&ada, day(11, 23)).await, 0);
    let split = act(
        &ada,
        &format!("{path}/split"),
        &json!({"from": day(5, 10), "title": "v"}),
    )
    .await;
    let listed = open(&ada).await;
    let (left, gone): (Vec<_>, Vec<_>) = listed.iter().partition(|task| task["series_id"] == series["id"]);
    assert_eq!((left.len() + gone.len(), gone.len()), (count, 7));
    assert!(
        gone.iter()
            .all(|task| task["series_id"] == split["id"] && task["title"] == "v")
    );
    assert_eq!(attend_until(&ada, day(11, 23)).await, 0);
    act(
        &ada,
        &format!("{ALL}/{}/end", split["id"].as_str().unwrap()),
        &json!({}),
    )
    .await;
    assert_eq!(due(&ada).await.len(), left.len());

    // One at a time again: the first to come stays.
    ada.patch(&path, &json!({"overlap": "skip"})).await;
    assert_eq!(due(&ada).await, [short(day(2, 10))]);
    complete(&ada, &open(&ada).await[0]).await;
    assert_eq!(due(&ada).await, [short(day(3, 10))]);
}

#[tokio::test]
async fn what_rolls_forward_or_counts_from_a_completion_is_made_so_and_shown_so() {
    let ada = ada().await;
    let began = schemas::now() - TimeDelta::days(9);
    let (path, series) = daily(&ada, json!({"overlap": "roll_forward", "starts_at": began})).await;
    assert_eq!(series["overlap"], "roll_forward");
    attend(&ada, 30).await;
    let [task] = &open(&ada).await[..] else {
        panic!("one is open")
    };
    let rolled: Timestamp = task["due_at"].as_str().unwrap().parse().unwrap();
    assert!(
        rolled <= schemas::now() && rolled > schemas::now() - TimeDelta::hours(25),
        "{rolled}"
    );
    assert_eq!(task["version"], 2);
    act(&ada, &format!("{path}/end"), &json!({})).await;
    complete(&ada, task).await;

    let every = json!({"anchor": "completion", "interval": 3, "starts_at": day(0, 9)});
    let (path, series) = daily(&ada, every).await;
    assert_eq!(
        (&series["anchor"], &series["interval"]),
        (&json!("completion"), &json!(3))
    );
    complete(&ada, &open(&ada).await[0]).await;
    assert_eq!(due(&ada).await, [short(day(2, 9))]);
    let days: Vec<_> = preview(&ada, &path)
        .await
        .into_iter()
        .map(|(at, ..)| at)
        .collect();
    assert_eq!(days, [2, 5, 8, 11].map(|n| short(day(n, 9))));
    // It stays on its day with another interval, and takes another time.
    ada.patch(&path, &json!({"interval": 7})).await;
    ada.patch(&path, &json!({"starts_at": day(0, 18)})).await;
    assert_eq!(due(&ada).await, [short(day(2, 18))]);
    // Skipped, the next counts from its day.
    let skipped = act(
        &ada,
        &format!("{path}/occurrences/skip"),
        &json!({"occurrence": day(2, 18)}),
    )
    .await;
    assert_eq!(skipped["exdates"], json!([]));
    assert_eq!(due(&ada).await, [short(day(9, 18))]);
    let moved = json!({"occurrence": day(9, 18), "to": day(10, 18)});
    act(&ada, &format!("{path}/occurrences/move"), &moved).await;
    complete(&ada, &open(&ada).await[0]).await;
    assert_eq!(due(&ada).await, [short(day(6, 18))]);

    for (fields, pointers) in [
        (
            json!({"recurrence_type": null, "recurrence": "FREQ=WEEKLY;BYDAY=MO"}),
            vec!["/recurrence"],
        ),
        (json!({"count": 3}), vec!["/recurrence_type"]),
        (json!({"overlap": "pile_up"}), vec!["/overlap"]),
        (
            json!({"exdates": [day(1, 9)], "rdates": [day(2, 9)]}),
            vec!["/exdates", "/rdates"],
        ),
        (json!({"anchor": "start"}), vec!["/anchor"]),
    ] {
        let mut body =
            json!({"title": "t", "recurrence_type": "daily", "starts_at": day(0, 9), "anchor": "completion"});
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        body.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let mut found = ada.post(ALL, &body).await.problem(422, "invalid-fields");
        found.sort_unstable();
        assert_eq!(found, pointers, "{body}");
    }
    let (path, _) = daily(&ada, json!({"recurrence_type": "weekly", "count": 5})).await;
    for (body, pointer) in [
        (json!({"anchor": "completion"}), "/anchor"),
        (json!({"exdates": vec![day(1, 9); 501]}), "/exdates"),
        (json!({"rdates": [1]}), "/rdates/0"),
    ] {
        assert_eq!(
            ada.patch(&path, &body).await.problem(422, "invalid-fields"),
            [pointer]
        );
    }
    let dated = ada
        .patch(
            &path,
            &json!({"rdates": [nine(3), nine(2), nine(3)], "exdates": [nine(8)]}),
        )
        .await
        .json();
    assert_eq!(
        dated["rdates"],
        json!(["2097-02-02T09:00:00.000000Z", "2097-02-03T09:00:00.000000Z"])
    );
    let days: Vec<_> = preview(&ada, &path)
        .await
        .into_iter()
        .map(|(at, ..)| at)
        .collect();
    assert_eq!(days, ["02-01T09:00", "02-02T09:00", "02-03T09:00", "02-15T09:00"]);
    assert_eq!(
        ada.patch(&path, &json!({"rdates": null, "exdates": null}))
            .await
            .json()["rdates"],
        json!([])
    );
}

#[tokio::test]
async fn what_rolls_forward_does_so_too_when_its_only_open_instance_was_made_to_move_it() {
    let ada = ada().await;
    let began = schemas::now().trunc_subsecs(0) - TimeDelta::days(2) + TimeDelta::hours(1);
    let days_on = |days| (began + TimeDelta::days(days)).to_rfc3339();
    let (path, _) = daily(&ada, json!({"overlap": "roll_forward", "starts_at": began})).await;
    // Nothing is open when the next one falls due: the generator has nothing to move.
    let task = format!("/api/tasks/{}", open(&ada).await[0]["id"].as_str().unwrap());
    assert_eq!(
        ada.send(Method::DELETE, &task).await.status,
        StatusCode::NO_CONTENT
    );
    let clock = Clock::of(&ada.server.database, Some("recurrence-generator")).await;
    attend(&ada, 0).await;

    let moved = json!({"occurrence": days_on(3), "to": days_on(4)});
    act(&ada, &format!("{path}/occurrences/move"), &moved).await;
    attend(&ada, 0).await;
    clock.go_ahead(TimeDelta::days(4).as_seconds_f64()).await;
    attend(&ada, 0).await;
    let [task] = &open(&ada).await[..] else {
        panic!("one is open")
    };
    let due: Timestamp = task["due_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(due, began + TimeDelta::days(5));
}

#[tokio::test]
async fn the_history_comes_in_pages_and_is_one_persons() {
    let ada = ada().await;
    let (path, _) = daily(&ada, json!({})).await;
    for n in 2..6 {
        act(
            &ada,
            &format!("{path}/occurrences/skip"),
            &json!({"occurrence": nine(n)}),
        )
        .await;
    }
    complete(&ada, &open(&ada).await[0]).await;
    let all = ada.get(&format!("{path}/history")).await.json();
    assert_eq!(
        (all["items"].as_array().unwrap().len(), &all["next_cursor"]),
        (6, &Value::Null)
    );
    let mut paged = Vec::new();
    let mut query = "?limit=4".to_owned();
    loop {
        let page = ada.get(&format!("{path}/history{query}")).await.json();
        paged.extend(page["items"].as_array().unwrap().clone());
        match page["next_cursor"].as_str() {
            Some(cursor) => query = format!("?limit=4&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(json!(paged), all["items"]);
    let (other, _) = daily(&ada, json!({})).await;
    let first = ada.get(&format!("{path}/history?limit=4")).await.json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let answer = ada.get(&format!("{other}/history?cursor={cursor}")).await;
    assert_eq!(answer.problem(400, "invalid-query"), ["cursor"]);
    let bob = ada.server.person("bob@example.org").await;
    for (method, suffix, body) in [
        (Method::GET, "history", json!({})),
        (Method::POST, "split", json!({"from": nine(7)})),
        (Method::POST, "occurrences/skip", json!({"occurrence": nine(7)})),
        (
            Method::POST,
            "occurrences/move",
            json!({"occurrence": nine(7), "to": nine(8)}),
        ),
    ] {
        let request = bob.request(method, &format!("{path}/{suffix}")).json(&body);
        Answer::to(request).await.problem(404, "not-found");
    }
    assert_eq!(ada.get(&format!("{path}/history")).await.json(), all);
}

#[tokio::test]
async fn who_leaves_has_nothing_made_ahead_any_more() {
    let server = Server::start().await;
    let registered = register(&server, "ada@example.org").await;
    let ada = person(&server, &registered);
    daily(&ada, json!({"overlap": "pile_up", "starts_at": day(0, 9)})).await;
    let request = ada.request(Method::DELETE, "/api/me");
    let left = Answer::to(request.json(&json!({"password": "correct horse"}))).await;
    assert!(left.status.is_success(), "{}", left.text);
    assert_eq!(attend(&ada, 30).await, 0);
    let created = outbox::events(&ada.server.database, ada.id).await;
    assert_eq!(
        created
            .iter()
            .filter(|event| event.kind == TaskEventKind::Created)
            .count(),
        1
    );
}
