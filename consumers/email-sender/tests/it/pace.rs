//! Mail goes to each domain at a pace of its own.

use serde_json::json;
use support::{Database, eventually};
use uuid::Uuid;

use crate::catcher::{Catcher, free_port};
use crate::fixture::{Running, arm, config, count, metric, no_topics, row, until_state};

/// Deliveries of as many people at a domain.
async fn arm_at(database: &Database, domain: &str, mails: usize) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for n in 0..mails {
        let user = database.user(&format!("{n}@{domain}")).await;
        ids.push(arm(database, user, &format!("task {n}")).await);
    }
    ids
}

async fn sum_of_attempts(database: &Database, ids: &[Uuid]) -> i64 {
    sqlx::query_scalar("select sum(attempts) from delivery.deliveries where id = any($1)")
        .bind(ids)
        .fetch_one(database.admin())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_that_puts_everything_off_gets_few_tries_while_others_get_their_mail_and_later_all_of_its_own()
 {
    let (database, catcher) = (Database::create().await, Catcher::start().await);
    let busy = arm_at(&database, "busy.example", 60).await;
    arm_at(&database, "well.example", 200).await;
    // Its answer ends the connection, too.
    let fault =
        json!([{"at": "rcpt", "match": "*@busy.example", "code": 421, "message": "4.7.0 too much mail"}]);
    catcher.faults(fault).await;
    let port = free_port();
    let more = [
        ("HTTP_PORT", &*port.to_string()),
        ("EMAIL_RETRY_MIN_MS", "4000"),
        ("EMAIL_RETRY_MAX_MS", "8000"),
    ];
    let service = Running::start(config(&database, &no_topics(), catcher.port, &more));
    eventually("the others are sent", async || {
        (count(&database, "sent").await == 200).then_some(())
    })
    .await;
    eventually("the others of its own are put off", async || {
        (metric(port, "mails_put_off_total{why=\"paused\"}").await >= 50.0).then_some(())
    })
    .await;
    // Those that were under way at once, and one after each pause.
    let struck = catcher.struck().await;
    assert!(struck <= 30, "{struck} tries");
    assert!(sum_of_attempts(&database, &busy).await <= 30);
    let told: Option<String> = sqlx::query_scalar(
        "select last_error from delivery.deliveries where id = any($1) and attempts = 0 limit 1",
    )
    .bind(&busy)
    .fetch_one(database.admin())
    .await
    .unwrap();
    assert_eq!(
        told.as_deref(),
        Some("not tried: the server puts mail to this domain off for now")
    );

    catcher.no_faults().await;
    eventually("all are sent", async || {
        (count(&database, "sent").await == 260).then_some(())
    })
    .await;
    service.stop().await;
    // Nobody's first mail counts as a second one.
    let never_refused: i64 =
        sqlx::query_scalar("select count(*) from delivery.deliveries where id = any($1) and attempts = 1")
            .bind(&busy)
            .fetch_one(database.admin())
            .await
            .unwrap();
    assert!(never_refused >= 30, "{never_refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_domain_holds_no_more_than_its_connections() {
    let (database, catcher) = (Database::create().await, Catcher::start().await);
    arm_at(&database, "slow.example", 100).await;
    arm_at(&database, "well.example", 100).await;
    catcher
        .faults(json!([{"at": "rcpt", "match": "*@slow.example", "delay_ms": 1500}]))
        .await;
    let service = Running::start(config(&database, &no_topics(), catcher.port, &[]));
    eventually("the others are sent", async || {
        let mails = catcher.mails().await;
        let well = mails
            .iter()
            .filter(|mail| mail.to.ends_with("@well.example"))
            .count();
        (well == 100).then_some(())
    })
    .await;
    // All of them, six at a time, would take 25 seconds.
    assert!(catcher.count().await < 180);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_beyond_what_a_domain_may_get_in_a_second_are_put_off_and_go_out() {
    let (database, catcher) = (Database::create().await, Catcher::start().await);
    arm_at(&database, "some.example", 4).await;
    let port = free_port();
    let more = [
        ("HTTP_PORT", &*port.to_string()),
        ("SMTP_MAX_MAILS_PER_SECOND_PER_DOMAIN", "1"),
        ("EMAIL_RETRY_MAX_MS", "5000"),
    ];
    let service = Running::start(config(&database, &no_topics(), catcher.port, &more));
    eventually("all are sent", async || {
        (count(&database, "sent").await == 4).then_some(())
    })
    .await;
    assert!(metric(port, "mails_put_off_total{why=\"busy\"}").await >= 3.0);
    service.stop().await;
    let tried_twice: i64 = sqlx::query_scalar("select count(*) from delivery.deliveries where attempts <> 1")
        .fetch_one(database.admin())
        .await
        .unwrap();
    assert_eq!(tried_twice, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_counts_for_what_a_domain_puts_off_untried() {
    let (database, catcher) = (Database::create().await, Catcher::start().await);
    catcher
        .faults(json!([{"at": "rcpt", "match": "*@busy.example", "code": 451}]))
        .await;
    let ids = arm_at(&database, "busy.example", 2).await;
    let (first, late) = (ids[0], ids[1]);
    sqlx::query(
        "update delivery.deliveries
         set fired_at = now() - interval '25 hours', next_attempt_at = now() + interval '1 hour' where id = $1",
    )
    .bind(late)
    .execute(database.admin())
    .await
    .unwrap();
    let more = [
        ("EMAIL_RETRY_MIN_MS", "600000"),
        ("EMAIL_RETRY_MAX_MS", "600000"),
        ("SMTP_MAX_CONNECTIONS_PER_DOMAIN", "1"),
    ];
    let service = Running::start(config(&database, &no_topics(), catcher.port, &more));
    eventually("the domain is paused", async || {
        row(&database, first).await.last_error
    })
    .await;
    sqlx::query("update delivery.deliveries set next_attempt_at = now() where id = $1")
        .bind(late)
        .execute(database.admin())
        .await
        .unwrap();
    let failed = until_state(&database, late, "failed").await;
    assert_eq!(
        (failed.attempts, failed.last_error.as_deref()),
        (
            1,
            Some("not accepted until the deadline: the server puts mail to this domain off for now")
        )
    );
    service.stop().await;
}
