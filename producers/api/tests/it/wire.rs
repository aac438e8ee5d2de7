//! What arrives on the wire and is no request, or not one that anybody should send: each gets a clear 4xx, and nothing
//! hangs.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderName};
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::{Answer, Server};

/// Sends bytes and reads until the server closes, which it must do by itself.
async fn raw(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // It may have answered, and closed, before it has been sent everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(support::PATIENCE, stream.read_to_end(&mut answer)).await;
    let _ = read.expect("the server closes the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_the_connection_closed() {
    let server = Server::start().await;
    let long = "a".repeat(200_000);
    let many: String = (0..150).map(|n| format!("x-{n}: 1\r\n")).collect();
    for (request, expected) in [
        ("nonsense\r\n\r\n".to_owned(), "400"),
        ("GET /livez\r\n\r\n".to_owned(), "400"),
        ("GET /livez HTTP/9.9\r\nhost: x\r\n\r\n".to_owned(), "400"),
        ("GET /li vez HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), "400"),
        ("G\0T /livez HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), "400"),
        (
            "GET /livez HTTP/1.1\r\nhost: x\r\nno colon\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "GET /livez HTTP/1.1\r\nhost: x\r\nx: a\0b\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "POST /api/auth/login HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "POST /api/auth/login HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}"
                .to_owned(),
            "400",
        ),
        (
            "POST /api/auth/login HTTP/1.1\r\nhost: x\r\ntransfer-encoding: nonsense\r\n\r\n{}".to_owned(),
            "400",
        ),
        (
            format!("GET /livez HTTP/1.1\r\nhost: x\r\nx: {long}\r\n\r\n"),
            "431",
        ),
        (format!("GET /livez HTTP/1.1\r\nhost: x\r\n{many}\r\n"), "431"),
        (format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n"), "414"),
    ] {
        let answer = raw(&server, request.as_bytes()).await;
        let shown: String = request.chars().take(60).collect();
        // A URL may be refused as such, or because the head that it is in is too large.
        let expected = if expected == "414" {
            ["414", "431"]
        } else {
            [expected; 2]
        };
        assert!(expected.contains(&status(&answer)), "{shown:?}: {answer}");
    }
    assert_eq!(server.get("/livez").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_body_that_breaks_its_framing_is_refused() {
    let server = Server::start().await;
    let head =
        "POST /api/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n";
    for body in [
        "transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n2\r\n{}xx0\r\n\r\n",
    ] {
        let answer = raw(&server, format!("{head}{body}").as_bytes()).await;
        assert_eq!(status(&answer), "400", "{body:?}: {answer}");
        assert!(answer.contains("urn:carillon:problem:malformed-json"), "{answer}");
    }
    // Chunks that are what they say are a body like any other.
    let answer = raw(
        &server,
        format!("{head}transfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n").as_bytes(),
    )
    .await;
    assert_eq!(status(&answer), "422", "{answer}");
    // One that ends early has nobody who waits for the answer; the server goes on.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(format!("{head}content-length: 100\r\n\r\n{{").as_bytes())
        .await
        .unwrap();
    drop(stream);
    assert_eq!(server.get("/livez").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_not_waited_for() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let head = format!(
        "POST /api/tasks HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         connection: close\r\ncontent-length: 100\r\n\r\n{{\"title\":",
        ada.token
    );
    let answer = raw(&server, head.as_bytes()).await;
    assert_eq!(status(&answer), "408", "{answer}");
    assert!(
        answer.contains("urn:carillon:problem:request-timeout"),
        "{answer}"
    );
}

#[tokio::test]
async fn ten_megabytes_are_refused_before_they_have_arrived() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, _) = ada.task(&json!({"title": "t"})).await;
    for (method, path) in [
        (Method::POST, "/api/tasks"),
        (Method::PATCH, path.as_str()),
        (Method::POST, "/api/auth/register"),
        (Method::POST, "/api/auth/login"),
    ] {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             connection: close\r\ncontent-length: 10000000\r\n\r\n",
            ada.token
        );
        // Nothing of the body is sent: its announced length is enough.
        let answer = raw(&server, head.as_bytes()).await;
        assert_eq!(status(&answer), "413", "{method} {path}: {answer}");
        assert!(answer.contains("urn:carillon:problem:body-too-large"), "{answer}");
    }
}

#[tokio::test]
async fn a_url_that_is_too_long_is_refused() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    for path in [
        format!("/api/tasks?cursor={}", "a".repeat(9000)),
        format!("/api/tasks/{}", "a".repeat(9000)),
        format!("/{}", "a".repeat(9000)),
    ] {
        ada.get(&path).await.problem(414, "uri-too-long");
    }
    ada.get(&format!("/api/tasks?cursor={}", "a".repeat(8000)))
        .await
        .problem(400, "invalid-query");
}

#[tokio::test]
async fn methods_that_nobody_should_send_are_refused() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    for method in ["OPTIONS", "TRACE", "PUT", "BREW", "get", "PROPFIND"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        for path in [
            "/api/tasks",
            "/api/auth/login",
            "/livez",
            "/.well-known/jwks.json",
        ] {
            let answer = ada.send(method.clone(), path).await;
            answer.problem(405, "method-not-allowed");
        }
        ada.send(method.clone(), "/api/nothing")
            .await
            .problem(404, "not-found");
    }
    for request in [
        "OPTIONS * HTTP/1.1",
        "CONNECT example.org:443 HTTP/1.1",
        "GET http:// HTTP/1.1",
    ] {
        let answer = raw(
            &server,
            format!("{request}\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes(),
        )
        .await;
        assert!(
            ["400", "404", "405"].contains(&status(&answer)),
            "{request}: {answer}"
        );
    }
    let head = ada.send(Method::HEAD, "/api/tasks").await;
    assert_eq!((head.status, head.text.as_str()), (StatusCode::OK, ""));
    let head = ada.send(Method::HEAD, "/api/auth/login").await;
    assert_eq!(
        (head.status, head.text.as_str()),
        (StatusCode::METHOD_NOT_ALLOWED, "")
    );
}

#[tokio::test]
async fn a_body_where_none_is_asked_for_makes_no_difference() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, _) = ada.task(&json!({"title": "t"})).await;
    for body in ["{", "{\"title\": \"u\"}", "\0\0\0"] {
        let request = ada.request(Method::POST, &format!("{path}/complete")).body(body);
        let answer = Answer::to(request.header(CONTENT_TYPE, "application/json")).await;
        assert_eq!(
            (answer.status, &answer.json()["title"]),
            (StatusCode::OK, &json!("t"))
        );
        let request = ada.request(Method::GET, &path).body(body);
        assert_eq!(Answer::to(request).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn headers_that_cannot_be_are_refused_or_passed_over() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, _) = ada.task(&json!({"title": "t"})).await;
    let bytes: &[u8] = b"\xff\xfe";
    for (name, expected) in [
        ("if-match", 400),
        ("idempotency-key", 400),
        ("authorization", 401),
        ("if-none-match", 200),
        ("prefer", 200),
        ("traceparent", 200),
        ("x-request-id", 200),
        ("x-forwarded-for", 200),
        ("accept-encoding", 200),
        ("origin", 200),
        ("cookie", 200),
    ] {
        let request = server.request(Method::POST, &format!("{path}/complete"));
        let request = if name == "authorization" {
            request
        } else {
            request.bearer_auth(&ada.token)
        };
        let answer = Answer::to(request.header(name, bytes)).await;
        assert_eq!(answer.status.as_u16(), expected, "{name}: {}", answer.text);
        let id = answer.header(HeaderName::from_static("x-request-id"));
        assert_eq!(id.len(), 36, "{name}: {id}");
    }
}

#[tokio::test]
async fn texts_are_kept_as_sent_with_marks_of_direction_and_all_of_unicode() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    for title in [
        "\u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{200f}(\u{200e}abc\u{200f})",
        "\u{202e}reversed\u{202c} \u{2067}isolated\u{2069}",
        "\u{1f469}\u{200d}\u{1f469}\u{200d}\u{1f467}\u{fe0f} e\u{301} \u{e9}",
        "\u{feff}bom \u{fffd} \u{10ffff}",
    ] {
        let (path, task) = ada
            .task(&json!({"title": title, "description": title, "tags": [title]}))
            .await;
        for field in ["title", "description"] {
            assert_eq!(task[field], title);
        }
        assert_eq!(ada.get(&path).await.json(), task);
    }
    // Numbers that no field holds, however they are written.
    let digits = "9".repeat(1000);
    for number in ["1e308", "-0", "0.1", "123456789012345678901234567890", &digits] {
        let body = format!("{{\"title\": {number}}}");
        let request = ada
            .request(Method::POST, "/api/tasks")
            .header(CONTENT_TYPE, "application/json");
        let answer = Answer::to(request.body(body)).await;
        assert!(
            [400, 422].contains(&answer.status.as_u16()),
            "{number}: {}",
            answer.text
        );
    }
}

#[tokio::test]
async fn requests_behind_one_another_on_a_connection_are_answered_in_their_order() {
    let server = Server::start().await;
    let requests = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\nGET /api/tasks HTTP/1.1\r\nhost: x\r\n\r\n\
                    GET /nothing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = tokio::time::timeout(Duration::from_secs(60), raw(&server, requests.as_bytes()))
        .await
        .unwrap();
    let statuses: Vec<&str> = answer
        .split("HTTP/1.1 ")
        .skip(1)
        .filter_map(|one| one.split(' ').next())
        .collect();
    assert_eq!(statuses, ["200", "401", "404"]);
}
