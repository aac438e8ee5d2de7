//! Series that do not wait for a completion, and those that wait for nothing else.

use std::time::Duration;

use chrono::TimeDelta;
use db::series::{self, Anchor, InstanceReminder, Overlap, Series};
use db::tasks;
use recurrence_generator::{Attended, Config, attend, attend_all};
use schemas::{Event, Task, TaskEvent, TaskEventKind, Timestamp, WriterSchema};
use service::config::ServiceConfig;
use sqlx::PgPool;
use support::{Clock, Topics, eventually, samples};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{World, at, caught_up, start};

/// The database's clock, which stands at that time, and a pool of those who go by it.
async fn with_clock(world: &World, now: &str) -> (PgPool, Clock) {
    let clock = Clock::of(&world.database, None).await;
    clock.stand_at(at(now)).await;
    (world.database.pool("recurrence-generator"), clock)
}

/// Writes a series with its first instance, open.
async fn begin(world: &World, series: &Series) -> Task {
    let mut tx = world.database.admin().begin().await.unwrap();
    series::insert(&mut tx, world.user_id, series).await.unwrap();
    let task = series.instance(series.starts_at, schemas::now());
    let created: Event = samples::event(TaskEventKind::Created, world.user_id, &task).into();
    tasks::insert(&mut *tx, world.user_id, &task, &created.encode("test").unwrap())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    task
}

fn piling_up(rrule: &str, starts_at: &str) -> Series {
    Series {
        overlap: Overlap::PileUp,
        ..crate::series(rrule, starts_at)
    }
}

fn rolling(rrule: &str, starts_at: &str) -> Series {
    Series {
        overlap: Overlap::RollForward,
        ..crate::series(rrule, starts_at)
    }
}

async fn read(world: &World, id: Uuid) -> Series {
    let mut db = world.database.admin().acquire().await.unwrap();
    series::get(&mut db, world.user_id, id).await.unwrap().unwrap()
}

/// Completes an instance as the API would, and lets the generator know.
async fn complete(world: &World, task: &Task, completed_at: &str) {
    sqlx::query("update tasks.tasks set completed_at = $2, version = version + 1 where id = $1")
        .bind(task.id)
        .bind(at(completed_at))
        .execute(world.database.admin())
        .await
        .unwrap();
    world
        .handle(vec![world.completed(task, completed_at)])
        .await
        .unwrap();
}

/// The events of a kind in the outbox.
async fn events(world: &World, kind: TaskEventKind) -> Vec<TaskEvent> {
    let rows: Vec<(String, Vec<u8>, String)> = sqlx::query_as(
        "select e.topic, e.body, s.schema_json from outbox.events e join outbox.schemas s using (fingerprint) order by seq",
    )
    .fetch_all(world.database.admin())
    .await
    .unwrap();
    rows.into_iter()
        .filter_map(|(topic, body, schema)| {
            let schema = WriterSchema::parse(&schema).unwrap();
            match schemas::decode(&topic, &schema, &body).unwrap() {
                Event::Task(event) if event.kind == kind => Some(event),
                _ => None,
            }
        })
        .collect()
}

/// Everything about the instances of everybody but their ids.
async fn instances(world: &World) -> Vec<String> {
    sqlx::query_scalar(
        "select concat_ws(' ', user_id, series_id, occurrence, due_at, due_on, title, version, recurrence, completed_at)
         from tasks.tasks order by user_id, series_id, occurrence",
    )
    .fetch_all(world.database.admin())
    .await
    .unwrap()
}

#[tokio::test]
async fn what_follows_a_completion_is_made_when_the_databases_clock_says() {
    let world = World::create().await;
    let (_, clock) = with_clock(&world, "2026-03-02T12:00:00Z").await;
    let task = world.series("FREQ=DAILY", "2026-03-02T08:00:00Z").await;
    // The API's own clock is an hour ahead.
    let event = world.completed(&task, "2026-03-02T13:00:00Z");
    clock.stand_at(at("2026-03-02T12:00:01Z")).await;
    world.handle(vec![event]).await.unwrap();
    let next = world.newest(&task).await;
    assert_eq!(next.created_at, at("2026-03-02T12:00:01Z"));
    assert_eq!(next.due_at, Some(at("2026-03-03T08:00:00Z")));
}

