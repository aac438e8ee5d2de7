//! The signed links in mails: what they do, and what they do not.

use chrono::{TimeDelta, Utc};
use links::{Action, Keys, Link};
use reqwest::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::server::{Answer, LINK_KEY, Person, Server};

/// The path of a link that was mailed so long ago.
fn link_of(action: Action, user_id: Uuid, age: TimeDelta) -> String {
    let keys = Keys::parse(LINK_KEY).unwrap();
    keys.url("", &Link::of(action, user_id, Utc::now() - age))
}

fn link(action: Action, user_id: Uuid) -> String {
    link_of(action, user_id, TimeDelta::zero())
}

async fn press(server: &Server, path: &str, body: &'static str) -> Answer {
    let request = server
        .request(Method::POST, path)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    Answer::to(request.body(body)).await
}

fn id(value: &Value) -> Uuid {
    value["id"].as_str().unwrap().parse().unwrap()
}

/// A task that rings.
async fn task(ada: &Person, title: &str) -> Value {
    let body = json!({"title": title, "due_at": "2030-02-01T09:00:00Z", "reminders": [{"offset": "-PT10M"}]});
    ada.post("/api/tasks", &body).await.json()
}

async fn read(ada: &Person, task: &Value) -> Value {
    ada.get(&format!("/api/tasks/{}", id(task))).await.json()
}

#[tokio::test]
async fn opening_a_link_changes_nothing_and_its_button_completes_the_task_once() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let made = task(&ada, "<b>Water</b> & wait").await;
    let path = link(Action::Complete { task_id: id(&made) }, ada.id);
    for method in [Method::GET, Method::HEAD, Method::GET] {
        let page = Answer::to(server.request(method.clone(), &path)).await;
        assert_eq!(page.status, StatusCode::OK);
        assert_eq!(page.header(CACHE_CONTROL), "no-store");
        assert_eq!(page.header(REFERRER_POLICY), "no-referrer");
        let policy = page.header(CONTENT_SECURITY_POLICY);
        assert!(policy.contains("default-src 'none'") && policy.contains("form-action 'self'"));
        if method == Method::GET {
            assert!(page.text.contains("&lt;b&gt;Water"), "{}", page.text);
            assert!(!page.text.contains("<b>") && !page.text.contains("<script"));
            assert!(page.text.contains("<form method=\"post\">"));
        }
    }
    assert_eq!(
        read(&ada, &made).await["version"],
        1,
        "mail scanners open links too"
    );
    for _ in 0..2 {
        let page = press(&server, &path, "").await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(page.text.contains("The task is completed."), "{}", page.text);
    }
    let done = read(&ada, &made).await;
    assert_eq!(
        (&done["version"], &done["status"]),
        (&json!(2), &json!("completed"))
    );
    // There is nothing to ask any more.
    assert!(!server.get(&path).await.text.contains("<form"));
}

#[tokio::test]
async fn a_reminder_is_put_off_by_the_button_that_is_pressed() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let made = task(&ada, "Water the plants").await;
    let reminder_id = id(&made["reminders"][0]);
    let path = link(Action::Snooze { reminder_id }, ada.id);
    let page = server.get(&path).await;
    for until in ["ten_minutes", "hour", "tomorrow"] {
        assert!(page.text.contains(&format!("value=\"{until}\"")), "{}", page.text);
    }
    for wrong in ["", "until=", "until=never", "until=hour&until=hour", "%ff=%"] {
        let page = press(&server, &path, wrong).await;
        assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
        assert!(page.text.contains("<form"), "it asks again");
    }
    assert_eq!(read(&ada, &made).await["version"], 1);
    for _ in 0..2 {
        let page = press(&server, &path, "until=tomorrow").await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.text);
        assert!(
            page.text.contains("rings again.") && page.text.contains("09:00 (Europe"),
            "{}",
            page.text
        );
    }
    let after = read(&ada, &made).await;
    assert_eq!(after["version"], 2, "pressed twice, done once");
    ada.send(Method::POST, &format!("/api/tasks/{}/complete", id(&made)))
        .await;
    let page = press(&server, &path, "until=hour").await;
    assert_eq!(page.status, StatusCode::CONFLICT);
    assert!(page.text.contains("The task is completed."));
}

