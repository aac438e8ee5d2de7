//! A million tasks of ten thousand people, one of whom has 20,000: what each list and search reads there.
//!
//! Ignored, since filling the database takes minutes: `cargo test -p api --test it volume -- --ignored`.

use serde_json::Value;
use support::{Database, eventually};
use uuid::Uuid;

use crate::server::{Person, Server};

/// Tasks of the person who has most.
const MOST: i64 = 20_000;

/// The people first, then their tasks: every fiftieth belongs to the first person, the others to everybody else in turn.
async fn fill(database: &Database) -> [Uuid; 2] {
    for sql in [
        "insert into accounts.users (id, email, name, timezone, password_hash, created_at)
         select gen_random_uuid(), 'p' || n || '@example.org', 'P', 'Europe/Berlin', '-', now() from generate_series(0, 9999) n",
        "create table people as select row_number() over () - 1 as n, id from accounts.users",
        "create unique index on people (n)",
        "insert into tasks.tasks (user_id, id, version, title, description, priority, tags, due_at, timezone, reminders,
                                  created_at, updated_at, completed_at)
         select p.id, overlay(gen_random_uuid()::text placing to_char(i, 'FM00000000') || '-0000-7' from 1 for 15)::uuid, 1,
                (array['Call the dentist about Thursday', 'Water the plants', 'Send the quarterly report to accounting',
                       'Renew the passport before the summer trip', 'Book a table for six', 'Pay the electricity bill',
                       'Review the pull request on retries', 'Buy milk, bread and a birthday card'])[1 + i / 50 % 8] || ' ' || i,
                case when i / 50 % 4 = 0 then 'Ask for the *earliest* slot, and write down what they say about the invoice.' end,
                (array['low', 'medium', 'high', 'urgent'])[1 + i / 100 % 4],
                case i / 50 % 3 when 0 then '{}' when 1 then array['work'] else array['home', 'tag ' || i / 50 % 500] end,
                case when i / 50 % 9 > 0 then timestamptz '2026-01-01Z' + i * 7919 % 1000000 * interval '1 min' end,
                'Europe/Berlin', '[]', timestamptz '2026-01-01Z' + i * interval '1 s',
                timestamptz '2026-01-01Z' + i * 7919 % 1000000 * interval '1 s',
                case when i / 50 % 10 > 0 then timestamptz '2026-06-01Z' end
         from generate_series(0::bigint, 999999) i
         join people p on p.n = case when i % 50 = 0 then 0 else 1 + i % 9999 end",
        "vacuum analyze tasks.tasks",
    ] {
        sqlx::query(sql).execute(database.admin()).await.unwrap();
    }
    let [most, few] = [0, 77].map(|n| async move {
        sqlx::query_scalar("select id from people where n = $1::int")
            .bind(n)
            .fetch_one(database.admin())
            .await
            .unwrap()
    });
    [most.await, few.await]
}

/// Sequential scans of the table of tasks so far, and rows that indexes led to.
async fn reads(database: &Database) -> (i64, i64) {
    // What a connection has counted is known for sure when it is closed.
    eventually("the server's connections to be closed", async || {
        let open: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'api'",
        )
        .fetch_one(database.admin())
        .await
        .unwrap();
        (open == 0).then_some(())
    })
    .await;
    sqlx::query_as(
        "select seq_scan, idx_tup_fetch from pg_stat_user_tables where schemaname = 'tasks' and relname = 'tasks'",
    )
    .fetch_one(database.admin())
    .await
    .unwrap()
}

/// The cursor of the page behind so many full ones.
async fn skip(person: &Person, query: &str, pages: usize) -> String {
    let mut cursor = String::new();
    for _ in 0..pages {
        let page = person
            .get(&format!("/api/tasks?limit=100&{query}{cursor}"))
            .await
            .json();
        cursor = match &page["next_cursor"] {
            Value::String(next) => format!("&cursor={next}"),
            _ => panic!("{query} has too few pages: {page}"),
        };
    }
    cursor
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "fills a database for minutes"]
async fn lists_and_searches_read_no_more_than_they_must() {
    let database = Database::create().await;
    let [most, few] = fill(&database).await;
    // A server for each request, so that what is counted is of that request.
    let server = async || Server::with(database.clone(), database.config("api")).await;
    let page = 150;
    for (path, bound) in [
        ("tasks?", page),
        ("tasks?sort=created", page),
        ("tasks?sort=updated", page),
        ("tasks?sort=-updated", page),
        ("tasks?sort=due", page),
        ("tasks?sort=-due", page),
        ("tasks?sort=priority", page),
        ("tasks?sort=-priority", page),
        ("tasks?sort=title", page),
        ("tasks?sort=-title", page),
        ("tasks?status=open", 5 * page),
        ("tasks?priority=urgent", 5 * page),
        ("tasks?due=overdue&sort=due", 1000),
        ("tasks?due_after=2027-06-01T00:00:00Z&sort=due", page),
        ("tasks?due=none&sort=due", page),
        ("tasks?updated_since=2026-01-12T00:00:00Z&sort=updated", page),
        ("tasks?series_id=0191b2c3-d4e5-7f60-8a9b-0c1d2e3f4a5b", page),
        ("tasks?tags=none", page),
        ("tasks?tags=tag+2&sort=title", page),
        ("tasks?tags_any=tag+2&tags_any=tag+5", 2 * page),
        ("tasks?deleted=true", page),
        ("tasks?q=zebra%20", MOST / 4 + page),
        ("tasks?q=dentist%20", MOST / 8 + page),
        ("tasks?q=dent", MOST / 8 + page),
        ("tasks?q=%22water+the+plants%22", MOST / 8 + page),
        ("tasks?q=milk+-water", MOST / 8 + page),
        ("tasks?q=dentist+or+passport&sort=due", MOST),
        ("tasks?q=dentits", 5000 + page),
        ("tasks?q=water&total=true", MOST / 4 + page),
        ("tasks?total=true", MOST),
        ("tags?", MOST),
    ] {
        for person in [most, few] {
            let before = reads(&database).await;
            let (resource, query) = path.split_once('?').unwrap();
            let answer = server()
                .await
                .bearer(person)
                .get(&format!("/api/{resource}?{query}"))
                .await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            let after = reads(&database).await;
            let (scans, rows) = (after.0 - before.0, after.1 - before.1);
            assert_eq!(scans, 0, "{path} scans the table");
            assert!(
                rows <= bound,
                "{path} reads {rows} rows for one page, not {bound}"
            );
            // That nothing was counted would prove nothing.
            assert!(rows > 50 || path != "tasks?", "the plain list reads {rows} rows");
        }
    }
    // The hundredth page reads no more than the first.
    for query in ["", "sort=-updated", "sort=due", "sort=-priority", "sort=title"] {
        let cursor = skip(&server().await.bearer(most), query, 100).await;
        let before = reads(&database).await;
        let path = format!("/api/tasks?{query}{cursor}");
        assert_eq!(server().await.bearer(most).get(&path).await.status, 200);
        let after = reads(&database).await;
        assert_eq!(after.0, before.0, "{query} scans the table");
        assert!(
            after.1 - before.1 <= page,
            "{query} reads {} rows",
            after.1 - before.1
        );
    }
}
