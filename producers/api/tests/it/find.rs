//! Lists: what is in them, in which order, and what cannot be asked for.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{Person, Server, escaped};

/// The titles of all pages of a list, read in pages of two. Each page must say where the next one starts, and only the last
/// one nothing.
async fn titles(person: &Person, query: &str) -> Vec<String> {
    let mut titles = Vec::new();
    let mut cursor = None::<String>;
    loop {
        let mut path = format!("/api/tasks?{query}&limit=2");
        if let Some(cursor) = &cursor {
            path = format!("{path}&cursor={cursor}");
        }
        let answer = person.get(&path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        let page = answer.json();
        let items = page["items"].as_array().unwrap();
        titles.extend(
            items
                .iter()
                .map(|task| task["title"].as_str().unwrap().to_owned()),
        );
        assert!(items.len() == 2 || page["next_cursor"].is_null(), "{page}");
        match page["next_cursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => return titles,
        }
    }
}

async fn add(person: &Person, title: &str, fields: Value) -> (String, Value) {
    let mut body = json!({"title": title});
    body.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    person.task(&body).await
}

#[tokio::test]
async fn filters_let_pass_what_all_of_them_let_pass() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let due = |at: &str| json!({"due_at": at});
    add(&ada, "plain", json!({})).await;
    add(&ada, "home", json!({"tags": ["home"], "priority": "low"})).await;
    add(
        &ada,
        "both",
        json!({"tags": ["home", "a,b & c"], "priority": "high"}),
    )
    .await;
    add(&ada, "comma", json!({"tags": ["a,b & c"], "priority": "urgent"})).await;
    add(&ada, "march", due("2027-03-01T00:00:00Z")).await;
    add(&ada, "april", due("2027-04-01T00:00:00+02:00")).await;
    add(&ada, "past", due("2020-01-01T00:00:00Z")).await;
    let (done, _) = add(&ada, "done", due("2020-01-01T00:00:00Z")).await;
    ada.send(Method::POST, &format!("{done}/complete")).await;
    let series = json!({"due_at": "2027-05-01T00:00:00Z", "recurrence": "FREQ=DAILY"});
    let (_, series) = add(&ada, "series", series).await;
    let (gone, _) = add(&ada, "gone", json!({"tags": ["home"]})).await;
    ada.send(Method::DELETE, &gone).await;
    add(
        &server.person("eve@example.org").await,
        "of eve",
        json!({"tags": ["home"]}),
    )
    .await;

    let series = format!("series_id={}", series["series_id"].as_str().unwrap());
    let strange = escaped("a,b & c");
    let any = format!("tags_any=home&tags_any={strange}");
    let all = format!("tags=home&tags={strange}");
    for (query, expected) in [
        ("", "series done past april march comma both home plain"),
        ("status=all", "series done past april march comma both home plain"),
        ("status=open", "series past april march comma both home plain"),
        ("status=completed", "done"),
        ("priority=low", "home"),
        ("priority=urgent&priority=high", "comma both"),
        ("tags=home", "both home"),
        ("tags=Home", ""),
        (&all, "both"),
        (&any, "comma both home"),
        ("tags_any=nothing&tags_any=home&priority=high", "both"),
        ("due=any", "series done past april march"),
        ("due=none", "comma both home plain"),
        ("due=overdue", "past"),
        ("due=today", ""),
        ("due_after=2027-03-01T00:00:00Z", "series april march"),
        ("due_before=2027-03-01T00:00:00Z", "done past"),
        (
            "due_after=2027-03-31T23:59:59%2B02:00&due_before=2027-04-01T00:00:01+02:00",
            "april",
        ),
        (&series, "series"),
        ("series_id=0191b2c3-d4e5-7f60-8a9b-0c1d2e3f4a5b", ""),
        (
            "updated_since=2020-01-01T00:00:00Z",
            "series done past april march comma both home plain",
        ),
        ("updated_since=2999-01-01T00:00:00Z", ""),
        ("deleted=true", "gone"),
        ("deleted=true&tags=home&sort=title", "gone"),
        ("deleted=false&status=completed", "done"),
        ("q=home", "home"),
        ("q=home&tags=home", "home"),
        ("q=done&status=open", ""),
        ("q=done&status=completed&due=any&sort=title", "done"),
    ] {
        let found = titles(&ada, query).await.join(" ");
        assert_eq!(found, expected, "{query}");
        let counted = ada
            .get(&format!("/api/tasks?{query}&limit=1&total=true"))
            .await
            .json();
        assert_eq!(
            counted["total_count"],
            expected.split_whitespace().count(),
            "{query}"
        );
    }
    let uncounted = ada.get("/api/tasks?total=false").await.json();
    assert!(uncounted.get("total_count").is_none() && uncounted.get("similar").is_none());
}

