//! What is mailed as its person wants it: at once, held, in a digest, or not.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use preferences::{Action, Decision, Mode, Pause, QuietHours, Reason, Settings, Verdict};
use schemas::{Event, NotificationEventKind, Priority, ReminderEvent, ReminderEventKind, Task, now};
use serde_json::json;
use sqlx::types::Json;
use support::{Database, Topics, eventually, samples};
use uuid::Uuid;

use crate::catcher::Catcher;
use crate::fixture::{Running, config, count, fired, kinds, notifications};

/// A service on a topic, and a person who said this of notifications.
struct World {
    database: Database,
    topics: Topics,
    catcher: Catcher,
    user: Uuid,
    service: Running,
}

impl World {
    async fn of(settings: &Settings) -> Self {
        let (database, topics, catcher) = (
            Database::create().await,
            Topics::create().await,
            Catcher::start().await,
        );
        let user = database.user("ada@example.com").await;
        sqlx::query(
            "insert into accounts.notification_settings (user_id, version, settings) values ($1, 1, $2)",
        )
        .bind(user)
        .bind(Json(settings))
        .execute(&database.pool("api"))
        .await
        .unwrap();
        let service = Running::start(config(&database, &topics, catcher.port, &[]));
        Self {
            database,
            topics,
            catcher,
            user,
            service,
        }
    }

    fn rang(&self, title: &str, priority: Priority) -> ReminderEvent {
        let task = Task {
            id: Uuid::now_v7(),
            title: title.to_owned(),
            priority,
            ..samples::task()
        };
        fired(self.user, task)
    }

    /// Publishes them, and waits until they are handled.
    async fn publish(&self, events: &[ReminderEvent]) {
        let events: Vec<Event> = events.iter().cloned().map(Event::from).collect();
        self.topics.publish(&events).await;
        eventually("all is committed", async || {
            (self.topics.lag("email-sender", "task-reminders").await == 0).then_some(())
        })
        .await;
    }

    async fn until_mails(&self, mails: u64) {
        eventually("the mails", async || {
            (self.catcher.count().await == mails).then_some(())
        })
        .await;
    }

    async fn until_count(&self, state: &str, rows: i64) {
        eventually(state, async || {
            (count(&self.database, state).await == rows).then_some(())
        })
        .await;
    }

    /// What has become of an event's task.
    async fn task_is(&self, event: &ReminderEvent, over: fn(&mut Task)) {
        let mut task = event.task.clone();
        over(&mut task);
        let mut connection = self.database.admin().acquire().await.unwrap();
        db::tasks::insert_many(&mut connection, self.user, &[task], &[])
            .await
            .unwrap();
    }

    async fn suppressed(&self) -> Vec<(String, String)> {
        sqlx::query_as(
            "select task ->> 'title', last_error from delivery.deliveries where state = 'suppressed' order by 1",
        )
        .fetch_all(self.database.admin())
        .await
        .unwrap()
    }

    async fn execute(&self, sql: &'static str) {
        sqlx::query(sql).execute(self.database.admin()).await.unwrap();
    }

    async fn decision(&self, event: &ReminderEvent) -> Decision {
        let Json(decision) = sqlx::query_scalar(
            "select decision from delivery.decisions where user_id = $1 and reminder_id = $2",
        )
        .bind(self.user)
        .bind(event.reminder.id)
        .fetch_one(self.database.admin())
        .await
        .unwrap();
        decision
    }
}

/// An hour on either side of now, on the wall in Berlin, where the person of these tests is.
fn quiet(then: Mode) -> Settings {
    let minute = |at: DateTime<Utc>| {
        let text = at
            .with_timezone(&chrono_tz::Europe::Berlin)
            .format("%H:%M")
            .to_string();
        chrono::NaiveTime::parse_from_str(&text, "%H:%M").unwrap()
    };
    Settings {
        quiet_hours: Some(QuietHours {
            from: minute(now() - TimeDelta::hours(1)),
            to: minute(now() + TimeDelta::hours(1)),
            then,
        }),
        ..Settings::default()
    }
}

