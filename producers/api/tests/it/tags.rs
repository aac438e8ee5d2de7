//! A person's tags: counted, renamed, merged, deleted.

use reqwest::{Method, StatusCode};
use schemas::TaskEventKind;
use serde_json::{Value, json};

use crate::outbox::{changes, events};
use crate::server::{Person, Server, escaped};

async fn tags(person: &Person) -> Vec<(String, i64, i64)> {
    let mut all = Vec::new();
    let mut path = "/api/tags?limit=2".to_owned();
    loop {
        let page = person.get(&path).await.json();
        let items = page["items"].as_array().unwrap();
        all.extend(items.iter().map(|tag| {
            (
                tag["name"].as_str().unwrap().to_owned(),
                tag["count"].as_i64().unwrap(),
                tag["open_count"].as_i64().unwrap(),
            )
        }));
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/api/tags?limit=2&cursor={cursor}"),
            None => return all,
        }
    }
}

fn tag(name: &str, count: i64, open: i64) -> (String, i64, i64) {
    (name.to_owned(), count, open)
}

async fn tagged(person: &Person, title: &str, tags: &[&str]) -> (String, Value) {
    person.task(&json!({"title": title, "tags": tags})).await
}

#[tokio::test]
async fn tags_are_listed_by_name_with_how_many_tasks_have_them() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    assert_eq!(tags(&ada).await, []);
    tagged(&ada, "a", &["home", "Work", "tag 10"]).await;
    tagged(&ada, "b", &["home", "tag 9", "🏷"]).await;
    let (done, _) = tagged(&ada, "c", &["home", "work"]).await;
    ada.send(Method::POST, &format!("{done}/complete")).await;
    let (gone, _) = tagged(&ada, "d", &["home", "gone"]).await;
    ada.send(Method::DELETE, &gone).await;
    tagged(&server.person("eve@example.org").await, "e", &["home", "eves"]).await;
    assert_eq!(
        tags(&ada).await,
        [
            tag("🏷", 1, 1),
            tag("home", 3, 2),
            tag("tag 9", 1, 1),
            tag("tag 10", 1, 1),
            tag("work", 1, 0),
            tag("Work", 1, 1),
        ]
    );
    for (query, parameters) in [("limit=0&cursor=x&sort=name", vec!["limit", "cursor", "sort"])] {
        let answer = ada.get(&format!("/api/tags?{query}")).await;
        assert_eq!(answer.problem(400, "invalid-query"), parameters);
    }
    let cursor = ada.get("/api/tags?limit=1").await.json()["next_cursor"].clone();
    let eve = server.bearer(uuid::Uuid::now_v7());
    let answer = eve
        .get(&format!("/api/tags?cursor={}", cursor.as_str().unwrap()))
        .await;
    assert_eq!(answer.problem(400, "invalid-query"), ["cursor"]);
}

