//! What is done to the trail behind the sink's back shows, whatever it is; and what the sinks do themselves does not, however
//! many they are and whatever happens to them.

use std::time::Duration;

use audit::{Anchor, Finding, Range, Report, SealKey, What, verify};
use audit_sink::partitions;
use audit_sink::seals::Sealer;
use chrono::{DateTime, Days, Utc};
use schemas::topics::{AUDIT_SINK, audited};
use sqlx::{AssertSqlSafe, PgPool};
use support::{Database, Topics, eventually};
use uuid::Uuid;

use crate::service_loop::start;

fn sealer(key: Option<SealKey>) -> Sealer {
    Sealer {
        interval: Duration::from_mins(1),
        key,
        retention_days: 90,
    }
}

async fn seal(pool: &PgPool) {
    sealer(None).round(pool, Duration::ZERO).await.unwrap();
}

/// Adds rows of a person as the sink does, and returns their ids.
async fn add(pool: &PgPool, user_id: Option<Uuid>, at: DateTime<Utc>, count: i32) -> Vec<Uuid> {
    let ids: Vec<Uuid> = (0..count).map(|_| Uuid::now_v7()).collect();
    let mut tx = pool.begin().await.unwrap();
    sqlx::query(
        "insert into audit.events (event_id, occurred_at, topic, partition_id, offset_id, event_type, user_id, payload, headers,
                                   segment)
         select id, $2, 'task-events', 0, n, 'com.carillon.task.created.v1', $3, '{\"a\": [1, 2.50]}', '{}', audit.open_segment()
         from unnest($1) with ordinality as r (id, n)",
    )
    .bind(&ids)
    .bind(at)
    .bind(user_id)
    .execute(&mut *tx)
    .await
    .unwrap();
    tx.commit().await.unwrap();
    ids
}

async fn check_with(
    database: &Database,
    keys: &[SealKey],
    range: Range,
    anchors: &[Anchor],
) -> (Report, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut connection = database.admin().acquire().await.unwrap();
    let report = verify(&mut connection, keys, range, anchors, |finding| {
        findings.push(finding);
    })
    .await
    .unwrap();
    assert_eq!(report.findings, findings.len() as u64);
    (report, findings)
}

async fn check(database: &Database) -> (Report, Vec<Finding>) {
    check_with(database, &[], Range::default(), &[]).await
}

/// A trail of three days and three segments, sealed: the person, the rows of each day, and the segment of each.
async fn trail(database: &Database) -> (Uuid, Vec<Vec<Uuid>>) {
    let pool = database.pool("audit-sink");
    partitions::round(&pool, 90).await.unwrap();
    let person = database.user("ada@example.com").await;
    let mut days = Vec::new();
    for ago in [2, 1, 0] {
        days.push(add(&pool, Some(person), Utc::now() - Days::new(ago), 3).await);
        seal(&pool).await;
    }
    let (report, findings) = check(database).await;
    assert_eq!(
        (findings, report.rows, report.unsealed, report.seals),
        (vec![], 9, 0, 3)
    );
    (person, days)
}

/// What is found after a statement of somebody who may do everything to the tables.
async fn after(tampering: &str) -> (Vec<Finding>, Vec<Vec<Uuid>>) {
    let database = Database::create().await;
    let (_, days) = trail(&database).await;
    let sql = tampering.replace("$EVENT", &days[1][1].to_string());
    let done = sqlx::raw_sql(AssertSqlSafe(sql.clone()))
        .execute(database.admin())
        .await
        .unwrap();
    assert!(done.rows_affected() > 0, "{sql} does nothing");
    (check(&database).await.1, days)
}

