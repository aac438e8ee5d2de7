//! Personal access tokens: made, used, taken back.

use reqwest::header::{CACHE_CONTROL, LOCATION, WWW_AUTHENTICATE};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::eventually;
use uuid::Uuid;

use crate::server::{Answer, Person, Server};

/// Makes a token; returns what came back, and its holder.
async fn token(person: &Person, scopes: &[&str]) -> (Value, Person) {
    let answer = person
        .post("/api/me/tokens", &json!({"name": "script", "scopes": scopes}))
        .await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    let made = answer.json();
    let holder = Person {
        token: made["token"].as_str().unwrap().to_owned(),
        ..person.clone()
    };
    (made, holder)
}

#[tokio::test]
async fn a_token_is_shown_once_and_kept_as_a_hash() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let body = json!({"name": "backup", "scopes": ["tasks:write", "tasks:read"], "expires_at": "2999-01-01T00:00:00Z"});
    let answer = ada.post("/api/me/tokens", &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    assert_eq!(answer.header(CACHE_CONTROL), "no-store");
    let mut made = answer.json();
    let secret = made.as_object_mut().unwrap().remove("token").unwrap();
    let secret = secret.as_str().unwrap();
    assert!(
        secret.starts_with("carillon_pat_") && secret.len() == 13 + 43,
        "{secret}"
    );
    assert_eq!(made["scopes"], json!(["tasks:read", "tasks:write"]));
    assert_eq!(made["expires_at"], "2999-01-01T00:00:00.000000Z");
    assert_eq!(made["last_used_at"], json!(null));
    assert_eq!(ada.get(answer.header(LOCATION)).await.json(), made);
    assert_eq!(ada.get("/api/me/tokens").await.json(), json!({"items": [made]}));
    let hashed: bool =
        sqlx::query_scalar("select token_hash = sha256($1::bytea) from accounts.personal_tokens")
            .bind(secret.as_bytes())
            .fetch_one(server.database.admin())
            .await
            .unwrap();
    assert!(hashed);
}

#[tokio::test]
async fn a_token_opens_what_its_scopes_say_and_never_the_account() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, _) = ada.task(&json!({"title": "t"})).await;
    let (made, reader) = token(&ada, &["tasks:read"]).await;
    let (_, writer) = token(&ada, &["tasks:write"]).await;
    let (_, both) = token(&ada, &["tasks:read", "tasks:write"]).await;
    for holder in [&reader, &both] {
        assert_eq!(holder.get(&path).await.status, StatusCode::OK);
        assert_eq!(holder.get("/api/tasks").await.status, StatusCode::OK);
        assert_eq!(holder.send(Method::HEAD, &path).await.status, StatusCode::OK);
    }
    for holder in [&writer, &both] {
        assert_eq!(
            holder.patch(&path, &json!({"title": "u"})).await.status,
            StatusCode::OK
        );
        let made = holder.post("/api/tasks", &json!({"title": "v"})).await;
        assert_eq!(made.status, StatusCode::CREATED);
        // The zone of the account, as with a session.
        assert_eq!(made.json()["timezone"], "Europe/Berlin");
    }
    let refused = writer.get(&path).await;
    refused.problem(403, "insufficient-scope");
    assert!(
        refused
            .header(WWW_AUTHENTICATE)
            .contains(r#"error="insufficient_scope""#)
    );
    for (method, body) in [
        (Method::PATCH, Some(json!({"title": "mine"}))),
        (Method::DELETE, None),
    ] {
        let mut request = reader.request(method, &path);
        if let Some(body) = &body {
            request = request.json(body);
        }
        Answer::to(request).await.problem(403, "insufficient-scope");
    }
    let own = format!("/api/me/tokens/{}", made["id"].as_str().unwrap());
    for (method, path) in [
        (Method::GET, "/api/me"),
        (Method::PATCH, "/api/me"),
        (Method::DELETE, "/api/me"),
        (Method::GET, "/api/me/export"),
        (Method::GET, "/api/me/tokens"),
        (Method::POST, "/api/me/tokens"),
        (Method::DELETE, &own),
        (Method::POST, "/api/auth/logout-all"),
        (Method::POST, "/api/auth/password"),
        (Method::POST, "/api/auth/verify-email/send"),
    ] {
        let answer = Answer::to(both.request(method.clone(), path).json(&json!({}))).await;
        answer.problem(403, "insufficient-scope");
    }
}

