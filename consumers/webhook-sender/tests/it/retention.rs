//! What is over is removed after a while.

use support::{Database, eventually};

use crate::fixture::{Running, arm, endpoint, number};

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_long_ago_is_removed_with_its_log_and_nothing_else() {
    let database = Database::create().await;
    let ada = database.user("ada@example.org").await;
    let id = endpoint(&database, ada, "http://127.0.0.1:1025/", &[]).await;
    arm(&database, ada, id, 6).await;
    for statement in [
        // Two ended long ago, two of late, two are pending; nothing is due.
        "update webhooks.deliveries d set state = n.state, next_attempt_at = now() + interval '1 day',
             finished_at = now() - n.age, created_at = now() - interval '1 year'
         from (select id, (array['sent', 'failed', 'sent', 'failed', 'pending', 'pending'])[row_number() over ()] as state,
                      (array['31 days', '31 days', '29 days', '29 days', null, null])[row_number() over ()]::interval as age
               from webhooks.deliveries) n where n.id = d.id",
        "insert into webhooks.attempts (user_id, delivery_id, number, at, url, request_headers, duration_ms)
         select user_id, id, 1, now(), '', '{}', 1 from webhooks.deliveries",
        "insert into webhooks.secrets (user_id, endpoint_id, secret, expires_at)
         select user_id, id, repeat('x', 30)::bytea, now() - interval '2 days' from webhooks.endpoints",
        "insert into webhooks.queues (endpoint_id, user_id) select gen_random_uuid(), user_id from webhooks.endpoints",
    ] {
        sqlx::query(statement).execute(database.admin()).await.unwrap();
    }
    let service = Running::sending(&database, &[("DELIVERY_RETENTION_DAYS", "30")]);
    eventually("the old ones are gone", async || {
        let left = number(
            &database,
            "select (select count(*) from webhooks.deliveries) + (select count(*) from webhooks.secrets)
                  + (select count(*) from webhooks.queues)",
        )
        .await;
        (left == 4 + 1 + 1).then_some(())
    })
    .await;
    service.stop().await;
    assert_eq!(
        number(&database, "select count(*) from webhooks.attempts").await,
        4
    );
    assert_eq!(
        number(
            &database,
            "select count(*) from webhooks.deliveries where state = 'pending'"
        )
        .await,
        2
    );
}