#[tokio::test]
async fn a_tag_is_renamed_on_every_task_each_with_its_next_version_and_event() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let eve = server.person("eve@example.org").await;
    let (first, _) = tagged(&ada, "a", &["x", "home", "y"]).await;
    let (second, _) = tagged(&ada, "b", &["home"]).await;
    let (other, _) = tagged(&ada, "c", &["homes"]).await;
    let (gone, _) = tagged(&ada, "d", &["home"]).await;
    let (eves, _) = tagged(&eve, "e", &["home"]).await;
    ada.send(Method::POST, &format!("{second}/complete")).await;
    ada.send(Method::DELETE, &gone).await;
    let renamed = ada.patch("/api/tags/home", &json!({"name": "a/b ü"})).await;
    assert_eq!(renamed.status, StatusCode::OK, "{}", renamed.text);
    assert_eq!(
        renamed.json(),
        json!({"name": "a/b ü", "count": 2, "open_count": 1})
    );
    let task = ada.get(&first).await.json();
    assert_eq!(
        (&task["tags"], &task["version"]),
        (&json!(["x", "a/b ü", "y"]), &json!(2))
    );
    let task = ada.get(&second).await.json();
    assert_eq!((&task["tags"], &task["version"]), (&json!(["a/b ü"]), &json!(3)));
    for (person, untouched, tags) in [(&ada, &other, json!(["homes"])), (&eve, &eves, json!(["home"]))] {
        let task = person.get(untouched).await.json();
        assert_eq!((&task["tags"], &task["version"]), (&tags, &json!(1)));
    }
    // A deleted task keeps its tags, should it be restored.
    let restored = ada.send(Method::POST, &format!("{gone}/restore")).await.json();
    assert_eq!(restored["tags"], json!(["home"]));

    let events = events(&server.database, ada.id).await;
    let updated: Vec<_> = events
        .iter()
        .filter(|event| event.kind == TaskEventKind::Updated)
        .collect();
    assert_eq!(updated.len(), 2);
    assert_eq!(updated[0].task.tags, ["x", "a/b ü", "y"]);
    assert_eq!(
        changes(updated[0])["tags"],
        (
            r#"["x","home","y"]"#.to_owned(),
            r#"["x","a/b ü","y"]"#.to_owned()
        )
    );

    // Its own name changes nothing.
    let path = format!("/api/tags/{}", escaped("a/b ü"));
    assert_eq!(
        ada.patch(&path, &json!({"name": "a/b ü"})).await.status,
        StatusCode::OK
    );
    assert_eq!(ada.get(&first).await.json()["version"], 2);
    // It is found by its new name.
    let found = ada
        .get(&format!("/api/tasks?tags={}", escaped("a/b ü")))
        .await
        .json();
    assert_eq!(found["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn two_tags_become_one_only_when_that_is_asked_for() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (both, _) = tagged(&ada, "a", &["old", "x", "new"]).await;
    let (one, _) = tagged(&ada, "b", &["old"]).await;
    let (already, _) = tagged(&ada, "c", &["new"]).await;
    let rename = json!({"name": "new"});
    ada.patch("/api/tags/old", &rename)
        .await
        .problem(409, "tag-exists");
    assert_eq!(ada.get(&one).await.json()["version"], 1);
    let merged = ada
        .patch("/api/tags/old", &json!({"name": "new", "merge": true}))
        .await;
    assert_eq!(merged.json(), json!({"name": "new", "count": 3, "open_count": 3}));
    for (path, tags, version) in [
        (&both, json!(["x", "new"]), 2),
        (&one, json!(["new"]), 2),
        (&already, json!(["new"]), 1),
    ] {
        let task = ada.get(path).await.json();
        assert_eq!((&task["tags"], &task["version"]), (&tags, &json!(version)));
    }
    ada.patch("/api/tags/old", &rename)
        .await
        .problem(404, "not-found");
    assert_eq!(tags(&ada).await, [tag("new", 3, 3), tag("x", 1, 1)]);
}

#[tokio::test]
async fn a_deleted_tag_is_gone_from_every_task() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let (path, _) = tagged(&ada, "a", &["x", "home"]).await;
    let deleted = ada.send(Method::DELETE, "/api/tags/home").await;
    assert_eq!(
        (deleted.status, deleted.text.as_str()),
        (StatusCode::NO_CONTENT, "")
    );
    let task = ada.get(&path).await.json();
    assert_eq!((&task["tags"], &task["version"]), (&json!(["x"]), &json!(2)));
    ada.send(Method::DELETE, "/api/tags/home")
        .await
        .problem(404, "not-found");
}

#[tokio::test]
async fn a_tag_that_is_no_tag_or_another_persons_does_not_exist() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let eve = server.person("eve@example.org").await;
    let (path, task) = tagged(&ada, "a", &["home"]).await;
    let long = "x".repeat(51);
    for name in ["home", "none", "%00", "%ff", "%0a", "%20", "a%2fb", &long] {
        let path = format!("/api/tags/{name}");
        for answer in [
            eve.patch(&path, &json!({"name": "mine"})).await,
            eve.patch(&path, &json!({"name": "mine", "merge": true})).await,
            eve.send(Method::DELETE, &path).await,
        ] {
            assert_eq!(answer.problem(404, "not-found"), Vec::<String>::new(), "{name}");
        }
    }
    assert_eq!(ada.get(&path).await.json(), task);
    for (body, pointers) in [
        (json!({}), vec!["/name"]),
        (json!({"name": null}), vec!["/name"]),
        (json!({"name": ""}), vec!["/name"]),
        (json!({"name": "x".repeat(51)}), vec!["/name"]),
        (
            json!({"name": "a\u{0}b", "merge": 1, "color": "red"}),
            vec!["/name", "/merge", "/color"],
        ),
    ] {
        let answer = ada.patch("/api/tags/home", &body).await;
        assert_eq!(answer.problem(422, "invalid-fields"), pointers, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn renaming_while_tasks_change_loses_neither() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let mut paths = Vec::new();
    for n in 0..20 {
        paths.push(tagged(&ada, &format!("{n}"), &["home"]).await.0);
    }
    let changes = futures::future::join_all(paths.iter().map(async |path| {
        for n in 0..5 {
            let answer = ada.patch(path, &json!({"description": format!("{n}")})).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        }
    }));
    let renames = async {
        for (from, to) in [("home", "a"), ("a", "b"), ("b", "c")] {
            let answer = ada
                .patch(&format!("/api/tags/{from}"), &json!({"name": to}))
                .await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        }
    };
    futures::join!(changes, renames);
    for path in &paths {
        let task = ada.get(path).await.json();
        assert_eq!(task["tags"], json!(["c"]));
        assert_eq!((&task["description"], &task["version"]), (&json!("4"), &json!(9)));
    }
}
