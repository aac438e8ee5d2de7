//! Nobody waits for who has very many mails.

use support::{Database, eventually, samples};
use uuid::Uuid;

use crate::catcher::{Catcher, free_port};
use crate::fixture::{Running, arm, config, count, metric, no_topics, until_state};

/// As many deliveries of a person as that, due before now.
async fn backlog(database: &Database, user_id: Uuid, mails: i32) {
    sqlx::query(
        "insert into delivery.deliveries (id, user_id, channel, reminder_id, task_id, fire_at, fired_at, task, next_attempt_at)
         select gen_random_uuid(), $1, 'email', gen_random_uuid(), gen_random_uuid(), now(), now(), $2,
                now() - n * interval '1 ms'
         from generate_series(1, $3) n",
    )
    .bind(user_id)
    .bind(sqlx::types::Json(samples::task()))
    .bind(mails)
    .execute(database.admin())
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_ten_thousand_stands_before_nobody() {
    let (database, catcher) = (Database::create().await, Catcher::start().await);
    let flood = database.user("ada@example.com").await;
    backlog(&database, flood, 10_000).await;
    let mut others = Vec::new();
    for n in 0..5 {
        let user = database.user(&format!("{n}@example.org")).await;
        others.push(arm(&database, user, "Water the plants").await);
    }
    let port = free_port();
    let more = [("HTTP_PORT", &*port.to_string())];
    let service = Running::start(config(&database, &no_topics(), catcher.port, &more));
    for id in others {
        until_state(&database, id, "sent").await;
    }
    let hers = catcher.mails().await;
    let place = hers
        .iter()
        .rposition(|mail| mail.to != "ada@example.com")
        .unwrap();
    assert!(place < 200, "the last of the others was mail {place}");
    // What comes now finds her at her share, and goes at once.
    let later = arm(&database, database.user("later@example.org").await, "x").await;
    until_state(&database, later, "sent").await;
    eventually("nearly all of hers are set aside", async || {
        (count(&database, "aside").await > 8_000).then_some(())
    })
    .await;
    // And hers go on, nobody else having any.
    let sent = metric(
        port,
        "notifications_sent_total{channel=\"email\",status=\"sent\"}",
    )
    .await;
    eventually("hundreds more of hers are sent", async || {
        let now = metric(
            port,
            "notifications_sent_total{channel=\"email\",status=\"sent\"}",
        )
        .await;
        (now > sent + 300.0).then_some(())
    })
    .await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_have_very_many_take_turns() {
    let (database, catcher) = (Database::create().await, Catcher::start().await);
    for n in 0..3 {
        let user = database.user(&format!("{n}@example.org")).await;
        backlog(&database, user, 200).await;
    }
    let service = Running::start(config(&database, &no_topics(), catcher.port, &[]));
    eventually("all are sent", async || {
        (count(&database, "sent").await == 600).then_some(())
    })
    .await;
    service.stop().await;
    let mails = catcher.mails().await;
    assert_eq!(mails.len(), 600);
    // When the first of them has all of theirs, the others have most.
    let mut seen = std::collections::HashMap::new();
    for mail in &mails {
        let count = seen.entry(mail.to.clone()).or_insert(0);
        *count += 1;
        if *count == 200 {
            break;
        }
    }
    assert!(seen.values().all(|&count| count > 120), "{seen:?}");
}
