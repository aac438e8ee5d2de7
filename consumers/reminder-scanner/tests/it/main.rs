//! The scanner on a real Kafka and a real Postgres, as its role: reminders ring once, not early, and whatever happens.
#![expect(clippy::unwrap_used, reason = "tests")]

mod arming;
mod clock;
mod failures;
mod firing;
mod rings;

use std::time::Duration;

use chrono::TimeDelta;
use kafka::BatchConfig;
use reminder_scanner::Config;
use schemas::topics::{REMINDER_SCANNER, TASK_EVENTS, dead_letter};
use schemas::{
    Event, Priority, ReminderEvent, ReminderEventKind, Task, TaskEventKind, TaskReminder, Timestamp,
    WriterSchema,
};
use service::config::ServiceConfig;
use sqlx::PgPool;
use sqlx::types::Json;
use support::{Database, Topics, eventually, samples};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A scanner that runs until it is dropped or stopped.
struct Scanner {
    shutdown: CancellationToken,
    task: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Scanner {
    async fn stop(mut self) {
        self.shutdown.cancel();
        self.task.take().unwrap().await.unwrap().unwrap();
    }
}

impl Drop for Scanner {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// A database and topics of one test's own.
struct World {
    database: Database,
    topics: Topics,
}

impl World {
    async fn create() -> Self {
        let (database, topics) = (Database::create().await, Topics::create().await);
        Self { database, topics }
    }

    fn config(&self) -> Config {
        Config {
            service: ServiceConfig::loopback(),
            database: self.database.config("reminder-scanner"),
            kafka: self.topics.config(),
            registry: self.topics.registry(),
            batch: BatchConfig {
                max_events: 500,
                max_bytes: 4 << 20,
                max_wait: Duration::from_millis(5),
            },
            fire_batch: 100,
        }
    }

    fn scanner(&self) -> Scanner {
        start(self.config())
    }

    /// A scanner that handles the next so many events in one batch, however slowly they come.
    fn scanner_of_one_batch(&self, max_events: usize, fire_batch: usize) -> Scanner {
        let config = self.config();
        let batch = BatchConfig {
            max_events,
            max_wait: Duration::from_secs(30),
            ..config.batch
        };
        start(Config {
            batch,
            fire_batch,
            ..config
        })
    }

    fn admin(&self) -> &PgPool {
        self.database.admin()
    }

    /// Tells what became of a task, as its owner did it.
    async fn tell(&self, kind: TaskEventKind, user_id: Uuid, task: &Task) {
        self.topics
            .publish(&[samples::event(kind, user_id, task).into()])
            .await;
    }

    /// Waits until the scanner has handled everything.
    async fn caught_up(&self) {
        eventually("the scanner has caught up", async || {
            (self.topics.lag(REMINDER_SCANNER.name, TASK_EVENTS).await == 0).then_some(())
        })
        .await;
    }

    /// What the scanner has said, in the order of publication.
    async fn said(&self) -> Vec<ReminderEvent> {
        self.outbox().await.into_iter().map(|(event, _)| event).collect()
    }

    /// The same, with when it was written by the database's clock.
    async fn outbox(&self) -> Vec<(ReminderEvent, Timestamp)> {
        let rows: Vec<(String, Uuid, Vec<u8>, Timestamp)> =
            sqlx::query_as("select topic, fingerprint, body, created_at from outbox.events order by seq")
                .fetch_all(self.admin())
                .await
                .unwrap();
        rows.into_iter()
            .map(|(topic, fingerprint, body, written_at)| {
                let schema = schemas::all_schemas()
                    .iter()
                    .find(|s| s.fingerprint == fingerprint)
                    .unwrap();
                let schema = WriterSchema::parse(&schema.json).unwrap();
                match schemas::decode(&topic, &schema, &body).unwrap() {
                    Event::Reminder(event) => (event, written_at),
                    other => panic!("the scanner has no business with {other:?}"),
                }
            })
            .collect()
    }

    async fn said_kinds(&self) -> Vec<ReminderEventKind> {
        self.said().await.into_iter().map(|event| event.kind).collect()
    }

    async fn fired(&self) -> Vec<ReminderEvent> {
        let mut said = self.said().await;
        said.retain(|event| event.kind == ReminderEventKind::Fired);
        said
    }

