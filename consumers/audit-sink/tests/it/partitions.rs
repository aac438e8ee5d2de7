//! A partition for each day: made ahead, dropped after the retention, and never in the way of the rows.

use audit_sink::partitions::{drop_before, ensure, round};
use chrono::{Days, NaiveDate, Utc};
use sqlx::PgPool;
use support::Database;
use uuid::Uuid;

async fn names(database: &Database) -> Vec<String> {
    sqlx::query_scalar(
        "select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid
         where i.inhparent = 'audit.events'::regclass order by 1",
    )
    .fetch_all(database.admin())
    .await
    .unwrap()
}

fn name(day: NaiveDate) -> String {
    format!("events_{}", day.format("%Y%m%d"))
}

/// Adds a row at noon of that day, and says where it went.
async fn add(pool: &PgPool, day: NaiveDate) -> String {
    let id = Uuid::now_v7();
    sqlx::query(
        "insert into audit.events (event_id, occurred_at, topic, partition_id, offset_id, event_type, headers)
         values ($1, $2, 'test', 0, 0, 'test', '{}')",
    )
    .bind(id)
    .bind(day.and_hms_opt(12, 0, 0).unwrap().and_utc())
    .execute(pool)
    .await
    .unwrap();
    sqlx::query_scalar("select tableoid::regclass::text from audit.events where event_id = $1")
        .bind(id)
        .fetch_one(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn days_around_today_get_a_partition_and_old_ones_lose_theirs() {
    let database = Database::create().await;
    let pool = database.pool("audit-sink");
    let today = Utc::now().date_naive();
    let (old, kept) = (today - Days::new(91), today - Days::new(90));
    ensure(&pool, old).await.unwrap();
    ensure(&pool, kept).await.unwrap();
    assert_eq!(add(&pool, old).await, format!("audit.{}", name(old)));

    let first = round(&pool, 90).await.unwrap();
    assert_eq!(first, [name(old)]);
    let there = names(&database).await;
    for day in [today - Days::new(7), today, today + Days::new(7), kept] {
        assert!(there.contains(&name(day)), "{day} is not in {there:?}");
        assert_eq!(add(&pool, day).await, format!("audit.{}", name(day)));
    }
    assert!(!there.contains(&name(old)));
    // Again: nothing to do, and nothing lost.
    assert!(round(&pool, 90).await.unwrap().is_empty());
    assert_eq!(names(&database).await, there);
}

#[tokio::test]
async fn a_short_retention_does_not_make_what_it_then_drops() {
    let database = Database::create().await;
    let pool = database.pool("audit-sink");
    assert!(round(&pool, 1).await.unwrap().is_empty());
    assert!(round(&pool, 1).await.unwrap().is_empty());
    // Yesterday to a week ahead, and the default.
    assert_eq!(names(&database).await.len(), 9 + 1);
}

#[tokio::test]
async fn rows_that_came_before_their_partition_move_into_it_and_expire_like_others() {
    let database = Database::create().await;
    let pool = database.pool("audit-sink");
    let today = Utc::now().date_naive();
    let old = today - Days::new(200);
    assert_eq!(add(&pool, today).await, "audit.events_default");
    assert_eq!(add(&pool, old).await, "audit.events_default");
    round(&pool, 90).await.unwrap();
    let places: Vec<String> = sqlx::query_scalar("select tableoid::regclass::text from audit.events")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(places, [format!("audit.{}", name(today))]);
}

#[tokio::test]
async fn two_sinks_may_keep_partitions_at_once() {
    let database = Database::create().await;
    let (one, two) = (database.pool("audit-sink"), database.pool("audit-sink"));
    let (a, b) = tokio::join!(round(&one, 90), round(&two, 90));
    assert!(a.unwrap().is_empty() && b.unwrap().is_empty());
    assert_eq!(names(&database).await.len(), 15 + 1);
    let before = Utc::now().date_naive() + Days::new(30);
    let (a, b) = tokio::join!(drop_before(&one, before), drop_before(&two, before));
    let dropped = [a.unwrap(), b.unwrap()].concat();
    assert!(!dropped.is_empty());
    assert_eq!(names(&database).await, ["events_default"]);
}
