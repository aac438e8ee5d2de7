//! What holds for every resource alike.

use std::io::Read;
use std::time::Duration;

use api::{HttpConfig, Origins};
use reqwest::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH, LOCATION, ORIGIN, VARY,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::Database;

use crate::server::{Answer, Person, Server, unlimited};

const PREFER: HeaderName = HeaderName::from_static("prefer");
const APPLIED: HeaderName = HeaderName::from_static("preference-applied");

async fn unless(person: &Person, method: Method, path: &str, tags: &str) -> Answer {
    Answer::to(person.request(method, path).header(IF_NONE_MATCH, tags)).await
}

#[tokio::test]
async fn a_client_that_has_the_answer_is_told_so_and_gets_the_next_one() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, _) = ada.task(&json!({"title": "t"})).await;
    for path in [
        path.as_str(),
        "/api/tasks",
        "/api/tasks?limit=1",
        "/.well-known/jwks.json",
    ] {
        let fresh = ada.get(path).await;
        let tag = fresh.header(ETAG).to_owned();
        assert_eq!(
            tag.starts_with("W/"),
            !path.starts_with("/api/tasks/"),
            "{path}: {tag}"
        );
        assert_eq!(ada.get(path).await.header(ETAG), tag, "{path}");
        assert_eq!(ada.send(Method::HEAD, path).await.header(ETAG), tag, "{path}");
        for tags in [
            tag.as_str(),
            "*",
            &format!("\"x\", {tag}"),
            &format!("W/{}", tag.trim_start_matches("W/")),
        ] {
            for method in [Method::GET, Method::HEAD] {
                let answer = unless(&ada, method, path, tags).await;
                assert_eq!(answer.status, StatusCode::NOT_MODIFIED, "{path} {tags}");
                assert_eq!((answer.text.as_str(), answer.header(ETAG)), ("", tag.as_str()));
                assert_eq!(answer.headers.get(CONTENT_TYPE), None);
            }
        }
        for tags in ["\"x\"", "W/\"x\"", "nonsense", ""] {
            let answer = unless(&ada, Method::GET, path, tags).await;
            assert_eq!(
                (answer.status, &answer.text),
                (StatusCode::OK, &fresh.text),
                "{path} {tags}"
            );
        }
    }
    let (task, list) = (ada.get(&path).await, ada.get("/api/tasks").await);
    ada.patch(&path, &json!({"title": "u"})).await;
    for (path, old) in [(path.as_str(), task), ("/api/tasks", list)] {
        let answer = unless(&ada, Method::GET, path, old.header(ETAG)).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_ne!(answer.header(ETAG), old.header(ETAG));
        assert!(answer.text.contains("\"u\""), "{}", answer.text);
    }
}

#[tokio::test]
async fn a_task_that_waits_for_another_is_another_answer_once_that_is_done() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (first, task) = ada.task(&json!({"title": "first"})).await;
    let (path, _) = ada
        .task(&json!({"title": "second", "depends_on": [task["id"]]}))
        .await;
    let waiting = ada.get(&path).await;
    assert!(
        waiting.header(ETAG).starts_with("\"1-"),
        "{}",
        waiting.header(ETAG)
    );
    assert_eq!(
        unless(&ada, Method::GET, &path, waiting.header(ETAG))
            .await
            .status,
        StatusCode::NOT_MODIFIED
    );
    ada.send(Method::POST, &format!("{first}/complete")).await;
    let free = unless(&ada, Method::GET, &path, waiting.header(ETAG)).await;
    assert_eq!((free.status, free.header(ETAG)), (StatusCode::OK, "\"1\""));
    assert_ne!(free.text, waiting.text);
    // Nobody has changed the task itself: who saw it wait may.
    let patch = ada
        .request(Method::PATCH, &path)
        .header(IF_MATCH, waiting.header(ETAG));
    let patch = Answer::to(patch.json(&json!({"title": "now"}))).await;
    assert_eq!((patch.status, patch.header(ETAG)), (StatusCode::OK, "\"2\""));
}

/// POSTs whose answers hold a secret, or that nobody is known to send: they are not kept.
/// Doing one of these twice is a second login, or refused: the secret that it takes is used up.
const WITHOUT_KEY: [&str; 13] = [
    "/api/auth/register",
    "/api/auth/login",
    "/api/auth/refresh",
    "/api/auth/logout",
    "/api/auth/logout-all",
    "/api/auth/password",
    "/api/auth/forgot-password",
    "/api/auth/reset-password",
    "/api/auth/verify-email",
    "/api/auth/verify-email/send",
    "/api/auth/change-email",
    "/api/me/email",
    "/api/me/tokens",
];

