//! Inbox and outbox.

use std::time::Duration;

use db::{inbox, outbox};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn events_keep_their_order_and_those_of_one_user_go_to_one_shard() {
    let database = Database::create().await;
    let users: Vec<Uuid> = (0..20).map(|_| Uuid::now_v7()).collect();
    let events: Vec<Encoded> = users
        .iter()
        .cycle()
        .take(200)
        .map(|user_id| event(TaskEventKind::Created, *user_id, &samples::task()))
        .collect();
    for service in ["api", "reminder-scanner", "recurrence-generator", "email-sender"] {
        let mut tx = database.pool(service).begin().await.unwrap();
        outbox::insert(&mut tx, &events).await.unwrap();
        outbox::insert(&mut tx, &[]).await.unwrap();
        tx.commit().await.unwrap();
        let ids: Vec<Uuid> = events.iter().map(|event| event.event_id).collect();
        assert_eq!(super::outbox(&database).await, ids, "as {service}");
        let shards: Vec<(Uuid, i64)> =
            sqlx::query_as("select user_id, count(distinct shard) from outbox.events group by user_id")
                .fetch_all(database.admin())
                .await
                .unwrap();
        assert_eq!(shards.len(), users.len());
        assert!(shards.iter().all(|(_, shards)| *shards == 1));
        let used: i64 = sqlx::query_scalar("select count(distinct shard) from outbox.events")
            .fetch_one(database.admin())
            .await
            .unwrap();
        assert_eq!(used, 2);
        sqlx::query("truncate outbox.events")
            .execute(database.admin())
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_what_is_published() {
    let database = Database::create().await;
    let user_id = Uuid::now_v7();
    let event = event(TaskEventKind::Completed, user_id, &samples::task());
    outbox::insert(
        &mut database.pool("api").acquire().await.unwrap(),
        std::slice::from_ref(&event),
    )
    .await
    .unwrap();
    let (topic, owner, kind, fingerprint, body, headers): (String, Uuid, String, Uuid, Vec<u8>, String) =
        sqlx::query_as(
            "select topic, user_id, event_type, fingerprint, body, headers::text from outbox.events where event_id = $1",
        )
        .bind(event.event_id)
        .fetch_one(&database.pool("outbox-relay"))
        .await
        .unwrap();
    assert_eq!(
        (topic.as_str(), owner, kind.as_str()),
        (event.topic, user_id, event.event_type)
    );
    assert_eq!((fingerprint, &body), (event.fingerprint, &event.body));
    let headers: std::collections::HashMap<String, String> = serde_json::from_str(&headers).unwrap();
    assert_eq!(headers, event.headers.into_iter().collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_claimed_once_and_only_by_a_transaction_that_commits() {
    let database = Database::create().await;
    for (service, inbox) in [
        ("reminder-scanner", inbox::REMINDER_SCANNER),
        ("recurrence-generator", inbox::RECURRENCE_GENERATOR),
        ("email-sender", inbox::EMAIL_SENDER),
    ] {
        let pool = database.pool(service);
        let ids: Vec<Uuid> = (0..5).map(|_| Uuid::now_v7()).collect();
        let doubled = [&ids[..], &ids[..]].concat();
        let mut tx = pool.begin().await.unwrap();
        assert_eq!(
            inbox.claim(&mut tx, &doubled).await.unwrap(),
            ids.iter().copied().collect(),
            "{service}"
        );
        assert!(inbox.claim(&mut tx, &ids).await.unwrap().is_empty());
        tx.rollback().await.unwrap();

        let mut tx = pool.begin().await.unwrap();
        assert_eq!(inbox.claim(&mut tx, &ids[..3]).await.unwrap().len(), 3);
        tx.commit().await.unwrap();
        let mut tx = pool.begin().await.unwrap();
        assert_eq!(
            inbox.claim(&mut tx, &ids).await.unwrap(),
            ids[3..].iter().copied().collect()
        );
        assert!(inbox.claim(&mut tx, &[]).await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_claim_the_same_events_at_once_share_them_and_do_not_deadlock() {
    let database = Database::create().await;
    // Slow rows, so that two who went through them from opposite ends would meet in the middle.
    for statement in [
        "create function public.slowly() returns trigger language plpgsql as
         $$ begin perform pg_sleep(0.002); return new; end $$",
        "create trigger slowly before insert on reminders.inbox for each row execute function public.slowly()",
    ] {
        sqlx::query(statement).execute(database.admin()).await.unwrap();
    }
    let ids: Vec<Uuid> = (0..200).map(|_| Uuid::now_v7()).collect();
    let backwards: Vec<Uuid> = ids.iter().rev().copied().collect();
    let claims = [ids, backwards].map(|ids| {
        let pool = database.pool("reminder-scanner");
        tokio::spawn(async move {
            let mut tx = pool.begin().await.unwrap();
            let fresh = inbox::REMINDER_SCANNER.claim(&mut tx, &ids).await.unwrap();
            tx.commit().await.unwrap();
            fresh.len()
        })
    });
    let mut fresh = 0;
    for claim in claims {
        fresh += claim.await.unwrap();
    }
    assert_eq!(fresh, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sweep_forgets_what_no_topic_can_bring_again_and_nothing_younger() {
    let database = Database::create().await;
    let aged = |age: Duration| {
        let then = std::time::SystemTime::now() - age;
        let then = then.duration_since(std::time::UNIX_EPOCH).unwrap();
        Uuid::new_v7(uuid::Timestamp::from_unix(
            uuid::NoContext,
            then.as_secs(),
            then.subsec_nanos(),
        ))
    };
    let minute = Duration::from_mins(1);
    let old: Vec<Uuid> = (0..100).map(|_| aged(inbox::RETENTION + minute)).collect();
    let young = [aged(inbox::RETENTION - minute), Uuid::now_v7()];
    for (service, inbox) in [
        ("reminder-scanner", inbox::REMINDER_SCANNER),
        ("recurrence-generator", inbox::RECURRENCE_GENERATOR),
        ("email-sender", inbox::EMAIL_SENDER),
    ] {
        let pool = database.pool(service);
        let mut connection = pool.acquire().await.unwrap();
        inbox
            .claim(&mut connection, &[&old[..], &young[..]].concat())
            .await
            .unwrap();
        assert_eq!(inbox.sweep(&pool).await.unwrap(), 100);
        assert_eq!(inbox.sweep(&pool).await.unwrap(), 0);
        assert!(
            inbox.claim(&mut connection, &young).await.unwrap().is_empty(),
            "{service} still knows the young"
        );
    }
}