#[tokio::test]
async fn what_piles_up_is_made_as_far_as_the_horizon_and_no_further_whatever_is_open() {
    let world = World::create().await;
    let (pool, clock) = with_clock(&world, "2026-03-02T12:00:00Z").await;
    let task = begin(&world, &piling_up("FREQ=WEEKLY", "2026-03-02T08:00:00Z")).await;
    let horizon = TimeDelta::days(30);
    let attended = attend(&pool, horizon).await.unwrap();
    assert_eq!(
        attended,
        Attended {
            series: 1,
            made: 4,
            rolled: 0
        }
    );
    // To summer time on 29 March.
    let expected = [
        "2026-03-02T08:00Z",
        "2026-03-09T08:00Z",
        "2026-03-16T08:00Z",
        "2026-03-23T08:00Z",
        "2026-03-30T07:00Z",
    ];
    assert_eq!(world.occurrences(&task).await, expected);
    let created = events(&world, TaskEventKind::Created).await;
    assert_eq!(created.len(), 5, "one event an instance");
    let newest = world.newest(&task).await;
    assert_eq!(created[4].task, newest);
    assert_eq!(
        (created[4].actor, newest.reminders.len()),
        (schemas::Actor::Recurrence, 1)
    );
    assert_eq!(newest.created_at, at("2026-03-02T12:00:00Z"));

    // Nothing is left, and a horizon that grows or a day that comes brings the next.
    assert_eq!(attend(&pool, horizon).await.unwrap(), Attended::default());
    assert_eq!(attend(&pool, TimeDelta::days(36)).await.unwrap().made, 1);
    clock.stand_at(at("2026-03-14T06:59:59Z")).await;
    assert_eq!(attend(&pool, horizon).await.unwrap(), Attended::default());
    clock.stand_at(at("2026-03-14T07:00:00Z")).await;
    assert_eq!(attend(&pool, horizon).await.unwrap().made, 1);
    assert_eq!(world.newest(&task).await.due_at, Some(at("2026-04-13T07:00:00Z")));

    // A completion brings nothing, and what is deleted does not come back.
    complete(&world, &task, "2026-03-14T08:00:00Z").await;
    sqlx::query("update tasks.tasks set deleted_at = now() where id = $1")
        .bind(world.newest(&task).await.id)
        .execute(world.database.admin())
        .await
        .unwrap();
    assert_eq!(attend(&pool, horizon).await.unwrap(), Attended::default());
    assert_eq!(world.occurrences(&task).await.len(), 7);
    assert_eq!(read(&world, task.series_id.unwrap()).await.version, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_makes_them_side_by_side_and_again_the_rows_are_the_same() {
    let world = World::create().await;
    let alone = World::create().await;
    let now = "2026-03-02T12:00:00Z";
    let ((pool, _), (alone_pool, _)) = (with_clock(&world, now).await, with_clock(&alone, now).await);
    for n in 0..60 {
        let rrule = ["FREQ=DAILY", "FREQ=HOURLY;INTERVAL=7", "FREQ=WEEKLY;COUNT=3"][n % 3];
        let made = if n % 4 == 0 {
            rolling(rrule, "2026-02-01T08:00:00Z")
        } else {
            piling_up(rrule, "2026-03-02T08:00:00Z")
        };
        begin(&world, &made).await;
        begin(&alone, &made).await;
    }
    let horizon = TimeDelta::days(60);
    let shutdown = CancellationToken::new();
    let one = attend_all(&alone_pool, horizon, &shutdown).await.unwrap();
    let runs: Vec<_> = (0..2)
        .map(|_| {
            let (pool, shutdown) = (pool.clone(), shutdown.clone());
            tokio::spawn(async move {
                let mut made = 0;
                for _ in 0..2 {
                    made += attend_all(&pool, horizon, &shutdown).await.unwrap().made;
                }
                made
            })
        })
        .collect();
    let mut made = 0;
    for run in runs {
        made += run.await.unwrap();
    }
    assert_eq!(made, one.made);
    let strip = |rows: Vec<String>| -> Vec<String> {
        rows.into_iter()
            .map(|row| row.split_once(' ').unwrap().1.to_owned())
            .collect()
    };
    assert_eq!(strip(instances(&world).await), strip(instances(&alone).await));
    let created = events(&world, TaskEventKind::Created).await;
    assert_eq!(created.len(), 60 + made);
    assert!(made > 4000, "{made}");
}

#[tokio::test]
async fn what_has_a_place_already_is_passed_over_and_what_is_paused_or_over_makes_none() {
    let world = World::create().await;
    let (pool, _) = with_clock(&world, "2026-03-02T12:00:00Z").await;
    let daily = piling_up("FREQ=DAILY;COUNT=3", "2026-03-02T08:00:00Z");
    let task = begin(&world, &daily).await;
    // A person had it made already, to move it.
    let moved = Task {
        due_at: Some(at("2026-03-03T15:00:00Z")),
        ..daily.instance(at("2026-03-03T08:00:00Z"), schemas::now())
    };
    let event: Event = samples::event(TaskEventKind::Created, world.user_id, &moved).into();
    tasks::insert(
        world.database.admin(),
        world.user_id,
        &moved,
        &event.encode("test").unwrap(),
    )
    .await
    .unwrap();
    for (paused_at, ended_at) in [
        (Some("2026-03-02T11:00:00Z"), None),
        (None, Some("2026-03-02T11:00:00Z")),
    ] {
        let standing = Series {
            paused_at: paused_at.map(at),
            ended_at: ended_at.map(at),
            ..piling_up("FREQ=DAILY", "2026-03-02T08:00:00Z")
        };
        begin(&world, &standing).await;
    }
    let attended = attend(&pool, TimeDelta::days(30)).await.unwrap();
    assert_eq!(
        attended,
        Attended {
            series: 1,
            made: 1,
            rolled: 0
        }
    );
    assert_eq!(
        world.occurrences(&task).await,
        ["2026-03-02T08:00Z", "2026-03-03T08:00Z", "2026-03-04T08:00Z"]
    );
    assert_eq!(events(&world, TaskEventKind::Created).await.len(), 5);

    // It has ended when the last that is open is completed, in whatever order.
    let last = world.newest(&task).await;
    for (task, ended) in [(&last, false), (&task, false), (&moved, true)] {
        complete(&world, task, "2026-03-02T12:00:00Z").await;
        assert_eq!(read(&world, daily.id).await.ended_at.is_some(), ended);
    }
}

#[tokio::test]
async fn one_that_cannot_be_used_does_not_hold_up_the_others() {
    let world = World::create().await;
    let (pool, _) = with_clock(&world, "2026-03-02T12:00:00Z").await;
    let mut broken = Vec::new();
    for overlap in [Overlap::PileUp, Overlap::RollForward] {
        let series = Series {
            overlap,
            ..crate::series("FREQ=DAILY", "2026-03-01T08:00:00Z")
        };
        begin(&world, &series).await;
        broken.push(series.id);
    }
    sqlx::query("update tasks.series set rrule = 'FREQ=OFTEN'")
        .execute(world.database.admin())
        .await
        .unwrap();
    let good = begin(&world, &piling_up("FREQ=DAILY;COUNT=2", "2026-03-02T08:00:00Z")).await;
    let attended = attend_all(&pool, TimeDelta::days(30), &CancellationToken::new())
        .await
        .unwrap();
    assert_eq!((attended.series, attended.made), (3, 1));
    assert_eq!(world.occurrences(&good).await.len(), 2);
    let waiting: i64 = sqlx::query_scalar("select count(*) from tasks.series where attend_at is not null")
        .fetch_one(world.database.admin())
        .await
        .unwrap();
    assert_eq!(waiting, 0);
}

#[tokio::test]
async fn what_rolls_forward_moves_to_the_newest_occurrence_that_has_fallen_due() {
    let world = World::create().await;
    let (pool, clock) = with_clock(&world, "2026-03-03T07:48:59Z").await;
    let daily = rolling("FREQ=DAILY", "2026-03-02T08:00:00Z");
    let task = begin(&world, &daily).await;
    let horizon = TimeDelta::days(30);
    assert_eq!(attend(&pool, horizon).await.unwrap(), Attended::default());
    sqlx::query(
        "update tasks.tasks set reminders = jsonb_set(reminders, '{0,dismissed_at}', '1772438400000000')",
    )
    .execute(world.database.admin())
    .await
    .unwrap();
    clock.stand_at(at("2026-03-05T08:00:00Z")).await;
    let attended = attend(&pool, horizon).await.unwrap();
    assert_eq!(
        attended,
        Attended {
            series: 1,
            made: 0,
            rolled: 1
        }
    );
    let rolled = world.newest(&task).await;
    let place = Some(at("2026-03-05T08:00:00Z"));
    assert_eq!((rolled.id, rolled.version), (task.id, 2));
    assert_eq!((rolled.occurrence, rolled.due_at), (place, place));
    assert_eq!(rolled.reminders, task.reminders);
    let told = events(&world, TaskEventKind::Updated).await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].task, rolled);
    let changed: Vec<_> = told[0]
        .changes
        .iter()
        .map(|c| (c.field.as_str(), c.new.as_deref()))
        .collect();
    let new = Some("\"2026-03-05T08:00:00.000000Z\"");
    assert_eq!(changed, [("due_at", new), ("occurrence", new)]);
    assert_eq!(attend(&pool, horizon).await.unwrap(), Attended::default());

    // Completed, the next is one after now; it does not move before it has come up.
    complete(&world, &rolled, "2026-03-05T09:00:00Z").await;
    let next = world.newest(&task).await;
    assert_eq!(next.due_at, Some(at("2026-03-06T08:00:00Z")));
    clock.stand_at(at("2026-03-06T20:00:00Z")).await;
    assert_eq!(attend(&pool, horizon).await.unwrap(), Attended::default());

    // What is completed waits for the consumer, however late that comes.
    sqlx::query("update tasks.tasks set completed_at = now() where id = $1")
        .bind(next.id)
        .execute(world.database.admin())
        .await
        .unwrap();
    clock.stand_at(at("2026-03-09T20:00:00Z")).await;
    assert_eq!(attend(&pool, horizon).await.unwrap().rolled, 0);
    world
        .handle(vec![world.completed(&next, "2026-03-07T12:00:00Z")])
        .await
        .unwrap();
    assert_eq!(world.newest(&task).await.due_at, Some(at("2026-03-08T08:00:00Z")));
    assert_eq!(attend(&pool, horizon).await.unwrap().rolled, 1);
    assert_eq!(world.newest(&task).await.due_at, Some(at("2026-03-09T08:00:00Z")));
}