fn collecting() -> Settings {
    let mut settings = Settings::default();
    settings.reminder.email = Mode::Digest;
    settings
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_hours_hold_a_mail_until_they_end_and_let_an_urgent_one_through() {
    let world = World::of(&quiet(Mode::AtOnce)).await;
    let held = world.rang("Water the plants", Priority::High);
    let urgent = world.rang("Leave the house", Priority::Urgent);
    world.publish(&[held.clone(), urgent.clone()]).await;
    world.until_mails(1).await;
    assert_eq!(
        world.catcher.mails().await[0].subject,
        "Reminder: Leave the house"
    );
    assert_eq!(world.decision(&urgent).await.email.reason, Reason::Urgent);
    let Verdict {
        action: Action::Hold { until },
        reason: Reason::QuietHours,
    } = world.decision(&held).await.email
    else {
        panic!("{:?}", world.decision(&held).await);
    };
    let waits: (DateTime<Utc>, DateTime<Utc>) =
        sqlx::query_as("select next_attempt_at, held_until from delivery.deliveries where state = 'pending'")
            .fetch_one(world.database.admin())
            .await
            .unwrap();
    assert_eq!(waits, (until, until));
    assert!(until > now());

    // It is longer ago than any mail may be tried: what counts is when it was let go.
    world
        .execute(
            "update delivery.deliveries set fire_at = fire_at - interval '30 hours', fired_at = fired_at - interval '30 hours',
                 held_until = now(), next_attempt_at = now() where state = 'pending'",
        )
        .await;
    world
        .catcher
        .faults(json!([{"at": "rcpt", "code": 451, "times": 1}]))
        .await;
    world.until_mails(2).await;
    let mail = &world.catcher.mails().await[1];
    assert_eq!(mail.subject, "Reminder: Water the plants");
    assert!(
        mail.text.contains("Your quiet hours held it until "),
        "{}",
        mail.text
    );
    assert!(!mail.text.contains("late"), "{}", mail.text);
    world.service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_tells_of_all_that_was_collected_in_one_mail_and_ends_each() {
    let world = World::of(&collecting()).await;
    let plants = world.rang("Water the plants", Priority::Low);
    let cat = world.rang("Feed <the> cat", Priority::High);
    let urgent = world.rang("Leave the house", Priority::Urgent);
    world.publish(&[plants.clone(), cat.clone(), urgent]).await;
    world.until_mails(1).await;
    world.until_count("collected", 2).await;
    assert_eq!(
        world.catcher.mails().await[0].subject,
        "Reminder: Leave the house"
    );
    let digests: Vec<(DateTime<Utc>, DateTime<Utc>)> =
        sqlx::query_as("select due_at, next_attempt_at from delivery.digests")
            .fetch_all(world.database.admin())
            .await
            .unwrap();
    let [(due_at, next_attempt_at)] = digests[..] else {
        panic!("{digests:?}");
    };
    assert!(due_at == next_attempt_at && due_at > now());

    world
        .execute("update delivery.digests set next_attempt_at = now()")
        .await;
    world.until_mails(2).await;
    world.until_count("sent", 3).await;
    let digest = &world.catcher.mails().await[1];
    assert_eq!(digest.subject, "2 reminders");
    for title in ["Water the plants", "Feed <the> cat"] {
        assert!(digest.text.contains(title), "{}", digest.text);
    }
    assert!(digest.html.contains("Feed &lt;the&gt; cat"), "{}", digest.html);
    let told = notifications(&world.database).await;
    assert_eq!(kinds(&told), [NotificationEventKind::Sent; 3]);
    assert_eq!(told[1].notification.message_id, told[2].notification.message_id);

    // One that is late for that digest: decided for it by another channel, and handled here when it had gone out.
    let late = world.rang("Call the dentist", Priority::Low);
    let verdict = |action| Verdict {
        action,
        reason: Reason::Settings,
    };
    let decision = Decision {
        email: verdict(Action::Digest { at: due_at }),
        in_app: verdict(Action::Send),
    };
    sqlx::query(
        "insert into delivery.decisions (user_id, reminder_id, fire_at, kind, decision) values ($1, $2, $3, 'reminder', $4)",
    )
    .bind(world.user)
    .bind(late.reminder.id)
    .bind(late.reminder.fire_at)
    .bind(Json(decision))
    .execute(&world.database.pool("notification-inbox"))
    .await
    .unwrap();
    world.publish(&[late]).await;
    world.until_mails(3).await;
    assert_eq!(
        world.catcher.mails().await[2].subject,
        "Reminder: Call the dentist"
    );
    world.service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rings_while_its_digest_is_under_way_is_mailed_by_itself() {
    let world = World::of(&collecting()).await;
    world
        .publish(&[world.rang("Water the plants", Priority::Low)])
        .await;
    // Long enough for an event to be handled, and within what a server may take.
    world
        .catcher
        .faults(json!([{"at": "data", "delay_ms": 4000, "times": 1}]))
        .await;
    world
        .execute("update delivery.digests set next_attempt_at = now()")
        .await;
    eventually("the digest is under way", async || {
        (world.catcher.struck().await == 1).then_some(())
    })
    .await;
    world.publish(&[world.rang("Feed the cat", Priority::Low)]).await;
    world.until_mails(2).await;
    world.until_count("sent", 2).await;
    let subjects: Vec<String> = world
        .catcher
        .mails()
        .await
        .into_iter()
        .map(|mail| mail.subject)
        .collect();
    assert_eq!(subjects, ["Reminder: Water the plants", "Reminder: Feed the cat"]);
    world.service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_wanted_is_not_mailed_and_the_reason_is_written_down() {
    let paused = Settings {
        pause: Some(Pause { until: None }),
        ..Settings::default()
    };
    let world = World::of(&paused).await;
    let event = world.rang("Leave the house", Priority::Urgent);
    world.publish(std::slice::from_ref(&event)).await;
    let why: Option<String> =
        sqlx::query_scalar("select last_error from delivery.deliveries where state = 'suppressed'")
            .fetch_one(world.database.admin())
            .await
            .unwrap();
    assert_eq!(why.as_deref(), Some("notifications are paused"));
    let told = notifications(&world.database).await;
    assert_eq!(kinds(&told), [NotificationEventKind::Suppressed]);
    assert_eq!(told[0].notification.reason, why);
    // A replay says nothing again.
    let again = ReminderEvent {
        event_id: Uuid::now_v7(),
        ..event
    };
    world.publish(&[again]).await;
    assert_eq!(notifications(&world.database).await.len(), 1);
    assert_eq!(world.catcher.count().await, 0);
    world.service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reminder_that_was_missed_is_mailed_to_who_wants_to_know() {
    let mut settings = Settings::default();
    settings.reminder_missed.email = Mode::AtOnce;
    let world = World::of(&settings).await;
    let rang = world.rang("Water the plants", Priority::Low);
    let mut missed = ReminderEvent {
        kind: ReminderEventKind::Cancelled,
        ..rang
    };
    missed.reminder.fired_at = None;
    missed.reminder.reason = Some("missed".to_owned());
    missed.reminder.fire_at -= Duration::from_hours(48);
    let mut moved = missed.clone();
    moved.event_id = Uuid::now_v7();
    moved.reminder.id = Uuid::now_v7();
    moved.reminder.reason = Some("completed".to_owned());
    world.publish(&[missed, moved]).await;
    world.until_mails(1).await;
    let mail = &world.catcher.mails().await[0];
    assert_eq!(mail.subject, "Missed: Water the plants");
    assert!(mail.text.contains("you missed a reminder"), "{}", mail.text);
    world.until_count("sent", 1).await;
    world.service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_was_held_is_not_sent_when_its_task_is_over_or_nobody_wants_it_any_more() {
    let world = World::of(&quiet(Mode::AtOnce)).await;
    let titles = ["Feed the cat", "Post the letter", "Water the plants"];
    let [cat, letter, plants] = titles.map(|title| world.rang(title, Priority::Low));
    world
        .publish(&[cat.clone(), letter.clone(), plants.clone()])
        .await;
    world.until_count("pending", 3).await;
    world.task_is(&cat, |task| task.completed_at = Some(now())).await;
    world.task_is(&letter, |task| task.deleted_at = Some(now())).await;
    world.task_is(&plants, |_| {}).await;
    let let_go = "update delivery.deliveries set fired_at = now() - interval '8 hours', held_until = now(), next_attempt_at = now()
                  where state = 'pending'";
    world.execute(let_go).await;
    world.until_mails(1).await;
    world.until_count("suppressed", 2).await;
    let over = [
        ("Feed the cat", "the task is completed"),
        ("Post the letter", "the task is deleted"),
    ];
    assert_eq!(
        world.suppressed().await,
        over.map(|(title, why)| (title.to_owned(), why.to_owned()))
    );
    let told = notifications(&world.database).await;
    let mut reasons: Vec<_> = told
        .iter()
        .filter_map(|e| e.notification.reason.clone())
        .collect();
    reasons.sort_unstable();
    assert_eq!(reasons, over.map(|(_, why)| why));

    let unwanted = world.rang("Sweep the stairs", Priority::Low);
    world.publish(&[unwanted]).await;
    world.until_count("pending", 1).await;
    let mut settings = quiet(Mode::AtOnce);
    settings.reminder.email = Mode::Off;
    sqlx::query("update accounts.notification_settings set settings = $1")
        .bind(Json(settings))
        .execute(world.database.admin())
        .await
        .unwrap();
    world.execute(let_go).await;
    world.until_count("suppressed", 3).await;
    let (_, why) = world.suppressed().await.remove(2);
    assert_eq!(why, "the notification settings say so");
    assert_eq!(world.catcher.count().await, 1);
    world.service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_leaves_out_what_is_over_and_is_not_sent_when_that_is_all() {
    let world = World::of(&collecting()).await;
    let (cat, plants) = (
        world.rang("Feed the cat", Priority::Low),
        world.rang("Water the plants", Priority::Low),
    );
    world.publish(&[cat.clone(), plants]).await;
    world.until_count("collected", 2).await;
    world.task_is(&cat, |task| task.completed_at = Some(now())).await;
    let due = "update delivery.digests set next_attempt_at = now() where state = 'pending'";
    world.execute(due).await;
    world.until_count("sent", 1).await;
    let digest = &world.catcher.mails().await[0];
    assert!(
        digest.text.contains("Water the plants") && !digest.text.contains("Feed the cat"),
        "{}",
        digest.text
    );
    let told = notifications(&world.database).await;
    let [sent, suppressed] = &told[..] else {
        panic!("{told:?}")
    };
    assert!(sent.notification.message_id.is_some());
    let about = &suppressed.notification;
    assert_eq!(suppressed.kind, NotificationEventKind::Suppressed);
    assert_eq!(
        (about.task_id, about.reason.as_deref(), &about.message_id),
        (cat.task.id, Some("the task is completed"), &None)
    );

    // The next one.
    world.execute("delete from delivery.digests").await;
    let letter = world.rang("Post the letter", Priority::Low);
    world.publish(std::slice::from_ref(&letter)).await;
    world.until_count("collected", 1).await;
    world.task_is(&letter, |task| task.deleted_at = Some(now())).await;
    world.execute(due).await;
    world.until_count("suppressed", 2).await;
    let whole: String =
        sqlx::query_scalar("select last_error from delivery.digests where state = 'suppressed'")
            .fetch_one(world.database.admin())
            .await
            .unwrap();
    assert_eq!(whole, "nothing is left in it");
    assert_eq!(world.catcher.count().await, 1);
    assert_eq!(notifications(&world.database).await.len(), 3);
    world.service.stop().await;
}
