//! A person's data is theirs.

use reqwest::header::{HeaderMap, IF_MATCH};
use reqwest::{Method, StatusCode};
use serde_json::json;
use uuid::Uuid;

use crate::server::{Answer, Server};

#[tokio::test]
async fn another_persons_task_answers_exactly_like_one_that_does_not_exist() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let bob = server.person("bob@example.org").await;
    let (path, task) = ada
        .task(&json!({"title": "secret", "due_at": "2027-02-01T08:00:00Z", "recurrence": "FREQ=DAILY"}))
        .await;
    let unknown = format!("/api/tasks/{}", Uuid::now_v7());
    let operations = [
        (Method::GET, "", None),
        (Method::HEAD, "", None),
        (Method::PATCH, "", Some(json!({"title": "mine"}))),
        (Method::PATCH, "", Some(json!({}))),
        (Method::PATCH, "", Some(json!({"due_at": null}))),
        (Method::DELETE, "", None),
        (Method::POST, "/complete", None),
        (Method::POST, "/reopen", None),
    ];
    for (method, suffix, body) in operations {
        for if_match in [None, Some("\"1\""), Some("\"7\""), Some("*")] {
            let ask = async |path: &str| {
                let mut request = bob.request(method.clone(), &format!("{path}{suffix}"));
                if let Some(body) = &body {
                    request = request.json(body);
                }
                if let Some(if_match) = if_match {
                    request = request.header(IF_MATCH, if_match);
                }
                Answer::to(request).await
            };
            let (theirs, none) = (ask(&path).await, ask(&unknown).await);
            assert_eq!(theirs.status, StatusCode::NOT_FOUND, "{method} {suffix}");
            assert_eq!(theirs.text, none.text);
            assert_eq!(comparable(&theirs.headers), comparable(&none.headers));
        }
    }
    assert_eq!(bob.get("/api/tasks").await.json()["items"], json!([]));
    // A cursor is a place in one's own list.
    let ours = ada.task(&json!({"title": "second"})).await;
    let cursor = ada.get("/api/tasks?limit=1").await.json()["next_cursor"]
        .as_str()
        .unwrap()
        .to_owned();
    let answer = bob.get(&format!("/api/tasks?cursor={cursor}")).await;
    assert_eq!(answer.problem(400, "invalid-query"), ["cursor"]);
    assert_eq!(ada.get(&path).await.json(), task);
    assert_eq!(ada.get(&ours.0).await.json(), ours.1);
}

/// Headers without those that differ between any two requests.
fn comparable(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut headers: Vec<_> = headers
        .iter()
        .filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.sort();
    headers
}
