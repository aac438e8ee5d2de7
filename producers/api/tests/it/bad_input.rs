//! What clients send that cannot be: each answer names every field that is wrong.

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::server::{Answer, Person, Server};

/// A task that is right but for these fields.
fn task_with(fields: Value) -> Value {
    let mut task = json!({"title": "t"});
    task.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    task
}

/// Fields that neither a new task nor a patch may have, and the pointers to what is wrong.
fn bad_fields() -> Vec<(Value, Vec<&'static str>)> {
    let due = "2027-02-01T08:00:00Z";
    let many = |n: usize, item: fn(usize) -> Value| Value::Array((0..n).map(item).collect());
    vec![
        (json!({"title": null}), vec!["/title"]),
        (json!({"title": ""}), vec!["/title"]),
        (json!({"title": " \u{a0}"}), vec!["/title"]),
        (json!({"title": "x".repeat(501)}), vec!["/title"]),
        (json!({"title": 1}), vec!["/title"]),
        (json!({"title": ["t"]}), vec!["/title"]),
        (json!({"title": "nul\0"}), vec!["/title"]),
        (json!({"title": "two\nlines"}), vec!["/title"]),
        (json!({"title": "bell\u{7}"}), vec!["/title"]),
        (json!({"title": "delete\u{7f}"}), vec!["/title"]),
        (json!({"title": "c1\u{9b}"}), vec!["/title"]),
        (json!({"description": 1}), vec!["/description"]),
        (json!({"description": "x".repeat(10_001)}), vec!["/description"]),
        (json!({"description": "nul\0"}), vec!["/description"]),
        (json!({"description": "escape\u{1b}[31m"}), vec!["/description"]),
        (json!({"priority": "highest"}), vec!["/priority"]),
        (json!({"priority": "High"}), vec!["/priority"]),
        (json!({"priority": ""}), vec!["/priority"]),
        (json!({"priority": 1}), vec!["/priority"]),
        (json!({"tags": "home"}), vec!["/tags"]),
        (json!({"tags": {"0": "home"}}), vec!["/tags"]),
        (json!({"tags": ["home", 1, null]}), vec!["/tags/1", "/tags/2"]),
        (
            json!({"tags": ["home", "", " ", "home"]}),
            vec!["/tags/1", "/tags/2", "/tags/3"],
        ),
        (
            json!({"tags": ["x".repeat(51), "a\tb"]}),
            vec!["/tags/0", "/tags/1"],
        ),
        (json!({"tags": many(21, |n| json!(n.to_string()))}), vec!["/tags"]),
        (json!({"due_at": "2027-02-01T08:00:00"}), vec!["/due_at"]),
        (json!({"due_at": "2027-02-01"}), vec!["/due_at"]),
        (json!({"due_at": "2027-02-30T08:00:00Z"}), vec!["/due_at"]),
        (json!({"due_at": "2027-02-01 08:00:00Z"}), vec!["/due_at"]),
        (json!({"due_at": "1969-12-31T23:59:59Z"}), vec!["/due_at"]),
        (json!({"due_at": "10000-01-01T00:00:00Z"}), vec!["/due_at"]),
        (json!({"due_at": "9999-12-31T23:59:59-00:01"}), vec!["/due_at"]),
        (json!({"due_at": "tomorrow"}), vec!["/due_at"]),
        (json!({"due_at": ""}), vec!["/due_at"]),
        (json!({"due_at": 1_800_000_000}), vec!["/due_at"]),
        (json!({"timezone": "Mars/Olympus"}), vec!["/timezone"]),
        (json!({"timezone": "europe/berlin"}), vec!["/timezone"]),
        (json!({"timezone": "+02:00"}), vec!["/timezone"]),
        (json!({"timezone": ""}), vec!["/timezone"]),
        (json!({"timezone": "Europe/Berlin\0"}), vec!["/timezone"]),
        (json!({"timezone": 2}), vec!["/timezone"]),
        (json!({"reminders": {}}), vec!["/reminders"]),
        (json!({"reminders": ["-PT10M"]}), vec!["/reminders/0"]),
        (json!({"reminders": [{}]}), vec!["/reminders/0"]),
        (
            json!({"reminders": [{"offset": "-PT10M"}]}),
            vec!["/reminders/0/offset"],
        ),
        (
            json!({"due_at": due, "reminders": [{"offset": "-PT10M", "at": due}]}),
            vec!["/reminders/0"],
        ),
        (
            json!({"due_at": due, "reminders": [{"offset": "ten minutes"}]}),
            vec!["/reminders/0/offset"],
        ),
        (
            json!({"due_at": due, "reminders": [{"offset": "-P1M"}]}),
            vec!["/reminders/0/offset"],
        ),
        (
            json!({"due_at": due, "reminders": [{"offset": "-P999999D"}]}),
            vec!["/reminders/0/offset"],
        ),
        (
            json!({"due_at": due, "reminders": [{"offset": -10}]}),
            vec!["/reminders/0/offset"],
        ),
        (
            json!({"due_at": due, "reminders": [{"offset": "PT0S"}, {"offset": "PT0S", "x": 1}]}),
            vec!["/reminders/1/x"],
        ),
        (
            json!({"reminders": [{"at": "2027-02-01T08:00:00"}]}),
            vec!["/reminders/0/at"],
        ),
        (json!({"reminders": [{"at": null}]}), vec!["/reminders/0"]),
        (
            json!({"reminders": [{"at": "soon"}, {"at": due}, {"at": 5}]}),
            vec!["/reminders/0/at", "/reminders/2/at"],
        ),
        (
            json!({"reminders": many(21, |_| json!({"at": "2027-02-01T08:00:00Z"}))}),
            vec!["/reminders"],
        ),
        (
            json!({"due_at": "9999-12-31T23:00:00Z", "reminders": [{"offset": "P1D"}]}),
            vec!["/reminders/0/offset"],
        ),
        (
            json!({"due_at": "1970-01-01T00:00:00Z", "reminders": [{"offset": "-PT1S"}]}),
            vec!["/reminders/0/offset"],
        ),
        (json!({"recurrence": "FREQ=DAILY"}), vec!["/recurrence"]),
        (json!({"due_at": due, "recurrence": ""}), vec!["/recurrence"]),
        (json!({"due_at": due, "recurrence": "daily"}), vec!["/recurrence"]),
        (
            json!({"due_at": due, "recurrence": "FREQ=SECONDLY"}),
            vec!["/recurrence"],
        ),
        (
            json!({"due_at": due, "recurrence": "FREQ=DAILY;INTERVAL=0"}),
            vec!["/recurrence"],
        ),
        (
            json!({"due_at": due, "recurrence": "FREQ=DAILY;COUNT=2;UNTIL=20270301"}),
            vec!["/recurrence"],
        ),
        (
            json!({"due_at": due, "recurrence": "FREQ=DAILY;UNTIL=20260101"}),
            vec!["/recurrence"],
        ),
        (
            json!({"due_at": due, "recurrence": "FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=30"}),
            vec!["/recurrence"],
        ),
        (
            json!({"due_at": "9000-01-01T00:00:00Z", "recurrence": "FREQ=DAILY"}),
            vec!["/recurrence"],
        ),
        (
            json!({"due_at": due, "recurrence": {"freq": "DAILY"}}),
            vec!["/recurrence"],
        ),
        (
            json!({"due_at": due, "recurrence": "FREQ=DAILY\0"}),
            vec!["/recurrence"],
        ),
        (
            json!({"due_at": "soon", "recurrence": "FREQ=DAILY", "reminders": [{"offset": "PT0S"}]}),
            vec!["/due_at"],
        ),
        (json!({"tittle": "t"}), vec!["/tittle"]),
        (json!({"Title": "t"}), vec!["/Title"]),
        (json!({"a/b~c": "t"}), vec!["/a~1b~0c"]),
        // What the server decides is no field of a request.
        (
            json!({"id": "0191b2c3-d4e5-7f60-8a9b-0c1d2e3f4a5b", "version": 7}),
            vec!["/id", "/version"],
        ),
        (
            json!({"status": "completed", "completed_at": due}),
            vec!["/completed_at", "/status"],
        ),
        (
            json!({"series_id": null, "occurrence": null}),
            vec!["/occurrence", "/series_id"],
        ),
        (
            json!({"user_id": "0191b2c3-d4e5-7f60-8a9b-0c1d2e3f4a5b", "created_at": due}),
            vec!["/created_at", "/user_id"],
        ),
    ]
}