#[tokio::test]
async fn every_post_takes_an_idempotency_key_unless_its_answer_is_a_secret() {
    let server = Server::start().await;
    let description = server.get("/openapi.json").await.json();
    let mut posts = 0;
    for (path, item) in description["paths"].as_object().unwrap() {
        let Some(post) = item.get("post") else { continue };
        posts += 1;
        let parameters = post["parameters"].as_array().cloned().unwrap_or_default();
        let takes_key = parameters
            .iter()
            .any(|parameter| parameter["name"] == "Idempotency-Key");
        assert_eq!(takes_key, !WITHOUT_KEY.contains(&path.as_str()), "POST {path}");
        for status in takes_key.then_some(["400", "409", "422"]).into_iter().flatten() {
            assert!(post["responses"].get(status).is_some(), "POST {path}: {status}");
        }
    }
    assert!(posts > 5, "{posts}");
}

#[tokio::test]
async fn every_get_can_be_asked_for_what_is_new_and_every_answer_tells_of_limits() {
    let server = Server::start().await;
    let description = server.get("/openapi.json").await.json();
    let resolve = |response: &Value| match response.get("$ref").and_then(Value::as_str) {
        Some(reference) => description
            .pointer(reference.trim_start_matches('#'))
            .unwrap()
            .clone(),
        None => response.clone(),
    };
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let responses = operation["responses"].as_object().unwrap();
            if method == "get" {
                assert!(responses.contains_key("304"), "{path}");
                assert!(responses["200"]["headers"].get("ETag").is_some(), "{path}");
            }
            for (status, response) in responses {
                let told = resolve(response)["headers"].get("RateLimit").is_some();
                assert!(told || !path.starts_with("/api/"), "{method} {path} {status}");
            }
        }
    }
}

#[tokio::test]
async fn what_a_client_has_makes_no_difference_to_a_refusal_or_to_another_person() {
    let server = Server::start().await;
    let (ada, bob) = (
        server.person("ada@example.org").await,
        server.person("bob@example.org").await,
    );
    let (path, _) = ada.task(&json!({"title": "t"})).await;
    unless(&bob, Method::GET, &path, "\"1\"")
        .await
        .problem(404, "not-found");
    unless(&bob, Method::GET, &path, "*")
        .await
        .problem(404, "not-found");
    let unknown = server.request(Method::GET, &path).header(IF_NONE_MATCH, "*");
    Answer::to(unknown).await.problem(401, "token-required");
    // Nor to what is no GET.
    let patch = ada.request(Method::PATCH, &path).header(IF_NONE_MATCH, "\"2\"");
    let patch = Answer::to(patch.json(&json!({"title": "u"}))).await;
    assert_eq!((patch.status, patch.header(ETAG)), (StatusCode::OK, "\"2\""));
}

#[tokio::test]
async fn who_prefers_little_gets_the_headers_only() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let send = async |method: Method, path: &str, body: Option<Value>, prefer: &str| {
        let mut request = ada.request(method, path).header(PREFER, prefer);
        if let Some(body) = body {
            request = request.json(&body);
        }
        Answer::to(request).await
    };
    let minimal = "respond-async, return=minimal";
    let created = send(Method::POST, "/api/tasks", Some(json!({"title": "t"})), minimal).await;
    assert_eq!(created.status, StatusCode::CREATED);
    let path = created.header(LOCATION).to_owned();
    for (n, (method, suffix, body)) in [
        (Method::PATCH, "", Some(json!({"title": "u"}))),
        (Method::POST, "/complete", None),
        (Method::POST, "/reopen", None),
    ]
    .into_iter()
    .enumerate()
    {
        let done = send(method, &format!("{path}{suffix}"), body, minimal).await;
        assert_eq!(done.status, StatusCode::NO_CONTENT);
        assert_eq!(done.header(ETAG), format!("\"{}\"", n + 2));
        assert_eq!(done.header(APPLIED), "return=minimal");
        assert_eq!((done.text.as_str(), done.headers.get(CONTENT_TYPE)), ("", None));
    }
    assert_eq!(
        (created.text.as_str(), created.header(APPLIED)),
        ("", "return=minimal")
    );
    assert_eq!(created.header(ETAG), "\"1\"");
    // A refusal says what is wrong all the same, and other preferences are passed over.
    send(Method::PATCH, &path, Some(json!({"title": ""})), minimal)
        .await
        .problem(422, "invalid-fields");
    let whole = send(
        Method::PATCH,
        &path,
        Some(json!({"title": "v"})),
        "return=representation",
    )
    .await;
    assert_eq!(
        (whole.status, &whole.json()["title"]),
        (StatusCode::OK, &json!("v"))
    );
    assert_eq!(whole.headers.get(APPLIED), None);
}

