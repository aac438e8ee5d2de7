//! The recurrence generator on a real Postgres, as its role, and on a real Kafka.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot be set up should fail at once"
)]

mod policies;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::TimeDelta;
use db::series::{self, Content, InstanceReminder, Series};
use db::tasks;
use kafka::{BatchConfig, HandleError, Handler};
use recurrence_generator::{Config, Generator, Stream};
use schemas::topics::{RECURRENCE_GENERATOR, TASK_EVENTS, dead_letter};
use schemas::{Actor, Event, Task, TaskEvent, TaskEventKind, Timestamp};
use service::config::ServiceConfig;
use sqlx::{PgPool, Row};
use support::{Database, Topics, eventually, samples};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A database with a person in it.
struct World {
    database: Database,
    pool: PgPool,
    user_id: Uuid,
}

impl World {
    async fn create() -> Self {
        let database = Database::create().await;
        let pool = database.pool("recurrence-generator");
        let user_id = database.user("ada@example.com").await;
        Self {
            database,
            pool,
            user_id,
        }
    }

    /// A series in Berlin with its first instance, open.
    async fn series(&self, rrule: &str, starts_at: &str) -> Task {
        let series = series(rrule, starts_at);
        let mut tx = self.database.admin().begin().await.unwrap();
        series::insert(&mut tx, self.user_id, &series).await.unwrap();
        let task = series.instance(series.starts_at, schemas::now());
        let created: Event = samples::event(TaskEventKind::Created, self.user_id, &task).into();
        tasks::insert(&mut *tx, self.user_id, &task, &created.encode("test").unwrap())
            .await
            .unwrap();
        tx.commit().await.unwrap();
        task
    }

    fn completed(&self, task: &Task, completed_at: &str) -> Event {
        completed(self.user_id, task, completed_at)
    }

    /// Handles events as the loop would, without the inbox: what holds here holds for events that the inbox forgot.
    async fn handle(&self, events: Vec<Event>) -> Result<(), HandleError> {
        let mut tx = self.pool.begin().await.unwrap();
        let mut generator = Generator::new();
        generator.handle(&mut tx, events).await?;
        tx.commit().await.unwrap();
        generator.committed();
        Ok(())
    }

    /// The occurrences of a series that have an instance, deleted or not.
    async fn occurrences(&self, task: &Task) -> Vec<String> {
        sqlx::query_scalar::<_, Timestamp>(
            "select occurrence from tasks.tasks where user_id = $1 and series_id = $2 order by occurrence",
        )
        .bind(self.user_id)
        .bind(task.series_id)
        .fetch_all(self.database.admin())
        .await
        .unwrap()
        .iter()
        .map(|occurrence| occurrence.format("%Y-%m-%dT%H:%MZ").to_string())
        .collect()
    }

