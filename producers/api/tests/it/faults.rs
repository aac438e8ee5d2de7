//! When the client, the network or the database goes away.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::header::{HeaderName, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use serde_json::json;
use support::Database;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::server::{Answer, Server};

/// A server that is sent to a port where nobody listens.
async fn without_postgres() -> Server {
    let database = Database::create().await;
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let mut config = database.config("api");
    config.url = format!("postgres://carillon_api:secret@{free}/nothing").into();
    config.acquire_timeout = Duration::from_millis(300);
    Server::with(database, config).await
}

#[tokio::test]
async fn while_postgres_is_away_every_request_is_told_to_come_back() {
    let server = without_postgres().await;
    let ada = server.bearer(uuid::Uuid::now_v7());
    let path = format!("/api/tasks/{}", uuid::Uuid::now_v7());
    let credentials = json!({"email": "ada@example.org", "password": "correct horse"});
    for answer in [
        ada.get("/api/tasks").await,
        ada.get(&path).await,
        ada.post("/api/tasks", &json!({"title": "t"})).await,
        ada.patch(&path, &json!({"title": "t"})).await,
        ada.send(Method::DELETE, &path).await,
        ada.send(Method::POST, &format!("{path}/complete")).await,
        server.post("/api/auth/login", &credentials).await,
    ] {
        answer.problem(503, "unavailable");
        assert_eq!(answer.header(RETRY_AFTER), "2");
        assert_eq!(
            answer.json()["request_id"],
            answer.header(HeaderName::from_static("x-request-id"))
        );
    }
    // What needs no database works, and says what is the matter.
    ada.post("/api/tasks", &json!({}))
        .await
        .problem(422, "invalid-fields");
    assert_eq!(server.get("/livez").await.status, StatusCode::OK);
    let ready = server.get("/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
}

/// A way to Postgres on which every answer takes a while, as over a network: what happens between a request and its
/// answer then happens in tests too.
async fn slow_postgres(delay: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = format!(
                "{}:{}",
                support::stack("POSTGRES_HOST"),
                support::stack("POSTGRES_PORT")
            );
            tokio::spawn(async move {
                let server = TcpStream::connect(server).await.unwrap();
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
                let mut buffer = [0; 16 * 1024];
                while let Ok(bytes @ 1..) = from_server.read(&mut buffer).await {
                    tokio::time::sleep(delay).await;
                    if to_client.write_all(&buffer[..bytes]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn clients_that_hang_up_leave_the_pool_usable() {
    let database = Database::create().await;
    let mut config = database.config("api");
    let direct = format!(
        "{}:{}",
        support::stack("POSTGRES_HOST"),
        support::stack("POSTGRES_PORT")
    );
    let slow = slow_postgres(Duration::from_millis(10)).await.to_string();
    config.url = database.url("api").replace(&direct, &slow).into();
    config.max_connections = 1;
    let server = Server::with(database, config).await;
    let ada = server.person("ada@example.org").await;
    let (path, _) = ada.task(&json!({"title": "t"})).await;

    // At every moment: while a request waits for a connection, begins a transaction, waits for a lock, commits.
    for ms in 0..40 {
        let patch = ada
            .request(Method::PATCH, &path)
            .json(&json!({"title": format!("{ms}")}));
        patch.timeout(Duration::from_millis(ms)).send().await.ok();
        // On a connection that was left inside a transaction this would look well, and be lost.
        let (_, task) = ada.task(&json!({"title": "after"})).await;
        let written: Option<i64> = sqlx::query_scalar("select version from tasks.tasks where id = $1::uuid")
            .bind(task["id"].as_str())
            .fetch_optional(server.database.admin())
            .await
            .unwrap();
        assert_eq!(written, Some(1), "after {ms} ms");
    }
    assert_eq!(
        ada.patch(&path, &json!({"title": "end"})).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn what_a_client_that_hung_up_asked_for_is_done_whole() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, task) = ada.task(&json!({"title": "before"})).await;
    // The request waits for this lock when its client goes.
    let mut lock = server.database.admin().begin().await.unwrap();
    sqlx::query("select from tasks.tasks for update")
        .execute(&mut *lock)
        .await
        .unwrap();
    let patch = ada.request(Method::PATCH, &path).json(&json!({"title": "after"}));
    patch
        .timeout(Duration::from_millis(300))
        .send()
        .await
        .unwrap_err();
    assert_eq!(ada.get(&path).await.json(), task);
    lock.rollback().await.unwrap();
    support::eventually("the patch is done", async || {
        (ada.get(&path).await.json()["title"] == "after").then_some(())
    })
    .await;
    assert_eq!(crate::outbox::events(&server.database, ada.id).await.len(), 2);
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_given_up_and_said_so() {
    let database = Database::create().await;
    let mut config = database.config("api");
    config.statement_timeout = Duration::from_millis(300);
    let server = Server::with(database, config).await;
    let ada = server.person("ada@example.org").await;
    let (path, task) = ada.task(&json!({"title": "t"})).await;
    let mut lock = server.database.admin().begin().await.unwrap();
    sqlx::query("select from tasks.tasks for update")
        .execute(&mut *lock)
        .await
        .unwrap();
    let answer: Answer = ada.send(Method::POST, &format!("{path}/complete")).await;
    answer.problem(503, "unavailable");
    lock.rollback().await.unwrap();
    assert_eq!(ada.get(&path).await.json(), task);
}