#[tokio::test]
async fn a_token_that_is_taken_back_expired_or_made_up_is_refused() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (made, holder) = token(&ada, &["tasks:read"]).await;
    assert_eq!(holder.get("/api/tasks").await.status, StatusCode::OK);
    let path = format!("/api/me/tokens/{}", made["id"].as_str().unwrap());
    assert_eq!(
        ada.send(Method::DELETE, &path).await.status,
        StatusCode::NO_CONTENT
    );
    holder.get("/api/tasks").await.problem(401, "invalid-token");
    ada.send(Method::DELETE, &path).await.problem(404, "not-found");
    let (_, holder) = token(&ada, &["tasks:read"]).await;
    sqlx::query("update accounts.personal_tokens set expires_at = now()")
        .execute(server.database.admin())
        .await
        .unwrap();
    holder.get("/api/tasks").await.problem(401, "invalid-token");
    for text in ["carillon_pat_", "carillon_pat_x", &"carillon_pat_ä".repeat(3)] {
        let made_up = Answer::to(
            server
                .request(Method::GET, "/api/tasks")
                .header("authorization", format!("Bearer {text}")),
        );
        made_up.await.problem(401, "invalid-token");
    }
}

#[tokio::test]
async fn the_last_use_is_written_down_at_most_once_a_minute() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (_, holder) = token(&ada, &["tasks:read"]).await;
    let last_use = async || ada.get("/api/me/tokens").await.json()["items"][0]["last_used_at"].clone();
    holder.get("/api/tasks").await;
    let first = eventually("the use is written down", async || {
        let at = last_use().await;
        at.is_string().then_some(at)
    })
    .await;
    for _ in 0..5 {
        holder.get("/api/tasks").await;
    }
    assert_eq!(last_use().await, first);
    sqlx::query("update accounts.personal_tokens set last_used_at = last_used_at - interval '2 minutes'")
        .execute(server.database.admin())
        .await
        .unwrap();
    holder.get("/api/tasks").await;
    eventually("the next use is written down", async || {
        let at = last_use().await;
        (at.as_str() > first.as_str()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn another_persons_token_answers_like_one_that_does_not_exist() {
    let server = Server::start().await;
    let (ada, bob) = (
        server.person("ada@example.org").await,
        server.person("bob@example.org").await,
    );
    let (made, holder) = token(&ada, &["tasks:read"]).await;
    let unknown = Uuid::now_v7().to_string();
    for method in [Method::GET, Method::DELETE] {
        let ask = async |id: &str| bob.send(method.clone(), &format!("/api/me/tokens/{id}")).await;
        let (theirs, none) = (ask(made["id"].as_str().unwrap()).await, ask(&unknown).await);
        theirs.problem(404, "not-found");
        assert_eq!(theirs.text, none.text);
        ask("x").await.problem(404, "not-found");
    }
    assert_eq!(bob.get("/api/me/tokens").await.json(), json!({"items": []}));
    assert_eq!(holder.get("/api/tasks").await.status, StatusCode::OK);
}

#[tokio::test]
async fn everything_that_is_wrong_with_a_new_token_is_named() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    for (body, places) in [
        (json!({}), vec!["/name", "/scopes"]),
        (
            json!({"name": " ", "scopes": [], "expires_at": "2020-01-01T00:00:00Z", "x": 1}),
            vec!["/name", "/scopes", "/expires_at", "/x"],
        ),
        (
            json!({"name": "x", "scopes": ["tasks:read", "tasks:all"]}),
            vec!["/scopes/1"],
        ),
        (
            json!({"name": "x", "scopes": ["tasks:read", "tasks:read"]}),
            vec!["/scopes"],
        ),
        (json!({"name": "x", "scopes": "tasks:read"}), vec!["/scopes"]),
        // Operators only.
        (json!({"name": "x", "scopes": ["admin:read"]}), vec!["/scopes"]),
    ] {
        let answer = ada.post("/api/me/tokens", &body).await;
        assert_eq!(answer.problem(422, "invalid-fields"), places, "{body}");
    }
    sqlx::query("update accounts.users set admin = true")
        .execute(server.database.admin())
        .await
        .unwrap();
    let (made, operator) = token(&ada, &["admin:read"]).await;
    assert_eq!(made["scopes"], json!(["admin:read"]));
    operator
        .get("/api/tasks")
        .await
        .problem(403, "insufficient-scope");
}

#[tokio::test]
async fn a_person_has_a_bounded_number_of_tokens_however_many_are_asked_for_at_once() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let body = json!({"name": "x", "scopes": ["tasks:read"]});
    let answers = futures::future::join_all((0..60).map(|_| ada.post("/api/me/tokens", &body))).await;
    let made = answers.iter().filter(|a| a.status == StatusCode::CREATED).count();
    assert_eq!(made, 50);
    for answer in answers.iter().filter(|a| a.status != StatusCode::CREATED) {
        answer.problem(409, "too-many-tokens");
    }
}
