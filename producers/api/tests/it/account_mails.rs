//! Links that are mailed, as the email sender finds them.

use reqwest::{Method, StatusCode};
use serde_json::json;
use sqlx::Row;
use support::eventually;

use crate::server::Server;
use crate::sessions::{login, person, register};

/// The mails of that kind that wait to be sent: the person's address, and the link's secret.
async fn mails(server: &Server, kind: &str) -> Vec<(String, String)> {
    sqlx::query(
        "select email, link_token from delivery.account_mails m join accounts.users u on u.id = m.user_id
         where m.kind = $1 order by m.id",
    )
    .bind(kind)
    .fetch_all(server.database.admin())
    .await
    .unwrap()
    .iter()
    .map(|row| (row.get(0), row.get(1)))
    .collect()
}

async fn forgotten(server: &Server, email: &str) -> String {
    let before = mails(server, "reset_password").await.len();
    let answer = server
        .post("/api/auth/forgot-password", &json!({"email": email}))
        .await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    let (_, token) = eventually("the mail", async || {
        mails(server, "reset_password").await.into_iter().nth(before)
    })
    .await;
    token
}

#[tokio::test]
async fn an_address_is_verified_by_a_mailed_link_once() {
    let server = Server::start().await;
    let ada = register(&server, "ada@example.org").await;
    assert_eq!(ada["user"]["email_verified"], false);
    let ada = person(&server, &ada);
    assert!(
        mails(&server, "verify_email").await.is_empty(),
        "nothing was asked for"
    );
    for _ in 0..3 {
        let answer = ada.send(Method::POST, "/api/auth/verify-email/send").await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    }
    let sent = mails(&server, "verify_email").await;
    assert_eq!(sent.len(), 1, "one a minute: {sent:?}");
    let (email, token) = &sent[0];
    assert_eq!(email, "ada@example.org");
    let hashed: bool = sqlx::query_scalar("select token_hash = sha256($1::bytea) from accounts.links")
        .bind(token.as_bytes())
        .fetch_one(server.database.admin())
        .await
        .unwrap();
    assert!(hashed);

    let verify = async |token: &str| {
        server
            .post("/api/auth/verify-email", &json!({"token": token}))
            .await
    };
    verify("x").await.problem(422, "invalid-link");
    assert_eq!(verify(token).await.status, StatusCode::NO_CONTENT);
    verify(token).await.problem(422, "invalid-link");
    let me = ada.get("/api/me").await;
    assert_eq!(
        (&me.json()["email_verified"], me.header(reqwest::header::ETAG)),
        (&json!(true), "\"2\"")
    );
    // There is nothing left to verify.
    ada.send(Method::POST, "/api/auth/verify-email/send").await;
    assert_eq!(mails(&server, "verify_email").await.len(), 1);
}

#[tokio::test]
async fn a_new_account_is_mailed_a_link_where_that_is_configured() {
    let server = Server::start_with(|config| config.accounts.verify_at_registration = true).await;
    register(&server, "ada@example.org").await;
    assert_eq!(mails(&server, "verify_email").await.len(), 1);
}

#[tokio::test]
async fn a_forgotten_password_is_set_anew_by_a_mailed_link() {
    let server = Server::start().await;
    let session = register(&server, "ada@example.org").await;
    let token = forgotten(&server, "ADA@example.org").await;
    let reset = async |token: &str, password: &str| {
        let body = json!({"token": token, "password": password});
        server.post("/api/auth/reset-password", &body).await
    };
    let places = reset(&token, "short").await.problem(422, "invalid-fields");
    assert_eq!(places, ["/password"]);
    reset("x", "battery staple").await.problem(422, "invalid-link");
    assert_eq!(
        reset(&token, "battery staple").await.status,
        StatusCode::NO_CONTENT
    );
    reset(&token, "another staple").await.problem(422, "invalid-link");
    login(&server, "ada@example.org", "correct horse")
        .await
        .problem(401, "wrong-credentials");
    let again = login(&server, "ada@example.org", "battery staple").await;
    assert_eq!(again.status, StatusCode::OK);
    assert_eq!(
        again.json()["user"]["email_verified"],
        true,
        "the link was mailed there"
    );
    // Whoever was in is out.
    person(&server, &session)
        .get("/api/tasks")
        .await
        .problem(401, "invalid-token");
    server
        .post(
            "/api/auth/refresh",
            &json!({"refresh_token": session["refresh_token"]}),
        )
        .await
        .problem(401, "invalid-refresh-token");
}

#[tokio::test]
async fn links_expire_and_are_good_for_their_purpose_only() {
    let server = Server::start().await;
    register(&server, "ada@example.org").await;
    let token = forgotten(&server, "ada@example.org").await;
    server
        .post("/api/auth/verify-email", &json!({"token": token}))
        .await
        .problem(422, "invalid-link");
    sqlx::query("update accounts.links set expires_at = now()")
        .execute(server.database.admin())
        .await
        .unwrap();
    let body = json!({"token": token, "password": "battery staple"});
    server
        .post("/api/auth/reset-password", &body)
        .await
        .problem(422, "invalid-link");
}

#[tokio::test]
async fn an_unknown_address_gets_the_same_answer_and_no_mail() {
    let server = Server::start().await;
    register(&server, "ada@example.org").await;
    let ask = async |email: &str| {
        server
            .post("/api/auth/forgot-password", &json!({"email": email}))
            .await
    };
    let (unknown, known) = (ask("bob@example.org").await, ask("ada@example.org").await);
    assert_eq!((known.status, &known.text), (unknown.status, &unknown.text));
    eventually("the one mail", async || {
        (mails(&server, "reset_password").await.len() == 1).then_some(())
    })
    .await;
    let links: i64 = sqlx::query_scalar("select count(*) from accounts.links")
        .fetch_one(server.database.admin())
        .await
        .unwrap();
    assert_eq!(links, 1);
}

#[tokio::test]
async fn mailed_links_lead_to_a_page_that_loads_nothing_from_elsewhere_and_does_nothing_by_itself() {
    let server = Server::start().await;
    for path in ["/verify-email", "/reset-password"] {
        let page = server.get(path).await;
        assert_eq!(page.status, StatusCode::OK);
        let policy = page.header(reqwest::header::CONTENT_SECURITY_POLICY);
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'"),
            "{policy}"
        );
        assert!(
            page.text.contains("<form>") && !page.text.contains("http"),
            "{}",
            page.text
        );
        for part in ["/link.js", "/link.css"] {
            assert!(page.text.contains(part));
            assert_eq!(server.get(part).await.status, StatusCode::OK);
        }
    }
    let script = server.get("/link.js").await.text;
    assert!(script.contains("'/api/auth' + location.pathname"));
}