    /// The newest instance of a series.
    async fn newest(&self, task: &Task) -> Task {
        let id: Uuid = sqlx::query_scalar(
            "select id from tasks.tasks where user_id = $1 and series_id = $2 order by occurrence desc limit 1",
        )
        .bind(self.user_id)
        .bind(task.series_id)
        .fetch_one(self.database.admin())
        .await
        .unwrap();
        tasks::get(self.database.admin(), self.user_id, id)
            .await
            .unwrap()
            .unwrap()
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A series in Berlin that nobody has written down yet.
fn series(rrule: &str, starts_at: &str) -> Series {
    let content = Content {
        reminders: vec![InstanceReminder::new("-PT10M".to_owned())],
        ..Content::of(&samples::task())
    };
    let starts_at = at(starts_at);
    Series::new(
        rrule.to_owned(),
        starts_at,
        "Europe/Berlin".to_owned(),
        content,
        starts_at,
    )
}

fn completed(user_id: Uuid, task: &Task, completed_at: &str) -> Event {
    let task = Task {
        version: task.version + 1,
        completed_at: Some(at(completed_at)),
        ..task.clone()
    };
    samples::event(TaskEventKind::Completed, user_id, &task).into()
}

#[tokio::test]
async fn completing_an_instance_creates_the_next_one_with_its_event() {
    let world = World::create().await;
    let task = world.series("FREQ=WEEKLY", "2026-03-02T08:00:00Z").await;
    world
        .handle(vec![world.completed(&task, "2026-03-02T09:00:00Z")])
        .await
        .unwrap();

    let next = world.newest(&task).await;
    assert_eq!(next.due_at, Some(at("2026-03-09T08:00:00Z")));
    assert_eq!(next.occurrence, next.due_at);
    assert_eq!((next.title.as_str(), next.version), (task.title.as_str(), 1));
    assert!(next.is_open());
    assert_eq!(next.reminders[0].offset.as_deref(), Some("-PT10M"));
    assert_ne!(next.reminders[0].id, task.reminders[0].id);

    let row = sqlx::query("select * from outbox.events order by seq desc limit 1")
        .fetch_one(world.database.admin())
        .await
        .unwrap();
    assert_eq!(row.get::<&str, _>("event_type"), "com.carillon.task.created.v1");
    assert_eq!(row.get::<Uuid, _>("user_id"), world.user_id);
    let schema = schemas::all_schemas()
        .iter()
        .find(|s| s.name == "TaskCreated")
        .unwrap();
    let writer = schemas::WriterSchema::parse(&schema.json).unwrap();
    let event = schemas::decode(TASK_EVENTS, &writer, row.get("body")).unwrap();
    let Event::Task(event) = event else {
        panic!("{event:?} is about a task")
    };
    assert_eq!(event.task, next);
    assert_eq!(event.actor, Actor::Recurrence);
}

#[tokio::test]
async fn an_event_that_comes_twice_creates_one_instance() {
    let world = World::create().await;
    let task = world.series("FREQ=DAILY", "2026-03-02T08:00:00Z").await;
    let event = world.completed(&task, "2026-03-02T09:00:00Z");
    world.handle(vec![event.clone(), event.clone()]).await.unwrap();
    world.handle(vec![event]).await.unwrap();
    assert_eq!(
        world.occurrences(&task).await,
        ["2026-03-02T08:00Z", "2026-03-03T08:00Z"]
    );
    let events: i64 = sqlx::query_scalar("select count(*) from outbox.events")
        .fetch_one(world.database.admin())
        .await
        .unwrap();
    assert_eq!(events, 2, "one event an instance");
}

#[tokio::test]
async fn an_instance_completed_reopened_and_completed_again_has_one_successor() {
    let world = World::create().await;
    let task = world.series("FREQ=DAILY", "2026-03-02T08:00:00Z").await;
    world
        .handle(vec![
            world.completed(&task, "2026-03-02T09:00:00Z"),
            samples::event(TaskEventKind::Reopened, world.user_id, &task).into(),
            // Late enough for another occurrence to come out, were it computed.
            world.completed(&task, "2026-03-05T09:00:00Z"),
        ])
        .await
        .unwrap();
    assert_eq!(
        world.occurrences(&task).await,
        ["2026-03-02T08:00Z", "2026-03-03T08:00Z"]
    );
}

#[tokio::test]
async fn completing_late_rolls_forward() {
    let world = World::create().await;
    let task = world.series("FREQ=DAILY", "2026-03-02T08:00:00Z").await;
    world
        .handle(vec![world.completed(&task, "2026-03-06T10:00:00Z")])
        .await
        .unwrap();
    assert_eq!(
        world.occurrences(&task).await,
        ["2026-03-02T08:00Z", "2026-03-07T08:00Z"]
    );
}

#[tokio::test]
async fn a_chain_of_completions_keeps_the_wall_clock_when_clocks_change() {
    let world = World::create().await;
    for (starts_at, expected) in [
        // To summer time on 29 March 2026: 09:00 in Berlin is 08:00 UTC before, 07:00 UTC after.
        (
            "2026-03-27T08:00:00Z",
            [
                "2026-03-27T08:00Z",
                "2026-03-28T08:00Z",
                "2026-03-29T07:00Z",
                "2026-03-30T07:00Z",
            ],
        ),
        // Back on 25 October 2026.
        (
            "2026-10-23T07:00:00Z",
            [
                "2026-10-23T07:00Z",
                "2026-10-24T07:00Z",
                "2026-10-25T08:00Z",
                "2026-10-26T08:00Z",
            ],
        ),
    ] {
        let first = world.series("FREQ=DAILY", starts_at).await;
        let mut task = first.clone();
        for _ in 0..3 {
            let when = task.due_at.unwrap().to_rfc3339();
            world.handle(vec![world.completed(&task, &when)]).await.unwrap();
            task = world.newest(&first).await;
        }
        assert_eq!(world.occurrences(&first).await, expected);
    }
}

#[tokio::test]
async fn a_series_ends_with_its_count() {
    let world = World::create().await;
    let first = world.series("FREQ=DAILY;COUNT=2", "2026-03-02T08:00:00Z").await;
    world
        .handle(vec![world.completed(&first, "2026-03-02T09:00:00Z")])
        .await
        .unwrap();
    let last = world.newest(&first).await;
    world
        .handle(vec![world.completed(&last, "2026-03-03T09:00:00Z")])
        .await
        .unwrap();
    assert_eq!(
        world.occurrences(&first).await,
        ["2026-03-02T08:00Z", "2026-03-03T08:00Z"]
    );
}

/// When the series of an instance ended, and its version.
async fn ended(world: &World, task: &Task) -> (bool, i64) {
    sqlx::query_as("select ended_at is not null, version from tasks.series where id = $1")
        .bind(task.series_id)
        .fetch_one(world.database.admin())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_series_without_a_further_occurrence_has_ended() {
    let world = World::create().await;
    let first = world.series("FREQ=DAILY;COUNT=2", "2026-03-02T08:00:00Z").await;
    let event = world.completed(&first, "2026-03-02T09:00:00Z");
    world.handle(vec![event]).await.unwrap();
    assert_eq!(ended(&world, &first).await, (false, 1));
    let last = world.newest(&first).await;
    let event = world.completed(&last, "2026-03-03T09:00:00Z");
    world.handle(vec![event.clone()]).await.unwrap();
    assert_eq!(ended(&world, &first).await, (true, 2));
    world.handle(vec![event]).await.unwrap();
    assert_eq!(ended(&world, &first).await, (true, 2));
}

#[tokio::test]
async fn a_paused_or_ended_series_brings_nothing() {
    let world = World::create().await;
    for standing in [
        "paused_at = now()",
        "ended_at = now()",
        "ended_at = now(), deleted_at = now()",
    ] {
        let task = world.series("FREQ=DAILY", "2026-03-02T08:00:00Z").await;
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "update tasks.series set {standing} where id = $1"
        )))
        .bind(task.series_id)
        .execute(world.database.admin())
        .await
        .unwrap();
        world
            .handle(vec![world.completed(&task, "2026-03-02T09:00:00Z")])
            .await
            .unwrap();
        assert_eq!(
            world.occurrences(&task).await,
            ["2026-03-02T08:00Z"],
            "{standing}"
        );
        assert_eq!(ended(&world, &task).await.1, 1);
    }
}