#[tokio::test]
async fn what_rolls_forward_moves_a_minute_before_the_first_reminder_that_comes_after_the_last_due_time() {
    let world = World::create().await;
    let (pool, clock) = with_clock(&world, "2026-03-03T06:58:59Z").await;
    let mut daily = rolling("FREQ=DAILY", "2026-03-02T08:00:00Z");
    // Two days before is before the last one was due, which nothing must take the place of.
    daily.content.reminders = ["-PT10M", "-PT1H", "-P2D"]
        .map(|offset| InstanceReminder::new(offset.to_owned()))
        .to_vec();
    let task = begin(&world, &daily).await;
    let horizon = TimeDelta::days(30);
    assert_eq!(attend(&pool, horizon).await.unwrap(), Attended::default());
    clock.stand_at(at("2026-03-03T06:59:00Z")).await;
    assert_eq!(attend(&pool, horizon).await.unwrap().rolled, 1);
    let rolled = world.newest(&task).await;
    assert_eq!(
        (rolled.id, rolled.due_at),
        (task.id, Some(at("2026-03-03T08:00:00Z")))
    );
    assert_eq!(attend(&pool, horizon).await.unwrap(), Attended::default());
    clock.stand_at(at("2026-03-04T06:59:00Z")).await;
    assert_eq!(attend(&pool, horizon).await.unwrap().rolled, 1);
}