#[tokio::test]
async fn today_and_overdue_are_meant_in_the_zone_of_the_person() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    for (title, day) in [("yesterday", -1), ("today", 0), ("tomorrow", 1)] {
        let (path, _) = add(&ada, title, json!({})).await;
        // A whole day starts when it does in the task's zone, be it as far away as there is one.
        for zone in ["Pacific/Kiritimati", "Etc/GMT+12"] {
            let id = path.rsplit('/').next().unwrap();
            sqlx::query(
                "update tasks.tasks
                 set due_on = (now() at time zone 'Europe/Berlin')::date + $2,
                     due_on_starts_at = ((now() at time zone 'Europe/Berlin')::date + $2)::timestamp at time zone $3
                 where id = $1::uuid",
            )
            .bind(id)
            .bind(day)
            .bind(zone)
            .execute(server.database.admin())
            .await
            .unwrap();
            let expected = |due: &str| match (due, day) {
                ("today", 0) | ("overdue", -1) => vec![title.to_owned()],
                _ => vec![],
            };
            for due in ["today", "overdue"] {
                let query = format!("due={due}&q={title}&sort=due");
                assert_eq!(titles(&ada, &query).await, expected(due), "{title} {due} {zone}");
            }
        }
    }
    add(&ada, "now", json!({"due_at": chrono::Utc::now().to_rfc3339()})).await;
    assert_eq!(titles(&ada, "due=overdue&sort=title").await, ["now", "yesterday"]);
    assert_eq!(titles(&ada, "due=today&sort=title").await, ["now", "today"]);
}

#[tokio::test]
async fn lists_are_sorted_as_asked_and_paged_in_that_order() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let mut paths = Vec::new();
    for (title, priority, due_at) in [
        ("banana", "low", None),
        ("Apple", "urgent", Some("2027-01-03T00:00:00Z")),
        ("apple", "medium", Some("2027-01-01T00:00:00Z")),
        ("Äpfel", "medium", None),
        ("task 10", "high", Some("2027-01-02T00:00:00Z")),
        ("task 9", "urgent", Some("2027-01-02T00:00:00Z")),
        ("🎂", "low", None),
    ] {
        paths.push(
            add(&ada, title, json!({"priority": priority, "due_at": due_at}))
                .await
                .0,
        );
    }
    add(
        &server.person("eve@example.org").await,
        "aaa",
        json!({"priority": "urgent"}),
    )
    .await;
    // The order of updates becomes that of creation but for one.
    ada.patch(&paths[0], &json!({"description": "changed"})).await;
    for (sort, expected) in [
        ("created", "banana,Apple,apple,Äpfel,task 10,task 9,🎂"),
        ("-created", "🎂,task 9,task 10,Äpfel,apple,Apple,banana"),
        ("updated", "Apple,apple,Äpfel,task 10,task 9,🎂,banana"),
        ("-updated", "banana,🎂,task 9,task 10,Äpfel,apple,Apple"),
        ("due", "apple,task 10,task 9,Apple,banana,Äpfel,🎂"),
        ("-due", "Apple,task 9,task 10,apple,🎂,Äpfel,banana"),
        ("priority", "banana,🎂,apple,Äpfel,task 10,Apple,task 9"),
        ("-priority", "task 9,Apple,task 10,Äpfel,apple,🎂,banana"),
        ("title", "🎂,Äpfel,apple,Apple,banana,task 9,task 10"),
        ("-title", "task 10,task 9,banana,Apple,apple,Äpfel,🎂"),
    ] {
        assert_eq!(
            titles(&ada, &format!("sort={sort}")).await.join(","),
            expected,
            "{sort}"
        );
        // The same with a filter that lets everything pass.
        let filtered = format!("sort={sort}&updated_since=2020-01-01T00:00:00Z");
        assert_eq!(titles(&ada, &filtered).await.join(","), expected, "{sort}");
    }
    assert_eq!(titles(&ada, "q=task&sort=due").await, ["task 10", "task 9"]);
    assert_eq!(titles(&ada, "q=task&sort=-title").await, ["task 10", "task 9"]);
    // Of equal matches the newest first.
    assert_eq!(titles(&ada, "q=task").await, ["task 9", "task 10"]);
    assert_eq!(titles(&ada, "q=aple&sort=title").await, ["apple", "Apple"]);
}

#[tokio::test]
async fn long_titles_are_sorted_by_their_beginning() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let beginning = "𝕋\"\\".repeat(33);
    let mut made = BTreeSet::new();
    for n in 0..5 {
        let title = format!("{beginning}{}{n}", "x".repeat(400));
        add(&ada, &title, json!({})).await;
        made.insert(title);
    }
    let paged = titles(&ada, "sort=title").await;
    assert_eq!(paged.len(), made.len());
    assert_eq!(paged.into_iter().collect::<BTreeSet<_>>(), made);
}

