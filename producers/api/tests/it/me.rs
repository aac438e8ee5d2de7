//! One's own account: seen, changed, exported, deleted.

use std::time::Duration;

use reqwest::header::{CONTENT_DISPOSITION, ETAG, IF_MATCH};
use reqwest::{Method, StatusCode};
use schemas::TaskEventKind;
use serde_json::{Value, json};
use support::eventually;

use crate::outbox::events;
use crate::server::{Answer, Person, Server};
use crate::sessions::{login, person, register};

async fn delete(person: &Person, password: &str) -> Answer {
    Answer::to(
        person
            .request(Method::DELETE, "/api/me")
            .json(&json!({"password": password})),
    )
    .await
}

#[tokio::test]
async fn a_person_sees_and_changes_the_own_account() {
    let server = Server::start().await;
    let registered = register(&server, "ada@example.org").await;
    let ada = person(&server, &registered);
    let me = ada.get("/api/me").await;
    assert_eq!(me.json(), registered["user"]);
    assert_eq!(me.header(ETAG), "\"1\"");

    let changed = ada
        .patch("/api/me", &json!({"name": "Ada L.", "timezone": "Asia/Tokyo"}))
        .await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.text);
    assert_eq!(changed.header(ETAG), "\"2\"");
    let changed = changed.json();
    assert_eq!(
        (&changed["name"], &changed["timezone"], &changed["email"]),
        (&json!("Ada L."), &json!("Asia/Tokyo"), &json!("ada@example.org"))
    );
    assert_eq!(ada.get("/api/me").await.json(), changed);
    // A patch that changes nothing writes nothing.
    assert_eq!(ada.patch("/api/me", &json!({})).await.json(), changed);
    assert_eq!(
        ada.patch("/api/me", &json!({"name": "Ada L."})).await.json(),
        changed
    );
    // The next access token carries the new zone.
    let again = login(&server, "ada@example.org", "correct horse").await.json();
    let task = person(&server, &again)
        .post("/api/tasks", &json!({"title": "t"}))
        .await;
    assert_eq!(task.json()["timezone"], "Asia/Tokyo");

    assert_eq!(
        (&changed["whole_day_time"], &changed["send_late_within"]),
        (&json!("09:00"), &json!("PT24H"))
    );
    let settings = json!({"whole_day_time": "07:30", "send_late_within": "PT90M"});
    let answer = ada.patch("/api/me", &settings).await;
    assert_eq!(answer.header(ETAG), "\"3\"", "{}", answer.text);
    let changed = answer.json();
    assert_eq!(
        (&changed["whole_day_time"], &changed["send_late_within"]),
        (&json!("07:30"), &json!("PT1H30M"))
    );
    assert_eq!(ada.patch("/api/me", &settings).await.json(), changed);
    let kept: (i32, i64) =
        sqlx::query_as("select whole_day_minute, send_late_within_seconds from accounts.users where id = $1")
            .bind(ada.id)
            .fetch_one(server.database.admin())
            .await
            .unwrap();
    assert_eq!(kept, (450, 5400));

    for (body, places) in [
        (
            json!({"whole_day_time": "24:00", "send_late_within": "P367D"}),
            vec!["/whole_day_time", "/send_late_within"],
        ),
        (
            json!({"whole_day_time": "09:00:30", "send_late_within": null}),
            vec!["/whole_day_time", "/send_late_within"],
        ),
        (
            json!({"name": null, "timezone": "Mars/Olympus", "x": 1}),
            vec!["/name", "/timezone", "/x"],
        ),
        (json!({"email": "eve@example.org"}), vec!["/email"]),
        (json!({"name": "\u{0}"}), vec!["/name"]),
        (
            json!({"admin": true, "email_verified": true}),
            vec!["/admin", "/email_verified"],
        ),
    ] {
        let refused = ada.patch("/api/me", &body).await.problem(422, "invalid-fields");
        assert_eq!(refused, places);
    }
    Answer::to(server.request(Method::GET, "/api/me"))
        .await
        .problem(401, "token-required");
}

#[tokio::test]
async fn of_many_changes_of_one_version_of_an_account_one_wins() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let change = |n: usize| {
        let request = ada
            .request(Method::PATCH, "/api/me")
            .header(IF_MATCH, "\"1\"")
            .json(&json!({"name": format!("Ada {n}")}));
        Answer::to(request)
    };
    let answers = futures::future::join_all((0..10).map(change)).await;
    let won: Vec<&Answer> = answers.iter().filter(|a| a.status == StatusCode::OK).collect();
    assert_eq!(won.len(), 1);
    for lost in answers.iter().filter(|a| a.status != StatusCode::OK) {
        lost.problem(412, "stale-version");
    }
    assert_eq!(ada.get("/api/me").await.json(), won[0].json());
}

