//! What HTTP asks of every answer.

use reqwest::header::{ALLOW, CONTENT_TYPE, HeaderName};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::server::{Answer, Server};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let server = Server::start().await;
    for path in [
        "/",
        "/api",
        "/api/",
        "/api/tasks/",
        "/api/tasks/1/2/3",
        "/nothing",
        "/api/auth",
        "/%ff",
    ] {
        server.get(path).await.problem(404, "not-found");
    }
    for (method, path, allowed) in [
        (Method::DELETE, "/api/tasks", ["GET", "HEAD", "POST"].as_slice()),
        (Method::PUT, "/api/tasks/x", &["GET", "HEAD", "PATCH", "DELETE"]),
        (Method::GET, "/api/tasks/x/complete", &["POST"]),
        (Method::GET, "/api/auth/login", &["POST"]),
        (Method::POST, "/livez", &["GET", "HEAD"]),
    ] {
        let answer = Answer::to(server.request(method.clone(), path)).await;
        answer.problem(405, "method-not-allowed");
        let allow = answer.header(ALLOW);
        let mut named: Vec<_> = allow.split(',').map(str::trim).collect();
        let mut allowed = allowed.to_vec();
        named.sort_unstable();
        allowed.sort_unstable();
        assert_eq!(named, allowed, "{method} {path}");
    }
}

#[tokio::test]
async fn every_answer_has_a_request_id() {
    let server = Server::start().await;
    let with = async |id: &str| {
        let answer = Answer::to(server.request(Method::GET, "/nothing").header(REQUEST_ID, id)).await;
        answer.header(REQUEST_ID).to_owned()
    };
    assert_eq!(with("abc-123").await, "abc-123");
    assert_ne!(with("a b").await, "a b");
    assert_eq!(with("").await.len(), 36);
    assert_eq!(server.get("/livez").await.header(REQUEST_ID).len(), 36);
}

#[tokio::test]
async fn a_body_must_be_json_of_a_bounded_size() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let post = |body: String, content_type: &'static str| {
        let request = ada.request(Method::POST, "/api/tasks").body(body);
        Answer::to(if content_type.is_empty() {
            request
        } else {
            request.header(CONTENT_TYPE, content_type)
        })
    };
    for content_type in [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin1",
    ] {
        post(r#"{"title": "t"}"#.to_owned(), content_type)
            .await
            .problem(415, "unsupported-media-type");
    }
    let padded = |bytes: usize| format!("{}{}", r#"{"title": "t"}"#, " ".repeat(bytes - 14));
    assert_eq!(
        post(padded(256 * 1024), "application/json").await.status,
        StatusCode::CREATED
    );
    post(padded(256 * 1024 + 1), "application/json")
        .await
        .problem(413, "body-too-large");
    // Nor when it does not say how long it is going to be.
    let patch = ada.request(Method::PATCH, "/api/tasks/0191b2c3-d4e5-7f60-8a9b-0c1d2e3f4a5b");
    let patch = patch
        .header(CONTENT_TYPE, "application/json")
        .body(padded(1024 * 1024));
    Answer::to(patch).await.problem(413, "body-too-large");
}

#[tokio::test]
async fn requests_are_counted_by_route() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, _) = ada.task(&json!({"title": "t"})).await;
    ada.get(&path).await;
    server.get("/some/path/nobody/knows").await;
    Answer::to(server.request(Method::from_bytes(b"BREW").unwrap(), "/livez")).await;
    let metrics = server.get("/metrics").await.text;
    for line in [
        r#"http_requests_total{method="GET",path="/api/tasks/{id}",status="200"}"#,
        r#"http_requests_total{method="POST",path="/api/tasks",status="201"}"#,
        r#"http_requests_total{method="GET",path="unmatched",status="404"}"#,
        r#"http_requests_total{method="other",path="/livez",status="405"}"#,
        r#"http_request_duration_seconds_count{method="GET",path="/api/tasks/{id}"}"#,
        "tasks_created_total ",
    ] {
        assert!(metrics.contains(line), "{line} is not in:\n{metrics}");
    }
    assert!(!metrics.contains("nobody"), "{metrics}");
}

#[tokio::test]
async fn a_server_with_its_database_is_ready() {
    let server = Server::start().await;
    let ready = support::eventually("ready", async || {
        let answer = server.get("/readyz").await;
        (answer.status == StatusCode::OK).then_some(answer)
    });
    assert_eq!(ready.await.json()["status"], "ready");
    for path in ["/livez", "/health"] {
        assert_eq!(server.get(path).await.status, StatusCode::OK);
    }
}
