//! Limits per person and per address.

use api::HttpConfig;
use reqwest::header::{AUTHORIZATION, HeaderName, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use serde_json::json;
use support::Database;

use crate::server::{Answer, Server, unlimited};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

async fn server(http: HttpConfig) -> Server {
    let database = Database::create().await;
    let config = database.config("api");
    Server::with_http(database, config, http).await
}

/// What is left by each limit, in the order of the header.
fn left(answer: &Answer) -> Vec<(String, u64)> {
    let items = answer.header(RATE_LIMIT).split(", ");
    items
        .map(|item| {
            let mut parts = item.split(';');
            let name = parts.next().unwrap().trim_matches('"').to_owned();
            let left = parts.next().unwrap().strip_prefix("r=").unwrap().parse().unwrap();
            assert!(parts.next().unwrap().starts_with("t="), "{item}");
            (name, left)
        })
        .collect()
}

#[tokio::test]
async fn a_person_who_asks_for_too_much_is_told_when_to_go_on_and_others_are_not() {
    let server = server(HttpConfig {
        user_per_minute: 5,
        ..unlimited()
    })
    .await;
    let (ada, bob) = (
        server.person("ada@example.org").await,
        server.person("bob@example.org").await,
    );
    let first = ada.get("/api/tasks").await;
    assert_eq!(first.header(POLICY), "\"user\";q=5;w=60");
    assert_eq!(left(&first), [("user".to_owned(), 4)]);
    // Whatever the answer is, it counts.
    ada.get(&format!("/api/tasks/{}", uuid::Uuid::now_v7()))
        .await
        .problem(404, "not-found");
    ada.post("/api/tasks", &json!({}))
        .await
        .problem(422, "invalid-fields");
    ada.task(&json!({"title": "t"})).await;
    let last = ada.get("/api/tasks").await;
    assert_eq!(left(&last), [("user".to_owned(), 0)]);
    for answer in [
        ada.get("/api/tasks").await,
        ada.post("/api/tasks", &json!({"title": "u"})).await,
    ] {
        answer.problem(429, "rate-limited");
        assert_eq!(left(&answer), [("user".to_owned(), 0)]);
        let seconds: u64 = answer.header(RETRY_AFTER).parse().unwrap();
        assert!((1..=12).contains(&seconds), "{seconds}");
    }
    assert_eq!(left(&bob.get("/api/tasks").await), [("user".to_owned(), 4)]);
    let made: i64 = sqlx::query_scalar("select count(*) from tasks.tasks")
        .fetch_one(server.database.admin())
        .await
        .unwrap();
    assert_eq!(made, 1, "what is refused is not done");
}

#[tokio::test]
async fn an_address_counts_with_and_without_a_good_token() {
    let server = server(HttpConfig {
        user_per_minute: 100,
        address_per_minute: 6,
        ..unlimited()
    })
    .await;
    let ada = server.person("ada@example.org").await;
    let answer = ada.get("/api/tasks").await;
    assert_eq!(answer.header(POLICY), "\"user\";q=100;w=60, \"address\";q=6;w=60");
    assert_eq!(
        left(&answer),
        [("user".to_owned(), 99), ("address".to_owned(), 5)]
    );
    let guess = server
        .request(Method::GET, "/api/tasks")
        .header(AUTHORIZATION, "Bearer guess");
    let guess = Answer::to(guess).await;
    guess.problem(401, "invalid-token");
    assert_eq!(left(&guess), [("address".to_owned(), 4)]);
    server.get("/api/tasks").await.problem(401, "token-required");
    server
        .post("/api/auth/login", &json!({}))
        .await
        .problem(422, "invalid-fields");
    server.get("/api/nothing").await.problem(404, "not-found");
    let last = Answer::to(server.request(Method::DELETE, "/api/tasks")).await;
    last.problem(405, "method-not-allowed");
    assert_eq!(left(&last), [("address".to_owned(), 0)]);
    for answer in [ada.get("/api/tasks").await, server.get("/api/nothing").await] {
        answer.problem(429, "rate-limited");
        assert_eq!(left(&answer), [("address".to_owned(), 0)]);
    }
    // What operators ask is not of /api.
    for path in ["/livez", "/metrics", "/.well-known/jwks.json"] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.headers.get(RATE_LIMIT), None, "{path}");
    }
}

#[tokio::test]
async fn behind_a_proxy_of_ours_the_address_is_the_one_that_it_saw() {
    let limits = |trusted_proxies| HttpConfig {
        address_per_minute: 2,
        trusted_proxies,
        ..unlimited()
    };
    let ask = async |server: &Server, forwarded: &str| {
        let request = server.request(Method::GET, "/api/nothing");
        let answer = Answer::to(request.header("x-forwarded-for", forwarded)).await;
        answer.status.as_u16()
    };
    let behind = server(limits(1)).await;
    for address in ["203.0.113.1", "203.0.113.2", "2001:db8::1", "2001:db8:0:1::1"] {
        assert_eq!(ask(&behind, address).await, 404);
        assert_eq!(
            ask(&behind, &format!("192.0.2.{}, {address}", address.len())).await,
            404
        );
        assert_eq!(ask(&behind, address).await, 429, "{address}");
    }
    assert_eq!(
        ask(&behind, "2001:db8::2").await,
        429,
        "the network of 2001:db8::1"
    );
    // Whoever is reached directly believes nobody.
    let direct = server(limits(0)).await;
    assert_eq!(ask(&direct, "203.0.113.1").await, 404);
    assert_eq!(ask(&direct, "203.0.113.2").await, 404);
    assert_eq!(ask(&direct, "203.0.113.3").await, 429);
}
