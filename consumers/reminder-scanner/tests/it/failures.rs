//! The mark and its event stand or fall together, and a database that fails costs nothing but time.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn when_the_event_cannot_be_written_the_mark_is_undone_too_and_it_rings_once_when_it_can() {
    let world = World::create().await;
    let user_id = Uuid::now_v7();
    // Sequences are not transactional: they count attempts that were rolled back.
    for statement in [
        "create sequence public.attempts",
        "grant usage on schema public to public",
        "grant usage on sequence public.attempts to public",
        "create function public.refuse() returns trigger language plpgsql as $$ begin
             perform nextval('public.attempts');
             raise exception 'no space' using errcode = 'disk_full';
         end $$",
        "create trigger refuse before insert on outbox.events for each row
             when (new.event_type = 'com.carillon.reminder.fired.v1') execute function public.refuse()",
    ] {
        sqlx::query(statement).execute(world.admin()).await.unwrap();
    }
    let scanner = world.scanner();
    let fire_at = at(0.5);
    let task = samples::task_with_reminder(fire_at);
    world.tell(TaskEventKind::Created, user_id, &task).await;
    eventually("several attempts", async || {
        let attempts: i64 = sqlx::query_scalar("select last_value from public.attempts")
            .fetch_one(world.admin())
            .await
            .unwrap();
        let state = world.reminder(only(&task)).await;
        assert!(
            state.is_none() || state == Some(("armed".to_owned(), fire_at)),
            "{state:?} without its event"
        );
        (attempts >= 4).then_some(())
    })
    .await;
    assert!(world.fired().await.is_empty());
    sqlx::query("drop trigger refuse on outbox.events")
        .execute(world.admin())
        .await
        .unwrap();
    world.wait_for_fired(1).await;
    world.caught_up().await;
    world.assert_fired_once_and_never_early().await;
    scanner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_arms_and_the_row_it_arms_stand_or_fall_together() {
    let world = World::create().await;
    for statement in [
        "create function public.refuse() returns trigger language plpgsql as $$ begin
             raise exception 'no space' using errcode = 'disk_full';
         end $$",
        "create trigger refuse before insert on outbox.events for each row execute function public.refuse()",
    ] {
        sqlx::query(statement).execute(world.admin()).await.unwrap();
    }
    let tasks: Vec<Task> = (0..20).map(|_| samples::task_with_reminder(at(3600.0))).collect();
    for task in &tasks {
        world.tell(TaskEventKind::Created, Uuid::now_v7(), task).await;
    }
    let scanner = world.scanner();
    let retries = || {
        service::metrics::render()
            .lines()
            .find_map(|line| {
                line.strip_prefix("kafka_consumer_retries_total{group=\"reminder-scanner\"} ")?
                    .parse()
                    .ok()
            })
            .unwrap_or(0.0)
    };
    let before: f64 = retries();
    eventually("several attempts", async || {
        (retries() >= before + 3.0).then_some(())
    })
    .await;
    let rows: i64 = sqlx::query_scalar(
        "select (select count(*) from reminders.reminders) + (select count(*) from reminders.inbox)
              + (select count(*) from reminders.tasks)",
    )
    .fetch_one(world.admin())
    .await
    .unwrap();
    assert_eq!(rows, 0);
    sqlx::query("drop trigger refuse on outbox.events")
        .execute(world.admin())
        .await
        .unwrap();
    world.caught_up().await;
    assert_eq!(
        world.said_kinds().await,
        vec![ReminderEventKind::Scheduled; tasks.len()]
    );
    scanner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_in_the_middle_lose_and_double_nothing() {
    let world = World::create().await;
    let armed: Vec<_> = (0..800)
        .map(|n| {
            (
                Uuid::now_v7(),
                created(at(-60.0), at(-30.0 + f64::from(n) * 0.01)),
            )
        })
        .collect();
    world.arm(&armed).await;
    let told: Vec<Event> = (0..100)
        .map(|n| {
            let task = samples::task_with_reminder(at(1.0 + f64::from(n) * 0.02));
            samples::event(TaskEventKind::Created, Uuid::now_v7(), &task).into()
        })
        .collect();
    let small = || {
        let config = world.config();
        start(Config {
            fire_batch: 7,
            batch: BatchConfig {
                max_events: 5,
                ..config.batch
            },
            ..config
        })
    };
    let scanners = [small(), small()];
    let role = world.database.pool("reminder-scanner");
    for (n, wave) in told.chunks(10).enumerate() {
        world.topics.publish(wave).await;
        world.wait_for_fired(n * 20).await;
        // By its own role, which may end its own connections.
        sqlx::query(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and usename = current_user and pid <> pg_backend_pid()",
        )
        .execute(&role)
        .await
        .unwrap();
    }
    world.wait_for_fired(armed.len() + told.len()).await;
    world.caught_up().await;
    for scanner in scanners {
        scanner.stop().await;
    }
    assert_eq!(world.fired().await.len(), armed.len() + told.len());
    world.assert_fired_once_and_never_early().await;
    assert!(
        world
            .topics
            .read(&dead_letter(TASK_EVENTS, REMINDER_SCANNER.name))
            .await
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn while_kafka_and_the_registry_are_away_what_is_armed_rings_all_the_same() {
    let database = Database::create().await;
    let world = World {
        database,
        topics: Topics::named("nobody-is-there."),
    };
    let armed: Vec<_> = (0..3)
        .map(|n| (Uuid::now_v7(), created(at(-60.0), at(f64::from(n) * 0.2))))
        .collect();
    world.arm(&armed).await;
    let mut config = world.config();
    config.kafka.bootstrap_servers = "127.0.0.1:1".to_owned();
    config.registry.url = "http://127.0.0.1:1".to_owned();
    let scanner = start(config);
    world.wait_for_fired(armed.len()).await;
    world.assert_fired_once_and_never_early().await;
    scanner.stop().await;
}