#[tokio::test]
async fn an_edit_of_any_column_is_found_and_named_by_day_and_segment() {
    let database = Database::create().await;
    let (_, days) = trail(&database).await;
    let event = days[1][1];
    for change in [
        "topic = 'x'",
        "partition_id = 7",
        "offset_id = 70",
        "event_type = 'x'",
        "user_id = null",
        "task_id = event_id",
        "actor = 'user'",
        "payload = '{\"a\": [1, 2.5]}'",
        "payload = null",
        "raw = ''",
        "headers = '{\"a\": null}'",
        "recorded_at = recorded_at + interval '1 microsecond'",
        "recorded_at = 'infinity'",
        "occurred_at = occurred_at + interval '1 microsecond'",
    ] {
        let kept =
            format!("create table public.before as select * from audit.events where event_id = '{event}'");
        let edit = format!("update audit.events set {change} where event_id = '{event}'");
        let back = format!(
            "delete from audit.events where event_id = '{event}'; insert into audit.events select * from public.before; \
             drop table public.before"
        );
        for sql in [kept, edit] {
            sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(database.admin())
                .await
                .unwrap();
        }
        let (report, findings) = check(&database).await;
        let expected = Finding {
            what: What::Edited,
            day: Some((Utc::now() - Days::new(1)).date_naive()),
            segment: Some(2),
            seal: None,
            event_id: Some(event),
        };
        assert_eq!((findings, report.rows), (vec![expected], 8), "{change}");
        sqlx::raw_sql(AssertSqlSafe(back))
            .execute(database.admin())
            .await
            .unwrap();
        assert_eq!(check(&database).await.1, [], "it is as it was");
    }
}

#[tokio::test]
async fn a_row_that_is_deleted_inserted_or_moved_is_found() {
    let (findings, days) = after("delete from audit.events where event_id = '$EVENT'").await;
    assert_eq!(findings.len(), 1);
    assert_eq!(
        (findings[0].what, findings[0].event_id, findings[0].segment),
        (What::Deleted, Some(days[1][1]), Some(2))
    );
    let words = findings[0].to_string();
    let yesterday = (Utc::now() - Days::new(1)).date_naive();
    assert!(words.contains(&format!("day {yesterday}, segment 2")), "{words}");

    // Into a segment that is sealed, into one of another day, into one that was never opened.
    for (segment, day) in [
        ("2", "occurred_at"),
        ("1", "occurred_at"),
        ("2", "occurred_at - interval '1 day'"),
        ("99", "occurred_at"),
        ("0", "occurred_at"),
        ("-7", "occurred_at"),
    ] {
        let insert = format!(
            "insert into audit.events (event_id, occurred_at, topic, partition_id, offset_id, event_type, headers, segment)
             select gen_random_uuid(), {day}, topic, 0, 0, 'x', '{{}}', {segment} from audit.events where event_id = '$EVENT'"
        );
        let (findings, _) = after(&insert).await;
        assert_eq!(findings.len(), 1, "{insert}");
        assert_eq!(
            (findings[0].what, findings[0].segment),
            (What::Inserted, segment.parse().ok()),
            "{insert}"
        );
    }
    for time in ["'infinity'", "timestamptz '0044-03-15 12:00:00+00 BC'"] {
        let (findings, _) = after(&format!(
            "update audit.events set occurred_at = {time} where event_id = '$EVENT'"
        ))
        .await;
        let whats: Vec<What> = findings.iter().map(|finding| finding.what).collect();
        assert_eq!(whats, [What::Inserted, What::Deleted], "{time}");
    }
    let (findings, _) = after(
        "update audit.events set occurred_at = occurred_at + interval '1 day' where event_id = '$EVENT'",
    )
    .await;
    let whats: Vec<What> = findings.iter().map(|finding| finding.what).collect();
    assert_eq!(whats, [What::Deleted, What::Inserted]);
}

