//! Paging through a long list while it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::Method;
use serde_json::json;
use support::Database;
use uuid::Uuid;

use crate::server::{Person, Server};

const TASKS: i32 = 20_000;

/// So many tasks, of all priorities, titles and due dates, and some that are never due.
async fn seed(database: &Database, user_id: Uuid, tasks: i32) {
    sqlx::query(
        "insert into tasks.tasks (user_id, id, version, title, priority, tags, due_at, timezone, reminders, created_at,
                                  updated_at)
         select $1, overlay(gen_random_uuid()::text placing '01900000-' || lpad(to_hex(n % 65536), 4, '0') || '-7' from 1 for 15)::uuid,
                1, case when n % 20 = 0 then 'chore ' else 'task ' end || n * 7919 % 1000, (array['low', 'medium', 'high', 'urgent'])[1 + n % 4], array['seed'],
                case when n % 5 > 0 then timestamptz '2027-01-01Z' + n * 7919 % 1000 * interval '1 h' end, 'Europe/Berlin', '[]',
                timestamptz '2026-01-01Z' + n * interval '1 s', timestamptz '2026-01-01Z' + n * 7919 % 1000 * interval '1 s'
         from generate_series(1, $2) n",
    )
    .bind(user_id)
    .bind(tasks)
    .execute(database.admin())
    .await
    .unwrap();
    sqlx::query("analyze tasks.tasks")
        .execute(database.admin())
        .await
        .unwrap();
}

/// How often each task was shown on all pages of a list.
async fn walk(person: &Person, query: &str) -> BTreeMap<Uuid, u32> {
    let mut shown = BTreeMap::new();
    let mut path = format!("/api/tasks?limit=100&{query}");
    loop {
        let answer = person.get(&path).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let page = answer.json();
        for task in page["items"].as_array().unwrap() {
            let id: Uuid = task["id"].as_str().unwrap().parse().unwrap();
            *shown.entry(id).or_default() += 1;
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/api/tasks?limit=100&{query}&cursor={cursor}"),
            None => return shown,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_task_that_stands_still_is_shown_once_and_none_twice_while_others_change() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    seed(&server.database, ada.id, TASKS).await;
    let ids: Vec<Uuid> = sqlx::query_scalar("select id from tasks.tasks order by md5(id::text)")
        .fetch_all(server.database.admin())
        .await
        .unwrap();
    assert_eq!(ids.len(), usize::try_from(TASKS).unwrap());
    let chores: BTreeSet<Uuid> = sqlx::query_scalar("select id from tasks.tasks where title like 'chore%'")
        .fetch_all(server.database.admin())
        .await
        .unwrap()
        .into_iter()
        .collect();
    let done = AtomicBool::new(false);
    let (moving, still) = ids.split_at(2000);
    let change = async |share: &[Uuid]| {
        let mut changed = 0_usize;
        for (n, id) in share.iter().cycle().enumerate() {
            if done.load(Ordering::Relaxed) {
                break;
            }
            let path = format!("/api/tasks/{id}");
            match n % 5 {
                0 => drop(
                    ada.task(&json!({"title": format!("task {n}"), "tags": ["seed"]}))
                        .await,
                ),
                1 => drop(ada.send(Method::DELETE, &path).await),
                2 => drop(
                    ada.patch(&path, &json!({"title": format!("task {}", n * 31 % 1000)}))
                        .await,
                ),
                3 => drop(
                    ada.patch(
                        &path,
                        &json!({"due_at": format!("2027-02-{:02}T00:00:00Z", 1 + n % 28)}),
                    )
                    .await,
                ),
                _ => drop(
                    ada.patch(
                        &path,
                        &json!({"priority": if n % 2 == 0 { "urgent" } else { "low" }}),
                    )
                    .await,
                ),
            }
            changed += 1;
        }
        changed
    };
    let walks = async {
        for query in [
            "",
            "sort=updated",
            "sort=-due",
            "sort=title&status=all&tags=seed",
            "q=chore",
        ] {
            let shown = walk(&ada, query).await;
            let twice: Vec<_> = shown.iter().filter(|(_, times)| **times > 1).collect();
            assert!(twice.is_empty(), "{query}: {twice:?}");
            let listed = |id: &&Uuid| query != "q=chore" || chores.contains(*id);
            let missed = still.iter().filter(listed).filter(|id| !shown.contains_key(id));
            assert_eq!(missed.count(), 0, "{query}");
        }
        done.store(true, Ordering::Relaxed);
    };
    let (shares, _) = moving.as_chunks::<500>();
    let changes = futures::future::join_all(shares.iter().map(|share| change(share)));
    let (changed, ()) = futures::join!(changes, walks);
    assert!(changed.iter().all(|count| *count > 0), "{changed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_of_twenty_thousand_tasks_is_renamed_whole() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    seed(&server.database, ada.id, TASKS).await;
    let renamed = ada.patch("/api/tags/seed", &json!({"name": "renamed"})).await;
    assert_eq!(
        renamed.json(),
        json!({"name": "renamed", "count": TASKS, "open_count": TASKS})
    );
    let versions: Vec<(i64, i64)> =
        sqlx::query_as("select version, count(*) from tasks.tasks where user_id = $1 group by version")
            .bind(ada.id)
            .fetch_all(server.database.admin())
            .await
            .unwrap();
    assert_eq!(versions, [(2, i64::from(TASKS))]);
    let events: i64 = sqlx::query_scalar("select count(*) from outbox.events where user_id = $1")
        .bind(ada.id)
        .fetch_one(server.database.admin())
        .await
        .unwrap();
    assert_eq!(events, i64::from(TASKS));
}
