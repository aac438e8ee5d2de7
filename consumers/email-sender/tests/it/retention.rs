//! What is over is removed after a while.

use sqlx::AssertSqlSafe;
use support::{Database, eventually};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::fixture::{Running, arm, config, no_topics};

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

/// The same of a mail about an account.
async fn account_mail(database: &Database, user_id: Uuid, state: &str, days: Option<i32>) -> Uuid {
    let id = Uuid::now_v7();
    sqlx::query(
        "insert into delivery.account_mails (id, user_id, kind, expires_at, state, finished_at, created_at, next_attempt_at)
         values ($1, $2, 'verify_email', now(), $3, now() - make_interval(days => $4), now() - interval '1 year',
                 now() + interval '1 day')",
    )
    .bind(id)
    .bind(user_id)
    .bind(state)
    .bind(days)
    .execute(database.admin())
    .await
    .unwrap();
    id
}

/// How many of these there are.
async fn there(database: &Database, ids: &[Uuid]) -> i64 {
    sqlx::query_scalar(
        "select (select count(*) from delivery.deliveries where id = any($1))
              + (select count(*) from delivery.account_mails where id = any($1))",
    )
    .bind(ids)
    .fetch_one(database.admin())
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_and_mails_about_accounts_that_ended_long_ago_are_removed_and_no_others() {
    let database = Database::create().await;
    let ada = database.user("ada@example.org").await;
    let mut old = Vec::new();
    let mut kept = Vec::new();
    for state in ["sent", "failed", "suppressed"] {
        old.push(delivery(&database, ada, state, Some(31)).await);
        kept.push(delivery(&database, ada, state, Some(29)).await);
        old.push(account_mail(&database, ada, state, Some(31)).await);
        kept.push(account_mail(&database, ada, state, Some(29)).await);
    }
    kept.push(delivery(&database, ada, "pending", None).await);
    kept.push(account_mail(&database, ada, "pending", None).await);
    // Nobody has to answer there.
    let smtp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = smtp.local_addr().unwrap().port();
    let retention = [("DELIVERY_RETENTION_DAYS", "30")];
    let service = Running::start(config(&database, &no_topics(), port, &retention));
    eventually("the old ones are gone", async || {
        (there(&database, &old).await == 0).then_some(())
    })
    .await;
    service.stop().await;
    assert_eq!(there(&database, &kept).await, i64::try_from(kept.len()).unwrap());
}
