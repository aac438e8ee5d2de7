//! The real parts: Postgres, the statements that the API changes tasks by, and events on their way to the consumers.

use std::collections::HashMap;

use api::{Edit, Edited, Problem};
use chrono::TimeDelta;
use chrono_tz::Tz;
use db::inbox::{self, Inbox};
use db::series::{self, Series};
use kafka::Handler;
use recurrence_generator::{Generator, attend};
use reminder_scanner::Arming;
use schemas::{Actor, Event, Task, TaskEvent, TaskEventKind, WriterSchema};
use sqlx::{AssertSqlSafe, PgPool};
use support::{Clock, Database};
use uuid::Uuid;

use schemas::Timestamp;

/// Most replicas of the scanner that fire side by side.
pub const REPLICAS: usize = 4;

/// What becomes of a batch of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It is applied.
    Applied,
    /// The consumer is killed before it commits, and gets the batch again.
    Killed,
    /// The consumer is killed after it committed Postgres and before it committed its offset: it gets the batch again.
    Repeated,
}

/// Postgres and what is in it.
pub struct World {
    /// The clock of every service.
    pub clock: Clock,
    database: Database,
    api: PgPool,
    scanners: Vec<PgPool>,
    generator: PgPool,
    schemas: HashMap<Uuid, WriterSchema>,
    read_to: i64,
}

impl World {
    /// A new one.
    ///
    /// # Panics
    /// When Postgres does not answer.
    pub async fn create(now: Timestamp) -> Self {
        let database = Database::create().await;
        // What it proves does not hang on the disk: nobody pulls the plug of this Postgres.
        sqlx::query(AssertSqlSafe(format!(
            "alter database {} set synchronous_commit = off",
            database.name()
        )))
        .execute(database.admin())
        .await
        .unwrap();
        let clock = Clock::of(&database, None).await;
        clock.stand_at(now).await;
        let schemas = schemas::all_schemas()
            .iter()
            .map(|schema| (schema.fingerprint, WriterSchema::parse(&schema.json).unwrap()))
            .collect();
        Self {
            clock,
            api: database.pool("api"),
            scanners: (0..REPLICAS).map(|_| database.pool("reminder-scanner")).collect(),
            generator: database.pool("recurrence-generator"),
            database,
            schemas,
            read_to: 0,
        }
    }

    /// A person with a zone and a setting for reminders that are late.
    ///
    /// # Panics
    /// When Postgres does not answer.
    pub async fn person(&self, zone: Tz, send_late_within_seconds: i64) -> Uuid {
        let id = self
            .database
            .user(&format!("{}@example.com", Uuid::new_v4()))
            .await;
        sqlx::query("update accounts.users set timezone = $2, send_late_within_seconds = $3 where id = $1")
            .bind(id)
            .bind(zone.name())
            .bind(send_late_within_seconds)
            .execute(self.database.admin())
            .await
            .unwrap();
        id
    }

    /// A person makes a task, with its series where it is the first of one.
    ///
    /// # Panics
    /// When Postgres does not answer.
    pub async fn insert(&self, user_id: Uuid, task: &Task, series: Option<&Series>) {
        let mut tx = self.api.begin().await.unwrap();
        if let Some(series) = series {
            series::insert(&mut tx, user_id, series).await.unwrap();
        }
        let event = encoded(TaskEventKind::Created, user_id, task);
        assert!(db::tasks::insert(&mut *tx, user_id, task, &event).await.unwrap());
        tx.commit().await.unwrap();
    }