#[tokio::test]
async fn a_series_of_an_older_version_goes_on_with_what_its_newest_instance_holds() {
    let world = World::create().await;
    let task = world.series("FREQ=DAILY", "2026-03-02T08:00:00Z").await;
    sqlx::query("update tasks.series set content = null where id = $1")
        .bind(task.series_id)
        .execute(world.database.admin())
        .await
        .unwrap();
    world
        .handle(vec![world.completed(&task, "2026-03-02T09:00:00Z")])
        .await
        .unwrap();
    let next = world.newest(&task).await;
    assert_eq!((next.title, next.tags), (task.title, task.tags));
    assert_eq!(next.reminders[0].offset.as_deref(), Some("-PT10M"));
}

#[tokio::test]
async fn two_generators_at_the_same_time_create_one_instance() {
    let world = World::create().await;
    let task = world.series("FREQ=DAILY", "2026-03-02T08:00:00Z").await;
    // Different events, as after completing twice: no inbox row holds one of them back.
    let early = world.completed(&task, "2026-03-02T09:00:00Z");
    let late = world.completed(&task, "2026-03-04T09:00:00Z");

    let mut first = world.pool.begin().await.unwrap();
    Generator::new().handle(&mut first, vec![early]).await.unwrap();
    let second = tokio::spawn({
        let pool = world.pool.clone();
        async move {
            let mut tx = pool.begin().await.unwrap();
            Generator::new().handle(&mut tx, vec![late]).await.unwrap();
            tx.commit().await.unwrap();
        }
    });
    // The second is inside its transaction, and waits for the first.
    eventually("the second generator waits for the series' lock", async || {
        let waiting: bool = sqlx::query_scalar(
            "select exists (select from pg_locks join pg_stat_activity using (pid)
                            where not granted and datname = current_database())",
        )
        .fetch_one(world.database.admin())
        .await
        .unwrap();
        waiting.then_some(())
    })
    .await;
    first.commit().await.unwrap();
    second.await.unwrap();
    assert_eq!(
        world.occurrences(&task).await,
        ["2026-03-02T08:00Z", "2026-03-03T08:00Z"]
    );
}

