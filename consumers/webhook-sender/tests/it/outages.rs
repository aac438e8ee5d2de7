//! Things that are away, and processes that die.

use std::collections::HashSet;

use support::{Database, eventually};

use crate::fixture::{Running, count, delivery, number, one, until};
use crate::receiver::Receiver;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_that_died_had_claimed_is_sent_by_the_next_under_the_same_id() {
    let (database, receiver) = (Database::create().await, Receiver::start().await);
    let id = one(&database, &receiver.url("/")).await;
    // As a process leaves it that was killed between the answer and our record of it.
    sqlx::query("update webhooks.deliveries set claimed = true, attempts = 1, next_attempt_at = now() + interval '2 seconds'")
        .execute(database.admin())
        .await
        .unwrap();
    let service = Running::sending(&database, &[]);
    until(&database, id, "sent", 1).await;
    service.stop().await;
    assert_eq!(delivery(&database, id).await.attempts, 2);
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_may_not_record_stops_and_the_next_one_sends_again_under_the_same_id() {
    let (database, receiver) = (Database::create().await, Receiver::start().await);
    let id = one(&database, &receiver.url("/")).await;
    sqlx::query("revoke insert on webhooks.attempts from carillon_webhook_sender")
        .execute(database.admin())
        .await
        .unwrap();
    let service = Running::sending(&database, &[]);
    eventually("it was sent", async || {
        (receiver.received().len() == 1).then_some(())
    })
    .await;
    eventually("nothing was written", async || {
        (count(&database, id, "pending").await == 1).then_some(())
    })
    .await;
    sqlx::query("grant insert on webhooks.attempts to carillon_webhook_sender")
        .execute(database.admin())
        .await
        .unwrap();
    drop(service);
    // As if the lease had run out.
    sqlx::query("update webhooks.deliveries set next_attempt_at = now(), claimed = false")
        .execute(database.admin())
        .await
        .unwrap();
    sqlx::query("update webhooks.queues set due_at = now()")
        .execute(database.admin())
        .await
        .unwrap();
    let service = Running::sending(&database, &[]);
    until(&database, id, "sent", 1).await;
    service.stop().await;
    let received = receiver.received();
    let ids: HashSet<&str> = received
        .iter()
        .map(|request| request.header("webhook-id"))
        .collect();
    assert_eq!((received.len(), ids.len()), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_what_is_under_way_and_begins_nothing() {
    let (database, receiver) = (Database::create().await, Receiver::start().await);
    let id = one(&database, &receiver.url("/slow/1500")).await;
    let service = Running::sending(&database, &[]);
    eventually("it is under way", async || {
        (receiver.received().len() == 1).then_some(())
    })
    .await;
    service.stop().await;
    assert_eq!(count(&database, id, "sent").await, 1);
    assert_eq!(
        number(&database, "select count(*) from webhooks.attempts").await,
        1
    );
}
