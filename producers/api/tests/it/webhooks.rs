//! Webhooks: made, changed, signed for, looked at and sent again.

use chrono::{DateTime, Utc};
use reqwest::header::{CACHE_CONTROL, ETAG, HeaderName, IF_MATCH, LOCATION};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::types::Json;
use uuid::Uuid;
use webhooks::{Policy, Secret, delivery_id, types};

use crate::server::{Answer, Person, Server};

const ALL: &str = "/api/webhooks";
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const URL: &str = "https://example.org/hook";
const OWN: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn ada() -> Person {
    Server::start().await.person("ada@example.org").await
}

/// Makes one and returns its path with it.
async fn webhook(person: &Person, body: &Value) -> (String, Value) {
    let answer = person.post(ALL, body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    (answer.header(LOCATION).to_owned(), answer.json())
}

fn id(of: &Value) -> Uuid {
    of["id"].as_str().unwrap().parse().unwrap()
}

/// A delivery as the sender leaves it.
async fn delivery(person: &Person, webhook: &Value, state: &str, minutes_ago: i32) -> Uuid {
    let id = Uuid::now_v7();
    sqlx::query(
        "insert into webhooks.deliveries (id, user_id, endpoint_id, event_id, event_type, occurred_at, body, state, attempts,
                                          finished_at, created_at, last_error)
         values ($1, $2, $3, $1, 'task.created', now(), $6, $4, 2, case when $4 <> 'pending' then now() end,
                 now() - make_interval(mins => $5), 'it answered 500')",
    )
    .bind(id)
    .bind(person.id)
    .bind(self::id(webhook))
    .bind(state)
    .bind(minutes_ago)
    .bind("x".repeat(5000))
    .execute(&person.server.database.pool("webhook-sender"))
    .await
    .unwrap();
    id
}

async fn state(person: &Person, id: Uuid) -> (String, i32, i32) {
    sqlx::query_as("select state, attempts, attempts_before from webhooks.deliveries where id = $1")
        .bind(id)
        .fetch_one(person.server.database.admin())
        .await
        .unwrap()
}

/// Whether the sender is to look at a webhook now.
async fn is_due(person: &Person, webhook: &Value) -> bool {
    sqlx::query_scalar(
        "select exists (select from webhooks.queues where endpoint_id = $1 and due_at <= now())",
    )
    .bind(id(webhook))
    .fetch_one(person.server.database.admin())
    .await
    .unwrap()
}