    /// A person changes tasks.
    ///
    /// # Panics
    /// When Postgres does not answer.
    pub async fn update(&self, user_id: Uuid, kind: TaskEventKind, tasks: &[Task]) {
        let events: Vec<_> = tasks.iter().map(|task| encoded(kind, user_id, task)).collect();
        let mut tx = self.api.begin().await.unwrap();
        let ids: Vec<Uuid> = tasks.iter().map(|task| task.id).collect();
        db::tasks::lock_many(&mut tx, user_id, &ids).await.unwrap();
        db::tasks::update(&mut tx, user_id, tasks, &events).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// A person asks something of a recurring task, as the API is asked.
    ///
    /// # Errors
    /// When the API refuses.
    ///
    /// # Panics
    /// When Postgres does not answer, or what the API is to answer for fails.
    pub async fn edit(&self, user_id: Uuid, id: Uuid, edit: Edit, now: Timestamp) -> Result<Edited, Problem> {
        let mut tx = self.api.begin().await.unwrap();
        let edited = edit.carry_out(&mut tx, user_id, id, |_| Ok(()), || now).await;
        match &edited {
            Ok(_) => tx.commit().await.unwrap(),
            Err(problem) => {
                assert!(problem.status().is_client_error(), "{problem:?}");
                tx.rollback().await.unwrap();
            }
        }
        edited
    }

    /// A series as it is, whoever owns it.
    ///
    /// # Panics
    /// When Postgres does not answer, or there is none.
    pub async fn series(&self, id: Uuid) -> Series {
        let mut admin = self.database.admin().acquire().await.unwrap();
        let user_id = sqlx::query_scalar("select user_id from tasks.series where id = $1")
            .bind(id)
            .fetch_one(&mut *admin)
            .await
            .unwrap();
        series::get(&mut admin, user_id, id).await.unwrap().unwrap()
    }

    /// What was said since the last time, in the order of publication.
    ///
    /// # Panics
    /// When Postgres does not answer, or an event cannot be read.
    pub async fn said(&mut self) -> Vec<Event> {
        let rows: Vec<(i64, String, Uuid, Vec<u8>)> = sqlx::query_as(
            "select seq, topic, fingerprint, body from outbox.events where shard in (0, 1) and seq > $1 order by seq",
        )
        .bind(self.read_to)
        .fetch_all(self.database.admin())
        .await
        .unwrap();
        if let Some((last, ..)) = rows.last() {
            self.read_to = *last;
        }
        rows.iter()
            .map(|(_, topic, fingerprint, body)| {
                schemas::decode(topic, &self.schemas[fingerprint], body).unwrap()
            })
            .collect()
    }

    /// Gives the scanner a batch of events.
    ///
    /// # Panics
    /// When Postgres does not answer, or the scanner refuses one.
    pub async fn arm(&self, replica: usize, batch: &[Event], delivery: Delivery) {
        let pool = &self.scanners[replica % REPLICAS];
        deliver(pool, inbox::REMINDER_SCANNER, Arming::default, batch, delivery).await;
    }

    /// Gives the generator a batch of events.
    ///
    /// # Panics
    /// When Postgres does not answer, or the generator refuses one.
    pub async fn generate(&self, batch: &[Event], delivery: Delivery) {
        let new = Generator::default;
        deliver(&self.generator, inbox::RECURRENCE_GENERATOR, new, batch, delivery).await;
    }

    /// Two generators make instances ahead, side by side, until none is left to make.
    ///
    /// # Panics
    /// When Postgres does not answer.
    pub async fn make_ahead(&self, horizon: TimeDelta) {
        let one = async || while attend(&self.generator, horizon).await.unwrap().series > 0 {};
        tokio::join!(one(), one());
        one().await;
    }

    /// So many scanners fire side by side until nothing is due.
    ///
    /// # Panics
    /// When Postgres does not answer.
    pub async fn fire(&self, replicas: usize, limit: usize) {
        let firing = self.scanners.iter().take(replicas).map(|pool| {
            let pool = pool.clone();
            tokio::spawn(async move {
                // One that finds nothing may have been passed by rows that another holds; that one comes back for more.
                while !reminder_scanner::fire(&pool, limit).await.unwrap().is_empty() {}
            })
        });
        for one in firing.collect::<Vec<_>>() {
            one.await.unwrap();
        }
        while !reminder_scanner::fire(&self.scanners[0], limit)
            .await
            .unwrap()
            .is_empty()
        {}
    }

    /// Forgets which events were handled, as a consumer does that is set back to before its memory.
    ///
    /// # Panics
    /// When Postgres does not answer.
    pub async fn forget_handled(&self) {
        for table in ["delete from reminders.inbox", "delete from recurrence.inbox"] {
            sqlx::query(table).execute(self.database.admin()).await.unwrap();
        }
    }
}

fn encoded(kind: TaskEventKind, user_id: Uuid, task: &Task) -> schemas::Encoded {
    Event::from(TaskEvent::new(kind, user_id, Actor::User, task.clone()))
        .encode("simulation")
        .unwrap()
}

/// What the consumer loop does with a batch, and what may happen to it.
async fn deliver<H: Handler>(
    pool: &PgPool,
    inbox: Inbox,
    new: fn() -> H,
    batch: &[Event],
    delivery: Delivery,
) {
    let rounds: &[bool] = match delivery {
        Delivery::Applied => &[true],
        Delivery::Killed => &[false, true],
        Delivery::Repeated => &[true, true],
    };
    for commits in rounds {
        let mut handler = new();
        let mut tx = pool.begin().await.unwrap();
        let ids: Vec<Uuid> = batch.iter().map(|event| event.head().event_id).collect();
        let fresh = inbox.claim(&mut tx, &ids).await.unwrap();
        let fresh: Vec<Event> = batch
            .iter()
            .filter(|event| fresh.contains(&event.head().event_id))
            .cloned()
            .collect();
        if !fresh.is_empty() {
            handler.handle(&mut tx, fresh).await.unwrap();
        }
        if *commits {
            tx.commit().await.unwrap();
            handler.committed();
        } else {
            tx.rollback().await.unwrap();
        }
    }
}
