//! Addresses that mail does not arrive at: refused in the dialogue, or reported later.

use reqwest::StatusCode;
use schemas::NotificationEventKind;
use serde_json::{Value, json};
use support::{Database, eventually};
use uuid::Uuid;

use crate::catcher::{Catcher, free_port};
use crate::fixture::{Running, arm, config, kinds, metric, no_topics, notifications, readiness, until_state};

pub const TOKEN: &str = "a-token-of-tests-for-what-comes-back";

/// Hands a mail over as a mail server does.
pub async fn hand_over(port: u16, token: &str, mail: Vec<u8>) -> (StatusCode, Value) {
    let answer = reqwest::Client::new()
        .post(format!("http://127.0.0.1:{port}/bounces"))
        .bearer_auth(token)
        .header("content-type", "message/rfc822")
        .body(mail)
        .send()
        .await
        .unwrap();
    (
        answer.status(),
        serde_json::from_str(&answer.text().await.unwrap()).unwrap(),
    )
}

/// The addresses that are suppressed, and how that became known.
pub async fn suppressed(database: &Database) -> Vec<(String, String)> {
    sqlx::query_as("select address, source from delivery.suppressed_addresses order by address")
        .fetch_all(database.admin())
        .await
        .unwrap()
}

fn report(delivery: Uuid, address: &str) -> Vec<u8> {
    format!(
        "From: MAILER-DAEMON@mx.example\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
         --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example\r\n\r\n\
         Final-Recipient: rfc822; {address}\r\nAction: failed\r\nStatus: 5.1.1\r\n\
         Diagnostic-Code: smtp; 550 5.1.1 <{address}> unknown\r\n\r\n\
         --b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: <{delivery}@carillon.example>\r\n\r\n--b--\r\n"
    )
    .into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_refused_for_good_gets_no_more_reminders_but_the_link_that_is_asked_for() {
    let (database, catcher) = (Database::create().await, Catcher::start().await);
    catcher
        .faults(json!([
            {"at": "rcpt", "match": "gone@*", "code": 550, "message": "5.1.1 <Gone@example.com>: no such user"},
            {"at": "rcpt", "match": "full@*", "code": 552, "message": "5.2.2 mailbox full"},
            {"at": "data", "match": "spam@*", "code": 554, "message": "5.7.1 looks like spam"},
        ]))
        .await;
    let gone_user = database.user("Gone@Example.com").await;
    let gone = arm(&database, gone_user, "x").await;
    let full = arm(&database, database.user("full@example.com").await, "x").await;
    let spam = arm(&database, database.user("spam@example.com").await, "x").await;
    let port = free_port();
    let more = [("HTTP_PORT", &*port.to_string())];
    let service = Running::start(config(&database, &no_topics(), catcher.port, &more));
    for id in [gone, full, spam] {
        until_state(&database, id, "failed").await;
    }
    // A full mailbox and a mail that is not liked say nothing about the address.
    assert_eq!(
        suppressed(&database).await,
        [("gone@example.com".to_owned(), "refusal".to_owned())]
    );
    assert!(metric(port, "mail_bounces_total{source=\"refusal\"}").await >= 1.0);
    catcher.no_faults().await;
    let next = until_state(&database, arm(&database, gone_user, "y").await, "suppressed").await;
    let reason = next.last_error.unwrap();
    assert!(
        reason.starts_with("mail does not arrive at the address: 550 5.1.1"),
        "{reason}"
    );
    assert!(!reason.contains("example.com"), "{reason}");
    assert_eq!(catcher.count().await, 0);
    // It is asked for by the person, and how else should the address be shown to work again?
    for kind in ["verify_email", "email_changing"] {
        sqlx::query(
            "insert into delivery.account_mails (id, user_id, kind, link_token, expires_at)
             values (gen_random_uuid(), $1, $2, case when $2 = 'verify_email' then 'T0ken' end, now() + interval '1 hour')",
        )
        .bind(gone_user)
        .bind(kind)
        .execute(database.admin())
        .await
        .unwrap();
    }
    let states = eventually("both are over", async || {
        let states: Vec<(String, String)> = sqlx::query_as(
            "select kind, state from delivery.account_mails where state <> 'pending' order by kind",
        )
        .fetch_all(database.admin())
        .await
        .unwrap();
        (states.len() == 2).then_some(states)
    })
    .await;
    let expected = [("email_changing", "suppressed"), ("verify_email", "sent")];
    assert_eq!(
        states,
        expected.map(|(kind, state)| (kind.to_owned(), state.to_owned()))
    );
    service.stop().await;
    let events = notifications(&database).await;
    assert_eq!(kinds(&events).last(), Some(&NotificationEventKind::Suppressed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_suppresses_the_address_of_the_delivery_that_it_is_about_and_no_other() {
    let (database, catcher) = (Database::create().await, Catcher::start().await);
    let ada = arm(&database, database.user("Ada@example.com").await, "x").await;
    let bob = arm(&database, database.user("bob@example.com").await, "x").await;
    let port = free_port();
    let more = [("HTTP_PORT", &*port.to_string()), ("BOUNCE_TOKEN", TOKEN)];
    let service = Running::start(config(&database, &no_topics(), catcher.port, &more));
    for id in [ada, bob] {
        until_state(&database, id, "sent").await;
    }
    let (status, problem) = hand_over(
        port,
        "another-token-of-the-same-length-...",
        report(ada, "ada@example.com"),
    )
    .await;
    assert_eq!(
        (status, &problem["status"]),
        (StatusCode::UNAUTHORIZED, &json!(401))
    );
    for (mail, status) in [
        (
            b"Subject: I am on holiday\r\n\r\nUntil then.\r\n".to_vec(),
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (Vec::new(), StatusCode::UNPROCESSABLE_ENTITY),
        (vec![b'x'; 257 * 1024], StatusCode::PAYLOAD_TOO_LARGE),
        // One mail does not speak for another person's address, and nothing for a mail that was never sent.
        (report(ada, "bob@example.com"), StatusCode::OK),
        (report(Uuid::now_v7(), "ada@example.com"), StatusCode::OK),
    ] {
        let (answered, body) = hand_over(port, TOKEN, mail).await;
        assert_eq!(answered, status, "{body}");
        assert!(body["suppressed"] == 0 || body["detail"].is_string(), "{body}");
    }
    assert_eq!(suppressed(&database).await, []);
    for expected in [1, 0] {
        let answer = hand_over(port, TOKEN, report(ada, "ADA@example.com")).await;
        assert_eq!(answer, (StatusCode::OK, json!({"suppressed": expected})));
    }
    assert_eq!(
        suppressed(&database).await,
        [("ada@example.com".to_owned(), "report".to_owned())]
    );
    let reason: String = sqlx::query_scalar("select reason from delivery.suppressed_addresses")
        .fetch_one(database.admin())
        .await
        .unwrap();
    assert_eq!(reason, "5.1.1 550 5.1.1 <(recipient)> unknown");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_nothing_is_taken_in() {
    let (database, catcher) = (Database::create().await, Catcher::start().await);
    let port = free_port();
    let more = [("HTTP_PORT", &*port.to_string())];
    let service = Running::start(config(&database, &no_topics(), catcher.port, &more));
    eventually("it listens", async || readiness(port).await).await;
    let answer = reqwest::Client::new()
        .post(format!("http://127.0.0.1:{port}/bounces"))
        .bearer_auth("")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    service.stop().await;
}
