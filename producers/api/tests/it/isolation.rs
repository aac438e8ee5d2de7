//! A person's data is theirs.

use reqwest::header::{HeaderMap, IF_MATCH};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::reminders::known;
use crate::server::{Answer, Person, Server};

#[tokio::test]
async fn another_persons_task_answers_exactly_like_one_that_does_not_exist() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let bob = server.person("bob@example.org").await;
    let (path, task) = ada
        .task(&json!({"title": "secret", "due_at": "2027-02-01T08:00:00Z", "recurrence": "FREQ=DAILY"}))
        .await;
    let unknown = format!("/api/tasks/{}", Uuid::now_v7());
    let operations = [
        (Method::GET, "", None),
        (Method::HEAD, "", None),
        (Method::PATCH, "", Some(json!({"title": "mine"}))),
        (Method::PATCH, "", Some(json!({}))),
        (Method::PATCH, "", Some(json!({"due_at": null}))),
        (Method::DELETE, "", None),
        (Method::POST, "/complete", None),
        (Method::POST, "/reopen", None),
    ];
    for (method, suffix, body) in operations {
        for if_match in [None, Some("\"1\""), Some("\"7\""), Some("*")] {
            let ask = async |path: &str| {
                let mut request = bob.request(method.clone(), &format!("{path}{suffix}"));
                if let Some(body) = &body {
                    request = request.json(body);
                }
                if let Some(if_match) = if_match {
                    request = request.header(IF_MATCH, if_match);
                }
                Answer::to(request).await
            };
            let (theirs, none) = (ask(&path).await, ask(&unknown).await);
            assert_eq!(theirs.status, StatusCode::NOT_FOUND, "{method} {suffix}");
            assert_eq!(theirs.text, none.text);
            assert_eq!(comparable(&theirs.headers), comparable(&none.headers));
        }
    }
    assert_eq!(bob.get("/api/tasks").await.json()["items"], json!([]));
    // A cursor is a place in one's own list.
    let ours = ada.task(&json!({"title": "second"})).await;
    let cursor = ada.get("/api/tasks?limit=1").await.json()["next_cursor"]
        .as_str()
        .unwrap()
        .to_owned();
    let answer = bob.get(&format!("/api/tasks?cursor={cursor}")).await;
    assert_eq!(answer.problem(400, "invalid-query"), ["cursor"]);
    assert_eq!(ada.get(&path).await.json(), task);
    assert_eq!(ada.get(&ours.0).await.json(), ours.1);
}

/// Headers without those that differ between any two requests.
pub fn comparable(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut headers: Vec<_> = headers
        .iter()
        .filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.sort();
    headers
}

/// Stands in every text of hers: wherever it shows up, it is hers.
const SECRET: &str = "adas-secret";

/// One of everything that a person can have, and what names each of them in a path.
async fn one_of_everything(ada: &Person) -> Vec<String> {
    let mut names = vec![SECRET.to_owned()];
    let mut made = |answer: Answer| {
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        let made = answer.json();
        for field in ["id", "series_id"] {
            names.extend(made[field].as_str().map(str::to_owned));
        }
        made
    };
    let task = json!({"title": SECRET, "description": SECRET, "tags": [SECRET], "due_at": "2097-02-01T08:00:00Z",
                      "reminders": [{"offset": "-PT10M"}, {"offset": "-PT5M"}]});
    let deleted = made(ada.post("/api/tasks", &task).await);
    let reminding = made(ada.post("/api/tasks", &task).await);
    made(
        ada.post(
            "/api/recurring-tasks",
            &json!({"title": SECRET, "recurrence_type": "daily", "starts_at": "2097-02-01T08:00:00Z"}),
        )
        .await,
    );
    made(ada.post("/api/templates", &json!({"title": SECRET})).await);
    let webhook = json!({"url": format!("https://example.org/{SECRET}"), "description": SECRET});
    let webhook = made(ada.post("/api/webhooks", &webhook).await);
    made(
        ada.post(
            "/api/me/tokens",
            &json!({"name": SECRET, "scopes": ["tasks:read"]}),
        )
        .await,
    );
    let path = format!("/api/tasks/{}", deleted["id"].as_str().unwrap());
    ada.send(Method::DELETE, &path).await;
    let session = Uuid::now_v7();
    sqlx::query(
        "insert into accounts.sessions (user_id, id, family_hash, secret_hash, expires_at, user_agent)
         values ($1, $2, $3, '', now() + interval '1 day', $4)",
    )
    .bind(ada.id)
    .bind(session)
    .bind(session.as_bytes().as_slice())
    .bind(SECRET)
    .execute(ada.server.database.admin())
    .await
    .unwrap();
    names.push(session.to_string());
    // Under one name with its webhook, for paths that name both.
    sqlx::query(
        "insert into webhooks.deliveries (id, user_id, endpoint_id, event_id, event_type, occurred_at, body)
         values ($1, $2, $1, $1, 'task.created', now(), $3)",
    )
    .bind(webhook["id"].as_str().unwrap().parse::<Uuid>().unwrap())
    .bind(ada.id)
    .bind(SECRET)
    .execute(ada.server.database.admin())
    .await
    .unwrap();
    // As the notification inbox lists it.
    let notification = Uuid::now_v7();
    sqlx::query(
        "insert into notifications.notifications (user_id, id, kind, reminder_id, task_id, title, fire_at, at)
         values ($1, $2, 'reminder', $2, $2, $3, now(), now())",
    )
    .bind(ada.id)
    .bind(notification)
    .bind(SECRET)
    .execute(ada.server.database.admin())
    .await
    .unwrap();
    names.push(notification.to_string());
    // One that the scanner has seen, and one that it has not.
    names.push(known(ada, &reminding, 0, "armed", 10).await);
    names.extend(reminding["reminders"][1]["id"].as_str().map(str::to_owned));
    names
}

