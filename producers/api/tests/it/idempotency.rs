//! `Idempotency-Key`: a POST that is sent again does not happen again.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, LOCATION, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::Database;

use crate::outbox::events;
use crate::server::{Answer, Person, Server, unlimited};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Posts with a key.
async fn post(person: &Person, path: &str, key: &str, body: &Value) -> Answer {
    Answer::to(person.request(Method::POST, path).header(KEY, key).json(body)).await
}

/// Posts with a key and no body.
async fn send(person: &Person, path: &str, key: &str) -> Answer {
    Answer::to(person.request(Method::POST, path).header(KEY, key)).await
}

/// Asserts that the second answer is the first one again.
#[track_caller]
fn assert_replayed(first: &Answer, second: &Answer) {
    assert_eq!(first.headers.get(REPLAYED), None);
    assert_eq!(second.header(REPLAYED), "true", "{}", second.text);
    assert_eq!((first.status, &first.text), (second.status, &second.text));
    for name in [CONTENT_TYPE, ETAG, LOCATION] {
        assert_eq!(first.headers.get(&name), second.headers.get(&name), "{name}");
    }
}

async fn kept(database: &Database) -> i64 {
    sqlx::query_scalar("select count(*) from api.idempotency_keys")
        .fetch_one(database.admin())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_request_that_is_sent_again_is_answered_again_and_done_once() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let recurring = json!({"title": "t", "due_at": "2027-02-01T08:00:00Z", "recurrence": "FREQ=DAILY"});
    for (n, body) in [json!({"title": "\u{e9}t\u{e9} \u{1f4a1}"}), recurring]
        .iter()
        .enumerate()
    {
        let key = format!("create-{n}");
        let first = post(&ada, "/api/tasks", &key, body).await;
        assert_eq!(first.status, StatusCode::CREATED, "{}", first.text);
        for again in [&key, &format!("\"{key}\"")] {
            assert_replayed(&first, &post(&ada, "/api/tasks", again, body).await);
        }
        let path = first.header(LOCATION);
        for (action, status) in [("complete", "completed"), ("reopen", "open")] {
            let path = format!("{path}/{action}");
            let key = format!("{action}-{n}");
            let first = send(&ada, &path, &key).await;
            assert_eq!(first.json()["status"], status);
            assert_replayed(&first, &send(&ada, &path, &key).await);
        }
    }
    assert_eq!(
        ada.get("/api/tasks").await.json()["items"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(events(&server.database, ada.id).await.len(), 6);
}

#[tokio::test]
async fn batches_and_restores_are_done_once_too() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    // One of them is refused: it is part of the answer.
    let batch = json!({"mode": "per_item", "tasks": [{"title": "a"}, {"title": ""}, {"title": "b"}]});
    let made = post(&ada, "/api/tasks/batch", "batch", &batch).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text);
    assert_replayed(&made, &post(&ada, "/api/tasks/batch", "batch", &batch).await);
    let items = made.json()["items"].clone();
    let ids = json!({"ids": [items[0]["task"]["id"], items[2]["task"]["id"]]});
    let completed = post(&ada, "/api/tasks/batch/complete", "complete", &ids).await;
    assert_replayed(
        &completed,
        &post(&ada, "/api/tasks/batch/complete", "complete", &ids).await,
    );
    let path = format!("/api/tasks/{}", ids["ids"][0].as_str().unwrap());
    ada.send(Method::DELETE, &path).await;
    let restored = send(&ada, &format!("{path}/restore"), "restore").await;
    assert_eq!(restored.status, StatusCode::OK);
    ada.send(Method::DELETE, &path).await;
    assert_replayed(
        &restored,
        &send(&ada, &format!("{path}/restore"), "restore").await,
    );
    ada.get(&path).await.problem(404, "not-found");
    // Made twice, completed twice, deleted twice, restored once.
    assert_eq!(events(&server.database, ada.id).await.len(), 7);
}

#[tokio::test]
async fn an_answer_that_is_too_large_to_be_kept_is_refused_and_nothing_done() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let mut ids = Vec::new();
    for n in 0..6 {
        let tasks: Vec<_> = (0..20)
            .map(|_| json!({"title": format!("t{n}"), "description": "x".repeat(10_000)}))
            .collect();
        let made = ada
            .post("/api/tasks/batch", &json!({"tasks": tasks}))
            .await
            .json();
        ids.extend(
            made["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item["task"]["id"].clone()),
        );
    }
    let body = json!({"ids": ids});
    post(&ada, "/api/tasks/batch/complete", "k", &body)
        .await
        .problem(413, "body-too-large");
    assert_eq!(events(&server.database, ada.id).await.len(), 120);
    // Without a key there is nothing to keep.
    let done = ada.post("/api/tasks/batch/complete", &body).await;
    assert_eq!(done.status, StatusCode::OK);
    assert_eq!(events(&server.database, ada.id).await.len(), 240);
}