#[tokio::test]
async fn a_task_that_cannot_be_is_refused_with_every_field_that_is_wrong() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, task) = ada.task(&json!({"title": "t"})).await;
    for (fields, pointers) in bad_fields() {
        let created = ada.post("/api/tasks", &task_with(fields.clone())).await;
        assert_eq!(created.problem(422, "invalid-fields"), pointers, "POST {fields}");
        let patched = ada.patch(&path, &fields).await;
        assert_eq!(patched.problem(422, "invalid-fields"), pointers, "PATCH {fields}");
    }
    assert_eq!(
        ada.post("/api/tasks", &json!({}))
            .await
            .problem(422, "invalid-fields"),
        ["/title"]
    );
    let everything = json!({"title": "", "priority": 1, "timezone": "x", "tags": [1], "due_at": 1, "x": 1});
    assert_eq!(
        ada.post("/api/tasks", &everything)
            .await
            .problem(422, "invalid-fields"),
        ["/title", "/priority", "/tags/0", "/due_at", "/timezone", "/x"]
    );
    // Nothing of all this was written.
    assert_eq!(
        ada.get("/api/tasks").await.json(),
        json!({"items": [task], "next_cursor": null})
    );
}

#[tokio::test]
async fn a_body_that_is_no_object_is_refused() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, _) = ada.task(&json!({"title": "t"})).await;
    let send = async |method: Method, path: &str, body: &[u8]| {
        let request = ada.request(method, path).header(CONTENT_TYPE, "application/json");
        Answer::to(request.body(body.to_vec())).await
    };
    let deep = format!("{{\"title\": {}", "[".repeat(100_000));
    for body in [
        b"".as_slice(),
        b"{",
        b"{\"title\": \"t\",}",
        b"title=t",
        b"{'title': 't'}",
        b"{\"title\": \"\xff\"}",
        b"{\"title\": \"\\ud800\"}",
        b"{\"title\": \"a\", \"title\": \"b\"}",
        b"{\"title\": NaN}",
        b"{\"title\": \"t\"} {}",
        b"{\"title\": \"raw \x00 nul\"}",
        b"\xef\xbb\xbf{\"title\": \"t\"}",
        b"{\"title\": 1e999}",
        deep.as_bytes(),
    ] {
        for (method, path) in [
            (Method::POST, "/api/tasks"),
            (Method::PATCH, &path),
            (Method::POST, "/api/auth/login"),
        ] {
            send(method, path, body).await.problem(400, "malformed-json");
        }
    }
    for body in ["null", "[]", "\"title\"", "1", "[{\"title\": \"t\"}]"] {
        for (method, path) in [
            (Method::POST, "/api/tasks"),
            (Method::PATCH, &path),
            (Method::POST, "/api/auth/register"),
        ] {
            assert_eq!(
                send(method, path, body.as_bytes())
                    .await
                    .problem(422, "invalid-fields"),
                [""],
                "{body}"
            );
        }
    }
}

