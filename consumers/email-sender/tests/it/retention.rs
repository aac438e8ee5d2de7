//! What is over is removed after a while.

use sqlx::AssertSqlSafe;
use support::{Database, eventually};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::fixture::{Running, arm, config, no_topics, row};

/// A delivery in that state, which ended so many days ago, if it ended.
async fn delivery(database: &Database, user_id: Uuid, state: &str, days: Option<i32>) -> Uuid {
    let id = arm(database, user_id, "t").await;
    // Not due for a while, so that the sender leaves it alone.
    sqlx::query(AssertSqlSafe(format!(
        "update delivery.deliveries
         set state = '{state}', finished_at = now() - make_interval(days => $2), created_at = now() - interval '1 year',
             next_attempt_at = now() + interval '1 day'
         where id = $1"
    )))
    .bind(id)
    .bind(days)
    .execute(database.admin())
    .await
    .unwrap();
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_that_ended_long_ago_are_removed_and_no_others() {
    let database = Database::create().await;
    let ada = database.user("ada@example.org").await;
    let mut old = Vec::new();
    let mut kept = Vec::new();
    for state in ["sent", "failed", "suppressed"] {
        old.push(delivery(&database, ada, state, Some(31)).await);
        kept.push(delivery(&database, ada, state, Some(29)).await);
    }
    kept.push(delivery(&database, ada, "pending", None).await);
    // Nobody has to answer there.
    let smtp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = smtp.local_addr().unwrap().port();
    let retention = [("DELIVERY_RETENTION_DAYS", "30")];
    let service = Running::start(config(&database, &no_topics(), port, &retention));
    eventually("the old ones are gone", async || {
        let left: i64 = sqlx::query_scalar("select count(*) from delivery.deliveries where id = any($1)")
            .bind(&old)
            .fetch_one(database.admin())
            .await
            .unwrap();
        (left == 0).then_some(())
    })
    .await;
    service.stop().await;
    for id in kept {
        row(&database, id).await;
    }
}