#[tokio::test]
async fn a_deleted_next_instance_does_not_come_back() {
    let world = World::create().await;
    let task = world.series("FREQ=DAILY", "2026-03-02T08:00:00Z").await;
    let event = world.completed(&task, "2026-03-02T09:00:00Z");
    world.handle(vec![event.clone()]).await.unwrap();
    let next = world.newest(&task).await;
    sqlx::query("update tasks.tasks set deleted_at = now() where id = $1")
        .bind(next.id)
        .execute(world.database.admin())
        .await
        .unwrap();
    world
        .handle(vec![event, world.completed(&task, "2026-03-04T09:00:00Z")])
        .await
        .unwrap();
    assert_eq!(
        world.occurrences(&task).await,
        ["2026-03-02T08:00Z", "2026-03-03T08:00Z"]
    );
}

#[tokio::test]
async fn what_has_no_successor_is_passed_by() {
    let world = World::create().await;
    let task = world.series("FREQ=DAILY", "2026-03-02T08:00:00Z").await;
    let single = samples::task();
    let stranger = Uuid::now_v7();
    let mut events: Vec<Event> = TaskEventKind::ALL
        .into_iter()
        .filter(|kind| *kind != TaskEventKind::Completed)
        .map(|kind| samples::event(kind, world.user_id, &task).into())
        .collect();
    events.push(world.completed(&single, "2026-03-02T09:00:00Z"));
    // A series that is gone, and one that is somebody else's.
    events.push(world.completed(
        &Task {
            series_id: Some(Uuid::now_v7()),
            ..task.clone()
        },
        "2026-03-02T09:00:00Z",
    ));
    events.push(completed(stranger, &task, "2026-03-02T09:00:00Z"));
    world.handle(events).await.unwrap();
    assert_eq!(world.occurrences(&task).await, ["2026-03-02T08:00Z"]);
}

#[tokio::test]
async fn a_rule_that_cannot_be_used_is_the_events_fault() {
    let world = World::create().await;
    let task = world.series("FREQ=OFTEN", "2026-03-02T08:00:00Z").await;
    let error = world
        .handle(vec![world.completed(&task, "2026-03-02T09:00:00Z")])
        .await
        .unwrap_err();
    let HandleError::Invalid(why) = error else {
        panic!("{error:?} is the event's fault")
    };
    assert!(why.contains("FREQ=OFTEN"), "{why}");
}

/// Starts the service as `main` does, on a free port.
fn start(
    database: &Database,
    topics: &Topics,
) -> (CancellationToken, tokio::task::JoinHandle<anyhow::Result<()>>) {
    let config = Config {
        service: ServiceConfig::loopback(),
        database: database.config("recurrence-generator"),
        horizon: TimeDelta::days(30),
        stream: Some(Stream {
            kafka: topics.config(),
            registry: topics.registry(),
            batch: BatchConfig {
                max_events: 100,
                max_bytes: 1 << 20,
                max_wait: Duration::from_millis(5),
            },
        }),
    };
    let shutdown = CancellationToken::new();
    let service = tokio::spawn(recurrence_generator::run(config, shutdown.clone()));
    (shutdown, service)
}