/// Follows a reference within the description.
fn resolved<'a>(description: &'a Value, schema: &'a Value) -> &'a Value {
    match schema.get("$ref").and_then(Value::as_str) {
        Some(reference) => description.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

/// A body that the schema takes, with `id` wherever an id can stand.
fn body(description: &Value, schema: &Value, id: &str) -> Value {
    let schema = resolved(description, schema);
    let is = |kind: &str| match &schema["type"] {
        Value::Array(kinds) => kinds.iter().any(|one| one == kind),
        one => one == kind,
    };
    if schema["format"] == "uuid" {
        json!(id)
    } else if is("object") {
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let properties = schema["properties"].as_object().cloned().unwrap_or_default();
        let members = properties.into_iter().filter_map(|(name, property)| {
            let holds_an_id = property["format"] == "uuid" || property["items"]["format"] == "uuid";
            (holds_an_id || required.contains(&json!(name))).then(|| (name, body(description, &property, id)))
        });
        Value::Object(members.collect())
    } else if let Some(example) = schema.get("example") {
        example.clone()
    } else if is("array") {
        json!([body(description, &schema["items"], id)])
    } else if is("string") {
        schema["enum"].get(0).cloned().unwrap_or(json!("x"))
    } else {
        json!(1)
    }
}

#[tokio::test]
async fn no_operation_of_the_description_reaches_what_is_another_persons() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let names = one_of_everything(&ada).await;
    let lists = [
        "/api/tasks",
        "/api/tasks?deleted=true",
        "/api/recurring-tasks",
        "/api/templates",
        "/api/webhooks",
        "/api/reminders",
        "/api/notifications",
        "/api/tags",
        "/api/me/sessions",
    ];
    let everything = async || {
        let mut all = Vec::new();
        for list in lists {
            all.push(ada.get(list).await.json()["items"].clone());
        }
        all
    };
    let before = everything().await;
    assert!(
        before.iter().all(|items| items.to_string().contains(SECRET)),
        "{before:?}"
    );

    let description = server.get("/openapi.json").await.json();
    let mut asked = 0;
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if operation.get("security").is_none() {
                continue;
            }
            let method: Method = method.to_uppercase().parse().unwrap();
            // A person for each operation: some end the account of whoever asks.
            let bob = server.person(&format!("bob-{asked}@example.org")).await;
            let schema = operation["requestBody"]["content"]
                .as_object()
                .and_then(|content| content.values().next())
                .map(|content| &content["schema"]);
            let ask = async |who: &Person, name: &str| {
                let place = path
                    .split('/')
                    .map(|part| if part.starts_with('{') { name } else { part });
                let place = place.collect::<Vec<_>>().join("/");
                let request = who.request(method.clone(), &place);
                Answer::to(match schema {
                    Some(schema) => request.json(&body(&description, schema, name)),
                    None => request,
                })
                .await
            };
            for name in &names {
                asked += 1;
                let answer = ask(&bob, name).await;
                assert!(
                    !answer.status.is_server_error(),
                    "{method} {path} {name}: {}",
                    answer.text
                );
                let shown = answer.text.replace(name.as_str(), "");
                assert!(!shown.contains(SECRET), "{method} {path} {name}: {}", answer.text);
                if path.contains('{') {
                    assert_eq!(
                        answer.status,
                        StatusCode::NOT_FOUND,
                        "{method} {path} {name}: {}",
                        answer.text
                    );
                }
            }
            // What she is answered herself shows that the ids were those of such things.
            if path.contains('{') && method == Method::GET {
                let mut hers = false;
                for name in &names {
                    hers |= ask(&ada, name).await.status.is_success();
                }
                assert!(hers, "one_of_everything has nothing for {path}");
            }
        }
    }
    assert!(asked > 100, "{asked}");
    assert_eq!(everything().await, before);
}