#[tokio::test]
async fn one_that_was_deleted_and_comes_back_rolls_on() {
    let world = World::create().await;
    let (pool, _) = with_clock(&world, "2026-03-05T08:00:00Z").await;
    let task = begin(&world, &rolling("FREQ=DAILY", "2026-03-02T08:00:00Z")).await;
    let delete = async |deleted_at: Option<Timestamp>| {
        sqlx::query("update tasks.tasks set deleted_at = $2 where id = $1")
            .bind(task.id)
            .bind(deleted_at)
            .execute(world.database.admin())
            .await
            .unwrap();
    };
    delete(Some(at("2026-03-02T08:00:00Z"))).await;
    assert_eq!(
        attend(&pool, TimeDelta::days(30)).await.unwrap(),
        Attended {
            series: 1,
            made: 0,
            rolled: 0
        }
    );
    delete(None).await;
    assert_eq!(
        attend(&pool, TimeDelta::days(30)).await.unwrap(),
        Attended::default()
    );
    let restored = samples::event(TaskEventKind::Restored, world.user_id, &task);
    world.handle(vec![restored.into()]).await.unwrap();
    assert_eq!(attend(&pool, TimeDelta::days(30)).await.unwrap().rolled, 1);
}

#[tokio::test]
async fn a_due_time_that_was_put_off_stays_and_one_made_to_be_moved_is_the_one_to_do() {
    let world = World::create().await;
    let (pool, clock) = with_clock(&world, "2026-03-05T09:00:00Z").await;
    let daily = rolling("FREQ=DAILY", "2026-03-02T08:00:00Z");
    let task = begin(&world, &daily).await;
    sqlx::query("update tasks.tasks set due_at = '2026-03-05T18:00:00Z' where id = $1")
        .bind(task.id)
        .execute(world.database.admin())
        .await
        .unwrap();
    assert_eq!(attend(&pool, TimeDelta::days(30)).await.unwrap().rolled, 1);
    let rolled = world.newest(&task).await;
    assert_eq!(
        (rolled.occurrence, rolled.due_at),
        (Some(at("2026-03-05T08:00:00Z")), Some(at("2026-03-05T18:00:00Z")))
    );

    let insert = async |occurrence: &str, completed: bool| {
        let task = Task {
            completed_at: completed.then(schemas::now),
            ..daily.instance(at(occurrence), schemas::now())
        };
        let event: Event = samples::event(TaskEventKind::Created, world.user_id, &task).into();
        tasks::insert(
            world.database.admin(),
            world.user_id,
            &task,
            &event.encode("test").unwrap(),
        )
        .await
        .unwrap();
        task
    };
    // Done ahead: the open one waits for the one after it.
    insert("2026-03-06T08:00:00Z", true).await;
    clock.stand_at(at("2026-03-06T09:00:00Z")).await;
    assert_eq!(
        attend(&pool, TimeDelta::days(30)).await.unwrap(),
        Attended {
            series: 1,
            made: 0,
            rolled: 0
        }
    );
    assert_eq!(
        attend(&pool, TimeDelta::days(30)).await.unwrap(),
        Attended::default()
    );
    // Made ahead, and open: it is the one to do, and brings the next.
    let ahead = insert("2026-03-07T08:00:00Z", false).await;
    clock.stand_at(at("2026-03-07T09:00:00Z")).await;
    assert_eq!(attend(&pool, TimeDelta::days(30)).await.unwrap().rolled, 0);
    complete(&world, &ahead, "2026-03-07T10:00:00Z").await;
    assert_eq!(world.newest(&task).await.due_at, Some(at("2026-03-08T08:00:00Z")));
}