#[tokio::test]
async fn an_export_has_everything_and_no_secret() {
    let server = Server::start().await;
    let registered = register(&server, "ada@example.org").await;
    let ada = person(&server, &registered);
    let bob = server.person("bob@example.org").await;
    bob.task(&json!({"title": "not hers"})).await;
    let (path, deleted) = ada.task(&json!({"title": "gone"})).await;
    ada.send(Method::DELETE, &path).await;
    let (_, task) = ada
        .task(&json!({"title": "\"quoted\"", "description": "and\nmore", "due_at": "2027-02-01T08:00:00Z", "recurrence": "FREQ=DAILY"}))
        .await;
    let token = ada
        .post(
            "/api/me/tokens",
            &json!({"name": "script", "scopes": ["tasks:read"]}),
        )
        .await
        .json();
    let answer = ada.get("/api/me/export").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert!(answer.header(CONTENT_DISPOSITION).starts_with("attachment"));
    let export = answer.json();
    assert_eq!(export["account"], registered["user"]);
    let tasks = export["tasks"].as_array().unwrap();
    assert_eq!(tasks.len(), 2);
    assert_eq!(tasks[0]["id"], deleted["id"]);
    assert!(tasks[0]["deleted_at"].is_string());
    for (field, value) in task.as_object().unwrap() {
        assert_eq!(tasks[1][field], *value, "{field}");
    }
    assert_eq!(export["series"].as_array().unwrap().len(), 1);
    assert_eq!(export["series"][0]["rrule"], "FREQ=DAILY");
    assert_eq!(export["personal_tokens"][0]["name"], "script");
    assert_eq!(export["sessions"].as_array().unwrap().len(), 1);
    assert_eq!(export["identities"], json!([]));
    assert!(export["exported_at"].is_string());
    for secret in ["argon2", "hash", "not hers", token["token"].as_str().unwrap()] {
        assert!(!answer.text.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn a_large_export_comes_in_pages_with_nothing_lost_or_doubled() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    sqlx::query(
        "insert into tasks.tasks (user_id, id, version, title, priority, tags, timezone, reminders, created_at, updated_at)
         select $1, md5(n::text)::uuid, 1, 'task ' || n, 'medium', '{}', 'UTC', '[]', now(), now()
         from generate_series(1, 1234) n",
    )
    .bind(ada.id)
    .execute(server.database.admin())
    .await
    .unwrap();
    let export = ada.get("/api/me/export").await.json();
    let titles: std::collections::HashSet<&Value> = export["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| &task["title"])
        .collect();
    assert_eq!(export["tasks"].as_array().unwrap().len(), 1234);
    assert_eq!(titles.len(), 1234);
}

#[tokio::test]
async fn a_deleted_account_is_closed_at_once_and_its_tasks_are_deleted_with_their_events() {
    let server = Server::start().await;
    let replica = server.replica().await;
    let registered = register(&server, "ada@example.org").await;
    let ada = person(&server, &registered);
    let bob = server.person("bob@example.org").await;
    let kept = bob.task(&json!({"title": "kept"})).await;
    for n in 0..150 {
        ada.task(&json!({"title": format!("task {n}")})).await;
    }
    let made = ada
        .post(
            "/api/me/tokens",
            &json!({"name": "script", "scopes": ["tasks:read"]}),
        )
        .await
        .json();
    let script = Person {
        token: made["token"].as_str().unwrap().to_owned(),
        ..ada.clone()
    };
    delete(&ada, "wrong horse").await.problem(403, "wrong-password");
    assert_eq!(delete(&ada, "correct horse").await.status, StatusCode::NO_CONTENT);

    ada.get("/api/me").await.problem(401, "invalid-token");
    ada.get("/api/tasks").await.problem(401, "invalid-token");
    script.get("/api/tasks").await.problem(401, "invalid-token");
    login(&server, "ada@example.org", "correct horse")
        .await
        .problem(401, "wrong-credentials");
    server
        .post(
            "/api/auth/refresh",
            &json!({"refresh_token": registered["refresh_token"]}),
        )
        .await
        .problem(401, "invalid-refresh-token");
    eventually("the other replica has heard of it", async || {
        let there = person(&replica, &registered);
        (there.get("/api/tasks").await.status == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;
    eventually("every task is deleted", async || {
        let live: i64 =
            sqlx::query_scalar("select count(*) from tasks.tasks where user_id = $1 and deleted_at is null")
                .bind(ada.id)
                .fetch_one(server.database.admin())
                .await
                .unwrap();
        (live == 0).then_some(())
    })
    .await;
    let events = events(&server.database, ada.id).await;
    let deleted: Vec<_> = events
        .iter()
        .filter(|e| e.kind == TaskEventKind::Deleted)
        .collect();
    assert_eq!(deleted.len(), 150);
    assert!(
        deleted
            .iter()
            .all(|e| e.task.version == 2 && e.task.deleted_at.is_some())
    );
    assert_eq!(bob.get(&kept.0).await.json(), kept.1);
    // What names the person in the account is gone, and the address is free again.
    let left: (String, String, Option<String>) =
        sqlx::query_as("select email, name, password_hash from accounts.users where id = $1")
            .bind(ada.id)
            .fetch_one(server.database.admin())
            .await
            .unwrap();
    assert_eq!(left, (format!("{}@deleted.invalid", ada.id), String::new(), None));
    let again = register(&server, "ada@example.org").await;
    assert_eq!(
        person(&server, &again).get("/api/tasks").await.json()["items"],
        json!([])
    );
}

#[tokio::test]
async fn before_the_promised_time_everything_of_a_deleted_person_is_gone_everywhere() {
    let server = Server::start_with(|config| config.accounts.purge_within = Duration::ZERO).await;
    let ada = person(&server, &register(&server, "ada@example.org").await);
    let bob = server.person("bob@example.org").await;
    for person in [&ada, &bob] {
        person
            .task(&json!({"title": "t", "due_at": "2027-02-01T08:00:00Z", "recurrence": "FREQ=DAILY"}))
            .await;
    }
    // As the other services would have written it.
    for person in [&ada, &bob] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
            "insert into reminders.tasks values ('{0}', '{0}', 1, '{{}}');
             insert into delivery.account_mails (id, user_id, kind, expires_at) values ('{0}', '{0}', 'verify_email', now());
             insert into delivery.suppressed_addresses (address, user_id, source, reason) values ('{0}', '{0}', 'report', 'x');
             insert into audit.events (event_id, occurred_at, topic, partition_id, offset_id, event_type, user_id, headers)
             select gen_random_uuid(), now(), 't', 0, n, 'e', '{0}', '{{}}' from generate_series(1, 2500) n;",
            person.id
        )))
        .execute(server.database.admin())
        .await
        .unwrap();
    }
    let left = async |person: &Person| -> Vec<String> {
        let tables: Vec<String> = sqlx::query_scalar(
            "select table_schema || '.' || table_name from information_schema.columns
             where column_name = 'user_id' and table_schema <> 'outbox' and table_name not like 'events\\_%'",
        )
        .fetch_all(server.database.admin())
        .await
        .unwrap();
        let mut left = Vec::new();
        for table in tables {
            let query = format!("select exists (select from {table} where user_id = $1)");
            let there: bool = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
                .bind(person.id)
                .fetch_one(server.database.admin())
                .await
                .unwrap();
            if there {
                left.push(table);
            }
        }
        left.sort();
        left
    };
    let account_is_there = async |person: &Person| -> bool {
        sqlx::query_scalar("select exists (select from accounts.users where id = $1)")
            .bind(person.id)
            .fetch_one(server.database.admin())
            .await
            .unwrap()
    };
    let before = left(&bob).await;
    assert_eq!(
        before,
        [
            "audit.events",
            "delivery.account_mails",
            "delivery.suppressed_addresses",
            "reminders.tasks",
            "tasks.series",
            "tasks.tasks"
        ]
    );
    assert_eq!(delete(&ada, "correct horse").await.status, StatusCode::NO_CONTENT);
    eventually("nothing is left", async || {
        (!account_is_there(&ada).await).then_some(())
    })
    .await;
    assert_eq!(left(&ada).await, [""; 0]);
    assert_eq!(left(&bob).await, before);
    // The events say so first.
    let kinds: Vec<_> = events(&server.database, ada.id)
        .await
        .iter()
        .map(|e| e.kind)
        .collect();
    assert_eq!(kinds, [TaskEventKind::Created, TaskEventKind::Deleted]);
}

#[tokio::test]
async fn nothing_is_purged_of_an_account_that_is_not_deleted() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let refused = sqlx::query("select accounts.purge($1, 10)")
        .bind(ada.id)
        .execute(&server.database.pool("api"))
        .await;
    assert!(refused.unwrap_err().to_string().contains("no deleted account"));
    assert_eq!(ada.get("/api/me").await.status, StatusCode::OK);
}
