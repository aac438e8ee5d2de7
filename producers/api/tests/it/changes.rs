//! Versions: who writes after whom, and what a client may rely on.

use std::collections::BTreeSet;

use reqwest::header::{HeaderName, IF_MATCH};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::outbox::{changes, events};
use crate::server::{Answer, Person, Server};

async fn conditional(person: &Person, method: Method, path: &str, if_match: &str) -> Answer {
    let request = person.request(method.clone(), path).header(IF_MATCH, if_match);
    let request = if method == Method::PATCH {
        request.json(&json!({"title": "new"}))
    } else {
        request
    };
    Answer::to(request).await
}

#[tokio::test]
async fn a_stale_if_match_changes_nothing() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, _) = ada.task(&json!({"title": "t"})).await;
    ada.patch(&path, &json!({"title": "u"})).await;
    let (complete, reopen) = (format!("{path}/complete"), format!("{path}/reopen"));
    for (method, path) in [
        (Method::PATCH, &path),
        (Method::DELETE, &path),
        (Method::POST, &complete),
        (Method::POST, &reopen),
    ] {
        for stale in ["\"1\"", "\"3\"", "W/\"2\"", "\"x\"", "\"1\", \"3\""] {
            conditional(&ada, method.clone(), path, stale)
                .await
                .problem(412, "stale-version");
        }
        for bad in ["2", "\"2", ""] {
            conditional(&ada, method.clone(), path, bad)
                .await
                .problem(400, "invalid-header");
        }
    }
    assert_eq!(ada.get(&path).await.json()["version"], 2);
    assert_eq!(
        conditional(&ada, Method::PATCH, &path, "\"1\", \"2\"")
            .await
            .status,
        StatusCode::OK
    );
    assert_eq!(
        conditional(&ada, Method::POST, &complete, "*").await.status,
        StatusCode::OK
    );
    assert_eq!(
        conditional(&ada, Method::POST, &reopen, "\"4\"").await.status,
        StatusCode::OK
    );
    assert_eq!(
        conditional(&ada, Method::DELETE, &path, "\"5\"").await.status,
        StatusCode::NO_CONTENT
    );
    // The precondition of a task that is not there is not asked.
    conditional(&ada, Method::DELETE, &path, "\"1\"")
        .await
        .problem(404, "not-found");
}

#[tokio::test]
async fn a_patch_that_changes_nothing_writes_nothing() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, task) = ada
        .task(&json!({"title": "t", "due_at": "2027-02-01T08:00:00Z", "reminders": [{"offset": "PT0S"}]}))
        .await;
    for body in [
        json!({}),
        json!({"title": "t", "reminders": task["reminders"]}),
        json!({"due_at": "2027-02-01T10:00:00+02:00"}),
    ] {
        let answer = ada.patch(&path, &body).await;
        assert_eq!((answer.status, answer.json()), (StatusCode::OK, task.clone()));
    }
    ada.send(Method::POST, &format!("{path}/reopen")).await;
    assert_eq!(events(&server.database, ada.id).await.len(), 1);
}

#[tokio::test]
async fn concurrent_patches_get_versions_without_gaps_and_events_in_their_order() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, _) = ada.task(&json!({"title": "start"})).await;
    let patches = (0..40).map(|n| {
        let (ada, path) = (ada.clone(), path.clone());
        tokio::spawn(async move { ada.patch(&path, &json!({"title": format!("{n}")})).await })
    });
    let mut versions = BTreeSet::new();
    for patch in patches.collect::<Vec<_>>() {
        let answer = patch.await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        assert_eq!(
            answer.header(HeaderName::from_static("etag")),
            format!("\"{}\"", answer.json()["version"])
        );
        versions.insert(answer.json()["version"].as_i64().unwrap());
    }
    assert_eq!(versions, (2..=41).collect());

    // In order of publication each event carries the next version, and starts from what the one before left.
    let events = events(&server.database, ada.id).await;
    let mut title = "\"start\"".to_owned();
    for (event, version) in events.iter().zip(1..) {
        assert_eq!(event.task.version, version);
        if version > 1 {
            let change = changes(event).remove("title").unwrap();
            assert_eq!(change.0, title);
            title = change.1;
        }
    }
    assert_eq!(events.len(), 41);
    assert_eq!(ada.get(&path).await.json()["title"].to_string(), title);
}

#[tokio::test]
async fn of_many_conditional_patches_at_once_one_wins() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, _) = ada.task(&json!({"title": "t"})).await;
    let patches = (0..10).map(|_| {
        let (ada, path) = (ada.clone(), path.clone());
        tokio::spawn(async move {
            conditional(&ada, Method::PATCH, &path, "\"1\"")
                .await
                .status
                .as_u16()
        })
    });
    let mut statuses = Vec::new();
    for patch in patches.collect::<Vec<_>>() {
        statuses.push(patch.await.unwrap());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412, 412, 412, 412, 412, 412, 412, 412, 412]);
}

#[tokio::test]
async fn two_clients_that_look_before_they_write_lose_nothing_of_each_other() {
    const WRITES: usize = 25;
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, _) = ada.task(&json!({"title": "t", "description": ""})).await;
    // Each adds its letter to what it has seen, and looks again when the other one was faster.
    let clients: Vec<_> = ["a", "b"]
        .map(|letter| {
            let (ada, path) = (ada.clone(), path.clone());
            tokio::spawn(async move {
                let mut written = Vec::new();
                while written.len() < WRITES {
                    let seen = ada.get(&path).await;
                    let tag = seen.header(HeaderName::from_static("etag"));
                    let text = format!(
                        "{}{letter}",
                        seen.json()["description"].as_str().unwrap_or_default()
                    );
                    let patch = ada.request(Method::PATCH, &path).header(IF_MATCH, tag);
                    let answer = Answer::to(patch.json(&json!({"description": text}))).await;
                    match answer.status {
                        StatusCode::OK => written.push(answer.json()["version"].as_i64().unwrap()),
                        _ => assert!(answer.problem(412, "stale-version").is_empty()),
                    }
                }
                written
            })
        })
        .into_iter()
        .collect();
    let mut versions = Vec::new();
    for client in clients {
        let written: Vec<i64> = client.await.unwrap();
        assert!(written.is_sorted(), "{written:?}");
        versions.extend(written);
    }
    // Each version was won by exactly one of them.
    versions.sort_unstable();
    assert_eq!(versions, (2..=51).collect::<Vec<i64>>());
    let text = ada.get(&path).await.json()["description"]
        .as_str()
        .unwrap()
        .to_owned();
    for letter in ["a", "b"] {
        assert_eq!(text.matches(letter).count(), WRITES, "{text}");
    }
    // The events tell the same story, in its order.
    let events = events(&server.database, ada.id).await;
    for (event, version) in events.iter().zip(1..) {
        assert_eq!(event.task.version, version);
        let so_far = event.task.description.clone().unwrap_or_default();
        assert!(text.starts_with(&so_far) && so_far.len() + 1 == usize::try_from(version).unwrap());
    }
    assert_eq!(events.len(), 51);
}
