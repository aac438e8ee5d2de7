//! Links that are mailed, as the email sender finds them.

use reqwest::header::{ETAG, HeaderMap};
use reqwest::{Method, StatusCode};
use serde_json::json;
use sqlx::Row;
use support::eventually;
use uuid::Uuid;

use crate::isolation::comparable;
use crate::server::{Answer, Person, Server};
use crate::sessions::{login, person, register};

/// The mails of that kind that wait to be sent: the person's address, and the link's secret.
async fn mails(server: &Server, kind: &str) -> Vec<(String, String)> {
    sqlx::query(
        "select u.email, link_token from delivery.account_mails m join accounts.users u on u.id = m.user_id
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

async fn count(server: &Server, table: &'static str) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select count(*) from {table}")))
        .fetch_one(server.database.admin())
        .await
        .unwrap()
}

/// What a client can compare two answers by.
fn face(answer: &Answer) -> (StatusCode, &str, Vec<(String, String)>) {
    let headers: HeaderMap = answer.headers.clone();
    (answer.status, &answer.text, comparable(&headers))
}

#[tokio::test]
async fn who_asks_for_a_new_password_is_answered_before_anybody_looks_whether_there_is_an_account() {
    let server = Server::start().await;
    register(&server, "ada@example.org").await;
    // As long as this is held nobody can look at an account, not even at whether there is one.
    let mut nobody_looks = server.database.admin().begin().await.unwrap();
    sqlx::query("lock table accounts.users in access exclusive mode")
        .execute(&mut *nobody_looks)
        .await
        .unwrap();
    let ask = async |email: &str| {
        server
            .post("/api/auth/forgot-password", &json!({"email": email}))
            .await
    };
    let (unknown, known) = (ask("bob@example.org").await, ask("ADA@example.org").await);
    assert_eq!(unknown.status, StatusCode::ACCEPTED, "{}", unknown.text);
    assert_eq!(face(&known), face(&unknown));
    // What is answered is written down, the same for both; whoever crashes now loses neither.
    assert_eq!(count(&server, "accounts.reset_requests").await, 2);
    assert_eq!(count(&server, "accounts.links").await, 0);
    nobody_looks.rollback().await.unwrap();
    eventually("both have become what they are to become", async || {
        (count(&server, "accounts.reset_requests").await == 0).then_some(())
    })
    .await;
    let mails = mails(&server, "reset_password").await;
    assert_eq!(mails.len(), 1, "{mails:?}");
    assert_eq!(mails[0].0, "ada@example.org");
    assert_eq!(count(&server, "accounts.links").await, 1);
}

#[tokio::test]
async fn a_request_that_a_crash_left_behind_is_answered_by_whoever_comes_next_unless_it_is_old() {
    let server = Server::start().await;
    register(&server, "ada@example.org").await;
    register(&server, "bob@example.org").await;
    server.stop.cancel();
    eventually("it has stopped", async || {
        (server.client.get(format!("http://{}/livez", server.address)))
            .send()
            .await
            .is_err()
            .then_some(())
    })
    .await;
    for (email, age) in [("ada@example.org", "1 minute"), ("bob@example.org", "2 hours")] {
        sqlx::query(
            "insert into accounts.reset_requests (id, email, created_at) values ($1, $2, now() - $3::interval)",
        )
        .bind(Uuid::now_v7())
        .bind(email)
        .bind(age)
        .execute(server.database.admin())
        .await
        .unwrap();
    }
    let _next = server.replica().await;
    eventually("both are gone", async || {
        (count(&server, "accounts.reset_requests").await == 0).then_some(())
    })
    .await;
    let mails = mails(&server, "reset_password").await;
    assert_eq!(mails.len(), 1, "{mails:?}");
    assert_eq!(mails[0].0, "ada@example.org");
}

/// A mail as the email sender finds it: its kind, its own address if it has one, and the link's secret.
type Mail = (String, Option<String>, Option<String>);

async fn all_mails(server: &Server, of: &Person) -> Vec<Mail> {
    sqlx::query_as(
        "select kind, email, link_token from delivery.account_mails where user_id = $1 order by created_at, kind",
    )
    .bind(of.id)
    .fetch_all(server.database.admin())
    .await
    .unwrap()
}

async fn move_to(person: &Person, email: &str, password: &str) -> Answer {
    person
        .post("/api/me/email", &json!({"email": email, "password": password}))
        .await
}

async fn confirm(server: &Server, token: &str) -> Answer {
    server
        .post("/api/auth/change-email", &json!({"token": token}))
        .await
}

#[tokio::test]
async fn an_address_changes_when_the_link_that_was_mailed_to_the_new_one_is_used() {
    let server = Server::start().await;
    let registered = register(&server, "ada@example.org").await;
    let ada = person(&server, &registered);
    move_to(&ada, "ada@example.net", "wrong horse")
        .await
        .problem(403, "wrong-password");
    for (body, places) in [
        (json!({}), vec!["/email", "/password"]),
        (
            json!({"email": "ada", "password": "correct horse"}),
            vec!["/email"],
        ),
        (
            json!({"email": "ada@example.org", "password": "correct horse"}),
            vec!["/email"],
        ),
    ] {
        let refused = ada.post("/api/me/email", &body).await;
        assert_eq!(refused.problem(422, "invalid-fields"), places);
    }
    assert_eq!(all_mails(&server, &ada).await, []);

    let answer = move_to(&ada, "Ada@Example.NET", "correct horse").await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    let mails = all_mails(&server, &ada).await;
    let [link, notice] = mails.as_slice() else {
        panic!("{mails:?}")
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        (link.0.as_str(), &link.1),
        ("change_email", &some("Ada@example.net"))
    );
    assert_eq!(
        notice,
        &("email_changing".to_owned(), some("ada@example.org"), None)
    );
    let token = link.2.as_deref().unwrap();
    // A second one is refused aloud: it would not be mailed.
    let again = move_to(&ada, "ada@example.com", "correct horse").await;
    again.problem(429, "too-many-attempts");
    assert_eq!(again.header(reqwest::header::RETRY_AFTER), "60");
    assert_eq!(all_mails(&server, &ada).await.len(), 2);

    // Until the link is used nothing has changed, and it is good for nothing else.
    assert_eq!(ada.get("/api/me").await.json(), registered["user"]);
    login(&server, "ada@example.net", "correct horse")
        .await
        .problem(401, "wrong-credentials");
    server
        .post("/api/auth/verify-email", &json!({"token": token}))
        .await
        .problem(422, "invalid-link");
    confirm(&server, "x").await.problem(422, "invalid-link");

    assert_eq!(confirm(&server, token).await.status, StatusCode::NO_CONTENT);
    confirm(&server, token).await.problem(422, "invalid-link");
    let me = ada.get("/api/me").await;
    assert_eq!(me.header(ETAG), "\"2\"");
    let me = me.json();
    assert_eq!(
        (&me["email"], &me["email_verified"]),
        (&json!("Ada@example.net"), &json!(true))
    );
    let there = login(&server, "ada@example.net", "correct horse").await;
    assert_eq!(there.status, StatusCode::OK, "{}", there.text);
    login(&server, "ada@example.org", "correct horse")
        .await
        .problem(401, "wrong-credentials");
    // The old one is anybody's again.
    register(&server, "ada@example.org").await;
}

#[tokio::test]
async fn nobody_learns_by_a_change_of_address_whether_another_address_has_an_account() {
    let server = Server::start().await;
    let ada = person(&server, &register(&server, "ada@example.org").await);
    let eve = person(&server, &register(&server, "eve@example.org").await);
    register(&server, "bob@example.org").await;
    let taken = move_to(&ada, "BOB@example.org", "correct horse").await;
    let free = move_to(&eve, "free@example.org", "correct horse").await;
    assert_eq!(face(&taken), face(&free));
    // Whoever owns the address reads that it has an account; there is no link that could be used.
    let kinds = |mails: &[Mail]| -> Vec<String> { mails.iter().map(|mail| mail.0.clone()).collect() };
    let mails = all_mails(&server, &ada).await;
    assert_eq!(kinds(&mails), ["address_taken", "email_changing"]);
    assert_eq!(
        (mails[0].1.as_deref(), &mails[0].2),
        (Some("BOB@example.org"), &None)
    );
    let mails = all_mails(&server, &eve).await;
    assert_eq!(kinds(&mails), ["change_email", "email_changing"]);

    // An address that was free then and has an account now is its owner's.
    register(&server, "free@example.org").await;
    let token = mails[0].2.as_deref().unwrap();
    confirm(&server, token).await.problem(409, "email-taken");
    assert_eq!(eve.get("/api/me").await.json()["email"], "eve@example.org");
}

#[tokio::test]
async fn a_new_password_makes_an_open_change_of_address_void_and_so_does_a_change_the_other_links() {
    let server = Server::start().await;
    let ada = person(&server, &register(&server, "ada@example.org").await);
    let link = async |person: &Person, email: &str| -> String {
        sqlx::query("update accounts.links set created_at = now() - interval '2 minutes'")
            .execute(server.database.admin())
            .await
            .unwrap();
        let password = "correct horse";
        assert_eq!(
            move_to(person, email, password).await.status,
            StatusCode::ACCEPTED
        );
        sqlx::query_scalar("select link_token from delivery.account_mails where email = $1")
            .bind(email)
            .fetch_one(server.database.admin())
            .await
            .unwrap()
    };
    let stolen = link(&ada, "eve@example.org").await;
    let body = json!({"old_password": "correct horse", "new_password": "correct horse"});
    let changed = ada.post("/api/auth/password", &body).await;
    assert_eq!(changed.status, StatusCode::NO_CONTENT, "{}", changed.text);
    confirm(&server, &stolen).await.problem(422, "invalid-link");

    let stolen = link(&ada, "eve@example.com").await;
    let reset = forgotten(&server, "ada@example.org").await;
    let body = json!({"token": reset, "password": "correct horse"});
    let changed = server.post("/api/auth/reset-password", &body).await;
    assert_eq!(changed.status, StatusCode::NO_CONTENT, "{}", changed.text);
    confirm(&server, &stolen).await.problem(422, "invalid-link");

    // Of two changes the one that is used first stands, and what was mailed to the old address is void.
    let again = login(&server, "ada@example.org", "correct horse").await;
    let ada = person(&server, &again.json());
    let (first, second) = (
        link(&ada, "ada@example.net").await,
        link(&ada, "ada@example.com").await,
    );
    let reset = forgotten(&server, "ada@example.org").await;
    assert_eq!(confirm(&server, &second).await.status, StatusCode::NO_CONTENT);
    confirm(&server, &first).await.problem(422, "invalid-link");
    let body = json!({"token": reset, "password": "battery staple"});
    server
        .post("/api/auth/reset-password", &body)
        .await
        .problem(422, "invalid-link");
    assert_eq!(ada.get("/api/me").await.json()["email"], "ada@example.com");
}

#[tokio::test]
async fn mailed_links_lead_to_a_page_that_loads_nothing_from_elsewhere_and_does_nothing_by_itself() {
    let server = Server::start().await;
    for path in ["/verify-email", "/reset-password", "/change-email"] {
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
    for path in ["'/verify-email'", "'/reset-password'", "'/change-email'"] {
        assert!(script.contains(path), "{path}");
    }
}