#[tokio::test]
async fn accounts_that_cannot_be_are_refused() {
    let server = Server::start().await;
    let good =
        json!({"email": "ada@example.org", "password": "correct horse", "name": "Ada", "timezone": "UTC"});
    for (fields, pointers) in [
        (
            json!({"email": null, "password": null, "name": null, "timezone": null}),
            vec!["/email", "/name", "/timezone", "/password"],
        ),
        (json!({"email": "ada"}), vec!["/email"]),
        (json!({"email": "a@b@example.org"}), vec!["/email"]),
        (json!({"email": "ada@example.org\n"}), vec!["/email"]),
        (json!({"email": "ada\0@example.org"}), vec!["/email"]),
        (
            json!({"email": format!("ada@{}.org", "x".repeat(260))}),
            vec!["/email"],
        ),
        (json!({"email": 1}), vec!["/email"]),
        (json!({"password": "short77"}), vec!["/password"]),
        (json!({"password": "x".repeat(129)}), vec!["/password"]),
        (json!({"password": 12_345_678}), vec!["/password"]),
        (json!({"password": "correct\0horse"}), vec!["/password"]),
        (json!({"name": ""}), vec!["/name"]),
        (json!({"name": "  "}), vec!["/name"]),
        (json!({"name": "x".repeat(101)}), vec!["/name"]),
        (json!({"name": "Ada\r\nBcc: bob@example.org"}), vec!["/name"]),
        (json!({"timezone": "Berlin"}), vec!["/timezone"]),
        (json!({"admin": true}), vec!["/admin"]),
        (
            json!({"email": "", "password": "", "name": 1, "timezone": [], "id": 1}),
            vec!["/email", "/name", "/timezone", "/password", "/id"],
        ),
    ] {
        let mut body = good.clone();
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        let answer = server.post("/api/auth/register", &body).await;
        assert_eq!(answer.problem(422, "invalid-fields"), pointers, "{fields}");
        assert!(!answer.text.contains("correct horse"));
    }
    for (body, pointers) in [
        (json!({}), vec!["/email", "/password"]),
        (json!({"email": 1, "password": []}), vec!["/email", "/password"]),
        (
            json!({"email": "a\0", "password": "x".repeat(129)}),
            vec!["/email", "/password"],
        ),
        (
            json!({"email": "ada@example.org", "password": "correct horse", "remember": true}),
            vec!["/remember"],
        ),
    ] {
        let answer = server.post("/api/auth/login", &body).await;
        assert_eq!(answer.problem(422, "invalid-fields"), pointers, "{body}");
    }
}