#[tokio::test]
async fn links_that_are_forged_old_of_another_person_or_of_nothing_do_nothing_and_say_so() {
    let server = Server::start().await;
    let (ada, eve) = (
        server.person("ada@example.org").await,
        server.person("eve@example.org").await,
    );
    let made = task(&ada, "Water the plants").await;
    let complete = Action::Complete { task_id: id(&made) };
    let good = link(complete, ada.id);
    let mut forged = good.clone();
    let last = forged.pop();
    forged.push(if last == Some('A') { 'B' } else { 'A' });
    let foreign = Keys::parse("another-key-that-is-nobodys-here").unwrap();
    let foreign = foreign.url("", &Link::of(complete, ada.id, Utc::now()));
    let none = [
        forged,
        foreign,
        good.replace("/l/", "/l/x"),
        "/l/x".to_owned(),
        "/l/%ff".to_owned(),
        format!("/l/{}", "a".repeat(5000)),
        // Of another person, of no person, of no task, of another kind.
        link(complete, eve.id),
        link(complete, Uuid::now_v7()),
        link(
            Action::Complete {
                task_id: Uuid::now_v7(),
            },
            ada.id,
        ),
        link(
            Action::Snooze {
                reminder_id: id(&made),
            },
            ada.id,
        ),
        link(Action::Unsubscribe, ada.id).replace("/unsubscribe/", "/l/"),
    ];
    for path in none {
        for page in [server.get(&path).await, press(&server, &path, "until=hour").await] {
            assert_eq!(page.status, StatusCode::NOT_FOUND, "{path}: {}", page.text);
            assert!(page.text.contains("<p role=\"status\">"), "{path}: {}", page.text);
            assert!(!page.text.contains("Water"));
        }
    }
    let old = link_of(complete, ada.id, TimeDelta::days(15));
    for page in [server.get(&old).await, press(&server, &old, "").await] {
        assert_eq!(page.status, StatusCode::GONE);
        assert!(page.text.contains("This link has expired."), "{}", page.text);
    }
    assert_eq!(read(&ada, &made).await["version"], 1);
    ada.send(Method::DELETE, &format!("/api/tasks/{}", id(&made)))
        .await;
    assert_eq!(press(&server, &good, "").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_pages_speak_the_persons_language() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let changed = ada
        .patch("/api/me", &json!({"language": "de", "attach_ics": true}))
        .await
        .json();
    assert_eq!(
        (&changed["language"], &changed["attach_ics"]),
        (&json!("de"), &json!(true))
    );
    for wrong in [
        json!({"language": "tlh"}),
        json!({"language": null}),
        json!({"attach_ics": "yes"}),
    ] {
        ada.patch("/api/me", &wrong).await.problem(422, "invalid-fields");
    }
    let made = task(&ada, "Blumen gießen").await;
    let path = link(Action::Complete { task_id: id(&made) }, ada.id);
    let page = server.get(&path).await;
    assert!(
        page.text.contains("<html lang=\"de\">") && page.text.contains("Ist diese Aufgabe erledigt?"),
        "{}",
        page.text
    );
}

#[tokio::test]
async fn an_address_that_bounces_is_told_and_works_again_when_it_is_verified_again() {
    let server = Server::start().await;
    let ada = server.person("Ada@example.org").await;
    let address = async || ada.get("/api/me/email").await.json();
    assert_eq!(address().await["suppressed"], Value::Null);
    sqlx::query("update accounts.users set email_verified_at = now()")
        .execute(server.database.admin())
        .await
        .unwrap();
    sqlx::query(
        "insert into delivery.suppressed_addresses (address, user_id, source, reason)
         values ('ada@example.org', $1, 'refusal', '550 5.1.1 no such user')",
    )
    .bind(ada.id)
    .execute(server.database.admin())
    .await
    .unwrap();
    let told = address().await;
    assert_eq!(told["verified"], true);
    assert_eq!(told["suppressed"]["reason"], "550 5.1.1 no such user");
    let asked = ada.send(Method::POST, "/api/auth/verify-email/send").await;
    assert_eq!(asked.status, StatusCode::ACCEPTED);
    let token: String =
        sqlx::query_scalar("select link_token from delivery.account_mails where kind = 'verify_email'")
            .fetch_one(server.database.admin())
            .await
            .unwrap();
    let verified = server
        .post("/api/auth/verify-email", &json!({"token": token}))
        .await;
    assert_eq!(verified.status, StatusCode::NO_CONTENT);
    assert_eq!(address().await["suppressed"], Value::Null);
}

#[tokio::test]
async fn one_click_unsubscribes_and_opening_the_link_does_not() {
    let server = Server::start().await;
    let ada = server.person("ada@example.org").await;
    let path = link(Action::Unsubscribe, ada.id);
    let modes = async || {
        let settings = ada.get("/api/me/notifications").await.json();
        ["reminder", "reminder_missed"].map(|kind| settings[kind]["email"].clone())
    };
    let before = modes().await;
    assert_eq!(before[0], "at_once");
    let page = server.get(&path).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(
        page.text
            .contains("name=\"List-Unsubscribe\" value=\"One-Click\""),
        "{}",
        page.text
    );
    for wrong in ["", "List-Unsubscribe=No", "x=List-Unsubscribe=One-Click"] {
        let page = press(&server, &path, wrong).await;
        assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
    }
    assert_eq!(modes().await, before);
    for (kind, body) in [
        ("application/x-www-form-urlencoded", "List-Unsubscribe=One-Click"),
        (
            "multipart/form-data; boundary=b",
            "--b\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--b--\r\n",
        ),
    ] {
        sqlx::query("delete from accounts.notification_settings")
            .execute(server.database.admin())
            .await
            .unwrap();
        let request = server
            .request(Method::POST, &path)
            .header(CONTENT_TYPE, kind)
            .body(body);
        let page = Answer::to(request).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.text);
        assert_eq!(modes().await, ["off", "off"].map(Value::from), "{kind}");
    }
    // Again, and for nobody, and by a link for something else.
    assert_eq!(
        press(&server, &path, "List-Unsubscribe=One-Click").await.status,
        StatusCode::OK
    );
    let task_link = link(
        Action::Complete {
            task_id: Uuid::now_v7(),
        },
        ada.id,
    );
    for other in [
        link(Action::Unsubscribe, Uuid::now_v7()),
        task_link.replace("/l/", "/unsubscribe/"),
    ] {
        let page = press(&server, &other, "List-Unsubscribe=One-Click").await;
        assert_eq!(page.status, StatusCode::NOT_FOUND);
    }
}
