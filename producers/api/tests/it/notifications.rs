//! How a person wants to be notified, of everything and of one task, and the list in the page.

use reqwest::header::{ETAG, IF_MATCH, LOCATION};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::server::{Answer, Person, Server};

const SETTINGS: &str = "/api/me/notifications";
const ALL: &str = "/api/notifications";

async fn ada() -> Person {
    Server::start().await.person("ada@example.org").await
}

fn defaults() -> Value {
    json!({
        "version": 0,
        "reminder": {"email": "at_once", "in_app": "at_once"},
        "reminder_missed": {"email": "off", "in_app": "at_once"},
        "delivery_failed": {"email": "off", "in_app": "at_once"},
        "digest": {"every": "day", "weekday": "monday", "at": "08:00"},
        "quiet_hours": null, "urgent_breaks_through": true, "pause": null,
    })
}

#[tokio::test]
async fn settings_are_patched_member_by_member_and_null_is_the_default() {
    let ada = ada().await;
    let answer = ada.get(SETTINGS).await;
    assert_eq!((answer.header(ETAG), answer.json()), ("\"0\"", defaults()));

    let patch = json!({
        "reminder": {"email": "digest"}, "digest": {"every": "week", "at": "18:30"},
        "quiet_hours": {"from": "22:00", "to": "07:00"}, "pause": {"until": "2097-01-01T00:00:00Z"},
    });
    let answer = ada.patch(SETTINGS, &patch).await;
    assert_eq!((answer.status, answer.header(ETAG)), (StatusCode::OK, "\"1\""));
    let mut expected = defaults();
    expected["version"] = json!(1);
    expected["reminder"]["email"] = json!("digest");
    expected["digest"] = json!({"every": "week", "weekday": "monday", "at": "18:30"});
    expected["quiet_hours"] = json!({"from": "22:00", "to": "07:00", "then": "at_once"});
    expected["pause"] = json!({"until": "2097-01-01T00:00:00.000000Z"});
    assert_eq!(answer.json(), expected);
    assert_eq!(ada.get(SETTINGS).await.json(), expected);
    assert_eq!(
        ada.patch(SETTINGS, &json!({"pause": {"until": "2097-01-01T00:00:00Z"}}))
            .await
            .json(),
        expected
    );

    let patch = json!({"quiet_hours": {"then": "digest"}, "pause": null, "reminder": null, "digest": {"at": null, "every": null}});
    let answer = ada.patch(SETTINGS, &patch).await;
    let mut expected = defaults();
    expected["version"] = json!(2);
    expected["quiet_hours"] = json!({"from": "22:00", "to": "07:00", "then": "digest"});
    assert_eq!(answer.json(), expected);
    let export = ada.get("/api/me/export").await.json();
    assert_eq!(export["notification_settings"][0]["quiet_hours"]["from"], "22:00");
}

#[tokio::test]
async fn what_is_wrong_is_named_and_nothing_is_changed() {
    let ada = ada().await;
    for (patch, wrong) in [
        (
            json!({"reminder": {"email": "sometimes"}}),
            "/reminder/email must be one of",
        ),
        (
            json!({"reminder": {"in_app": "digest"}}),
            "/reminder/in_app must be one of at_once, off",
        ),
        (json!({"reminder": {"phone": "off"}}), "/reminder/phone"),
        (json!({"reminder": "off"}), "/reminder"),
        (
            json!({"delivery_failed": {"email": "at_once"}}),
            "/delivery_failed/email must be off",
        ),
        (json!({"digest": {"at": "8 o'clock"}}), "/digest/at"),
        (json!({"digest": {"weekday": "caturday"}}), "/digest/weekday"),
        (
            json!({"quiet_hours": {"to": "07:00"}}),
            "/quiet_hours/from is required",
        ),
        (
            json!({"quiet_hours": {"from": "07:00", "to": "07:00"}}),
            "/quiet_hours/to must not be",
        ),
        (
            json!({"quiet_hours": {"from": "22:00", "to": "07:00", "then": "off"}}),
            "/quiet_hours/then",
        ),
        (json!({"pause": {"until": "tomorrow"}}), "/pause/until"),
        (json!({"sound": "bell"}), "/sound"),
    ] {
        let answer = ada.patch(SETTINGS, &patch).await;
        let problem = answer.json();
        assert_eq!(
            answer.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{patch}: {problem}"
        );
        let flaw = &problem["errors"][0];
        let said = format!(
            "{} {}",
            flaw["pointer"].as_str().unwrap().trim_start_matches('#'),
            flaw["detail"].as_str().unwrap()
        );
        assert!(said.starts_with(wrong), "{patch}: {said}");
    }
    assert_eq!(ada.get(SETTINGS).await.json(), defaults());
    let request = ada.request(Method::PATCH, SETTINGS).header(IF_MATCH, "\"3\"");
    let answer = Answer::to(request.json(&json!({"urgent_breaks_through": false}))).await;
    answer.problem(412, "stale-version");
}