#[tokio::test]
async fn queries_that_cannot_be_are_refused() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    for (query, parameters) in [
        ("limit=0", vec!["limit"]),
        ("limit=101", vec!["limit"]),
        ("limit=-1", vec!["limit"]),
        ("limit=ten", vec!["limit"]),
        ("limit=", vec!["limit"]),
        ("limit=5&limit=5", vec!["limit"]),
        ("limit=99999999999999999999", vec!["limit"]),
        ("cursor=", vec!["cursor"]),
        ("cursor=x", vec!["cursor"]),
        ("cursor=%00", vec!["cursor"]),
        ("cursor=0191b2c3-d4e5-7f60-8a9b-0c1d2e3f4a5b", vec!["cursor"]),
        ("page=2", vec!["page"]),
        ("limit=x&cursor=y&z", vec!["limit", "cursor", "z"]),
    ] {
        let answer = ada.get(&format!("/api/tasks?{query}")).await;
        assert_eq!(answer.problem(400, "invalid-query"), parameters, "{query}");
    }
}

#[tokio::test]
async fn an_id_that_is_none_is_the_id_of_no_task() {
    let server = Server::start().await;
    let ada: Person = server.person("ada@example.org").await;
    for id in [
        "1",
        "x",
        "%00",
        "%ff",
        "0191b2c3d4e57f608a9b0c1d2e3f4a5b",
        "0191b2c3-d4e5-7f60-8a9b-0c1d2e3f4a5b%20",
        "..%2f",
    ] {
        ada.get(&format!("/api/tasks/{id}"))
            .await
            .problem(404, "not-found");
        ada.send(Method::DELETE, &format!("/api/tasks/{id}"))
            .await
            .problem(404, "not-found");
        ada.patch(&format!("/api/tasks/{id}"), &json!({}))
            .await
            .problem(404, "not-found");
        ada.send(Method::POST, &format!("/api/tasks/{id}/complete"))
            .await
            .problem(404, "not-found");
    }
}