    /// Waits until so many reminders rang, and gives them.
    async fn wait_for_fired(&self, count: usize) -> Vec<ReminderEvent> {
        eventually(&format!("{count} reminders ring"), async || {
            let fired = self.fired().await;
            (fired.len() >= count).then_some(fired)
        })
        .await
    }

    /// State and time of a reminder, if the scanner holds it.
    async fn reminder(&self, id: Uuid) -> Option<(String, Timestamp)> {
        sqlx::query_as("select state, fire_at from reminders.reminders where id = $1")
            .bind(id)
            .fetch_optional(self.admin())
            .await
            .unwrap()
    }

    async fn wait_for_state(&self, id: Uuid, state: &str, fire_at: Timestamp) {
        let expected = Some((state.to_owned(), fire_at));
        eventually(&format!("the reminder is {state}"), async || {
            (self.reminder(id).await == expected).then_some(())
        })
        .await;
    }

    /// Whatever happened: each firing once, none early by the database's clock, and no mark without its event.
    async fn assert_fired_once_and_never_early(&self) {
        let early: i64 = sqlx::query_scalar(
            "select count(*) from reminders.reminders where state = 'fired' and fired_at < fire_at",
        )
        .fetch_one(self.admin())
        .await
        .unwrap();
        assert_eq!(early, 0);
        let mut firings = Vec::new();
        for (
            ReminderEvent {
                kind,
                user_id,
                reminder,
                ..
            },
            written_at,
        ) in self.outbox().await
        {
            if kind == ReminderEventKind::Fired {
                let fired_at = reminder.fired_at.unwrap();
                assert!(
                    reminder.fire_at <= fired_at && fired_at <= written_at,
                    "{reminder:?} at {written_at}"
                );
                firings.push((user_id, reminder.id, reminder.fire_at));
            }
        }
        let all = firings.len();
        firings.sort_unstable();
        firings.dedup();
        assert_eq!(firings.len(), all, "some reminder rang twice");
        let marks: Vec<(Uuid, Uuid, Timestamp)> =
            sqlx::query_as("select user_id, id, fire_at from reminders.reminders where state = 'fired'")
                .fetch_all(self.admin())
                .await
                .unwrap();
        assert!(
            marks.iter().all(|mark| firings.binary_search(mark).is_ok()),
            "some mark has no event"
        );
    }

    /// Puts armed reminders there, one a task, as if they had been armed when it was time.
    async fn arm(&self, tasks: &[(Uuid, Task)]) {
        for (user_id, task) in tasks {
            sqlx::query("insert into reminders.tasks values ($1, $2, $3, $4)")
                .bind(user_id)
                .bind(task.id)
                .bind(task.version)
                .bind(Json(task))
                .execute(self.admin())
                .await
                .unwrap();
        }
        sqlx::query(
            "insert into reminders.reminders (user_id, task_id, id, state, fire_at, urgency)
             select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[], $6::smallint[])",
        )
        .bind(tasks.iter().map(|(user_id, _)| *user_id).collect::<Vec<_>>())
        .bind(tasks.iter().map(|(_, task)| task.id).collect::<Vec<_>>())
        .bind(tasks.iter().map(|(_, task)| task.reminders[0].id).collect::<Vec<_>>())
        .bind(vec!["armed"; tasks.len()])
        .bind(tasks.iter().map(|(_, task)| task.reminders[0].at).collect::<Vec<_>>())
        .bind(vec![2_i16; tasks.len()])
        .execute(self.admin())
        .await
        .unwrap();
    }
}

fn start(config: Config) -> Scanner {
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(reminder_scanner::run(config, shutdown.clone()));
    Scanner {
        shutdown,
        task: Some(task),
    }
}

/// So many seconds from now, or ago.
fn at(seconds: f64) -> Timestamp {
    schemas::now() + TimeDelta::microseconds((seconds * 1e6) as i64)
}

/// The task after one more change, made then.
fn changed(task: &Task, updated_at: Timestamp) -> Task {
    Task {
        version: task.version + 1,
        updated_at,
        ..task.clone()
    }
}

/// A task that was created then, with a reminder.
fn created(created_at: Timestamp, fire_at: Timestamp) -> Task {
    Task {
        created_at,
        updated_at: created_at,
        ..samples::task_with_reminder(fire_at)
    }
}

/// The id of a task's only reminder.
fn only(task: &Task) -> Uuid {
    let [TaskReminder { id, .. }] = &task.reminders[..] else {
        panic!("one reminder")
    };
    *id
}