#[tokio::test]
async fn a_seal_that_is_edited_exchanged_or_gone_is_found() {
    for (tampering, expected) in [
        (
            "delete from audit.seals where number = 2",
            &[What::SealsMissing, What::Inserted][..],
        ),
        (
            "delete from audit.seals where number = 1",
            &[What::SealsMissing, What::Inserted],
        ),
        (
            "update audit.seals set rows = 2 where number = 2",
            &[What::SealEdited],
        ),
        (
            "update audit.seals set day = day - 1 where number = 1",
            &[What::SealEdited, What::Deleted, What::Inserted],
        ),
        (
            "update audit.seals set sealed_at = sealed_at + interval '1 day' where number = 2",
            &[What::SealEdited],
        ),
        (
            "update audit.seals set sealed_at = 'infinity' where number = 2",
            &[What::SealEdited],
        ),
        (
            "update audit.seals set day = 'infinity' where number = 2",
            &[What::SealEdited, What::Inserted],
        ),
        (
            "update audit.seals set previous = sha256('x') where number = 3",
            &[What::ChainBroken, What::SealEdited],
        ),
        (
            "update audit.seals set hash = sha256('x') where number = 2",
            &[What::SealEdited, What::ChainBroken],
        ),
        (
            "update audit.seals set leaves = leaves || leaves where number = 2",
            &[What::SealEdited],
        ),
        (
            "update audit.seals set leaves = set_byte(leaves, 20, 255 - get_byte(leaves, 20)) where number = 2",
            &[What::SealEdited],
        ),
        // As drop_partitions would, but a day that is not over.
        (
            "update audit.seals set leaves = null where number = 2",
            &[What::DroppedUnsealed, What::Inserted],
        ),
        (
            "update audit.chain set sealed_segment = 0; delete from audit.seals where number = 2",
            &[What::SealsMissing, What::Inserted],
        ),
    ] {
        let (findings, _) = after(tampering).await;
        let mut whats: Vec<What> = findings.iter().map(|finding| finding.what).collect();
        // Each of the three rows of a segment whose seal is gone.
        whats.dedup();
        assert_eq!(whats, expected, "{tampering}");
    }
}

#[tokio::test]
async fn a_chain_made_anew_is_found_by_its_anchor_and_cannot_be_made_without_the_key() {
    let (key, other) = (SealKey::new(&[1; 32]), SealKey::new(&[2; 32]));
    let database = Database::create().await;
    let pool = database.pool("audit-sink");
    partitions::round(&pool, 90).await.unwrap();
    let person = database.user("ada@example.com").await;
    for _ in 0..2 {
        add(&pool, Some(person), Utc::now(), 2).await;
        sealer(Some(key.clone()))
            .round(&pool, Duration::ZERO)
            .await
            .unwrap();
    }
    let keys = std::slice::from_ref(&key);
    let (report, findings) = check_with(&database, keys, Range::default(), &[]).await;
    assert_eq!((findings, report.rows, report.seals_without_key), (vec![], 4, 0));
    let head = report.head.unwrap();

    // Who has no key sees that there is one; who has another, too.
    for keys in [&[][..], std::slice::from_ref(&other)] {
        let (_, findings) = check_with(&database, keys, Range::default(), &[]).await;
        assert_eq!(findings[0].what, What::KeyUnknown);
    }
    // Somebody edits a row and makes all seals anew, as a sink without the key would; the sink goes on afterwards.
    sqlx::raw_sql(
        "update audit.events set payload = '{}'; delete from audit.seals; update audit.chain set sealed_segment = -1",
    )
    .execute(database.admin())
    .await
    .unwrap();
    seal(&pool).await;
    let (report, findings) = check_with(&database, keys, Range::default(), &[head]).await;
    assert_eq!(
        findings.iter().map(|f| (f.what, f.seal)).collect::<Vec<_>>(),
        [(What::NotTheAnchor, Some(2))]
    );
    assert_eq!(report.seals_without_key, 2, "this is told too");
    // Only the end made anew: seals with the key come before.
    add(&pool, Some(person), Utc::now(), 1).await;
    sealer(Some(key.clone()))
        .round(&pool, Duration::ZERO)
        .await
        .unwrap();
    add(&pool, Some(person), Utc::now(), 1).await;
    seal(&pool).await;
    let (_, findings) = check_with(&database, keys, Range::default(), &[]).await;
    assert_eq!(
        findings.iter().map(|f| (f.what, f.seal)).collect::<Vec<_>>(),
        [(What::KeyMissing, Some(4))]
    );
}