#[tokio::test]
async fn a_webhook_comes_back_as_it_was_made_and_its_secret_with_the_first_answer_only() {
    let ada = ada().await;
    let body = json!({"url": "https://Example.org:443/hook?a=b", "description": "Mine",
                      "event_types": ["task.created", "reminder.fired", "task.created"]});
    let answer = ada.post(ALL, &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    assert_eq!(
        (answer.header(ETAG), answer.header(CACHE_CONTROL)),
        ("\"1\"", "no-store")
    );
    let mut made = answer.json();
    let secret = made.as_object_mut().unwrap().remove("secret").unwrap();
    assert!(Secret::parse(secret.as_str().unwrap()).is_ok());
    let expected = json!({
        "id": made["id"], "version": 1, "url": "https://example.org/hook?a=b", "description": "Mine",
        "event_types": ["reminder.fired", "task.created"], "enabled": true, "disabled_reason": null, "disabled_at": null,
        "created_at": made["created_at"], "updated_at": made["created_at"],
    });
    assert_eq!(made, expected);
    let path = answer.header(LOCATION);
    assert_eq!(ada.get(path).await.json(), made);
    assert_eq!(
        ada.get(ALL).await.json(),
        json!({"items": [made], "next_cursor": null})
    );
    let shown = ada.get(&format!("{path}/secret")).await;
    assert_eq!(shown.header(CACHE_CONTROL), "no-store");
    assert_eq!(shown.json(), json!({"secret": secret, "old": []}));
    let export = ada.get("/api/me/export").await;
    assert_eq!(export.json()["webhooks"][0]["url"], made["url"]);
    assert!(
        !export.text.contains("whsec_") && !export.text.contains("secret\""),
        "{}",
        export.text
    );
}

#[tokio::test]
async fn a_repetition_makes_no_second_webhook_and_no_answer_that_is_kept_has_a_secret() {
    let ada = ada().await;
    let make = async || {
        let request = ada.request(Method::POST, ALL).header(KEY, "k-1");
        Answer::to(request.json(&json!({"url": URL, "secret": OWN}))).await
    };
    let (first, second) = (make().await, make().await);
    assert_eq!(first.json(), second.json());
    assert_eq!(second.json()["secret"], OWN);
    let path = first.header(LOCATION).to_owned();
    let rotate = async || {
        let request = ada
            .request(Method::POST, &format!("{path}/secret"))
            .header(KEY, "k-2");
        Answer::to(request.json(&json!({}))).await
    };
    let (first, second) = (rotate().await, rotate().await);
    assert_eq!((first.status, &first.text), (StatusCode::OK, &second.text));
    let kept: Vec<Vec<u8>> = sqlx::query_scalar("select body from api.idempotency_keys")
        .fetch_all(ada.server.database.admin())
        .await
        .unwrap();
    assert_eq!(kept.len(), 2);
    for body in kept {
        assert!(!String::from_utf8_lossy(&body).contains("whsec_"));
    }
    assert_eq!(ada.get(ALL).await.json()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_wrong_with_a_webhook_is_named_and_nothing_inside_is_taken() {
    let ada = ada().await;
    for (body, places) in [
        (json!({}), vec!["/url"]),
        (json!({"url": null}), vec!["/url"]),
        (
            json!({"url": 1, "description": 2, "event_types": "all", "enabled": "yes", "secret": "s", "x": 1}),
            vec![
                "/url",
                "/secret",
                "/description",
                "/event_types",
                "/enabled",
                "/x",
            ],
        ),
        (
            json!({"url": URL, "description": "two\nlines"}),
            vec!["/description"],
        ),
        (
            json!({"url": URL, "event_types": ["task.created", "task.exploded", "webhook.test"]}),
            vec!["/event_types/1", "/event_types/2"],
        ),
        (json!({"url": URL, "secret": "whsec_c2hvcnQ="}), vec!["/secret"]),
    ] {
        let mut found = ada.post(ALL, &body).await.problem(422, "invalid-fields");
        let mut expected: Vec<String> = places.into_iter().map(str::to_owned).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{body}");
    }
    for url in [
        "http://example.org/",
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://[::ffff:127.0.0.1]/",
        "https://169.254.169.254/latest/meta-data/",
        "https://localhost/",
        "https://user:secret@example.org/",
        "https://example.org:25/",
        "ftp://example.org/",
        "https://example.org/#f",
    ] {
        let answer = ada.post(ALL, &json!({"url": url})).await;
        assert_eq!(answer.problem(422, "invalid-fields"), ["/url"], "{url}");
    }
    let (path, _) = webhook(&ada, &json!({"url": URL})).await;
    assert_eq!(
        ada.patch(&path, &json!({"url": "https://10.0.0.1/"}))
            .await
            .problem(422, "invalid-fields"),
        ["/url"]
    );
    assert_eq!(
        ada.patch(&path, &json!({"secret": OWN}))
            .await
            .problem(422, "invalid-fields"),
        ["/secret"]
    );
    assert_eq!(types().len(), 13, "the description says so");
}

#[tokio::test]
async fn where_the_settings_open_a_network_its_addresses_are_taken() {
    let policy = Policy {
        allow_http: true,
        allowed_networks: vec!["127.0.0.0/8".parse().unwrap()],
    };
    let server = Server::start_with(|config| config.webhooks = policy).await;
    let ada = server.person("ada@example.org").await;
    webhook(&ada, &json!({"url": "http://127.0.0.1:9000/"})).await;
    let answer = ada.post(ALL, &json!({"url": "http://10.0.0.1:9000/"})).await;
    assert_eq!(answer.problem(422, "invalid-fields"), ["/url"]);
}

#[tokio::test]
async fn a_webhook_changes_from_version_to_version_and_is_stopped_and_started() {
    let ada = ada().await;
    let (path, made) = webhook(&ada, &json!({"url": URL, "event_types": ["task.created"]})).await;
    let same = ada.patch(&path, &json!({"url": URL})).await;
    assert_eq!((same.status, same.header(ETAG)), (StatusCode::OK, "\"1\""));
    let stopped = ada
        .patch(&path, &json!({"enabled": false, "event_types": null}))
        .await
        .json();
    assert_eq!(
        (&stopped["version"], &stopped["enabled"]),
        (&json!(2), &json!(false))
    );
    assert_eq!(
        (&stopped["disabled_reason"], &stopped["event_types"]),
        (&json!("paused"), &json!([]))
    );
    for post in ["test", "replay"] {
        let answer = ada
            .post(
                &format!("{path}/{post}"),
                &json!({"from": "2020-01-01T00:00:00Z"}),
            )
            .await;
        answer.problem(409, "webhook-disabled");
    }
    // One that was disabled because it failed starts afresh.
    sqlx::query(
        "insert into webhooks.queues (endpoint_id, user_id, due_at, failures, failing_since, open_until)
         values ($1, $2, now() + interval '1 hour', 40, now() - interval '5 days', now() + interval '1 hour')",
    )
    .bind(id(&made))
    .bind(ada.id)
    .execute(&ada.server.database.pool("webhook-sender"))
    .await
    .unwrap();
    let stale = ada.request(Method::PATCH, &path).header(IF_MATCH, "\"1\"");
    Answer::to(stale.json(&json!({"enabled": true})))
        .await
        .problem(412, "stale-version");
    let started = ada.patch(&path, &json!({"enabled": true})).await.json();
    assert_eq!(
        (&started["version"], &started["disabled_at"]),
        (&json!(3), &Value::Null)
    );
    let afresh: bool = sqlx::query_scalar(
        "select failures = 0 and failing_since is null and open_until is null and due_at <= now() from webhooks.queues",
    )
    .fetch_one(ada.server.database.admin())
    .await
    .unwrap();
    assert!(afresh);
    assert_eq!(
        ada.send(Method::DELETE, &path).await.status,
        StatusCode::NO_CONTENT
    );
    ada.get(&path).await.problem(404, "not-found");
    ada.get(&format!("{path}/secret")).await.problem(404, "not-found");
    let secrets: i64 = sqlx::query_scalar("select count(*) from webhooks.secrets")
        .fetch_one(ada.server.database.admin())
        .await
        .unwrap();
    assert_eq!(secrets, 0);
}

#[tokio::test]
async fn nobody_has_more_than_twenty_however_many_ask_at_once() {
    let ada = ada().await;
    let asked = (0..30).map(|n| {
        let ada = ada.clone();
        async move { ada.post(ALL, &json!({"url": format!("{URL}/{n}")})).await }
    });
    let answers = futures::future::join_all(asked).await;
    let made = answers
        .iter()
        .filter(|answer| answer.status == StatusCode::CREATED)
        .count();
    assert_eq!(made, 20);
    for refused in answers
        .iter()
        .filter(|answer| answer.status != StatusCode::CREATED)
    {
        refused.problem(409, "too-many-webhooks");
    }
    let first = ada.get(&format!("{ALL}?limit=15")).await.json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = ada.get(&format!("{ALL}?limit=15&cursor={cursor}")).await.json();
    assert_eq!(second["items"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn a_secret_is_rotated_and_the_old_ones_sign_along_for_their_time() {
    let ada = ada().await;
    let (path, made) = webhook(&ada, &json!({"url": URL})).await;
    let secret = format!("{path}/secret");
    let rotated = ada
        .post(&secret, &json!({"secret": OWN, "old_valid_hours": 2}))
        .await
        .json();
    assert_eq!(rotated["secret"], OWN);
    assert_eq!(rotated["old"][0]["secret"], made["secret"]);
    let expires: DateTime<Utc> = rotated["old"][0]["expires_at"].as_str().unwrap().parse().unwrap();
    let minutes = (expires - Utc::now()).num_minutes();
    assert!((115..=120).contains(&minutes), "{minutes}");
    for _ in 0..6 {
        ada.post(&secret, &json!({})).await;
    }
    let many = ada.get(&secret).await.json();
    assert_eq!(many["old"].as_array().unwrap().len(), 3);
    // One that may be known to others ends them all.
    let last = ada.post(&secret, &json!({"old_valid_hours": 0})).await.json();
    assert_eq!(last["old"], json!([]));
    assert_eq!(ada.get(&secret).await.json(), last);
    for hours in [json!(-1), json!(169), json!("24"), json!(1.5)] {
        let answer = ada.post(&secret, &json!({"old_valid_hours": hours})).await;
        assert_eq!(answer.problem(422, "invalid-fields"), ["/old_valid_hours"]);
    }
    // It is for the person, not for a script.
    let token = json!({"name": "t", "scopes": ["tasks:read", "tasks:write"]});
    let token = ada.post("/api/me/tokens", &token).await.json()["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let script = Person { token, ..ada.clone() };
    script.get(&secret).await.problem(403, "insufficient-scope");
    script
        .post(&secret, &json!({}))
        .await
        .problem(403, "insufficient-scope");
    assert_eq!(script.get(&path).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_test_is_a_delivery_that_waits_to_be_sent() {
    let ada = ada().await;
    let (path, made) = webhook(&ada, &json!({"url": URL, "event_types": ["task.created"]})).await;
    let answer = ada.send(Method::POST, &format!("{path}/test")).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    let test = answer.json();
    assert_eq!(
        (&test["event_type"], &test["state"]),
        (&json!("webhook.test"), &json!("pending"))
    );
    let event_id = test["event_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(id(&test), delivery_id(id(&made), event_id));
    let body: Value = serde_json::from_str(test["request_body"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&body["type"], &body["data"]["webhook_id"]),
        (&json!("webhook.test"), &made["id"])
    );
    assert!(is_due(&ada, &made).await);
    assert_eq!(
        ada.get(&format!("{path}/deliveries")).await.json()["items"],
        json!([test])
    );
}

#[tokio::test]
async fn the_log_shows_what_was_sent_and_answered_page_by_page() {
    let ada = ada().await;
    let (path, made) = webhook(&ada, &json!({"url": URL})).await;
    let (_, other) = webhook(&ada, &json!({"url": URL})).await;
    delivery(&ada, &other, "sent", 1).await;
    let mut ids = Vec::new();
    for (n, state) in ["sent", "failed", "pending", "suppressed", "failed"]
        .into_iter()
        .enumerate()
    {
        ids.push(delivery(&ada, &made, state, i32::try_from(n).unwrap()).await);
    }
    sqlx::query(
        "insert into webhooks.attempts (user_id, delivery_id, number, at, url, request_headers, status, response_headers,
                                        response_body, duration_ms, error)
         values ($1, $2, 1, now(), $3, $4, null, null, null, 5000, 'there was no answer in time'),
                ($1, $2, 2, now(), $3, $4, 500, $5, 'oops', 12, null)",
    )
    .bind(ada.id)
    .bind(ids[1])
    .bind(URL)
    .bind(Json(json!({"webhook-id": "x"})))
    .bind(Json(json!({"server": "s"})))
    .execute(&ada.server.database.pool("webhook-sender"))
    .await
    .unwrap();
    let log = format!("{path}/deliveries");
    let shown = async |query: &str| -> Vec<Uuid> {
        let answer = ada.get(&format!("{log}{query}")).await.json();
        answer["items"].as_array().unwrap().iter().map(id).collect()
    };
    assert_eq!(shown("").await, ids);
    assert_eq!(shown("?state=failed").await, [ids[1], ids[4]]);
    assert_eq!(shown("?state=failed&state=sent").await, [ids[0], ids[1], ids[4]]);
    let page = ada.get(&format!("{log}?limit=2")).await.json();
    let failed = &page["items"][1];
    assert_eq!(failed["request_body"].as_str().unwrap().len(), 4096);
    assert_eq!(
        (&failed["last_error"], &failed["next_attempt_at"]),
        (&json!("it answered 500"), &Value::Null)
    );
    let requests = failed["log"].as_array().unwrap();
    assert_eq!(
        (
            &requests[0]["number"],
            &requests[0]["status"],
            &requests[0]["response_body"]
        ),
        (&json!(2), &json!(500), &json!("oops"))
    );
    assert_eq!(requests[0]["response_headers"], json!({"server": "s"}));
    assert_eq!(requests[1]["error"], "there was no answer in time");
    assert_eq!(
        (&requests[1]["status"], &requests[1]["request_headers"]),
        (&Value::Null, &json!({"webhook-id": "x"}))
    );
    let cursor = page["next_cursor"].as_str().unwrap();
    assert_eq!(
        shown(&format!("?limit=2&cursor={cursor}")).await,
        [ids[2], ids[3]]
    );
    let elsewhere = ada.get(&format!("{log}?state=sent&cursor={cursor}")).await;
    assert_eq!(elsewhere.problem(400, "invalid-query"), ["cursor"]);
    assert_eq!(
        ada.get(&format!("{log}?state=lost"))
            .await
            .problem(400, "invalid-query"),
        ["state"]
    );
    let bob = ada.server.person("bob@example.org").await;
    bob.get(&log).await.problem(404, "not-found");
}

#[tokio::test]
async fn what_ended_is_sent_again_under_its_id_and_its_schedule_begins_anew() {
    let ada = ada().await;
    let (path, made) = webhook(&ada, &json!({"url": URL})).await;
    let failed = delivery(&ada, &made, "failed", 10).await;
    let answer = ada
        .send(Method::POST, &format!("{path}/deliveries/{failed}/replay"))
        .await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    assert_eq!(
        (id(&answer.json()), &answer.json()["state"]),
        (failed, &json!("pending"))
    );
    assert_eq!(state(&ada, failed).await, ("pending".to_owned(), 2, 2));
    assert!(is_due(&ada, &made).await);
    let nothing = format!("{path}/deliveries/{}/replay", Uuid::now_v7());
    ada.send(Method::POST, &nothing).await.problem(404, "not-found");
    // Of another webhook, it is none of this one.
    let (other, _) = webhook(&ada, &json!({"url": URL})).await;
    let others = format!("{other}/deliveries/{failed}/replay");
    ada.send(Method::POST, &others).await.problem(404, "not-found");
}

#[tokio::test]
async fn a_time_is_sent_again_and_of_it_what_failed_unless_all_is_asked_for() {
    let ada = ada().await;
    let (path, made) = webhook(&ada, &json!({"url": URL})).await;
    let early = delivery(&ada, &made, "failed", 120).await;
    let failed = delivery(&ada, &made, "failed", 30).await;
    let nobody = delivery(&ada, &made, "suppressed", 29).await;
    let sent = delivery(&ada, &made, "sent", 28).await;
    let late = delivery(&ada, &made, "failed", 1).await;
    let ago = |minutes: i64| (Utc::now() - chrono::TimeDelta::minutes(minutes)).to_rfc3339();
    let replay = format!("{path}/replay");
    let answer = ada.post(&replay, &json!({"from": ago(60), "to": ago(10)})).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    assert_eq!(answer.json(), json!({"replayed": 2, "continue_from": null}));
    for (id, expected) in [
        (early, "failed"),
        (failed, "pending"),
        (nobody, "pending"),
        (sent, "sent"),
        (late, "failed"),
    ] {
        assert_eq!(state(&ada, id).await.0, expected);
    }
    let answer = ada
        .post(&replay, &json!({"from": ago(60), "only_failed": false}))
        .await;
    assert_eq!(answer.json()["replayed"], 2);
    assert_eq!(state(&ada, sent).await.0, "pending");
    let wrong = ada.post(&replay, &json!({"from": ago(10), "to": ago(60)})).await;
    assert_eq!(wrong.problem(422, "invalid-fields"), ["/to"]);
    assert_eq!(
        ada.post(&replay, &json!({})).await.problem(422, "invalid-fields"),
        ["/from"]
    );
}

#[tokio::test]
async fn a_long_time_is_sent_again_in_several_requests() {
    let ada = ada().await;
    let (path, made) = webhook(&ada, &json!({"url": URL})).await;
    sqlx::query(
        "insert into webhooks.deliveries (id, user_id, endpoint_id, event_id, event_type, occurred_at, body, state, created_at,
                                          finished_at)
         select gen_random_uuid(), $1, $2, gen_random_uuid(), 'task.created', now(), '{}', 'failed',
                now() - n * interval '1 second', now()
         from generate_series(1, 12345) n",
    )
    .bind(ada.id)
    .bind(id(&made))
    .execute(&ada.server.database.pool("webhook-sender"))
    .await
    .unwrap();
    let replay = format!("{path}/replay");
    let first = ada
        .post(&replay, &json!({"from": "2020-01-01T00:00:00Z"}))
        .await
        .json();
    assert_eq!(first["replayed"], 10_000);
    let rest = ada
        .post(&replay, &json!({"from": first["continue_from"]}))
        .await
        .json();
    assert_eq!(rest, json!({"replayed": 2345, "continue_from": null}));
}

#[tokio::test]
async fn what_is_left_of_a_person_who_goes_takes_their_webhooks_along() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, made) = webhook(&ada, &json!({"url": URL})).await;
    ada.send(Method::POST, &format!("{path}/test")).await;
    delivery(&ada, &made, "failed", 1).await;
    sqlx::query("update accounts.users set deleted_at = now()")
        .execute(server.database.admin())
        .await
        .unwrap();
    let pool = server.database.pool("api");
    loop {
        let done: bool = sqlx::query_scalar("select accounts.purge($1, 100)")
            .bind(ada.id)
            .fetch_one(&pool)
            .await
            .unwrap();
        if done {
            break;
        }
    }
    let left: i64 = sqlx::query_scalar(
        "select (select count(*) from webhooks.endpoints) + (select count(*) from webhooks.secrets)
              + (select count(*) from webhooks.deliveries) + (select count(*) from webhooks.queues)",
    )
    .fetch_one(server.database.admin())
    .await
    .unwrap();
    assert_eq!(left, 0);
}
