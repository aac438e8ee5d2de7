//! Tokens of other issuers: what is accepted, what is refused, and how seldom an issuer is asked for its keys.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::server::{Answer, Person, Server};
use crate::sessions::register;

const ISSUER: &str = "https://id.example";
const AUDIENCE: &str = "carillon-abroad";

/// An Ed25519 key that follows from one byte.
fn key(byte: u8) -> EncodingKey {
    let head = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
    EncodingKey::from_ed_der(&[&head[..], &[byte; 32]].concat())
}

fn public(key: &EncodingKey, key_id: &str) -> Jwk {
    let mut jwk = Jwk::from_encoding_key(key, Algorithm::EdDSA).unwrap();
    jwk.common.key_id = Some(key_id.to_owned());
    jwk
}

/// An issuer: publishes keys and counts how often it is asked for them.
#[derive(Clone)]
struct Abroad {
    url: String,
    asked: Arc<AtomicUsize>,
    answer: Arc<Mutex<Result<Value, StatusCode>>>,
}

impl Abroad {
    async fn start() -> Self {
        async fn keys(State(abroad): State<Abroad>) -> Response {
            abroad.asked.fetch_add(1, Ordering::SeqCst);
            match abroad.answer.lock().unwrap().clone() {
                Ok(keys) => Json(keys).into_response(),
                Err(status) => status.into_response(),
            }
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let abroad = Self {
            url: format!("http://{}/jwks", listener.local_addr().unwrap()),
            asked: Arc::default(),
            answer: Arc::new(Mutex::new(Ok(json!({"keys": []})))),
        };
        abroad.publish(&[public(&key(1), "one")]);
        let routes = Router::new().route("/jwks", get(keys)).with_state(abroad.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        abroad
    }

    fn publish(&self, keys: &[Jwk]) {
        let set = serde_json::to_value(JwkSet { keys: keys.to_vec() }).unwrap();
        *self.answer.lock().unwrap() = Ok(set);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// A server that trusts it.
    async fn trusting(&self) -> Server {
        let issuer = format!("{ISSUER} {AUDIENCE} {}", self.url).parse().unwrap();
        Server::start_with(|config| config.accounts.trusted_issuers = vec![issuer]).await
    }
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "ada|1", "exp": get_current_timestamp() + 300, "iat": get_current_timestamp(),
        "email": "Ada@Example.org", "email_verified": true, "name": "Ada Abroad", "zoneinfo": "Asia/Tokyo",
    })
}

fn with(claim: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[claim] = value;
    claims
}

fn signed(key: &EncodingKey, key_id: &str, claims: &Value) -> String {
    let header = Header {
        kid: Some(key_id.to_owned()),
        ..Header::new(Algorithm::EdDSA)
    };
    encode(&header, claims, key).unwrap()
}

fn bearer(server: &Server, token: String) -> Person {
    Person {
        server: server.clone(),
        id: Uuid::nil(),
        token,
    }
}

fn base64(text: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(text)
}

#[tokio::test]
async fn a_first_token_makes_an_account_and_later_ones_find_it_whatever_they_say() {
    let abroad = Abroad::start().await;
    let server = abroad.trusting().await;
    let ada = bearer(&server, signed(&key(1), "one", &claims()));
    // Several at once make one account.
    let answers = futures::future::join_all((0..8).map(|_| ada.get("/api/me"))).await;
    let me = answers[0].json();
    for answer in &answers {
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.json(), me);
    }
    assert_eq!(
        (&me["email"], &me["email_verified"], &me["name"], &me["timezone"]),
        (
            &json!("Ada@example.org"),
            &json!(true),
            &json!("Ada Abroad"),
            &json!("Asia/Tokyo")
        )
    );
    let task = ada.post("/api/tasks", &json!({"title": "t"})).await;
    assert_eq!(task.status, 201);
    assert_eq!(task.json()["timezone"], "Asia/Tokyo");
    let mut later = with("email", json!("other@example.org"));
    later["name"] = json!(null);
    later["email_verified"] = json!(false);
    let later = bearer(&server, signed(&key(1), "one", &later));
    assert_eq!(later.get("/api/me").await.json(), me);
    assert_eq!(
        later.get("/api/tasks").await.json()["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    // Another subject is another person.
    let mut bob = with("sub", json!("bob|2"));
    bob["email"] = json!("bob@example.org");
    let bob = bearer(&server, signed(&key(1), "one", &bob));
    assert_eq!(bob.get("/api/tasks").await.json()["items"], json!([]));
    // There is no password to log in with.
    let body = json!({"email": "ada@example.org", "password": "correct horse"});
    server
        .post("/api/auth/login", &body)
        .await
        .problem(401, "wrong-credentials");
    assert_eq!(abroad.asked(), 1);
}

#[tokio::test]
async fn nobody_gets_another_persons_account_by_an_address() {
    let abroad = Abroad::start().await;
    let server = abroad.trusting().await;
    register(&server, "ada@example.org").await;
    for claims in [
        claims(),
        with("email_verified", json!(false)),
        with("email_verified", json!(null)),
        with("email", json!(null)),
        with("email", json!("not an address")),
    ] {
        bearer(&server, signed(&key(1), "one", &claims))
            .get("/api/tasks")
            .await
            .problem(403, "identity-refused");
    }
    let accounts: i64 = sqlx::query_scalar("select count(*) from accounts.users")
        .fetch_one(server.database.admin())
        .await
        .unwrap();
    assert_eq!(accounts, 1);
}

#[tokio::test]
async fn whatever_is_wrong_with_a_token_it_is_refused() {
    let abroad = Abroad::start().await;
    let server = abroad.trusting().await;
    let now = get_current_timestamp();
    let good = signed(&key(1), "one", &claims());
    assert_eq!(bearer(&server, good.clone()).get("/api/tasks").await.status, 200);

    let parts: Vec<&str> = good.split('.').collect();
    let edited = base64(&with("sub", json!("bob|2")).to_string());
    let public_key = serde_json::to_value(public(&key(1), "one")).unwrap()["x"]
        .as_str()
        .unwrap()
        .to_owned();
    let raw_public_key = BASE64_URL_SAFE_NO_PAD.decode(&public_key).unwrap();
    let hmac = |secret: &[u8]| {
        let header = Header {
            kid: Some("one".to_owned()),
            ..Header::new(Algorithm::HS256)
        };
        encode(&header, &claims(), &EncodingKey::from_secret(secret)).unwrap()
    };
    let unsigned = |alg: &str, signature: &str| {
        let header = json!({"alg": alg, "typ": "JWT", "kid": "one"}).to_string();
        format!("{}.{}.{signature}", base64(&header), parts[1])
    };
    let without_key_id = encode(&Header::new(Algorithm::EdDSA), &claims(), &key(1)).unwrap();
    let own_issuer = with("iss", json!("carillon"));
    let table = [
        ("alg=none", unsigned("none", "")),
        ("alg=None", unsigned("None", "")),
        ("alg=none with the signature", unsigned("none", parts[2])),
        ("the algorithm renamed", unsigned("ES256", parts[2])),
        ("HS256 with the public key", hmac(&raw_public_key)),
        ("HS256 with the public key as text", hmac(public_key.as_bytes())),
        (
            "another audience",
            signed(&key(1), "one", &with("aud", json!("carillon"))),
        ),
        ("no audience", signed(&key(1), "one", &with("aud", json!(null)))),
        (
            "another issuer",
            signed(&key(1), "one", &with("iss", json!("https://evil.example"))),
        ),
        ("our own name as the issuer", signed(&key(1), "one", &own_issuer)),
        ("no issuer", signed(&key(1), "one", &with("iss", json!(null)))),
        ("expired", signed(&key(1), "one", &with("exp", json!(now - 31)))),
        (
            "without an end",
            signed(&key(1), "one", &with("exp", json!(null))),
        ),
        (
            "not good yet",
            signed(&key(1), "one", &with("nbf", json!(now + 120))),
        ),
        ("no subject", signed(&key(1), "one", &with("sub", json!(null)))),
        (
            "an empty subject",
            signed(&key(1), "one", &with("sub", json!(""))),
        ),
        (
            "a long subject",
            signed(&key(1), "one", &with("sub", json!("x".repeat(256)))),
        ),
        (
            "NUL in the subject",
            signed(&key(1), "one", &with("sub", json!("a\0b"))),
        ),
        ("an edited payload", format!("{}.{edited}.{}", parts[0], parts[2])),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("another key", signed(&key(2), "one", &claims())),
        ("an unknown key", signed(&key(2), "two", &claims())),
        ("no key id", without_key_id),
        (
            "our key id",
            signed(&key(1), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", &claims()),
        ),
    ];
    for (what, token) in table {
        let answer = bearer(&server, token).get("/api/tasks").await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.text);
        answer.problem(401, "invalid-token");
    }
    // Small differences of clocks are none of these.
    for claims in [with("exp", json!(now - 5)), with("nbf", json!(now + 5))] {
        let answer = bearer(&server, signed(&key(1), "one", &claims))
            .get("/api/tasks")
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
}

#[tokio::test]
async fn a_thousand_unknown_keys_ask_the_issuer_once() {
    let abroad = Abroad::start().await;
    let server = abroad.trusting().await;
    for round in 0..10 {
        let tokens = (0..100).map(|n| signed(&key(1), &format!("unknown {round} {n}"), &claims()));
        let people: Vec<Person> = tokens.map(|token| bearer(&server, token)).collect();
        let answers = futures::future::join_all(people.iter().map(|person| person.get("/api/tasks"))).await;
        for answer in answers {
            answer.problem(401, "invalid-token");
        }
    }
    assert_eq!(abroad.asked(), 1);
    // And whoever has a good one is not kept out by them.
    let good = bearer(&server, signed(&key(1), "one", &claims()));
    assert_eq!(good.get("/api/tasks").await.status, 200);
    assert_eq!(abroad.asked(), 1);
}

#[tokio::test]
async fn what_an_issuer_publishes_besides_good_keys_does_no_harm() {
    let abroad = Abroad::start().await;
    let good = serde_json::to_value(public(&key(1), "one")).unwrap();
    let secret = BASE64_URL_SAFE_NO_PAD.encode([7; 32]);
    *abroad.answer.lock().unwrap() = Ok(json!({"keys": [
        {"kty": "new", "kid": "new"}, {"kty": "oct", "kid": "oct", "alg": "HS256", "k": secret},
        {"kty": "RSA", "kid": "rsa"}, 1, null, {}, good,
    ]}));
    let server = abroad.trusting().await;
    let person = bearer(&server, signed(&key(1), "one", &claims()));
    assert_eq!(person.get("/api/tasks").await.status, 200);
    let header = Header {
        kid: Some("oct".to_owned()),
        ..Header::new(Algorithm::HS256)
    };
    let symmetric = encode(&header, &claims(), &EncodingKey::from_secret(&[7; 32])).unwrap();
    bearer(&server, symmetric)
        .get("/api/tasks")
        .await
        .problem(401, "invalid-token");
}

#[tokio::test]
async fn an_issuer_that_fails_or_talks_too_much_is_a_refusal_and_no_fault() {
    let abroad = Abroad::start().await;
    for answer in [
        Err(StatusCode::INTERNAL_SERVER_ERROR),
        Err(StatusCode::FOUND),
        Ok(json!("no set")),
        Ok(json!({"keys": [], "padding": "x".repeat(300 * 1024)})),
    ] {
        *abroad.answer.lock().unwrap() = answer;
        let server = abroad.trusting().await;
        bearer(&server, signed(&key(1), "one", &claims()))
            .get("/api/tasks")
            .await
            .problem(401, "invalid-token");
    }
    assert_eq!(abroad.asked(), 4);
    // Without any issuer nobody is asked.
    let server = Server::start().await;
    bearer(&server, signed(&key(1), "one", &claims()))
        .get("/api/tasks")
        .await
        .problem(401, "invalid-token");
    assert_eq!(abroad.asked(), 4);
}

#[tokio::test]
async fn somebody_who_has_left_does_not_come_back_by_another_issuer_before_the_data_is_gone() {
    let abroad = Abroad::start().await;
    let server = abroad.trusting().await;
    let ada = bearer(&server, signed(&key(1), "one", &claims()));
    assert_eq!(ada.get("/api/tasks").await.status, 200);
    // Who has no password has to set one before.
    let request = ada
        .request(reqwest::Method::DELETE, "/api/me")
        .json(&json!({"password": "correct horse"}));
    Answer::to(request).await.problem(403, "wrong-password");
    sqlx::query("update accounts.users set deleted_at = now(), email = 'x'")
        .execute(server.database.admin())
        .await
        .unwrap();
    ada.get("/api/tasks").await.problem(401, "invalid-token");
}

#[tokio::test]
async fn pyjwt_verifies_our_tokens_by_our_keys_and_we_accept_its_tokens() {
    let abroad = Abroad::start().await;
    let issuer = format!("{ISSUER} {AUDIENCE} {}", abroad.url).parse().unwrap();
    let server = Server::start_with(|config| {
        config.accounts.trusted_issuers = vec![issuer];
        // As in production: keys that are derived.
        config.tokens.rotation = Some(std::time::Duration::from_hours(24));
    })
    .await;
    let bob = register(&server, "bob@example.org").await;
    let interop = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/interop");
    let venv = tokio::process::Command::new(interop.join("../../scripts/venv"))
        .arg(interop.join("jwt_requirements.txt"))
        .output()
        .await
        .unwrap();
    assert!(venv.status.success(), "{}", String::from_utf8_lossy(&venv.stderr));
    let venv = String::from_utf8(venv.stdout).unwrap();
    let done = tokio::process::Command::new(std::path::Path::new(venv.trim()).join("bin/python"))
        .arg("-I")
        .arg(interop.join("jwt_abroad.py"))
        .arg(format!("http://{}/.well-known/jwks.json", server.address))
        .arg(bob["access_token"].as_str().unwrap())
        .args([ISSUER, AUDIENCE])
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .await
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let said: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(said["claims"]["sub"], bob["user"]["id"]);
    *abroad.answer.lock().unwrap() = Ok(json!({"keys": [said["key"]]}));
    let ada = bearer(&server, said["token"].as_str().unwrap().to_owned());
    let me = ada.get("/api/me").await;
    assert_eq!(me.status, 200, "{}", me.text);
    assert_eq!(me.json()["timezone"], "Asia/Tokyo");
}