#[tokio::test]
async fn what_one_prefers_is_no_other_request() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let post = async |prefer: &str| {
        let request = ada
            .request(Method::POST, "/api/tasks")
            .header("idempotency-key", "k");
        Answer::to(request.header(PREFER, prefer).json(&json!({"title": "t"}))).await
    };
    let (first, again) = (post("return=minimal").await, post("return=representation").await);
    assert_eq!(
        (first.status, again.status),
        (StatusCode::CREATED, StatusCode::CREATED)
    );
    assert_eq!(first.header(LOCATION), again.header(LOCATION));
    assert_eq!((first.text.as_str(), &again.json()["title"]), ("", &json!("t")));
}

async fn with_origins(origins: Origins) -> Server {
    let database = Database::create().await;
    let config = database.config("api");
    let http = HttpConfig {
        allowed_origins: origins,
        user_per_minute: 1000,
        ..unlimited()
    };
    Server::with_http(database, config, http).await
}

async fn preflight(server: &Server, origin: &str) -> Answer {
    let request = server
        .request(Method::OPTIONS, "/api/tasks")
        .header(ORIGIN, origin)
        .header(ACCESS_CONTROL_REQUEST_METHOD, "POST")
        .header(
            ACCESS_CONTROL_REQUEST_HEADERS,
            "authorization,content-type,idempotency-key,if-match",
        );
    Answer::to(request).await
}

#[tokio::test]
async fn pages_of_allowed_origins_may_call_and_see_what_they_need() {
    let ours = "https://app.example.org";
    let server = with_origins(Origins::These(vec![HeaderValue::from_static(ours)])).await;
    let answer = preflight(&server, ours).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header(ACCESS_CONTROL_ALLOW_ORIGIN), ours);
    assert!(answer.header(ACCESS_CONTROL_ALLOW_METHODS).contains("PATCH"));
    for name in [
        "authorization",
        "idempotency-key",
        "if-match",
        "prefer",
        "traceparent",
    ] {
        assert!(
            answer.header(ACCESS_CONTROL_ALLOW_HEADERS).contains(name),
            "{name}"
        );
    }
    let ada = server.person("ada@example.org").await;
    let ask = async |path: &str, origin: &str| {
        Answer::to(ada.request(Method::GET, path).header(ORIGIN, origin)).await
    };
    // Refusals too: a page must be able to read why.
    for path in ["/api/tasks", "/api/nothing", "/api/tasks?limit=x"] {
        let answer = ask(path, ours).await;
        assert_eq!(answer.header(ACCESS_CONTROL_ALLOW_ORIGIN), ours, "{path}");
        assert_eq!(answer.headers.get(ACCESS_CONTROL_ALLOW_CREDENTIALS), None);
        for name in [
            "etag",
            "location",
            "ratelimit",
            "ratelimit-policy",
            "retry-after",
            "x-request-id",
        ] {
            let exposed = answer
                .header(ACCESS_CONTROL_EXPOSE_HEADERS)
                .split(',')
                .any(|n| n.trim() == name);
            assert!(exposed, "{name}");
        }
        assert!(
            answer
                .headers
                .get_all(VARY)
                .iter()
                .any(|v| v.to_str().unwrap().contains("origin"))
        );
    }
    for origin in [
        "https://evil.example",
        "http://app.example.org",
        "https://app.example.org.evil.example",
        "null",
    ] {
        assert_eq!(
            preflight(&server, origin)
                .await
                .headers
                .get(ACCESS_CONTROL_ALLOW_ORIGIN),
            None,
            "{origin}"
        );
        let answer = ask("/api/tasks", origin).await;
        assert_eq!(answer.headers.get(ACCESS_CONTROL_ALLOW_ORIGIN), None, "{origin}");
    }
}

#[tokio::test]
async fn pages_are_let_in_from_everywhere_or_from_nowhere_when_so_configured() {
    let any = with_origins(Origins::Any).await;
    assert_eq!(
        preflight(&any, "https://a.example")
            .await
            .header(ACCESS_CONTROL_ALLOW_ORIGIN),
        "*"
    );
    let none = Server::start().await;
    let answer = preflight(&none, "https://a.example").await;
    answer.problem(405, "method-not-allowed");
    assert_eq!(answer.headers.get(ACCESS_CONTROL_ALLOW_ORIGIN), None);
}