#[tokio::test]
async fn the_first_answer_is_given_again_whatever_has_become_of_the_task() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let body = json!({"title": "t"});
    let first = post(&ada, "/api/tasks", "k", &body).await;
    let path = first.header(LOCATION).to_owned();
    let complete = format!("{path}/complete");
    let conditional = async || {
        let request = ada.request(Method::POST, &complete).header(KEY, "c");
        Answer::to(request.header(IF_MATCH, "\"1\"")).await
    };
    let completed = conditional().await;
    assert_eq!(completed.status, StatusCode::OK);
    ada.patch(&path, &json!({"title": "u"})).await;
    assert_replayed(&completed, &conditional().await);
    ada.send(Method::DELETE, &path).await;
    assert_replayed(&completed, &conditional().await);
    assert_replayed(&first, &post(&ada, "/api/tasks", "k", &body).await);
    assert_eq!(events(&server.database, ada.id).await.len(), 4);
}

#[tokio::test]
async fn a_key_of_another_request_is_refused() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, task) = ada.task(&json!({"title": "other"})).await;
    let first = post(&ada, "/api/tasks", "k", &json!({"title": "t"})).await;
    assert_eq!(first.status, StatusCode::CREATED);
    for answer in [
        post(&ada, "/api/tasks", "k", &json!({"title": "u"})).await,
        post(&ada, "/api/tasks?", "k", &json!({"title": "t"})).await,
        send(&ada, &format!("{path}/complete"), "k").await,
    ] {
        answer.problem(422, "idempotency-key-reused");
        assert_eq!(answer.headers.get(REPLAYED), None);
    }
    assert_eq!(ada.get(&path).await.json(), task);
    assert_eq!(events(&server.database, ada.id).await.len(), 2);
}

#[tokio::test]
async fn a_key_is_its_persons_own() {
    let server = Server::start().await;
    let (ada, bob) = (
        server.person("ada@example.org").await,
        server.person("bob@example.org").await,
    );
    let body = json!({"title": "t"});
    let adas = post(&ada, "/api/tasks", "k", &body).await;
    let bobs = post(&bob, "/api/tasks", "k", &body).await;
    assert_eq!(
        (adas.status, bobs.status),
        (StatusCode::CREATED, StatusCode::CREATED)
    );
    assert_eq!(bobs.headers.get(REPLAYED), None);
    assert_ne!(adas.json()["id"], bobs.json()["id"]);
    // Nor does it tell whether somebody else has used it for something.
    let other = post(&bob, "/api/tasks", "unused", &json!({"title": "u"})).await;
    assert_eq!(
        post(&ada, "/api/tasks", "unused", &body).await.status,
        other.status
    );
    // Without an account nothing is done and nothing kept.
    let nobody = server.bearer(uuid::Uuid::now_v7());
    post(&nobody, "/api/tasks", "k", &body)
        .await
        .problem(401, "invalid-token");
    assert_eq!(kept(&server.database).await, 4);
}

#[tokio::test]
async fn a_refusal_is_not_kept_and_its_key_may_be_used_for_the_right_request() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, _) = ada.task(&json!({"title": "other"})).await;
    post(&ada, "/api/tasks", "k", &json!({"title": ""}))
        .await
        .problem(422, "invalid-fields");
    send(
        &ada,
        &format!("/api/tasks/{}/complete", uuid::Uuid::now_v7()),
        "k",
    )
    .await
    .problem(404, "not-found");
    let stale = ada
        .request(Method::POST, &format!("{path}/complete"))
        .header(KEY, "k");
    Answer::to(stale.header(IF_MATCH, "\"7\""))
        .await
        .problem(412, "stale-version");
    assert_eq!(kept(&server.database).await, 0);
    let done = post(&ada, "/api/tasks", "k", &json!({"title": "t"})).await;
    assert_eq!(
        (done.status, done.headers.get(REPLAYED)),
        (StatusCode::CREATED, None)
    );
}

#[tokio::test]
async fn what_is_no_key_is_refused_and_nothing_done() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    for key in ["", "\"\"", "\"open", &"k".repeat(256)] {
        let answer = post(&ada, "/api/tasks", key, &json!({"title": "t"})).await;
        answer.problem(400, "invalid-header");
    }
    let twice = ada
        .request(Method::POST, "/api/tasks")
        .header(KEY, "a")
        .header(KEY, "b");
    Answer::to(twice.json(&json!({"title": "t"})))
        .await
        .problem(400, "invalid-header");
    assert_eq!(ada.get("/api/tasks").await.json()["items"], json!([]));
}