#[tokio::test]
async fn what_counts_from_its_completion_comes_an_interval_after_that() {
    let world = World::create().await;
    let every_three_days = Series {
        anchor: Anchor::Completion,
        ..crate::series("FREQ=DAILY;INTERVAL=3", "2026-03-20T08:00:00Z")
    };
    let first = begin(&world, &every_three_days).await;
    // Late, in the night: the day counts, in Berlin.
    let event = world.completed(&first, "2026-03-26T23:30:00Z");
    world.handle(vec![event.clone(), event.clone()]).await.unwrap();
    let second = world.newest(&first).await;
    assert_eq!(second.due_at, Some(at("2026-03-30T07:00:00Z")));
    // Once, however often.
    let again = world.completed(&first, "2026-03-28T08:00:00Z");
    world.handle(vec![event, again.clone()]).await.unwrap();
    assert_eq!(world.occurrences(&first).await.len(), 2);
    // Long before it is due: the next is due before it was.
    complete(&world, &second, "2026-03-26T06:00:00Z").await;
    let third: Vec<_> = world.occurrences(&first).await;
    assert_eq!(
        third,
        ["2026-03-20T08:00Z", "2026-03-29T07:00Z", "2026-03-30T07:00Z"]
    );
    // And twice on the same day: that place is taken.
    let open: Task = tasks::open_instances(world.database.admin(), world.user_id, every_three_days.id)
        .await
        .unwrap()
        .into_iter()
        .find(|task| task.occurrence == Some(at("2026-03-29T07:00:00Z")))
        .unwrap();
    complete(&world, &open, "2026-03-26T07:00:00Z").await;
    assert_eq!(
        world.occurrences(&first).await.last().unwrap(),
        "2026-04-01T07:00Z"
    );
    world.handle(vec![again]).await.unwrap();
    assert_eq!(world.occurrences(&first).await.len(), 4);
}

