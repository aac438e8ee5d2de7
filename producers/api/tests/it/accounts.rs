//! Registering and logging in.

use reqwest::StatusCode;
use reqwest::header::{CACHE_CONTROL, WWW_AUTHENTICATE};
use serde_json::json;
use uuid::Uuid;

use crate::server::Server;

#[tokio::test]
async fn a_person_registers_logs_in_and_gets_tokens_that_work() {
    let server = Server::start().await;
    let registration = json!({
        "email": "Ada.Lovelace@Example.ORG", "password": "correct horse", "name": "Ada Lovelace", "timezone": "Europe/London",
    });
    let registered = server.post("/api/auth/register", &registration).await;
    assert_eq!(registered.status, StatusCode::CREATED, "{}", registered.text);
    assert_eq!(registered.header(CACHE_CONTROL), "no-store");
    let registered = registered.json();
    let user = &registered["user"];
    assert_eq!(user["email"], "Ada.Lovelace@example.org");
    assert_eq!(
        (&user["name"], &user["timezone"]),
        (&json!("Ada Lovelace"), &json!("Europe/London"))
    );
    assert!(user["created_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(
        user.as_object().unwrap().len(),
        11,
        "nothing else of a person is shown: {user}"
    );
    assert_eq!(
        (&registered["token_type"], &registered["expires_in"]),
        (&json!("Bearer"), &json!(900))
    );

    // In any capitalisation the address is taken, and logs in.
    let again = json!({"email": "ada.lovelace@EXAMPLE.org", "password": "other horse", "name": "x", "timezone": "UTC"});
    server
        .post("/api/auth/register", &again)
        .await
        .problem(409, "email-taken");
    let credentials = json!({"email": "ADA.lovelace@example.org", "password": "correct horse"});
    let login = server.post("/api/auth/login", &credentials).await;
    assert_eq!(login.status, StatusCode::OK, "{}", login.text);
    assert_eq!(login.json()["user"], *user);

    for answer in [&registered, &login.json()] {
        let token = answer["access_token"].as_str().unwrap();
        let bearer = server.tokens.verify(token).unwrap();
        assert_eq!(
            bearer.user_id,
            user["id"].as_str().unwrap().parse::<Uuid>().unwrap()
        );
        let request = server
            .request(reqwest::Method::POST, "/api/tasks")
            .bearer_auth(token);
        let task = request
            .json(&json!({"title": "Water the plants"}))
            .send()
            .await
            .unwrap();
        assert_eq!(task.status(), StatusCode::CREATED);
        // The zone of the account is that of tasks that name none.
        assert_eq!(
            task.json::<serde_json::Value>().await.unwrap()["timezone"],
            "Europe/London"
        );
    }

    let hash: String = sqlx::query_scalar("select password_hash from accounts.users")
        .fetch_one(server.database.admin())
        .await
        .unwrap();
    assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
}

#[tokio::test]
async fn an_unknown_address_and_a_wrong_password_get_the_same_answer() {
    let server = Server::start().await;
    let registration =
        json!({"email": "ada@example.org", "password": "correct horse", "name": "Ada", "timezone": "UTC"});
    server.post("/api/auth/register", &registration).await;
    let wrong = server
        .post(
            "/api/auth/login",
            &json!({"email": "ada@example.org", "password": "wrong horse"}),
        )
        .await;
    let unknown = server
        .post(
            "/api/auth/login",
            &json!({"email": "bob@example.org", "password": "wrong horse"}),
        )
        .await;
    wrong.problem(401, "wrong-credentials");
    assert_eq!(wrong.text, unknown.text);
    assert_eq!(wrong.header(WWW_AUTHENTICATE), r#"Bearer realm="carillon""#);
}

#[tokio::test]
async fn of_two_registrations_at_once_one_gets_the_address() {
    let server = Server::start().await;
    let body =
        |email: &str| json!({"email": email, "password": "correct horse", "name": "Ada", "timezone": "UTC"});
    let (one, other) = (body("ada@example.org"), body("ADA@example.org"));
    let (one, other) = tokio::join!(
        server.post("/api/auth/register", &one),
        server.post("/api/auth/register", &other)
    );
    let mut statuses = [one.status.as_u16(), other.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409]);
}

#[tokio::test]
async fn tasks_want_a_token() {
    let server = Server::start().await;
    let id = Uuid::now_v7();
    let person = server.person("ada@example.org").await;
    for (method, path) in [
        ("GET", "/api/tasks".to_owned()),
        ("POST", "/api/tasks".to_owned()),
        ("GET", format!("/api/tasks/{id}")),
        ("PATCH", format!("/api/tasks/{id}")),
        ("DELETE", format!("/api/tasks/{id}")),
        ("POST", format!("/api/tasks/{id}/complete")),
        ("POST", format!("/api/tasks/{id}/reopen")),
    ] {
        let request = || server.request(method.parse().unwrap(), &path);
        let without = crate::server::Answer::to(request()).await;
        without.problem(401, "token-required");
        assert_eq!(
            without.header(WWW_AUTHENTICATE),
            r#"Bearer realm="carillon""#,
            "{method} {path}"
        );
        let tampered = format!("{}A", person.token);
        for authorization in [
            "Bearer",
            "Bearer ",
            "Basic YTpi",
            "Bearer x.y.z",
            &format!("Bearer {tampered}"),
        ] {
            let with = crate::server::Answer::to(request().header("authorization", authorization)).await;
            with.problem(401, "invalid-token");
            assert!(
                with.header(WWW_AUTHENTICATE).contains("invalid_token"),
                "{method} {path}"
            );
        }
    }
}

#[tokio::test]
async fn a_token_of_an_account_that_is_gone_is_refused() {
    let server = Server::start().await;
    let nobody = server.bearer(Uuid::now_v7());
    nobody
        .post("/api/tasks", &json!({"title": "t"}))
        .await
        .problem(401, "invalid-token");
    let recurring = json!({"title": "t", "due_at": "2027-01-01T00:00:00Z", "recurrence": "FREQ=DAILY"});
    nobody
        .post("/api/tasks", &recurring)
        .await
        .problem(401, "invalid-token");
}

#[tokio::test]
async fn the_public_key_is_published() {
    let server = Server::start().await;
    let answer = server.get("/.well-known/jwks.json").await;
    assert_eq!(answer.status, StatusCode::OK);
    let keys = answer.json();
    assert_eq!(
        keys["keys"][0]["kid"],
        "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    );
    assert_eq!(keys["keys"][0].get("d"), None);
}