async fn caught_up(topics: &Topics) {
    eventually("the group has committed everything", async || {
        (topics.lag(RECURRENCE_GENERATOR.name, TASK_EVENTS).await == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_kafka_each_completion_has_one_successor_and_poison_goes_to_the_dead_letters() {
    let (world, topics) = tokio::join!(World::create(), Topics::create());
    let good = world.series("FREQ=DAILY", "2026-03-02T08:00:00Z").await;
    let broken = world.series("FREQ=OFTEN", "2026-03-02T08:00:00Z").await;
    let after = world.series("FREQ=DAILY", "2026-03-02T08:00:00Z").await;
    let key = world.user_id.to_string();
    let event = world.completed(&good, "2026-03-02T09:00:00Z");

    // One user, so one partition: what comes after the poison had to pass it.
    topics.publish(&[event.clone(), event.clone()]).await;
    topics
        .produce(TASK_EVENTS, key.as_bytes(), Some(b"no Avro at all"))
        .await;
    topics
        .publish(&[
            world.completed(&broken, "2026-03-02T09:00:00Z"),
            event,
            world.completed(&after, "2026-03-02T09:00:00Z"),
        ])
        .await;
    let (shutdown, service) = start(&world.database, &topics);
    caught_up(&topics).await;
    assert_eq!(world.occurrences(&good).await.len(), 2);
    assert_eq!(world.occurrences(&broken).await.len(), 1);
    assert_eq!(world.occurrences(&after).await.len(), 2);
    let committed: i64 = topics
        .committed(RECURRENCE_GENERATOR.name, TASK_EVENTS)
        .await
        .into_iter()
        .flatten()
        .sum();
    assert_eq!(committed, 6, "the next offset, past all six records");

    let dead = topics
        .read(&dead_letter(TASK_EVENTS, RECURRENCE_GENERATOR.name))
        .await;
    let reasons: BTreeSet<_> = dead
        .iter()
        .filter_map(|r| r.header("__connect.errors.exception.class.name"))
        .collect();
    assert_eq!(reasons, BTreeSet::from(["invalid_event", "not_framed"]));
    assert_eq!(dead.len(), 2);
    let poison = dead
        .iter()
        .find(|r| r.header("__connect.errors.exception.class.name") == Some("not_framed"))
        .unwrap();
    assert_eq!(poison.value.as_deref(), Some(b"no Avro at all".as_slice()));
    assert_eq!(poison.header("__connect.errors.topic"), Some(TASK_EVENTS));
    assert_eq!(poison.header("__connect.errors.offset"), Some("2"));
    assert_eq!(
        poison.header("__connect.errors.connector.name"),
        Some(RECURRENCE_GENERATOR.name)
    );
    let unusable = dead
        .iter()
        .find(|r| r.header("__connect.errors.exception.class.name") == Some("invalid_event"))
        .unwrap();
    let why = unusable.header("__connect.errors.exception.message").unwrap();
    assert!(why.contains("FREQ=OFTEN"), "{why}");

    shutdown.cancel();
    service.await.unwrap().unwrap();

    // Started again it goes on where it stopped, and old inbox rows are remembered.
    let (shutdown, service) = start(&world.database, &topics);
    let next = world.newest(&good).await;
    topics
        .publish(&[world.completed(&next, "2026-03-03T09:00:00Z")])
        .await;
    eventually("the instance after the next", async || {
        (world.occurrences(&good).await.len() == 3).then_some(())
    })
    .await;
    caught_up(&topics).await;
    assert!(service::metrics::render().contains("recurrence_instances_created_total"));
    shutdown.cancel();
    service.await.unwrap().unwrap();
}

#[test]
fn a_bad_environment_is_refused_with_every_problem() {
    let env =
        service::config::Env::from_pairs([("BATCH_MAX_EVENTS", "0"), ("KAFKA_SECURITY_PROTOCOL", "none")]);
    let problems = service::config::load_from(env, Config::from_env)
        .unwrap_err()
        .to_string();
    for name in [
        "DATABASE_URL",
        "KAFKA_BOOTSTRAP_SERVERS",
        "KAFKA_SECURITY_PROTOCOL",
        "SCHEMA_REGISTRY_URL",
        "BATCH_MAX_EVENTS",
    ] {
        assert!(problems.contains(name), "{name} is not in:\n{problems}");
    }
}

#[test]
fn the_next_occurrence_is_a_function_of_event_and_series_and_what_is_taken() {
    let series = series("FREQ=DAILY", "2026-03-02T08:00:00Z");
    let task = Task {
        series_id: Some(series.id),
        occurrence: Some(series.starts_at),
        completed_at: Some(at("2026-03-02T09:00:00Z")),
        ..samples::task()
    };
    let event = TaskEvent::new(TaskEventKind::Completed, Uuid::now_v7(), Actor::User, task);
    let taken = BTreeMap::from([
        (at("2026-03-03T08:00:00Z"), false),
        (at("2026-03-04T08:00:00Z"), true),
    ]);
    let nothing = BTreeMap::new();
    let next = |taken| recurrence_generator::next_occurrence(&series, &event, taken).unwrap();
    assert_eq!(next(&nothing), Some(at("2026-03-03T08:00:00Z")));
    // What is done already is passed over; what is open is the one.
    assert_eq!(next(&taken), Some(at("2026-03-04T08:00:00Z")));
}
