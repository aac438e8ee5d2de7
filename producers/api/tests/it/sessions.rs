//! Sessions: refreshed, ended, and what ends with them.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::eventually;

use crate::server::{Answer, Person, Server};

/// Registers somebody and returns what came back.
pub async fn register(server: &Server, email: &str) -> Value {
    let body =
        json!({"email": email, "password": "correct horse", "name": "Ada", "timezone": "Europe/Berlin"});
    let answer = server.post("/api/auth/register", &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    answer.json()
}

pub async fn login(server: &Server, email: &str, password: &str) -> Answer {
    server
        .post("/api/auth/login", &json!({"email": email, "password": password}))
        .await
}

/// Whoever holds the access token of such an answer.
pub fn person(server: &Server, signed_in: &Value) -> Person {
    Person {
        server: server.clone(),
        id: signed_in["user"]["id"].as_str().unwrap().parse().unwrap(),
        token: signed_in["access_token"].as_str().unwrap().to_owned(),
    }
}

async fn refresh(server: &Server, signed_in: &Value) -> Answer {
    server
        .post(
            "/api/auth/refresh",
            &json!({"refresh_token": signed_in["refresh_token"]}),
        )
        .await
}

/// Asserts that the access token of such an answer opens nothing.
async fn is_out(server: &Server, signed_in: &Value) {
    person(server, signed_in)
        .get("/api/tasks")
        .await
        .problem(401, "invalid-token");
}

async fn is_in(server: &Server, signed_in: &Value) {
    let answer = person(server, signed_in).get("/api/tasks").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
}

#[tokio::test]
async fn a_session_is_renewed_again_and_again_each_time_by_another_token() {
    let server = Server::start().await;
    let first = register(&server, "ada@example.org").await;
    assert_eq!(first["refresh_expires_in"], 30 * 24 * 60 * 60);
    let mut current = first.clone();
    for _ in 0..3 {
        let answer = refresh(&server, &current).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        assert_eq!(answer.header(reqwest::header::CACHE_CONTROL), "no-store");
        let next = answer.json();
        assert_ne!(next["refresh_token"], current["refresh_token"]);
        assert_eq!(next["user"], first["user"]);
        is_in(&server, &next).await;
        current = next;
    }
    // Of the same session are all of them: one row.
    let sessions: i64 = sqlx::query_scalar("select count(*) from accounts.sessions")
        .fetch_one(server.database.admin())
        .await
        .unwrap();
    assert_eq!(sessions, 1);
    // Only hashes of the two secrets are kept.
    let secrets = current["refresh_token"]
        .as_str()
        .unwrap()
        .strip_prefix("carillon_rt_")
        .unwrap();
    let (family, newest) = secrets.split_at(43);
    let hashed: bool = sqlx::query_scalar(
        "select family_hash = sha256($1::bytea) and secret_hash = sha256($2::bytea) from accounts.sessions",
    )
    .bind(family.as_bytes())
    .bind(newest.as_bytes())
    .fetch_one(server.database.admin())
    .await
    .unwrap();
    assert!(hashed);
}

#[tokio::test]
async fn a_refresh_token_that_comes_again_ends_its_session_and_no_other() {
    let server = Server::start().await;
    let stolen = register(&server, "ada@example.org").await;
    let other = login(&server, "ada@example.org", "correct horse").await.json();
    let thief = refresh(&server, &stolen).await.json();
    is_in(&server, &thief).await;
    refresh(&server, &stolen)
        .await
        .problem(401, "invalid-refresh-token");
    // Whoever has the newest one is out too, be it the thief or the owner, and so are the access tokens.
    refresh(&server, &thief)
        .await
        .problem(401, "invalid-refresh-token");
    is_out(&server, &thief).await;
    is_out(&server, &stolen).await;
    is_in(&server, &other).await;
    assert_eq!(refresh(&server, &other).await.status, StatusCode::OK);
}

#[tokio::test]
async fn of_many_uses_of_one_refresh_token_at_once_one_is_answered_and_the_session_ends() {
    let server = Server::start().await;
    let session = register(&server, "ada@example.org").await;
    let answers = futures::future::join_all((0..10).map(|_| refresh(&server, &session))).await;
    let renewed: Vec<&Answer> = answers.iter().filter(|a| a.status == StatusCode::OK).collect();
    assert_eq!(renewed.len(), 1);
    refresh(&server, &renewed[0].json())
        .await
        .problem(401, "invalid-refresh-token");
}

#[tokio::test]
async fn an_expired_session_and_things_that_are_no_refresh_token_are_refused() {
    let server = Server::start().await;
    let session = register(&server, "ada@example.org").await;
    let good = session["refresh_token"].as_str().unwrap();
    let mut edited = good.to_owned();
    edited.pop();
    edited.push(if good.ends_with('A') { 'B' } else { 'A' });
    for token in [
        "x",
        "carillon_rt_",
        &format!("{good}x"),
        &good.replace("_rt_", "_pat_"),
        session["access_token"].as_str().unwrap().get(..150).unwrap(),
    ] {
        server
            .post("/api/auth/refresh", &json!({"refresh_token": token}))
            .await
            .problem(401, "invalid-refresh-token");
    }
    for body in [
        json!({}),
        json!({"refresh_token": null}),
        json!({"refresh_token": 1}),
    ] {
        let places = server
            .post("/api/auth/refresh", &body)
            .await
            .problem(422, "invalid-fields");
        assert_eq!(places, ["/refresh_token"]);
    }
    sqlx::query("update accounts.sessions set expires_at = now()")
        .execute(server.database.admin())
        .await
        .unwrap();
    refresh(&server, &session)
        .await
        .problem(401, "invalid-refresh-token");
    // A token with the family's secret and another second one is as good as an old one.
    let session = login(&server, "ada@example.org", "correct horse").await.json();
    let mut edited = session["refresh_token"].as_str().unwrap().to_owned();
    edited.replace_range(60..61, if &edited[60..61] == "A" { "B" } else { "A" });
    server
        .post("/api/auth/refresh", &json!({"refresh_token": edited}))
        .await
        .problem(401, "invalid-refresh-token");
    refresh(&server, &session)
        .await
        .problem(401, "invalid-refresh-token");
}

#[tokio::test]
async fn logging_out_ends_one_session_here_at_once_and_on_other_replicas_soon() {
    let server = Server::start().await;
    let replica = server.replica().await;
    let one = register(&server, "ada@example.org").await;
    let other = login(&server, "ada@example.org", "correct horse").await.json();
    is_in(&replica, &one).await;
    let body = json!({"refresh_token": one["refresh_token"]});
    for _ in 0..2 {
        let answer = server.post("/api/auth/logout", &body).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "twice is once");
    }
    let unknown = server
        .post("/api/auth/logout", &json!({"refresh_token": "x"}))
        .await;
    assert_eq!(unknown.status, StatusCode::NO_CONTENT);
    is_out(&server, &one).await;
    is_in(&server, &other).await;
    refresh(&server, &one).await.problem(401, "invalid-refresh-token");
    refresh(&replica, &one)
        .await
        .problem(401, "invalid-refresh-token");
    let gone = person(&replica, &one);
    eventually("the other replica has heard of it", async || {
        (gone.get("/api/tasks").await.status == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;
    is_in(&replica, &other).await;
}

#[tokio::test]
async fn logging_out_everywhere_ends_every_session_of_this_person_only() {
    let server = Server::start().await;
    let ada = [
        register(&server, "ada@example.org").await,
        login(&server, "ada@example.org", "correct horse").await.json(),
    ];
    let bob = register(&server, "bob@example.org").await;
    let answer = person(&server, &ada[0])
        .send(Method::POST, "/api/auth/logout-all")
        .await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    for session in &ada {
        is_out(&server, session).await;
        refresh(&server, session)
            .await
            .problem(401, "invalid-refresh-token");
    }
    is_in(&server, &bob).await;
    // A login a moment later is another session.
    is_in(
        &server,
        &login(&server, "ada@example.org", "correct horse").await.json(),
    )
    .await;
    Answer::to(server.request(Method::POST, "/api/auth/logout-all"))
        .await
        .problem(401, "token-required");
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions() {
    let server = Server::start().await;
    let here = register(&server, "ada@example.org").await;
    let there = login(&server, "ada@example.org", "correct horse").await.json();
    let change = |old: &str, new: &str| {
        let body = json!({"old_password": old, "new_password": new});
        let ada = person(&server, &here);
        async move { ada.post("/api/auth/password", &body).await }
    };
    change("wrong horse", "battery staple")
        .await
        .problem(403, "wrong-password");
    let places = change("correct horse", "short")
        .await
        .problem(422, "invalid-fields");
    assert_eq!(places, ["/new_password"]);
    is_in(&server, &there).await;
    assert_eq!(
        change("correct horse", "battery staple").await.status,
        StatusCode::NO_CONTENT
    );
    is_in(&server, &here).await;
    assert_eq!(refresh(&server, &here).await.status, StatusCode::OK);
    is_out(&server, &there).await;
    login(&server, "ada@example.org", "correct horse")
        .await
        .problem(401, "wrong-credentials");
    assert_eq!(
        login(&server, "ada@example.org", "battery staple").await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn what_has_expired_is_swept() {
    let server = Server::start().await;
    for n in 0..3 {
        register(&server, &format!("{n}@example.org")).await;
    }
    sqlx::raw_sql(
        "with numbered as (select id, row_number() over () as n from accounts.sessions)
         update accounts.sessions s set expires_at = case n when 1 then now() - interval '1 second' else expires_at end,
             revoked_at = case n when 2 then now() - interval '26 hours' end
         from numbered where numbered.id = s.id;
         insert into accounts.links (user_id, kind, token_hash, email, expires_at)
         select id, 'verify_email', id::text::bytea, email, now() - interval '1 second' from accounts.users;",
    )
    .execute(server.database.admin())
    .await
    .unwrap();
    // Whoever starts keeps house first.
    let _replica = server.replica().await;
    eventually("what has expired is gone", async || {
        let left: (i64, i64) = sqlx::query_as(
            "select (select count(*) from accounts.sessions), (select count(*) from accounts.links)",
        )
        .fetch_one(server.database.admin())
        .await
        .unwrap();
        (left == (1, 0)).then_some(())
    })
    .await;
}

/// Logs in as a client that calls itself so.
async fn login_as(server: &Server, email: &str, agent: &str) -> Value {
    let request = server
        .request(Method::POST, "/api/auth/login")
        .header(reqwest::header::USER_AGENT, agent)
        .json(&json!({"email": email, "password": "correct horse"}));
    let answer = Answer::to(request).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    answer.json()
}

async fn sessions_of(person: &Person) -> Vec<Value> {
    let answer = person.get("/api/me/sessions").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    answer.json()["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_person_sees_where_one_is_logged_in_and_ends_what_is_not_known() {
    let server = Server::start().await;
    let first = register(&server, "ada@example.org").await;
    let phone = login_as(&server, "ada@example.org", "Phone/1.0 <b>").await;
    let odd = login_as(&server, "ada@example.org", &format!("ü{}", "x".repeat(500))).await;
    register(&server, "bob@example.org").await;
    let ada = person(&server, &phone);
    let sessions = sessions_of(&ada).await;
    let agents: Vec<&Value> = sessions.iter().map(|session| &session["user_agent"]).collect();
    let cut = format!("\\u{{fc}}{}", "x".repeat(194));
    assert_eq!(agents, [&json!(cut), &json!("Phone/1.0 <b>"), &Value::Null]);
    let current: Vec<bool> = sessions.iter().map(|s| s["current"] == true).collect();
    assert_eq!(current, [false, true, false]);
    for session in &sessions {
        assert_eq!(session["created_at"], session["last_used_at"]);
        let mut fields: Vec<&String> = session.as_object().unwrap().keys().collect();
        fields.sort();
        assert_eq!(
            fields,
            ["created_at", "current", "id", "last_used_at", "user_agent"]
        );
    }

    // A refresh is a use; who does not say what it is, is what it was.
    let renewed = refresh(&server, &phone).await.json();
    let ada = person(&server, &renewed);
    let after = sessions_of(&ada).await;
    assert_eq!(after[1]["user_agent"], "Phone/1.0 <b>");
    assert!(after[1]["last_used_at"].as_str() > after[1]["created_at"].as_str());
    assert_eq!((&after[0], &after[2]), (&sessions[0], &sessions[2]));

    let path = |session: &Value| format!("/api/me/sessions/{}", session["id"].as_str().unwrap());
    let ended = ada.send(Method::DELETE, &path(&sessions[0])).await;
    assert_eq!(ended.status, StatusCode::NO_CONTENT, "{}", ended.text);
    is_out(&server, &odd).await;
    refresh(&server, &odd).await.problem(401, "invalid-refresh-token");
    is_in(&server, &first).await;
    ada.send(Method::DELETE, &path(&sessions[0]))
        .await
        .problem(404, "not-found");
    assert_eq!(sessions_of(&ada).await.len(), 2);
    // One's own, too.
    let ended = ada.send(Method::DELETE, &path(&sessions[1])).await;
    assert_eq!(ended.status, StatusCode::NO_CONTENT, "{}", ended.text);
    is_out(&server, &renewed).await;
    // What has expired has ended, swept or not.
    let ada = person(
        &server,
        &login(&server, "ada@example.org", "correct horse").await.json(),
    );
    sqlx::query("update accounts.sessions set expires_at = now() where id = $1::uuid")
        .bind(sessions[2]["id"].as_str())
        .execute(server.database.admin())
        .await
        .unwrap();
    assert_eq!(sessions_of(&ada).await.len(), 1);
    ada.send(Method::DELETE, &path(&sessions[2]))
        .await
        .problem(404, "not-found");
}

#[tokio::test]
async fn sessions_come_in_pages_and_no_personal_access_token_opens_them() {
    let server = Server::start().await;
    let mut signed_in = register(&server, "ada@example.org").await;
    for _ in 0..4 {
        signed_in = login(&server, "ada@example.org", "correct horse").await.json();
    }
    let ada = person(&server, &signed_in);
    let all: Vec<Value> = sessions_of(&ada).await;
    assert_eq!(all.len(), 5);
    let (mut paged, mut query) = (Vec::new(), "limit=2".to_owned());
    loop {
        let page = ada.get(&format!("/api/me/sessions?{query}")).await.json();
        paged.extend(page["items"].as_array().unwrap().clone());
        match page["next_cursor"].as_str() {
            Some(cursor) => query = format!("limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(paged, all);
    let scopes = json!({"name": "script", "scopes": ["tasks:read", "tasks:write"]});
    let token = ada.post("/api/me/tokens", &scopes).await.json()["token"].clone();
    let script = Person {
        token: token.as_str().unwrap().to_owned(),
        ..ada.clone()
    };
    let one = format!("/api/me/sessions/{}", all[0]["id"].as_str().unwrap());
    for (method, path) in [
        (Method::GET, "/api/me/sessions"),
        (Method::DELETE, one.as_str()),
        (Method::POST, "/api/me/email"),
    ] {
        script.send(method, path).await.problem(403, "insufficient-scope");
    }
}