#[tokio::test]
async fn dates_beside_the_rule_come_and_exceptions_do_not() {
    let world = World::create().await;
    let daily = Series {
        rdates: vec![at("2026-03-03T20:00:00Z")],
        exdates: vec![at("2026-03-03T08:00:00Z"), at("2026-03-04T08:00:00Z")],
        ..crate::series("FREQ=DAILY", "2026-03-02T08:00:00Z")
    };
    let first = begin(&world, &daily).await;
    complete(&world, &first, "2026-03-02T09:00:00Z").await;
    let second = world.newest(&first).await;
    complete(&world, &second, "2026-03-03T21:00:00Z").await;
    assert_eq!(
        world.occurrences(&first).await,
        ["2026-03-02T08:00Z", "2026-03-03T20:00Z", "2026-03-05T08:00Z"]
    );
}

#[tokio::test]
async fn one_made_to_be_moved_does_not_take_the_place_of_those_before_it() {
    let world = World::create().await;
    let daily = crate::series("FREQ=DAILY", "2026-03-02T08:00:00Z");
    let first = begin(&world, &daily).await;
    let ahead = daily.instance(at("2026-03-04T08:00:00Z"), schemas::now());
    let event: Event = samples::event(TaskEventKind::Created, world.user_id, &ahead).into();
    tasks::insert(
        world.database.admin(),
        world.user_id,
        &ahead,
        &event.encode("test").unwrap(),
    )
    .await
    .unwrap();
    // Done before its time: the first is still open.
    complete(&world, &ahead, "2026-03-02T09:00:00Z").await;
    assert_eq!(
        world.occurrences(&first).await,
        ["2026-03-02T08:00Z", "2026-03-04T08:00Z"]
    );
    complete(&world, &first, "2026-03-02T10:00:00Z").await;
    let second = tasks::open_instances(world.database.admin(), world.user_id, daily.id)
        .await
        .unwrap();
    assert_eq!(second[0].due_at, Some(at("2026-03-03T08:00:00Z")));
    complete(&world, &second[0], "2026-03-03T10:00:00Z").await;
    assert_eq!(
        world.occurrences(&first).await,
        [
            "2026-03-02T08:00Z",
            "2026-03-03T08:00Z",
            "2026-03-04T08:00Z",
            "2026-03-05T08:00Z"
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_makes_them_ahead_by_itself_and_once_by_itself_too() {
    let (world, topics) = tokio::join!(World::create(), Topics::create());
    let (shutdown, service) = start(&world.database, &topics);
    caught_up(&topics).await;
    let tomorrow = (schemas::now() + TimeDelta::days(1)).to_rfc3339();
    let first = begin(&world, &piling_up("FREQ=DAILY;COUNT=10", &tomorrow)).await;
    eventually("the instances of the horizon", async || {
        (world.occurrences(&first).await.len() == 10).then_some(())
    })
    .await;
    let again = begin(&world, &piling_up("FREQ=DAILY;COUNT=10", &tomorrow)).await;
    let once = Config {
        service: ServiceConfig::loopback(),
        database: world.database.config("recurrence-generator"),
        horizon: TimeDelta::days(5),
        stream: None,
    };
    recurrence_generator::run(once, CancellationToken::new())
        .await
        .unwrap();
    assert!(world.occurrences(&again).await.len() >= 5);
    eventually("the rest of them", async || {
        (world.occurrences(&again).await.len() == 10).then_some(())
    })
    .await;
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(30), service)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

#[test]
fn once_needs_no_broker_and_a_horizon_is_within_a_year() {
    let pairs = [
        ("DATABASE_URL", "postgres://x@localhost/x"),
        ("HORIZON_DAYS", "367"),
    ];
    let env = service::config::Env::from_pairs(pairs).with_flags(["--once"]);
    let problems = service::config::load_from(env, Config::from_env)
        .unwrap_err()
        .to_string();
    assert!(
        problems.contains("HORIZON_DAYS") && !problems.contains("KAFKA"),
        "{problems}"
    );
    let env = service::config::Env::from_pairs([pairs[0]]).with_flags(["--once"]);
    let config = service::config::load_from(env, Config::from_env).unwrap();
    assert!(config.stream.is_none() && config.horizon == TimeDelta::days(30));
}
