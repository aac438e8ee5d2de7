//! What operators look at and set right, as their role.

use chrono::TimeDelta;
use db::deliveries::{Filter, STATES, list, retry};
use db::outbox::{Waiting, waiting};

use super::*;

/// One of a webhook, of that state, so many hours old.
async fn hook(database: &Database, user_id: Uuid, state: &str, hours: i32) -> Uuid {
    let id = Uuid::now_v7();
    sqlx::query(
        "insert into webhooks.deliveries (id, user_id, endpoint_id, event_id, event_type, occurred_at, body, state, attempts,
                                          last_error, created_at, finished_at)
         values ($1, $2, $1, $1, 'task.created', now(), '{}', $3, 7, 'it did not work', now() - $4 * interval '1 hour',
                 case when $3 <> 'pending' then now() end)",
    )
    .bind(id)
    .bind(user_id)
    .bind(state)
    .bind(hours)
    .execute(database.admin())
    .await
    .unwrap();
    id
}

/// A delivery of that state and channel, so many hours old.
async fn delivery(database: &Database, user_id: Uuid, channel: &str, state: &str, hours: i32) -> Uuid {
    let id = Uuid::now_v7();
    sqlx::query(
        "insert into delivery.deliveries (id, user_id, channel, reminder_id, task_id, fire_at, fired_at, task, state,
                                          attempts, last_error, created_at, finished_at)
         values ($1, $2, $3, $1, $1, now(), now(), '{}', $4, 7, 'it did not work', now() - $5 * interval '1 hour',
                 case when $4 <> 'pending' then now() end)",
    )
    .bind(id)
    .bind(user_id)
    .bind(channel)
    .bind(state)
    .bind(hours)
    .execute(database.admin())
    .await
    .unwrap();
    id
}

fn any() -> Filter {
    Filter {
        limit: 100,
        ..Filter::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_found_by_person_state_channel_and_age_the_newest_first() {
    let database = Database::create().await;
    let operator = database.pool(migrations::OPERATOR);
    let (ada, bob) = (Uuid::now_v7(), Uuid::now_v7());
    let old = delivery(&database, ada, "email", "failed", 30).await;
    let sent = delivery(&database, ada, "email", "sent", 20).await;
    let hook = hook(&database, ada, "pending", 10).await;
    let his = delivery(&database, bob, "email", "suppressed", 1).await;
    let found = async |filter: Filter| -> Vec<Uuid> {
        list(&operator, &filter)
            .await
            .unwrap()
            .iter()
            .map(|d| d.id)
            .collect()
    };
    assert_eq!(found(any()).await, [his, hook, sent, old]);
    assert_eq!(found(Filter { limit: 2, ..any() }).await, [his, hook]);
    assert_eq!(
        found(Filter {
            user_id: Some(bob),
            ..any()
        })
        .await,
        [his]
    );
    assert_eq!(
        found(Filter {
            state: Some("failed".to_owned()),
            ..any()
        })
        .await,
        [old]
    );
    assert_eq!(
        found(Filter {
            channel: Some("webhook".to_owned()),
            ..any()
        })
        .await,
        [hook]
    );
    let since = Some(chrono::Utc::now() - TimeDelta::hours(15));
    assert_eq!(found(Filter { since, ..any() }).await, [his, hook]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_failed_gets_another_try_as_if_it_had_never_been_tried() {
    let database = Database::create().await;
    let operator = database.pool(migrations::OPERATOR);
    let user_id = Uuid::now_v7();
    let mut ids = Vec::new();
    for state in STATES {
        ids.push(delivery(&database, user_id, "email", state, 1).await);
    }
    let other = hook(&database, user_id, "failed", 1).await;
    let mut connection = operator.acquire().await.unwrap();
    let email = |state: Option<&str>| Filter {
        channel: Some("email".to_owned()),
        state: state.map(str::to_owned),
        ..any()
    };
    assert_eq!(
        retry(&mut connection, &email(Some("sent"))).await.unwrap(),
        [ids[2]]
    );
    assert_eq!(
        retry(&mut connection, &email(None)).await.unwrap(),
        [] as [Uuid; 0],
        "it failed once"
    );
    let all = list(&operator, &any()).await.unwrap();
    let of = |id: Uuid| all.iter().find(|d| d.id == id).unwrap();
    let again = of(ids[2]);
    assert_eq!((again.state.as_str(), again.attempts), ("pending", 0));
    assert!(again.last_error.is_none() && again.finished_at.is_none());
    for (id, state) in [
        (ids[0], "pending"),
        (ids[1], "sent"),
        (ids[3], "suppressed"),
        (other, "failed"),
    ] {
        assert_eq!((of(id).state.as_str(), of(id).attempts), (state, 7));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_in_the_outbox_is_counted_by_shard_and_topic() {
    let database = Database::create().await;
    let operator = database.pool(migrations::OPERATOR);
    let empty = waiting(&operator).await.unwrap();
    assert_eq!(empty.len(), 2);
    assert!(empty.iter().all(|w| w.topic.is_none() && w.rows == 0));
    let mut connection = database.config("reminder-scanner").connect().await.unwrap();
    let user_id = Uuid::now_v7();
    for _ in 0..3 {
        let event = event(TaskEventKind::Created, user_id, &samples::task());
        db::outbox::insert(&mut connection, &[event]).await.unwrap();
    }
    let found = waiting(&operator).await.unwrap();
    let rows: Vec<&Waiting> = found.iter().filter(|w| w.rows > 0).collect();
    assert_eq!(rows.len(), 1, "one person is in one shard");
    assert_eq!((rows[0].topic.as_deref(), rows[0].rows), (Some("task-events"), 3));
    assert!(rows[0].oldest_seconds > 0.0);
}