#[tokio::test]
async fn who_leaves_takes_their_rows_along_and_nobody_elses() {
    let database = Database::create().await;
    let pool = database.pool("audit-sink");
    let (ada, bob) = (
        database.user("ada@example.com").await,
        database.user("bob@example.com").await,
    );
    partitions::round(&pool, 90).await.unwrap();
    add(&pool, Some(ada), Utc::now(), 5).await;
    add(&pool, Some(bob), Utc::now(), 5).await;
    add(&pool, None, Utc::now(), 1).await;
    seal(&pool).await;
    sqlx::query("update accounts.users set deleted_at = now() where id = $1")
        .bind(ada)
        .execute(database.admin())
        .await
        .unwrap();
    // In bites: half of them gone is as lawful as all.
    for bite in [3, 100, 100] {
        let gone: bool = sqlx::query_scalar("select accounts.purge($1, $2)")
            .bind(ada)
            .bind(bite)
            .fetch_one(database.admin())
            .await
            .unwrap();
        let (report, findings) = check(&database).await;
        assert_eq!(findings, []);
        assert_eq!((report.rows + report.erased, report.erased >= 3), (11, true));
        if gone {
            assert_eq!(report.erased, 5);
        }
    }
    sqlx::raw_sql("delete from audit.events where user_id is null")
        .execute(database.admin())
        .await
        .unwrap();
    let (_, findings) = check(&database).await;
    assert_eq!(
        findings.iter().map(|f| f.what).collect::<Vec<_>>(),
        [What::Deleted]
    );
}

#[tokio::test]
async fn days_that_are_over_leave_their_seals_and_days_dropped_too_soon_are_found() {
    let database = Database::create().await;
    let pool = database.pool("audit-sink");
    let person = database.user("ada@example.com").await;
    let today = Utc::now().date_naive();
    let (old, kept) = (Utc::now() - Days::new(100), Utc::now() - Days::new(80));
    for day in [old, kept] {
        partitions::ensure(&pool, day.date_naive()).await.unwrap();
        add(&pool, Some(person), day, 2).await;
    }
    // Into the default partition.
    add(&pool, Some(person), Utc::now() - Days::new(300), 1).await;
    seal(&pool).await;
    assert_eq!(check(&database).await.1, []);
    let dropped = partitions::round(&pool, 90).await.unwrap();
    assert_eq!(
        dropped,
        [
            "events_default".to_owned(),
            format!("events_{}", old.format("%Y%m%d"))
        ]
    );
    seal(&pool).await;
    let (report, findings) = check(&database).await;
    assert_eq!((findings, report.rows, report.seals), (vec![], 2, 4));
    assert_eq!(report.dropped_before, Some(old.date_naive() + Days::new(1)));
    // Nothing new to say.
    seal(&pool).await;
    assert_eq!(check(&database).await.0.seals, 4);

    // A day that is not over: the sinks put no seal under that.
    partitions::drop_before(&pool, today - Days::new(70))
        .await
        .unwrap();
    seal(&pool).await;
    let (_, findings) = check(&database).await;
    assert_eq!(findings.len(), 1);
    assert_eq!(
        (findings[0].what, findings[0].day),
        (What::DroppedUnsealed, Some(kept.date_naive()))
    );
}

