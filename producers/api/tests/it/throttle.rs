//! Guessing passwords is slow, and locks nobody out.

use reqwest::header::RETRY_AFTER;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::server::{Answer, Server};
use crate::sessions::register;

async fn login_from(server: &Server, address: &str, email: &str, password: &str) -> Answer {
    let request = server
        .request(Method::POST, "/api/auth/login")
        .header("x-forwarded-for", address)
        .json(&json!({"email": email, "password": password}));
    Answer::to(request).await
}

#[tokio::test]
async fn guessing_ends_in_429_for_known_and_unknown_accounts_alike_and_the_owner_gets_in() {
    let server = Server::start_with(|config| config.http.trusted_proxies = 1).await;
    register(&server, "ada@example.org").await;
    for email in ["ada@example.org", "nobody@example.org"] {
        for _ in 0..10 {
            login_from(&server, "192.0.2.1", email, "wrong horse")
                .await
                .problem(401, "wrong-credentials");
        }
        let refused = login_from(&server, "192.0.2.1", &email.to_uppercase(), "correct horse").await;
        refused.problem(429, "too-many-attempts");
        let wait: u64 = refused.header(RETRY_AFTER).parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
    }
    let owner = login_from(&server, "192.0.2.2", "ada@example.org", "correct horse").await;
    assert_eq!(owner.status, StatusCode::OK, "{}", owner.text);
    // What the client itself writes left of the proxy's word changes nothing.
    login_from(
        &server,
        "192.0.2.9, 192.0.2.1",
        "ada@example.org",
        "correct horse",
    )
    .await
    .problem(429, "too-many-attempts");
}

#[tokio::test]
async fn without_a_trusted_proxy_the_header_counts_for_nothing() {
    let server = Server::start().await;
    for n in 0..10 {
        login_from(&server, &format!("192.0.2.{n}"), "ada@example.org", "wrong horse")
            .await
            .problem(401, "wrong-credentials");
    }
    login_from(&server, "192.0.2.99", "ada@example.org", "wrong horse")
        .await
        .problem(429, "too-many-attempts");
}

#[tokio::test]
async fn a_session_does_not_help_to_guess_the_password() {
    let server = Server::start().await;
    let ada = register(&server, "ada@example.org").await;
    let ada = crate::sessions::person(&server, &ada);
    let body = json!({"old_password": "wrong horse", "new_password": "battery staple"});
    for _ in 0..10 {
        ada.post("/api/auth/password", &body)
            .await
            .problem(403, "wrong-password");
    }
    ada.post("/api/auth/password", &body)
        .await
        .problem(429, "too-many-attempts");
    let request = ada
        .request(Method::DELETE, "/api/me")
        .json(&json!({"password": "correct horse"}));
    Answer::to(request).await.problem(429, "too-many-attempts");
}

#[tokio::test]
async fn mails_cannot_be_asked_for_without_end() {
    let server = Server::start().await;
    for n in 0..20 {
        let body = json!({"email": format!("{n}@example.org")});
        let answer = server.post("/api/auth/forgot-password", &body).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    }
    server
        .post("/api/auth/forgot-password", &json!({"email": "x@example.org"}))
        .await
        .problem(429, "too-many-attempts");
}