#[tokio::test]
async fn two_hundred_at_once_with_one_key_make_one_task_and_get_one_answer() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let posts = (0..200).map(|_| {
        let ada = ada.clone();
        tokio::spawn(async move { post(&ada, "/api/tasks", "k", &json!({"title": "t"})).await })
    });
    let mut answers = Vec::new();
    for post in posts.collect::<Vec<_>>() {
        answers.push(post.await.unwrap());
    }
    for answer in &answers {
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        assert_eq!(answer.text, answers[0].text);
        assert_eq!(answer.header(LOCATION), answers[0].header(LOCATION));
    }
    let first = answers
        .iter()
        .filter(|answer| !answer.headers.contains_key(REPLAYED));
    assert_eq!(first.count(), 1);
    assert_eq!(
        ada.get("/api/tasks").await.json()["items"],
        json!([answers[0].json()])
    );
    assert_eq!(events(&server.database, ada.id).await.len(), 1);
}

#[tokio::test]
async fn while_the_first_request_runs_others_wait_without_a_connection_and_are_told_so_in_the_end() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, _) = ada.task(&json!({"title": "t"})).await;
    let complete = format!("{path}/complete");
    // The first one waits for this lock.
    let mut lock = server.database.admin().begin().await.unwrap();
    sqlx::query("select from tasks.tasks for update")
        .execute(&mut *lock)
        .await
        .unwrap();
    let first = tokio::spawn({
        let (ada, complete) = (ada.clone(), complete.clone());
        async move { send(&ada, &complete, "k").await }
    });
    support::eventually("the first one is under way", async || {
        let claimed: bool = sqlx::query_scalar(
            "select exists (select from pg_locks where locktype = 'advisory'
                            and database = (select oid from pg_database where datname = current_database()))",
        )
        .fetch_one(server.database.admin())
        .await
        .unwrap();
        claimed.then_some(())
    })
    .await;
    let others: Vec<_> = (0..30)
        .map(|_| {
            let (ada, complete) = (ada.clone(), complete.clone());
            tokio::spawn(async move { send(&ada, &complete, "k").await })
        })
        .collect();
    // Thirty that wait leave the eight connections to others.
    assert_eq!(ada.get(&path).await.status, StatusCode::OK);
    for other in others {
        let answer = other.await.unwrap();
        answer.problem(409, "idempotency-key-in-use");
        assert_eq!(answer.header(RETRY_AFTER), "2");
    }
    lock.rollback().await.unwrap();
    let first = first.await.unwrap();
    assert_eq!(first.json()["status"], "completed");
    assert_replayed(&first, &send(&ada, &complete, "k").await);
}

#[tokio::test]
async fn what_cannot_be_written_with_its_answer_is_not_done() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    sqlx::raw_sql(
        "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;
         create trigger refuse before insert on api.idempotency_keys for each row execute function refuse();",
    )
    .execute(server.database.admin())
    .await
    .unwrap();
    post(&ada, "/api/tasks", "k", &json!({"title": "t"}))
        .await
        .problem(500, "internal");
    assert_eq!(ada.get("/api/tasks").await.json()["items"], json!([]));
    assert!(events(&server.database, ada.id).await.is_empty());
    sqlx::raw_sql("drop trigger refuse on api.idempotency_keys")
        .execute(server.database.admin())
        .await
        .unwrap();
    assert_eq!(
        post(&ada, "/api/tasks", "k", &json!({"title": "t"})).await.status,
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn a_client_that_hangs_up_and_asks_again_gets_the_answer_that_it_missed() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, _) = ada.task(&json!({"title": "t"})).await;
    let complete = format!("{path}/complete");
    let mut lock = server.database.admin().begin().await.unwrap();
    sqlx::query("select from tasks.tasks for update")
        .execute(&mut *lock)
        .await
        .unwrap();
    let impatient = ada.request(Method::POST, &complete).header(KEY, "k");
    impatient
        .timeout(Duration::from_millis(300))
        .send()
        .await
        .unwrap_err();
    lock.rollback().await.unwrap();
    let answer = send(&ada, &complete, "k").await;
    assert_eq!(answer.header(REPLAYED), "true");
    assert_eq!(answer.json()["version"], 2);
}

#[tokio::test]
async fn old_keys_are_forgotten_and_young_ones_are_not() {
    let database = Database::create().await;
    let ada = database.user("ada@example.org").await;
    sqlx::query(
        "insert into api.idempotency_keys (user_id, key, fingerprint, status, headers, body, created_at)
         select $1, n::text, '', 200, '[]', '', now() - make_interval(hours => case when n <= 12000 then 25 else 23 end)
         from generate_series(1, 12003) n",
    )
    .bind(ada)
    .execute(database.admin())
    .await
    .unwrap();
    let config = database.config("api");
    let server = Server::with_http(database, config, unlimited()).await;
    support::eventually("the old keys are gone", async || {
        (kept(&server.database).await == 3).then_some(())
    })
    .await;
}
