//! Things that are away, and processes that die.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::Connection;
use support::{Database, eventually};
use tokio::time::sleep;

use crate::catcher::{Catcher, free_port};
use crate::fixture::{
    Running, arm, config, count, metric, no_topics, notifications, readiness, row, until_state,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_costs_no_attempts_and_then_each_mail_goes_out_once() {
    let database = Database::create().await;
    let user = database.user("ada@example.com").await;
    for n in 0..100 {
        arm(&database, user, &format!("task {n}")).await;
    }
    let (smtp, http) = (free_port(), free_port());
    let more = [("HTTP_PORT", &*http.to_string())];
    let service = Running::start(config(&database, &no_topics(), smtp, &more));
    let reason = eventually("readiness says why", async || {
        let (status, text) = readiness(http).await?;
        (status == 503 && text.contains("cannot connect to 127.0.0.1")).then_some(text)
    })
    .await;
    assert!(reason.contains("SMTP server"), "{reason}");
    sleep(Duration::from_secs(2)).await;
    let attempts: i64 = sqlx::query_scalar("select sum(attempts) from delivery.deliveries")
        .fetch_one(database.admin())
        .await
        .unwrap();
    assert_eq!(attempts, 0, "an attempt was counted though there is no server");

    let catcher = Catcher::with(&["--port", &smtp.to_string()]).await;
    eventually("all are sent", async || {
        (count(&database, "sent").await == 100).then_some(())
    })
    .await;
    eventually("ready again", async || {
        let (_, text) = readiness(http).await?;
        text.contains("\"name\":\"smtp\",\"state\":\"ready\"")
            .then_some(())
    })
    .await;
    service.stop().await;
    assert_eq!(catcher.count().await, 100);
    let most: i32 = sqlx::query_scalar("select max(attempts) from delivery.deliveries")
        .fetch_one(database.admin())
        .await
        .unwrap();
    assert_eq!(most, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_in_the_middle_loses_no_mail() {
    let database = Database::create().await;
    let user = database.user("ada@example.com").await;
    for n in 0..400 {
        arm(&database, user, &format!("task {n}")).await;
    }
    let folder = std::env::temp_dir().join(format!("mails-{}", uuid::Uuid::new_v4()));
    let port = free_port().to_string();
    let arguments = ["--port", &port, "--dir", folder.to_str().unwrap()];
    let catcher = Catcher::with(&arguments).await;
    catcher.faults(json!([{"at": "data", "delay_ms": 20}])).await;
    let service = Running::start(config(&database, &no_topics(), catcher.port, &[]));
    eventually("some are sent", async || {
        (catcher.count().await > 50).then_some(())
    })
    .await;
    catcher.kill().await;
    sleep(Duration::from_secs(1)).await;
    let catcher = Catcher::with(&arguments).await;
    eventually("all are sent", async || {
        (count(&database, "sent").await == 400).then_some(())
    })
    .await;
    service.stop().await;
    let mut copies: HashMap<String, usize> = HashMap::new();
    for mail in catcher.mails().await {
        *copies.entry(mail.message_id).or_default() += 1;
    }
    assert_eq!(copies.len(), 400, "a mail is missing");
    // Only what was on the wire when it died can have come twice.
    assert!(copies.values().filter(|&&n| n > 1).count() <= 8);
    assert!(copies.values().all(|&n| n <= 2));
    // What was only waiting for its turn was given back, and the attempt not counted.
    let tried_again: i64 = sqlx::query_scalar("select count(*) from delivery.deliveries where attempts > 1")
        .fetch_one(database.admin())
        .await
        .unwrap();
    assert!(tried_again <= 8, "{tried_again}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_is_counted_and_the_second_copy_is_recognisable() {
    let (database, catcher) = (Database::create().await, Catcher::start().await);
    catcher
        .faults(json!([{"at": "data", "drop": true, "keep": true, "times": 1}]))
        .await;
    let id = arm(&database, database.user("ada@example.com").await, "x").await;
    let port = free_port();
    let more = [("HTTP_PORT", &*port.to_string())];
    let service = Running::start(config(&database, &no_topics(), catcher.port, &more));
    let row = until_state(&database, id, "sent").await;
    assert!(metric(port, "notifications_ambiguous_total").await >= 1.0);
    service.stop().await;
    assert_eq!(row.attempts, 2);
    let mails = catcher.mails().await;
    assert_eq!(mails.len(), 2);
    assert_eq!(mails[0].message_id, mails[1].message_id);
    assert_eq!(notifications(&database).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_before_recording_leaves_the_delivery_to_the_next_one() {
    let (database, catcher) = (Database::create().await, Catcher::start().await);
    let id = arm(&database, database.user("ada@example.com").await, "x").await;
    let topics = no_topics();
    let sender = || {
        let mut config = config(&database, &topics, catcher.port, &[]);
        config.smtp.timeout = Duration::from_millis(100);
        config.delivery.lease = Duration::from_secs(3);
        Running::start(config)
    };
    // It may send, and may not record: the role lacks a right, which no waiting mends.
    sqlx::query("revoke insert on outbox.events from carillon_email_sender")
        .execute(database.admin())
        .await
        .unwrap();
    let error = sender().fails().await;
    assert!(error.contains("permission denied"), "{error}");
    assert_eq!(catcher.count().await, 1);
    assert_eq!(row(&database, id).await.state, "pending");

    sqlx::query("grant insert on outbox.events to carillon_email_sender")
        .execute(database.admin())
        .await
        .unwrap();
    let service = sender();
    let row = until_state(&database, id, "sent").await;
    service.stop().await;
    assert_eq!(row.attempts, 2);
    let mails = catcher.mails().await;
    assert_eq!(mails.len(), 2);
    assert_eq!(mails[0].message_id, mails[1].message_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_cannot_be_recorded_waits_and_nothing_is_sent_again() {
    let (database, catcher) = (Database::create().await, Catcher::start().await);
    let id = arm(&database, database.user("ada@example.com").await, "x").await;
    let port = free_port();
    let more = [
        ("HTTP_PORT", &*port.to_string()),
        ("DATABASE_STATEMENT_TIMEOUT_MS", "300"),
    ];
    let mut config = config(&database, &no_topics(), catcher.port, &more);
    config.smtp.timeout = Duration::from_millis(100);
    config.delivery.lease = Duration::from_secs(2);
    // The outbox is not there for the recorder, long beyond the lease.
    let mut owner = sqlx::PgConnection::connect_with(&database.admin().connect_options())
        .await
        .unwrap();
    let mut lock = owner.begin().await.unwrap();
    sqlx::query("lock table outbox.events in access exclusive mode")
        .execute(&mut *lock)
        .await
        .unwrap();
    let service = Running::start(config);
    eventually("the mail", async || (catcher.count().await == 1).then_some(())).await;
    sleep(Duration::from_secs(4)).await;
    let unrecorded = metric(port, "notifications_outcome_unrecorded_total").await;
    lock.rollback().await.unwrap();
    let row = until_state(&database, id, "sent").await;
    sleep(Duration::from_secs(1)).await;
    service.stop().await;
    assert_eq!(row.attempts, 1);
    assert!(unrecorded >= 1.0);
    assert_eq!(catcher.count().await, 1);
    assert_eq!(notifications(&database).await.len(), 1);
    // When it was accepted, not when that could be written down.
    let late: f64 =
        sqlx::query_scalar("select extract(epoch from now() - finished_at)::float8 from delivery.deliveries")
            .fetch_one(database.admin())
            .await
            .unwrap();
    assert!(late > 4.0, "{late}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_does_not_hold_up_the_stop() {
    let (database, catcher) = (Database::create().await, Catcher::start().await);
    catcher.faults(json!([{"at": "rcpt", "delay_ms": 60_000}])).await;
    let user = database.user("ada@example.com").await;
    let ids = [arm(&database, user, "x").await, arm(&database, user, "y").await];
    let mut config = config(&database, &no_topics(), catcher.port, &[]);
    config.smtp.timeout = Duration::from_secs(50);
    config.delivery.lease = Duration::from_secs(3600);
    let service = Running::start(config);
    eventually("one is under way", async || {
        (catcher.struck().await > 0).then_some(())
    })
    .await;
    let began = Instant::now();
    service.stop().await;
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    for id in ids {
        assert_eq!(row(&database, id).await.state, "pending");
    }
    // Its lease is not over; another process would find it then. Here the server is well again.
    catcher.no_faults().await;
    sqlx::query("update delivery.deliveries set next_attempt_at = now()")
        .execute(database.admin())
        .await
        .unwrap();
    let service = Running::start(crate::fixture::config(&database, &no_topics(), catcher.port, &[]));
    eventually("both are sent", async || {
        (count(&database, "sent").await == 2).then_some(())
    })
    .await;
    service.stop().await;
    let ids: HashSet<_> = catcher.mails().await.into_iter().map(|m| m.message_id).collect();
    assert_eq!(ids.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_died_in_the_pool_costs_no_attempt() {
    let database = Database::create().await;
    let user = database.user("ada@example.com").await;
    let port = free_port().to_string();
    let catcher = Catcher::with(&["--port", &port]).await;
    let first = arm(&database, user, "x").await;
    let service = Running::start(config(&database, &no_topics(), catcher.port, &[]));
    until_state(&database, first, "sent").await;
    // The server starts anew: our idle connection is dead, and we do not know.
    catcher.kill().await;
    let catcher = Catcher::with(&["--port", &port]).await;
    let second = arm(&database, user, "y").await;
    let row = until_state(&database, second, "sent").await;
    service.stop().await;
    assert_eq!(row.attempts, 1);
    assert_eq!(catcher.count().await, 1);
}
