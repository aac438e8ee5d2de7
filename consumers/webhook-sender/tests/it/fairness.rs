//! Nobody waits for anybody else.

use support::{Database, eventually};
use uuid::Uuid;

use crate::fixture::{Running, arm, attempts, count, endpoint, number, until};
use crate::receiver::Receiver;

const SMALL: [(&str, &str); 3] = [
    ("WEBHOOK_MAX_IN_FLIGHT", "16"),
    ("WEBHOOK_MAX_IN_FLIGHT_PER_ENDPOINT", "4"),
    ("WEBHOOK_MAX_IN_FLIGHT_PER_PERSON", "8"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_a_hundred_thousand_holds_up_nobody() {
    let (database, receiver) = (Database::create().await, Receiver::start().await);
    let ada = database.user("ada@example.org").await;
    let flooded = endpoint(&database, ada, &receiver.url("/slow/5/flooded"), &[]).await;
    arm(&database, ada, flooded, 100_000).await;
    let service = Running::sending(&database, &SMALL);
    until_some_are_sent(&database, flooded).await;
    // Long behind them in time, first in line with the others.
    let mut later = Vec::new();
    for n in 0..5 {
        let person = database.user(&format!("bob-{n}@example.org")).await;
        let id = endpoint(&database, person, &receiver.url(&format!("/bob/{n}")), &[]).await;
        arm(&database, person, id, 3).await;
        later.push(id);
    }
    let own = endpoint(&database, ada, &receiver.url("/own"), &[]).await;
    arm(&database, ada, own, 3).await;
    later.push(own);
    for id in later {
        until(&database, id, "sent", 3).await;
    }
    assert!(count(&database, flooded, "pending").await > 50_000);
    service.stop().await;
    assert!(receiver.most_at_once("/slow/5/flooded") <= 4);
}

async fn until_some_are_sent(database: &Database, endpoint_id: Uuid) {
    eventually("some are sent", async || {
        (count(database, endpoint_id, "sent").await > 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_endpoints_and_a_person_with_many_of_them_hold_no_more_than_their_share() {
    let (database, receiver) = (Database::create().await, Receiver::start().await);
    let ada = database.user("ada@example.org").await;
    for n in 0..20 {
        let id = endpoint(&database, ada, &receiver.url(&format!("/slow/1500/{n}")), &[]).await;
        arm(&database, ada, id, 20).await;
    }
    let service = Running::sending(&database, &SMALL);
    eventually("all that she may have is under way", async || {
        let claimed = number(
            &database,
            "select count(*) from webhooks.deliveries where claimed",
        )
        .await;
        assert!(claimed <= 8, "{claimed}");
        (claimed == 8).then_some(())
    })
    .await;
    let bob = database.user("bob@example.org").await;
    let quick = endpoint(&database, bob, &receiver.url("/quick"), &[]).await;
    arm(&database, bob, quick, 40).await;
    until(&database, quick, "sent", 40).await;
    // Of her four hundred at most a few rounds of eight have ended meanwhile.
    assert!(
        number(
            &database,
            "select count(*) from webhooks.deliveries where state = 'pending'"
        )
        .await
            > 200
    );
    service.stop().await;
    for n in 0..20 {
        assert!(receiver.most_at_once(&format!("/slow/1500/{n}")) <= 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_fails_is_asked_by_one_request_at_a_time_until_it_is_well() {
    let (database, receiver) = (Database::create().await, Receiver::start().await);
    let ada = database.user("ada@example.org").await;
    let sick = endpoint(&database, ada, &receiver.url("/sick"), &[]).await;
    arm(&database, ada, sick, 500).await;
    let service = Running::sending(&database, &[("WEBHOOK_RETRY_DELAYS_MS", "3600000")]);
    eventually("its circuit is open", async || {
        let open = number(
            &database,
            "select count(*) from webhooks.queues where failures >= 6 and open_until > now()",
        )
        .await;
        (open == 1).then_some(())
    })
    .await;
    let tried = attempts(&database, sick).await.len();
    // Five batches at most, and then one by one.
    assert!(tried <= 16 * 6, "{tried}");
    assert!(count(&database, sick, "pending").await >= 400);
    receiver.get_well();
    eventually("the others are sent", async || {
        let tried = number(
            &database,
            "select count(*) from webhooks.deliveries where attempts > 0 and state = 'pending'",
        )
        .await;
        (count(&database, sick, "sent").await == 500 - tried).then_some(())
    })
    .await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_senders_side_by_side_send_each_once() {
    let (database, receiver) = (Database::create().await, Receiver::start().await);
    let mut ids = Vec::new();
    for n in 0..10 {
        let person = database.user(&format!("{n}@example.org")).await;
        let id = endpoint(&database, person, &receiver.url(&format!("/{n}")), &[]).await;
        arm(&database, person, id, 100).await;
        ids.push(id);
    }
    let senders = [(); 2].map(|()| Running::sending(&database, &[]));
    for id in ids {
        until(&database, id, "sent", 100).await;
    }
    for sender in senders {
        sender.stop().await;
    }
    assert_eq!(receiver.received().len(), 1000);
    assert_eq!(
        number(&database, "select count(*) from webhooks.attempts").await,
        1000
    );
    assert_eq!(
        number(
            &database,
            "select count(*) from webhooks.deliveries where claimed"
        )
        .await,
        0
    );
    for n in 0..10 {
        assert!(receiver.most_at_once(&format!("/{n}")) <= 16);
    }
}
