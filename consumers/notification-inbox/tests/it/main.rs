//! The whole service on a real Postgres, as its role, and on a real Kafka.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot be set up should fail at once"
)]

use std::time::Duration;

use notification_inbox::Config;
use preferences::{Mode, Settings};
use schemas::{
    Actor, Event, Head, Notification, NotificationEvent, NotificationEventKind, Priority, Reminder,
    ReminderEvent, ReminderEventKind, Task, now,
};
use service::config::Env;
use sqlx::types::Json;
use support::{Database, Topics, eventually, samples};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const GROUP: &str = "notification-inbox";

fn config(database: &Database, topics: &Topics) -> Config {
    let (url, registry, kafka) = (database.url(GROUP), topics.registry().url, topics.config());
    let env = Env::from_pairs([
        ("DATABASE_URL", url.as_str()),
        ("KAFKA_BOOTSTRAP_SERVERS", &kafka.bootstrap_servers),
        ("KAFKA_TOPIC_PREFIX", &kafka.topic_prefix),
        ("SCHEMA_REGISTRY_URL", &registry),
        ("HTTP_HOST", "127.0.0.1"),
        ("HTTP_PORT", "0"),
    ]);
    service::config::load_from(env, Config::from_env).unwrap()
}

struct World {
    database: Database,
    topics: Topics,
    user: Uuid,
    stop: CancellationToken,
    service: JoinHandle<anyhow::Result<()>>,
}

impl World {
    async fn create() -> Self {
        let (database, topics) = (Database::create().await, Topics::create().await);
        let user = database.user("ada@example.com").await;
        let stop = CancellationToken::new();
        let service = tokio::spawn(notification_inbox::run(config(&database, &topics), stop.clone()));
        Self {
            database,
            topics,
            user,
            stop,
            service,
        }
    }

    async fn publish(&self, events: &[Event]) {
        self.topics.publish(events).await;
        for topic in ["task-reminders", "notification-events"] {
            eventually("all is committed", async || {
                (self.topics.lag(GROUP, topic).await == 0).then_some(())
            })
            .await;
        }
    }

    /// The list, the oldest first: kind, title and detail.
    async fn listed(&self) -> Vec<(String, String, Option<String>)> {
        sqlx::query_as(
            "select kind, title, detail from notifications.notifications where user_id = $1 order by at, kind",
        )
        .bind(self.user)
        .fetch_all(self.database.admin())
        .await
        .unwrap()
    }

    async fn stop(self) {
        self.stop.cancel();
        self.service.await.unwrap().unwrap();
    }

    fn rang(&self, title: &str) -> ReminderEvent {
        let reminder = Reminder {
            id: Uuid::now_v7(),
            fire_at: now() - Duration::from_millis(10),
            ring: 0,
            fired_at: Some(now()),
            snoozed_until: None,
            reason: None,
        };
        let task = Task {
            id: Uuid::now_v7(),
            title: title.to_owned(),
            priority: Priority::Medium,
            ..samples::task()
        };
        let head = Head::new(self.user, Actor::System, now());
        ReminderEvent::new(ReminderEventKind::Fired, head, reminder, task)
    }
}