#[tokio::test]
async fn a_late_event_gets_a_later_segment_of_its_day_and_days_can_be_looked_at_alone() {
    let database = Database::create().await;
    let (person, _) = trail(&database).await;
    let pool = database.pool("audit-sink");
    let yesterday = Utc::now() - Days::new(1);
    let late = add(&pool, Some(person), yesterday, 1).await;
    let (report, findings) = check(&database).await;
    assert_eq!(
        (findings, report.rows, report.unsealed),
        (vec![], 9, 1),
        "what is not sealed yet is told"
    );
    seal(&pool).await;
    let (report, findings) = check(&database).await;
    assert_eq!((findings, report.rows, report.unsealed), (vec![], 10, 0));

    sqlx::query("delete from audit.events where event_id = $1")
        .bind(late[0])
        .execute(database.admin())
        .await
        .unwrap();
    let day = |date: DateTime<Utc>| Range {
        from: Some(date.date_naive()),
        to: Some(date.date_naive()),
    };
    assert_eq!(check_with(&database, &[], day(Utc::now()), &[]).await.1, []);
    let (_, findings) = check_with(&database, &[], day(yesterday), &[]).await;
    assert_eq!((findings[0].what, findings[0].segment), (What::Deleted, Some(4)));
}

#[tokio::test]
async fn rows_from_before_there_were_seals_and_those_of_an_older_sink_are_sealed() {
    let database = Database::create().await;
    let pool = database.pool("audit-sink");
    partitions::round(&pool, 90).await.unwrap();
    let person = database.user("ada@example.com").await;
    // More than one seal holds.
    sqlx::query(
        "insert into audit.events (event_id, occurred_at, topic, partition_id, offset_id, event_type, user_id, headers, segment)
         select gen_random_uuid(), now(), 'task-events', 0, n, 'x', $1, '{}', 0 from generate_series(1, 25000) n",
    )
    .bind(person)
    .execute(database.admin())
    .await
    .unwrap();
    sqlx::query(
        "insert into audit.events (event_id, occurred_at, topic, partition_id, offset_id, event_type, user_id, headers)
         values (gen_random_uuid(), now(), 'task-events', 0, 0, 'x', $1, '{}')",
    )
    .bind(person)
    .execute(&pool)
    .await
    .unwrap();
    seal(&pool).await;
    let (report, findings) = check(&database).await;
    assert_eq!((findings, report.rows, report.seals), (vec![], 25_001, 4));
    // Rows that came before their partition move into it, and are what they were.
    let far = Utc::now() + Days::new(30);
    add(&pool, Some(person), far, 1).await;
    seal(&pool).await;
    partitions::ensure(&pool, far.date_naive()).await.unwrap();
    assert_eq!(check(&database).await.1, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_sinks_side_by_side_killed_and_fed_twice_every_row_is_sealed_once() {
    let (database, topics) = tokio::join!(Database::create(), Topics::create());
    let person = database.user("ada@example.com").await;
    let mut sent = 0;
    let mut running = vec![start(&database, &topics), start(&database, &topics)];
    for round in 0..4 {
        let events: Vec<_> = (0..8).flat_map(|_| crate::events::every_kind(person)).collect();
        topics.publish(&events).await;
        // As a relay may after a crash: the same again.
        topics.publish(&events).await;
        sent += events.len();
        // A sink dies in the middle of whatever it is at; another comes.
        let (_, killed) = running.remove(0);
        killed.abort();
        drop(killed.await);
        running.push(start(&database, &topics));
        sealed_at_least(&database, round).await;
    }
    for topic in audited() {
        eventually("the group has committed everything", async || {
            (topics.lag(AUDIT_SINK.name, &topic).await == 0).then_some(())
        })
        .await;
    }
    eventually("every row is sealed", async || {
        let (report, findings) = check(&database).await;
        assert_eq!(findings, []);
        (report.unsealed == 0 && report.rows == sent as u64).then_some(())
    })
    .await;
    for (shutdown, service) in running {
        shutdown.cancel();
        service.await.unwrap().unwrap();
    }
}

/// Waits until the chain has so many seals.
async fn sealed_at_least(database: &Database, seals: i64) {
    eventually("the chain grows", async || {
        let count: i64 = sqlx::query_scalar("select count(*) from audit.seals")
            .fetch_one(database.admin())
            .await
            .unwrap();
        (count >= seals).then_some(())
    })
    .await;
}
