//! What each answer means.

use std::collections::HashSet;

use support::{Database, eventually};

use crate::fixture::{Running, attempts, count, delivery, nothing_happens, number, one, until};
use crate::receiver::{Receiver, breaking_off};

#[tokio::test(flavor = "multi_thread")]
async fn any_2xx_is_a_yes_and_what_fails_at_first_is_tried_again_under_the_same_id() {
    let (database, receiver) = (Database::create().await, Receiver::start().await);
    let mut well = Vec::new();
    for status in [200, 201, 202, 204, 299] {
        well.push(one(&database, &receiver.url(&format!("/status/{status}"))).await);
    }
    let fails_twice = one(&database, &receiver.url("/fail/2")).await;
    let service = Running::sending(&database, &[]);
    for id in well {
        until(&database, id, "sent", 1).await;
        assert_eq!(delivery(&database, id).await.attempts, 1);
    }
    until(&database, fails_twice, "sent", 1).await;
    service.stop().await;
    assert_eq!(delivery(&database, fails_twice).await.attempts, 3);
    let requests = receiver.at("/fail/2");
    let ids: HashSet<&str> = requests
        .iter()
        .map(|request| request.header("webhook-id"))
        .collect();
    assert_eq!((requests.len(), ids.len()), (3, 1));
    let log = attempts(&database, fails_twice).await;
    let shown: Vec<_> = log
        .iter()
        .map(|attempt| (attempt.number, attempt.status))
        .collect();
    assert_eq!(shown, [(1, Some(500)), (2, Some(500)), (3, Some(200))]);
    assert!(!delivery(&database, fails_twice).await.claimed);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_other_answer_is_a_no_until_the_schedule_is_over() {
    let (database, receiver) = (Database::create().await, Receiver::start().await);
    let mut ids = Vec::new();
    for (path, reason) in [
        ("/status/400", "it answered 400"),
        ("/status/404", "it answered 404"),
        ("/status/503", "it answered 503"),
        ("/redirect", "it answered 302: redirects are not followed"),
        ("/slow/9000", "there was no answer in time"),
    ] {
        ids.push((one(&database, &receiver.url(path)).await, reason));
    }
    let cut = breaking_off(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc").await;
    ids.push((
        one(&database, &cut).await,
        "the connection broke in the middle of the answer",
    ));
    let nonsense = breaking_off(b"SSH-2.0-OpenSSH_9.2\r\n").await;
    ids.push((
        one(&database, &nonsense).await,
        "the connection broke before the answer",
    ));
    let nobody = one(&database, "http://127.0.0.1:1025/").await;
    ids.push((nobody, "nobody takes connections there"));
    let inside = one(&database, "http://10.0.0.1:8080/").await;
    ids.push((inside, "the URL leads to an address that is not of the internet"));
    let more = [("WEBHOOK_TIMEOUT_MS", "500")];
    let service = Running::sending(&database, &more);
    for (id, reason) in ids {
        until(&database, id, "failed", 1).await;
        let delivery = delivery(&database, id).await;
        assert_eq!(delivery.attempts, 4, "{reason}");
        let error = delivery.last_error.unwrap();
        assert!(error.starts_with(reason), "{error}");
        assert_eq!(attempts(&database, id).await.len(), 4);
    }
    service.stop().await;
    assert!(receiver.at("/redirected").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_answer_is_cut_and_its_beginning_kept() {
    let (database, receiver) = (Database::create().await, Receiver::start().await);
    let id = one(&database, &receiver.url("/huge")).await;
    let service = Running::sending(&database, &[]);
    until(&database, id, "sent", 1).await;
    service.stop().await;
    let log = attempts(&database, id).await;
    assert_eq!(log[0].response_body.as_ref().unwrap().len(), 4096);
    assert_eq!((log[0].status, &log[0].error), (Some(200), &None));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_gone_is_disabled_at_once_and_its_person_told() {
    let (database, receiver) = (Database::create().await, Receiver::start().await);
    let id = one(&database, &receiver.url("/status/410")).await;
    let service = Running::sending(&database, &[]);
    until(&database, id, "failed", 1).await;
    service.stop().await;
    assert_eq!(delivery(&database, id).await.attempts, 1);
    let (enabled, reason, version): (bool, Option<String>, i64) =
        sqlx::query_as("select enabled, disabled_reason, version from webhooks.endpoints")
            .fetch_one(database.admin())
            .await
            .unwrap();
    assert_eq!((enabled, reason.as_deref(), version), (false, Some("gone"), 2));
    let (kind, detail): (String, String) = sqlx::query_as("select kind, detail from delivery.account_mails")
        .fetch_one(database.admin())
        .await
        .unwrap();
    assert_eq!(kind, "webhook_disabled");
    assert!(
        detail.starts_with("127.0.0.1:") && !detail.contains("status"),
        "{detail}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_only_fails_is_disabled_after_its_time_and_one_that_sometimes_works_is_not() {
    let (database, receiver) = (Database::create().await, Receiver::start().await);
    let fails = one(&database, &receiver.url("/status/500")).await;
    let works = one(&database, &receiver.url("/fail/1")).await;
    for id in [fails, works] {
        sqlx::query("update webhooks.queues set failing_since = now() - interval '5 days 1 second', failures = 3 where endpoint_id = $1")
            .bind(id)
            .execute(database.admin())
            .await
            .unwrap();
    }
    let recent = one(&database, &receiver.url("/status/501")).await;
    sqlx::query("update webhooks.queues set failing_since = now() - interval '4 days 23 hours' where endpoint_id = $1")
        .bind(recent)
        .execute(database.admin())
        .await
        .unwrap();
    // The one that works does so before it fails again.
    sqlx::query("update webhooks.endpoints set url = $2 where id = $1")
        .bind(works)
        .bind(receiver.url("/"))
        .execute(database.admin())
        .await
        .unwrap();
    let service = Running::sending(&database, &[]);
    until(&database, works, "sent", 1).await;
    eventually("it is disabled", async || {
        let disabled = number(
            &database,
            "select count(*) from webhooks.endpoints where disabled_reason = 'failing'",
        )
        .await;
        (disabled == 1).then_some(())
    })
    .await;
    until(&database, recent, "failed", 1).await;
    service.stop().await;
    let disabled: uuid::Uuid = sqlx::query_scalar("select id from webhooks.endpoints where not enabled")
        .fetch_one(database.admin())
        .await
        .unwrap();
    assert_eq!(disabled, fails);
    let well = number(&database, &format!("select count(*) from webhooks.queues where endpoint_id = '{works}' and failures = 0 and failing_since is null")).await;
    assert_eq!(well, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_asks_to_be_left_alone_is() {
    let (database, receiver) = (Database::create().await, Receiver::start().await);
    let id = one(&database, &receiver.url("/status/429/3600")).await;
    let service = Running::sending(&database, &[]);
    eventually("it was tried", async || {
        (attempts(&database, id).await.len() == 1).then_some(())
    })
    .await;
    // Another delivery for it waits too.
    let user_id: uuid::Uuid = sqlx::query_scalar("select user_id from webhooks.endpoints")
        .fetch_one(database.admin())
        .await
        .unwrap();
    crate::fixture::arm(&database, user_id, id, 1).await;
    nothing_happens().await;
    service.stop().await;
    assert_eq!(receiver.received().len(), 1);
    assert_eq!(count(&database, id, "pending").await, 2);
    let waits = number(
        &database,
        "select extract(epoch from max(next_attempt_at) - now())::int8 from webhooks.deliveries where attempts = 1",
    )
    .await;
    assert!((3500..=3600).contains(&waits), "{waits}");
}