#[tokio::test]
async fn a_cursor_is_good_for_its_person_and_its_list_only() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let eve = server.person("eve@example.org").await;
    for n in 0..3 {
        for person in [&ada, &eve] {
            add(person, &format!("task {n}"), json!({"tags": ["home"]})).await;
        }
    }
    let first = |query: &'static str| {
        let ada = ada.clone();
        async move {
            let page = ada.get(&format!("/api/tasks?limit=1&{query}")).await.json();
            page["next_cursor"].as_str().unwrap().to_owned()
        }
    };
    let refused = async |person: &Person, query: &str, cursor: &str| {
        let answer = person.get(&format!("/api/tasks?{query}&cursor={cursor}")).await;
        assert_eq!(answer.problem(400, "invalid-query"), ["cursor"], "{query}");
    };
    let queries = [
        "",
        "sort=title",
        "sort=-title",
        "tags=home",
        "q=task",
        "q=taks",
        "deleted=false&due=none",
    ];
    for (index, query) in queries.into_iter().enumerate() {
        let cursor = first(query).await;
        for (other, elsewhere) in queries.into_iter().enumerate() {
            if other == index {
                let page = ada.get(&format!("/api/tasks?{elsewhere}&cursor={cursor}")).await;
                assert_eq!(page.json()["items"].as_array().unwrap().len(), 2, "{query}");
            } else {
                refused(&ada, elsewhere, &cursor).await;
            }
        }
        refused(&eve, query, &cursor).await;
        let (position, seal) = cursor.split_once('.').unwrap();
        for edited in [
            format!("{position}."),
            format!(".{seal}"),
            position.to_owned(),
            format!("{position}x.{seal}"),
            format!("{position}.{seal}x"),
            format!("{position}=.{seal}"),
            seal.to_owned(),
            format!("{cursor}%00"),
            "x".repeat(5000),
        ] {
            refused(&ada, query, &edited).await;
        }
    }
    // Another number of items, or a count, is the same list.
    let cursor = first("").await;
    let page = ada
        .get(&format!(
            "/api/tasks?limit=1&total=true&sort=-created&cursor={cursor}"
        ))
        .await;
    assert_eq!(page.json()["total_count"], 3);
}

#[tokio::test]
async fn everything_that_is_wrong_with_a_query_is_named_at_once() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let long = format!("q={}", "x".repeat(501));
    let many = format!("q={}", "x+".repeat(21));
    let tags = "tags=x&".repeat(21);
    for (query, parameters) in [
        ("q=", vec!["q"]),
        ("q=%20", vec!["q"]),
        ("q=%00", vec!["q"]),
        ("q=a&q=b", vec!["q"]),
        (&long, vec!["q"]),
        (&many, vec!["q"]),
        ("status=done", vec!["status"]),
        ("status=open&status=completed", vec!["status"]),
        ("priority=low,high", vec!["priority"]),
        ("priority=", vec!["priority"]),
        (
            "priority=low&priority=low&priority=low&priority=low&priority=low",
            vec!["priority"],
        ),
        ("tags=", vec!["tags"]),
        (&tags, vec!["tags"]),
        ("tags_any=%0a", vec!["tags_any"]),
        ("due=tomorrow", vec!["due"]),
        ("due_before=2027-01-01", vec!["due_before"]),
        ("due_after=10000-01-01T00:00:00Z", vec!["due_after"]),
        ("updated_since=yesterday", vec!["updated_since"]),
        ("series_id=1", vec!["series_id"]),
        ("deleted=yes", vec!["deleted"]),
        ("total=1", vec!["total"]),
        ("sort=rank", vec!["sort"]),
        ("sort=-rank&q=x", vec!["sort"]),
        ("sort=--due", vec!["sort"]),
        ("sort=Title", vec!["sort"]),
        ("order=asc", vec!["order"]),
        ("Q=x", vec!["Q"]),
        (
            "z=1&total=x&cursor=x&limit=x&sort=x&deleted=x&status=x&q=",
            vec!["q", "status", "deleted", "sort", "limit", "cursor", "total", "z"],
        ),
    ] {
        let answer = ada.get(&format!("/api/tasks?{query}")).await;
        assert_eq!(answer.problem(400, "invalid-query"), parameters, "{query}");
    }
    // What is no UTF-8 is a text nobody wrote; a text full of syntax is a text.
    for query in ["q=%ff", "q=%22", "q=%5c%27", "q=%e2%80%ae", "tags=%7b%22%5c"] {
        assert_eq!(
            ada.get(&format!("/api/tasks?{query}")).await.status,
            200,
            "{query}"
        );
    }
}
