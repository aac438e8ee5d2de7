//! Transactions that commit late, in another order, or never.

use sqlx::{Connection, PgConnection};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_commits_long_after_later_ones_is_not_lost() {
    let (database, topics) = (Database::create().await, Topics::create().await);
    let relay = Relay::start(config(&database, &topics));
    let user_id = Uuid::now_v7();

    // The late one takes its numbers first: a relay that pages by them would have passed it by.
    let mut late = PgConnection::connect_with(&database.admin().connect_options())
        .await
        .unwrap();
    let mut tx = late.begin().await.unwrap();
    let late_event = event(user_id, 1);
    write(&mut tx, std::slice::from_ref(&late_event)).await;

    let early: Vec<Encoded> = (0..300).map(|n| event(Uuid::now_v7(), n + 2)).collect();
    for chunk in early.chunks(30) {
        write(&mut database.admin().acquire().await.unwrap(), chunk).await;
    }
    let records = wait_for(&topics, &early).await;
    assert!(
        !counts(&records).contains_key(&late_event.event_id),
        "it is not committed yet"
    );

    tx.commit().await.unwrap();
    let records = wait_for(&topics, &[late_event]).await;
    assert!(
        counts(&records).values().all(|count| *count == 1),
        "and none came twice"
    );
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_transaction_survives_a_restart_of_the_relay_in_between() {
    let (database, topics) = (Database::create().await, Topics::create().await);
    let relay = Relay::start(config(&database, &topics));
    let mut late = PgConnection::connect_with(&database.admin().connect_options())
        .await
        .unwrap();
    let mut tx = late.begin().await.unwrap();
    let late_event = event(Uuid::now_v7(), 1);
    write(&mut tx, std::slice::from_ref(&late_event)).await;
    let early: Vec<Encoded> = (0..100).map(|n| event(Uuid::now_v7(), n + 2)).collect();
    write(&mut database.admin().acquire().await.unwrap(), &early).await;
    wait_for(&topics, &early).await;
    relay.stop().await;

    tx.commit().await.unwrap();
    let relay = Relay::start(config(&database, &topics));
    let records = wait_for(&topics, &[late_event]).await;
    assert_eq!(records.len(), 101);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_rolled_back_is_never_published() {
    let (database, topics) = (Database::create().await, Topics::create().await);
    let relay = Relay::start(config(&database, &topics));
    let mut connection = database.admin().acquire().await.unwrap();
    let mut tx = connection.begin().await.unwrap();
    let undone = event(Uuid::now_v7(), 1);
    write(&mut tx, std::slice::from_ref(&undone)).await;
    tx.rollback().await.unwrap();
    let after = event(Uuid::now_v7(), 2);
    write(&mut connection, std::slice::from_ref(&after)).await;
    let records = wait_for(&topics, &[after]).await;
    assert_eq!(records.len(), 1);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_that_commit_in_any_order_lose_nothing_and_keep_the_order_of_each_task() {
    const WRITERS: usize = 8;
    const ROUNDS: i64 = 60;
    let (database, topics) = (Database::create().await, Topics::create().await);
    let relay = Relay::start(config(&database, &topics));
    // Each writer bumps one of two "tasks" under a row lock, as the API does, in transactions of very different length.
    let tasks: Vec<Uuid> = (0..2).map(|_| Uuid::now_v7()).collect();
    sqlx::query("create table public.counters (id uuid primary key, version bigint not null)")
        .execute(database.admin())
        .await
        .unwrap();
    for id in &tasks {
        sqlx::query("insert into public.counters values ($1, 0)")
            .bind(id)
            .execute(database.admin())
            .await
            .unwrap();
    }
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let (database, id) = (database.clone(), tasks[writer % 2]);
        writers.push(tokio::spawn(async move {
            for round in 0..ROUNDS {
                let mut connection = PgConnection::connect_with(&database.admin().connect_options())
                    .await
                    .unwrap();
                let mut tx = connection.begin().await.unwrap();
                if round % 3 == 0 {
                    // A transaction id long before the lock: commit order is then not the order of ids.
                    sqlx::query("select pg_current_xact_id()")
                        .execute(&mut *tx)
                        .await
                        .unwrap();
                    tokio::time::sleep(Duration::from_millis((writer as u64 * 7) % 20)).await;
                }
                let version: i64 = sqlx::query_scalar(
                    "update public.counters set version = version + 1 where id = $1 returning version",
                )
                .bind(id)
                .fetch_one(&mut *tx)
                .await
                .unwrap();
                write(&mut tx, &[event(id, version)]).await;
                if round % 4 == 0 {
                    tokio::time::sleep(Duration::from_millis((writer as u64 * 5) % 15)).await;
                }
                tx.commit().await.unwrap();
                connection.close().await.unwrap();
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let expected = WRITERS * usize::try_from(ROUNDS).unwrap();
    let records = eventually("every event is in the topic", async || {
        let records = topics.read("task-events").await;
        (records.len() >= expected).then_some(records)
    })
    .await;
    assert_eq!(records.len(), expected);
    let registry = kafka::Registry::new(&topics.registry()).unwrap();
    for id in tasks {
        let mut versions = Vec::new();
        for record in records
            .iter()
            .filter(|r| r.key.as_deref() == Some(id.to_string().as_bytes()))
        {
            let (schema_id, body) = schemas::unframe(record.value.as_deref()).unwrap();
            let schema = registry.schema(schema_id).await.unwrap();
            let Event::Task(event) = schemas::decode("task-events", &schema, body).unwrap() else {
                panic!("a task")
            };
            versions.push(event.task.version);
        }
        let ascending: Vec<i64> = (1..=ROUNDS * i64::try_from(WRITERS / 2).unwrap()).collect();
        assert_eq!(versions, ascending);
    }
    relay.stop().await;
}