#[tokio::test]
async fn what_is_said_of_a_task_stays_with_it_and_goes_with_it() {
    let ada = ada().await;
    let (task, _) = ada.task(&json!({"title": "Water the plants"})).await;
    let body = json!({"title": "Stand up", "recurrence_type": "daily", "starts_at": "2097-02-01T08:00:00Z"});
    let series = ada.post("/api/recurring-tasks", &body).await.json();
    let series = format!("/api/recurring-tasks/{}", series["id"].as_str().unwrap());
    for path in [&task, &series] {
        let path = format!("{path}/notifications");
        let nothing = json!({"email": null, "in_app": null, "ignore_quiet_hours": false});
        assert_eq!(ada.get(&path).await.json(), nothing);
        let said = json!({"email": "off", "in_app": null, "ignore_quiet_hours": true});
        let put = async |body: &Value| Answer::to(ada.request(Method::PUT, &path).json(body)).await;
        assert_eq!(
            put(&json!({"email": "digest", "in_app": "off"})).await.status,
            StatusCode::OK
        );
        assert_eq!(put(&said).await.json(), said);
        assert_eq!(ada.get(&path).await.json(), said);
        assert_eq!(
            put(&json!({"email": "loud"})).await.status,
            StatusCode::UNPROCESSABLE_ENTITY
        );
        if path.starts_with(&series) {
            // One that is split goes on as loud as it was.
            let split = json!({"from": "2097-02-03T08:00:00Z", "title": "Sit down"});
            let answer = ada.post(&format!("{series}/split"), &split).await;
            assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
            let new = format!("{}/notifications", answer.header(LOCATION));
            assert_eq!(ada.get(&new).await.json(), said);
        }
        assert_eq!(
            ada.send(Method::DELETE, &path).await.status,
            StatusCode::NO_CONTENT
        );
        assert_eq!(ada.get(&path).await.json(), nothing);
    }
    ada.send(Method::DELETE, &task).await;
    ada.get(&format!("{task}/notifications"))
        .await
        .problem(404, "not-found");
    let unknown = format!("/api/tasks/{}/notifications", Uuid::now_v7());
    let put = ada.request(Method::PUT, &unknown).json(&json!({}));
    Answer::to(put).await.problem(404, "not-found");
}

/// Rows as the notification inbox leaves them, the first the newest.
async fn listed(person: &Person, count: i32) -> Vec<String> {
    let ids: Vec<Uuid> = (0..count).map(|_| Uuid::now_v7()).collect();
    sqlx::query(
        "insert into notifications.notifications (user_id, id, kind, reminder_id, task_id, title, fire_at, at)
         select $1, id, 'reminder', id, id, 'Water the plants', now(), now() - n * interval '1 minute'
         from unnest($2::uuid[]) with ordinality as i (id, n)",
    )
    .bind(person.id)
    .bind(&ids)
    .execute(person.server.database.admin())
    .await
    .unwrap();
    ids.iter().map(Uuid::to_string).collect()
}

#[tokio::test]
async fn the_list_is_read_page_by_page_and_what_was_read_is_unread_no_more() {
    let ada = ada().await;
    let ids = listed(&ada, 5).await;
    let shown = async |query: &str| {
        let page = ada.get(&format!("{ALL}{query}")).await.json();
        let ids: Vec<String> = page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["id"].as_str().unwrap().to_owned())
            .collect();
        (ids, page["next_cursor"].as_str().map(str::to_owned))
    };
    let unread = async || ada.get("/api/notifications/unread").await.json()["unread"].clone();
    let (first, cursor) = shown("?limit=3").await;
    assert_eq!(first, ids[..3]);
    let (rest, end) = shown(&format!("?limit=3&cursor={}", cursor.unwrap())).await;
    assert_eq!((rest, end), (ids[3..].to_vec(), None));
    assert_eq!(unread().await, 5);

    let read = ada
        .post(&format!("{ALL}/{}/read", ids[1]), &json!({}))
        .await
        .json();
    assert_eq!(
        (&read["id"], &read["title"]),
        (&json!(ids[1]), &json!("Water the plants"))
    );
    assert!(read["read_at"].is_string());
    let again = ada
        .post(&format!("{ALL}/{}/read", ids[1]), &json!({}))
        .await
        .json();
    assert_eq!(read, again);
    assert_eq!(
        shown("?unread=true").await.0,
        [&ids[0], &ids[2], &ids[3], &ids[4]].map(String::clone)
    );
    assert_eq!(unread().await, 4);

    // All that were shown, and none of those that came since.
    let until = ada.get(&format!("{ALL}?limit=3")).await.json()["items"][2]["at"].clone();
    let read = ada
        .post("/api/notifications/read", &json!({"until": until}))
        .await
        .json();
    assert_eq!(read, json!({"read": 3}));
    assert_eq!(shown("?unread=true").await.0, ids[..1]);
    assert_eq!(
        ada.post("/api/notifications/read", &json!({})).await.json(),
        json!({"read": 1})
    );
    assert_eq!(unread().await, 0);
    let unknown = format!("{ALL}/{}/read", Uuid::now_v7());
    ada.post(&unknown, &json!({})).await.problem(404, "not-found");
}
