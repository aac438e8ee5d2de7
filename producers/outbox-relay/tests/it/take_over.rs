//! Relays that die, stand by, take over; an outbox that was restored elsewhere; the ring that is emptied.

use sqlx::Row;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn of_two_relays_one_publishes_and_the_other_takes_over_when_it_goes() {
    let (database, topics) = (Database::create().await, Topics::create().await);
    let configs = [config(&database, &topics), config(&database, &topics)];
    let ready = configs
        .clone()
        .map(|config| format!("http://{}/readyz", config.service.http_bind));
    let [first, second] = configs.map(Relay::start);
    for url in &ready {
        eventually("the relay is at work or stands by", async || {
            reqwest::get(url).await.ok()?.status().is_success().then_some(())
        })
        .await;
    }
    let mut all = Vec::new();
    for round in 0..20 {
        let events: Vec<Encoded> = (0..20)
            .map(|n| event(Uuid::now_v7(), round * 100 + n + 1))
            .collect();
        write(&mut database.admin().acquire().await.unwrap(), &events).await;
        wait_for(&topics, &events).await;
        all.extend(events);
    }
    first.stop().await;
    let last = event(Uuid::now_v7(), 1);
    write(
        &mut database.admin().acquire().await.unwrap(),
        std::slice::from_ref(&last),
    )
    .await;
    wait_for(&topics, std::slice::from_ref(&last)).await;
    all.push(last);
    second.stop().await;
    // Both have ended: nothing more comes.
    let records = topics.read("task-events").await;
    assert_eq!(records.len(), all.len(), "two relays, and no event twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_broker_has_acknowledged_is_published_by_the_next_relay() {
    let (database, topics) = (Database::create().await, Topics::create().await);
    let all: Vec<Encoded> = (0..120).map(|n| event(Uuid::now_v7(), n + 1)).collect();
    write(&mut database.admin().acquire().await.unwrap(), &all).await;
    let mut nowhere = config(&database, &topics);
    // A port at which nobody listens any more.
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    nowhere.kafka.bootstrap_servers = gone.to_string();
    let readyz = format!("http://{}/readyz", nowhere.service.http_bind);
    let relay = Relay::start(nowhere);
    eventually("the relay waits for acknowledgements", async || {
        let body = reqwest::get(&readyz).await.ok()?.text().await.ok()?;
        body.contains("Kafka has acknowledged nothing").then_some(())
    })
    .await;
    relay.stop().await;

    let relay = Relay::start(config(&database, &topics));
    let records = wait_for(&topics, &all).await;
    assert_eq!(records.len(), all.len());
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_connections_are_cut_starts_over_and_loses_nothing() {
    let (database, topics) = (Database::create().await, Topics::create().await);
    let relay = Relay::start(config(&database, &topics));
    let mut all = Vec::new();
    for _ in 0..5 {
        let events: Vec<Encoded> = (0..200).map(|n| event(Uuid::now_v7(), n + 1)).collect();
        write(&mut database.admin().acquire().await.unwrap(), &events).await;
        all.extend(events);
        // By its own role, which may end its own connections.
        sqlx::query(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and usename = current_user and pid <> pg_backend_pid()",
        )
        .execute(&database.pool("outbox-relay"))
        .await
        .unwrap();
    }
    wait_for(&topics, &all).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_restored_in_another_cluster_publishes_what_was_not_published_and_nothing_else() {
    let (database, topics) = (Database::create().await, Topics::create().await);
    let relay = Relay::start(config(&database, &topics));
    let before: Vec<Encoded> = (0..60).map(|n| event(Uuid::now_v7(), n + 1)).collect();
    write(&mut database.admin().acquire().await.unwrap(), &before).await;
    wait_for(&topics, &before).await;
    relay.stop().await;

    let waiting: Vec<Encoded> = (0..60).map(|n| event(Uuid::now_v7(), n + 1)).collect();
    write(&mut database.admin().acquire().await.unwrap(), &waiting).await;
    // What a restore looks like from here: ids of transactions far in this cluster's future, and another identifier.
    sqlx::query("update outbox.events set xid = ((xid::text::bigint + 4000000000)::text)::xid8")
        .execute(database.admin())
        .await
        .unwrap();
    let shift = "(pg_snapshot_xmin(S)::text::bigint + 4000000000) || ':' || (pg_snapshot_xmax(S)::text::bigint + 4000000000) || ':'";
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "update outbox.cursors set system_identifier = 1, done = ({})::pg_snapshot, target = ({})::pg_snapshot",
        shift.replace('S', "done"),
        shift.replace('S', "target")
    )))
    .execute(database.admin())
    .await
    .unwrap();

    let relay = Relay::start(config(&database, &topics));
    let records = wait_for(&topics, &waiting).await;
    assert_eq!(records.len(), 120, "each event once");
    let after = event(Uuid::now_v7(), 1);
    write(
        &mut database.admin().acquire().await.unwrap(),
        std::slice::from_ref(&after),
    )
    .await;
    assert_eq!(wait_for(&topics, &[after]).await.len(), 121);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_is_emptied_only_when_all_of_it_is_published_and_its_hour_is_long_over() {
    let (database, topics) = (Database::create().await, Topics::create().await);
    let now_slot: i64 = sqlx::query_scalar("select (extract(epoch from now())::bigint / 3600) % 6")
        .fetch_one(database.admin())
        .await
        .unwrap();
    let old_slot = (now_slot + 3) % 6;
    let published = event(Uuid::now_v7(), 1);
    let current = event(Uuid::now_v7(), 2);
    write(
        &mut database.admin().acquire().await.unwrap(),
        &[published.clone(), current.clone()],
    )
    .await;
    sqlx::query("update outbox.events set slot = $1 where event_id = $2")
        .bind(i16::try_from(old_slot).unwrap())
        .bind(published.event_id)
        .execute(database.admin())
        .await
        .unwrap();
    // The relay looks at the ring when it starts, before anything is published: the row must survive that.
    let relay = Relay::start(config(&database, &topics));
    wait_for(&topics, &[published, current]).await;
    relay.stop().await;

    let relay = Relay::start(config(&database, &topics));
    eventually("the old slot is empty and the current one is not", async || {
        let row = sqlx::query(
            "select count(*) filter (where slot = $1), count(*) filter (where slot = $2) from outbox.events",
        )
        .bind(i16::try_from(old_slot).unwrap())
        .bind(i16::try_from(now_slot).unwrap())
        .fetch_one(database.admin())
        .await
        .unwrap();
        (row.get::<i64, _>(0) == 0 && row.get::<i64, _>(1) == 1).then_some(())
    })
    .await;
    relay.stop().await;
}