fn given_up(rang: &ReminderEvent, kind: NotificationEventKind) -> NotificationEvent {
    let notification = Notification {
        id: Uuid::now_v7(),
        reminder_id: rang.reminder.id,
        task_id: rang.task.id,
        channel: "email".to_owned(),
        fire_at: rang.reminder.fire_at,
        attempts: 1,
        message_id: (kind == NotificationEventKind::Sent).then(|| "<1@example.org>".to_owned()),
        sent_at: (kind == NotificationEventKind::Sent).then(now),
        reason: (kind == NotificationEventKind::Failed).then(|| "no such mailbox".to_owned()),
    };
    NotificationEvent::new(kind, Head::new(rang.user_id, Actor::System, now()), notification)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rang_what_was_missed_and_what_could_not_be_sent_is_listed_once_however_often_it_comes() {
    let world = World::create().await;
    let rang = world.rang("Water the plants");
    let mut missed = world.rang("Feed the cat");
    missed.kind = ReminderEventKind::Cancelled;
    missed.reminder.fired_at = None;
    missed.reminder.reason = Some("missed".to_owned());
    let mut cancelled = missed.clone();
    (cancelled.event_id, cancelled.reminder.id) = (Uuid::now_v7(), Uuid::now_v7());
    cancelled.reminder.reason = Some("completed".to_owned());
    let reminders = [rang.clone(), missed, cancelled].map(Event::from);
    world.publish(&reminders).await;
    let notes = [NotificationEventKind::Failed, NotificationEventKind::Sent]
        .map(|kind| Event::from(given_up(&rang, kind)));
    world.publish(&notes).await;
    // The same ring in another event, and everything again.
    let again = ReminderEvent {
        event_id: Uuid::now_v7(),
        ..rang
    };
    world.publish(&[again.into()]).await;
    world.publish(&reminders).await;
    let mut listed = world.listed().await;
    listed.sort();
    let row = |kind: &str, title: &str, detail: Option<&str>| {
        (kind.to_owned(), title.to_owned(), detail.map(ToOwned::to_owned))
    };
    assert_eq!(
        listed,
        [
            row("delivery_failed", "Water the plants", Some("no such mailbox")),
            row("reminder", "Water the plants", None),
            row("reminder_missed", "Feed the cat", None),
        ]
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_off_is_not_listed_and_what_is_said_of_a_task_goes_first() {
    let world = World::create().await;
    let mut settings = Settings::default();
    settings.reminder.in_app = Mode::Off;
    let api = world.database.pool("api");
    sqlx::query("insert into accounts.notification_settings (user_id, version, settings) values ($1, 1, $2)")
        .bind(world.user)
        .bind(Json(&settings))
        .execute(&api)
        .await
        .unwrap();
    let (quiet, loud) = (world.rang("Water the plants"), world.rang("Leave the house"));
    // What is said of a task needs its row.
    let created: Event = samples::event(schemas::TaskEventKind::Created, world.user, &loud.task).into();
    let mut connection = world.database.admin().acquire().await.unwrap();
    db::tasks::insert(
        &mut *connection,
        world.user,
        &loud.task,
        &created.encode("test").unwrap(),
    )
    .await
    .unwrap();
    sqlx::query("insert into tasks.notification_overrides (user_id, task_id, override) values ($1, $2, $3)")
        .bind(world.user)
        .bind(loud.task.id)
        .bind(serde_json::json!({"in_app": "at_once"}))
        .execute(&api)
        .await
        .unwrap();
    world.publish(&[quiet.into(), loud.into()]).await;
    assert_eq!(
        world.listed().await,
        [("reminder".to_owned(), "Leave the house".to_owned(), None)]
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_channels_that_decide_at_the_same_time_follow_one_decision() {
    let database = Database::create().await;
    let user_id = database.user("ada@example.com").await;
    let occasions: Vec<delivery::Occasion> = (0..200)
        .map(|n| delivery::Occasion {
            user_id,
            reminder_id: Uuid::from_u128(n),
            fire_at: now(),
            task_id: Uuid::from_u128(n),
            series_id: None,
            kind: preferences::Kind::Reminder,
            urgent: false,
        })
        .collect();
    let mut backwards = occasions.clone();
    backwards.reverse();
    let decide = async |role: &str, occasions: Vec<delivery::Occasion>, off: bool| {
        let mut tx = database.pool(role).begin().await.unwrap();
        let decisions = delivery::decide(&mut tx, &occasions).await.unwrap();
        if off {
            // The person changes their mind between the two.
            sqlx::query(
                "insert into accounts.notification_settings (user_id, version, settings) values ($1, 1, $2)",
            )
            .bind(user_id)
            .bind(serde_json::json!({"reminder": {"email": "off", "in_app": "off"}}))
            .execute(&database.pool("api"))
            .await
            .unwrap();
        }
        tx.commit().await.unwrap();
        decisions
    };
    let (first, second) = tokio::join!(
        decide("email-sender", occasions.clone(), true),
        decide(GROUP, backwards, false)
    );
    let mut second = second;
    second.reverse();
    assert_eq!(first, second);
    assert_eq!(decide(GROUP, occasions, false).await, first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_environment_is_refused_with_every_problem() {
    let env = Env::from_pairs([("NOTIFICATION_RETENTION_DAYS", "3"), ("HTTP_PORT", "x")]);
    let problems = service::config::load_from(env, Config::from_env)
        .unwrap_err()
        .to_string();
    for name in [
        "DATABASE_URL",
        "KAFKA_BOOTSTRAP_SERVERS",
        "SCHEMA_REGISTRY_URL",
        "NOTIFICATION_RETENTION_DAYS",
        "HTTP_PORT",
    ] {
        assert!(problems.contains(name), "{problems}");
    }
}