#[tokio::test]
async fn answers_that_are_long_and_no_secret_are_sent_compressed_to_those_who_ask() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, task) = ada
        .task(&json!({"title": "t", "description": "Hello, hello. ".repeat(500)}))
        .await;
    let request = ada
        .request(Method::GET, &path)
        .header(ACCEPT_ENCODING, "gzip, br;q=0.5");
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
    // The ETag names the version, however it is sent: it can be used for If-Match.
    assert_eq!(response.headers()[ETAG], "\"1\"");
    assert!(
        response.headers()[VARY]
            .to_str()
            .unwrap()
            .contains("accept-encoding")
    );
    let bytes = response.bytes().await.unwrap();
    assert!(bytes.len() < 1000, "{}", bytes.len());
    let mut text = String::new();
    flate2::read::GzDecoder::new(&bytes[..])
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), task);

    let asking = |method: Method, path: &str| {
        server
            .request(method, path)
            .bearer_auth(&ada.token)
            .header(ACCEPT_ENCODING, "gzip")
    };
    let register = json!({"email": format!("{}@example.org", "a".repeat(60)), "password": "correct horse",
                          "name": "n".repeat(100), "timezone": "UTC"});
    for plain in [
        Answer::to(asking(Method::GET, "/.well-known/jwks.json")).await,
        Answer::to(asking(Method::GET, "/api/tasks?limit=x")).await,
        Answer::to(asking(Method::POST, "/api/auth/register").json(&register)).await,
        ada.get(&path).await,
    ] {
        assert_eq!(plain.headers.get(CONTENT_ENCODING), None, "{}", plain.text);
        assert_eq!(plain.header(CONTENT_LENGTH), plain.text.len().to_string());
    }
}

#[tokio::test]
async fn a_trace_goes_on_in_the_events_that_a_request_causes() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-b7496b7169203331-01");
    let create = async |key: Option<&str>, parent: Option<&str>| {
        let mut request = ada
            .request(Method::POST, "/api/tasks")
            .json(&json!({"title": "t"}));
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some(parent) = parent {
            request = request.header("traceparent", parent);
        }
        Answer::to(request).await.header(LOCATION).to_owned()
    };
    let path = create(None, Some(&parent)).await;
    create(Some("k"), Some(&parent)).await;
    let complete = ada
        .request(Method::POST, &format!("{path}/complete"))
        .header("traceparent", &parent);
    assert_eq!(Answer::to(complete).await.status, StatusCode::OK);
    create(None, None).await;
    create(None, Some("nonsense")).await;
    let parents: Vec<String> =
        sqlx::query_scalar("select headers ->> 'traceparent' from outbox.events order by seq")
            .fetch_all(server.database.admin())
            .await
            .unwrap();
    assert_eq!(parents.len(), 5);
    for (n, event) in parents.iter().enumerate() {
        assert_eq!(event.len(), parent.len(), "{event}");
        assert_eq!(event.contains(trace), n < 3, "{event}");
        assert_ne!(*event, parent, "the span is this request's");
    }
    assert_ne!(parents[3], parents[4]);
}

#[tokio::test]
async fn on_a_stop_readiness_goes_first_then_the_door_closes() {
    let database = Database::create().await;
    let config = database.config("api");
    let http = HttpConfig {
        drain: Duration::from_secs(8),
        ..unlimited()
    };
    let server = Server::with_http(database, config, http).await;
    let ada = server.person("ada@example.org").await;
    let (path, _) = ada.task(&json!({"title": "t"})).await;
    server.stop.cancel();
    support::eventually("no more should come", async || {
        let answer = server.get("/readyz").await;
        (answer.json()["status"] == "stopping").then_some(())
    })
    .await;
    // Who comes all the same is served, on a connection of its own too.
    assert_eq!(
        reqwest::get(format!("http://{}/livez", server.address))
            .await
            .unwrap()
            .status(),
        StatusCode::OK
    );
    assert_eq!(
        ada.patch(&path, &json!({"title": "u"})).await.status,
        StatusCode::OK
    );
    support::eventually("nobody listens", async || {
        tokio::net::TcpStream::connect(server.address)
            .await
            .err()
            .map(|_| ())
    })
    .await;
}

#[tokio::test]
async fn what_is_no_id_is_the_id_of_nothing() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let description = server.get("/openapi.json").await.json();
    let mut asked = 0;
    for (path, item) in description["paths"].as_object().unwrap() {
        let Some((before, after)) = path.split_once("{id}") else {
            continue;
        };
        for method in item.as_object().unwrap().keys() {
            let method: Method = method.to_uppercase().parse().unwrap();
            // The last one is an id in a form that we do not write.
            for id in ["x", "%00", "1", "%7B00000000-0000-0000-0000-000000000000%7D"] {
                let request = ada.request(method.clone(), &format!("{before}{id}{after}"));
                let request = if method == Method::PATCH || method == Method::POST {
                    request.json(&json!({}))
                } else {
                    request
                };
                let answer = Answer::to(request).await;
                assert_eq!(answer.problem(404, "not-found"), [""; 0], "{method} {path} {id}");
                asked += 1;
            }
        }
    }
    assert!(asked > 60, "{asked}");
}
