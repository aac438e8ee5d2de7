//! From the event to the mail, and what becomes of a delivery.

use std::collections::HashSet;
use std::time::Duration;

use chrono::TimeDelta;
use schemas::{Event, NotificationEventKind, Reminder, ReminderEvent, ReminderEventKind, Task};
use serde_json::json;
use support::{Database, Topics, eventually, samples};
use uuid::Uuid;

use crate::catcher::{Catcher, free_port};
use crate::fixture::{
    Running, arm, config, count, fired, kinds, metric, no_topics, notifications, readiness, row, until_state,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_reminder_that_fired_becomes_one_mail_and_one_event_however_often_it_comes() {
    let (database, topics, catcher) = (
        Database::create().await,
        Topics::create().await,
        Catcher::start().await,
    );
    let user = database.user("ada@example.com").await;
    let task = Task {
        title: "Water the plants 🌱".to_owned(),
        description: Some("The fern\n.\nneeds <more>.".to_owned()),
        due_at: Some("2026-11-21T17:30:00Z".parse().unwrap()),
        tags: vec!["home".to_owned()],
        ..samples::task()
    };
    let ring = fired(user, task.clone());
    // The same event again; the same firing in another event; other events of it.
    let mut again = ring.clone();
    again.event_id = Uuid::now_v7();
    let mut scheduled = ring.clone();
    scheduled.kind = ReminderEventKind::Scheduled;
    scheduled.event_id = Uuid::now_v7();
    scheduled.reminder = Reminder {
        fired_at: None,
        ..scheduled.reminder
    };
    let events: Vec<Event> = [&scheduled, &ring, &ring, &again]
        .map(|e: &ReminderEvent| e.clone().into())
        .into();
    topics.publish(&events).await;

    let service = Running::start(config(&database, &topics, catcher.port, &[]));
    eventually("the mail", async || (catcher.count().await > 0).then_some(())).await;
    eventually("all is committed", async || {
        (topics.lag("email-sender", "task-reminders").await == 0).then_some(())
    })
    .await;
    topics.publish(&events).await;
    eventually("all is committed again", async || {
        (topics.lag("email-sender", "task-reminders").await == 0).then_some(())
    })
    .await;
    eventually("it is recorded", async || {
        (count(&database, "sent").await == 1).then_some(())
    })
    .await;
    service.stop().await;
    // The hourly sweep, with the rights of the role; nothing is old enough.
    let swept = db::inbox::EMAIL_SENDER
        .sweep(&database.pool("email-sender"))
        .await;
    assert_eq!(swept.unwrap(), 0);

    let mails = catcher.mails().await;
    assert_eq!(mails.len(), 1);
    let mail = &mails[0];
    assert_eq!(mail.to, "ada@example.com");
    assert_eq!(mail.subject, "Reminder: Water the plants 🌱");
    assert!(mail.text.starts_with("Hello Ada Lovelace,\r\n"), "{}", mail.text);
    assert!(
        mail.text
            .contains("Due:      Saturday, 21 November 2026, 18:30 (Europe/Berlin)\r\n"),
        "{}",
        mail.text
    );
    assert!(
        mail.text.contains("The fern\r\n.\r\nneeds <more>."),
        "{}",
        mail.text
    );
    assert!(mail.html.contains("needs &lt;more&gt;."), "{}", mail.html);
    assert_eq!(catcher.header(mail, "Auto-Submitted").await, ["auto-generated"]);
    assert_eq!(
        catcher.header(mail, "To").await,
        ["\"Ada Lovelace\" <ada@example.com>"]
    );

    let events = notifications(&database).await;
    assert_eq!(kinds(&events), [NotificationEventKind::Sent]);
    let notification = &events[0].notification;
    assert_eq!(events[0].user_id, user);
    assert_eq!(notification.reminder_id, ring.reminder.id);
    assert_eq!(notification.task_id, task.id);
    assert_eq!(notification.fire_at, ring.reminder.fire_at);
    assert_eq!(notification.channel, "email");
    assert_eq!(notification.attempts, 1);
    assert_eq!(notification.message_id.as_deref(), Some(mail.message_id.as_str()));
    assert_eq!(mail.message_id, format!("<{}@carillon.example>", notification.id));
    assert!(notification.sent_at.unwrap() >= ring.reminder.fired_at.unwrap());
    let row = row(&database, notification.id).await;
    assert_eq!((row.state.as_str(), row.attempts), ("sent", 1));
    assert_eq!(row.message_id, notification.message_id);
    assert_eq!(row.finished_at, notification.sent_at);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_ring_of_a_nag_becomes_a_mail_and_none_of_them_two() {
    let (database, topics, catcher) = (
        Database::create().await,
        Topics::create().await,
        Catcher::start().await,
    );
    let user = database.user("ada@example.com").await;
    let first = fired(user, samples::task());
    let rings: Vec<ReminderEvent> = (0..3)
        .map(|ring| {
            let mut event = first.clone();
            event.event_id = Uuid::now_v7();
            event.reminder.ring = ring;
            event.reminder.fire_at -= TimeDelta::minutes(10) * (2 - ring);
            event
        })
        .collect();
    // Each ring, then each once more under another event.
    let events: Vec<Event> = rings
        .iter()
        .cloned()
        .chain(rings.iter().map(|ring| ReminderEvent {
            event_id: Uuid::now_v7(),
            ..ring.clone()
        }))
        .map(Event::from)
        .collect();
    topics.publish(&events).await;
    topics.publish(&events).await;
    let service = Running::start(config(&database, &topics, catcher.port, &[]));
    eventually("all is committed", async || {
        (topics.lag("email-sender", "task-reminders").await == 0).then_some(())
    })
    .await;
    eventually("all are sent", async || {
        (count(&database, "sent").await == 3).then_some(())
    })
    .await;
    assert_eq!(count(&database, "pending").await, 0);
    assert_eq!(catcher.count().await, 3);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_temporary_refusal_is_tried_again() {
    let (database, catcher) = (Database::create().await, Catcher::start().await);
    catcher
        .faults(json!([
            {"at": "rcpt", "code": 451, "message": "4.7.1 <ada@example.com>: greylisted", "times": 2},
            {"at": "data", "code": 452, "times": 1},
        ]))
        .await;
    let user = database.user("ada@example.com").await;
    let id = arm(&database, user, "x").await;
    let port = free_port();
    let more = [("HTTP_PORT", &*port.to_string())];
    let service = Running::start(config(&database, &no_topics(), catcher.port, &more));
    let row = until_state(&database, id, "sent").await;
    assert_eq!(row.attempts, 4);
    assert!(
        metric(
            port,
            "notifications_sent_total{channel=\"email\",status=\"retried\"}"
        )
        .await
            >= 3.0
    );
    assert!(
        metric(
            port,
            "notifications_sent_total{channel=\"email\",status=\"sent\"}"
        )
        .await
            >= 1.0
    );
    assert!(
        metric(
            port,
            "notification_delivery_duration_seconds_count{channel=\"email\"}"
        )
        .await
            >= 1.0
    );
    service.stop().await;
    assert_eq!(catcher.count().await, 1);
    assert_eq!(
        kinds(&notifications(&database).await),
        [NotificationEventKind::Sent]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_good_ends_it_and_names_no_address() {
    let (database, catcher) = (Database::create().await, Catcher::start().await);
    catcher
        .faults(json!([
            {"at": "rcpt", "match": "nobody@*", "code": 550, "message": "5.1.1 <Nobody@Example.com>: no such user"},
            {"at": "data", "match": "spam@*", "code": 554, "message": "5.7.1 looks like spam"},
        ]))
        .await;
    let nobody = arm(&database, database.user("nobody@example.com").await, "x").await;
    let spam = arm(&database, database.user("spam@example.com").await, "x").await;
    let broken = arm(&database, database.user("no address at all").await, "x").await;
    let good = arm(&database, database.user("ada@example.com").await, "x").await;
    let service = Running::start(config(&database, &no_topics(), catcher.port, &[]));
    until_state(&database, good, "sent").await;
    for (id, reason) in [
        (nobody, "550 5.1.1 <(recipient)>: no such user"),
        (spam, "554 5.7.1 looks like spam"),
        (broken, "the person's address is not valid"),
    ] {
        let row = until_state(&database, id, "failed").await;
        assert_eq!((row.attempts, row.last_error.as_deref()), (1, Some(reason)));
    }
    service.stop().await;
    let events = notifications(&database).await;
    let failed: Vec<_> = events
        .iter()
        .filter(|e| e.kind == NotificationEventKind::Failed)
        .collect();
    assert_eq!(failed.len(), 3);
    for event in failed {
        assert!(event.notification.sent_at.is_none());
        assert!(!event.notification.reason.as_ref().unwrap().contains('@'));
    }
    assert_eq!(catcher.count().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_for_nobody_is_suppressed() {
    let (database, catcher) = (Database::create().await, Catcher::start().await);
    let id = arm(&database, Uuid::now_v7(), "x").await;
    let service = Running::start(config(&database, &no_topics(), catcher.port, &[]));
    let row = until_state(&database, id, "suppressed").await;
    service.stop().await;
    assert_eq!(
        (row.attempts, row.last_error.as_deref()),
        (0, Some("there is no such user"))
    );
    let events = notifications(&database).await;
    assert_eq!(kinds(&events), [NotificationEventKind::Suppressed]);
    assert_eq!(
        events[0].notification.reason.as_deref(),
        Some("there is no such user")
    );
    assert_eq!(catcher.count().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_given_up_at_the_deadline_but_tried_once_however_late() {
    let (database, catcher) = (Database::create().await, Catcher::start().await);
    catcher
        .faults(json!([{"at": "rcpt", "match": "full@*", "code": 452}]))
        .await;
    let full = arm(&database, database.user("full@example.com").await, "x").await;
    let good = arm(&database, database.user("ada@example.com").await, "x").await;
    sqlx::query("update delivery.deliveries set fire_at = now() - interval '25 hours', fired_at = now() - interval '25 hours'")
        .execute(database.admin())
        .await
        .unwrap();
    let service = Running::start(config(&database, &no_topics(), catcher.port, &[]));
    let row = until_state(&database, full, "failed").await;
    assert_eq!(row.attempts, 1);
    let reason = row.last_error.unwrap();
    assert!(
        reason.starts_with("not accepted until the deadline: 452"),
        "{reason}"
    );
    until_state(&database, good, "sent").await;
    service.stop().await;
    let text = &catcher.mails().await[0].text;
    assert!(text.contains("This reminder comes 25 hours late."), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_senders_side_by_side_send_each_mail_once() {
    let (database, catcher) = (Database::create().await, Catcher::start().await);
    let user = database.user("ada@example.com").await;
    for n in 0..300 {
        arm(&database, user, &format!("task {n}")).await;
    }
    let topics = no_topics();
    let senders = [(); 2].map(|()| Running::start(config(&database, &topics, catcher.port, &[])));
    eventually("all are sent", async || {
        (count(&database, "sent").await == 300).then_some(())
    })
    .await;
    for sender in senders {
        sender.stop().await;
    }
    let mails = catcher.mails().await;
    assert_eq!(mails.len(), 300);
    assert_eq!(
        mails
            .iter()
            .map(|m| m.message_id.clone())
            .collect::<HashSet<_>>()
            .len(),
        300
    );
    let events = notifications(&database).await;
    assert_eq!(events.len(), 300);
    assert_eq!(
        events
            .iter()
            .map(|e| e.notification.id)
            .collect::<HashSet<_>>()
            .len(),
        300
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_ended_has_no_say_but_that_a_mail_was_accepted() {
    let (database, catcher) = (Database::create().await, Catcher::start().await);
    catcher
        .faults(json!([
            {"at": "rcpt", "match": "nobody@*", "code": 550, "delay_ms": 1500},
            {"at": "rcpt", "match": "busy@*", "code": 450, "delay_ms": 1500},
            {"at": "rcpt", "match": "ada@*", "delay_ms": 1500},
        ]))
        .await;
    let nobody = arm(&database, database.user("nobody@example.com").await, "x").await;
    let busy = arm(&database, database.user("busy@example.com").await, "x").await;
    let good = arm(&database, database.user("ada@example.com").await, "x").await;
    // The first mail goes alone; those that follow go together.
    sqlx::query("update delivery.deliveries set next_attempt_at = now() + interval '1 second'")
        .execute(database.admin())
        .await
        .unwrap();
    let first = arm(&database, database.user("first@example.com").await, "x").await;
    let service = Running::start(config(&database, &no_topics(), catcher.port, &[]));
    until_state(&database, first, "sent").await;
    eventually("all are claimed", async || {
        let least: i32 =
            sqlx::query_scalar("select min(attempts) from delivery.deliveries where state = 'pending'")
                .fetch_one(database.admin())
                .await
                .unwrap();
        (least == 1).then_some(())
    })
    .await;
    // As if the leases had run out and another process had claimed them.
    sqlx::query(
        "update delivery.deliveries set attempts = 2, next_attempt_at = now() + interval '1 hour'
         where state = 'pending'",
    )
    .execute(database.admin())
    .await
    .unwrap();
    until_state(&database, good, "sent").await;
    service.stop().await;
    for id in [nobody, busy] {
        let row = row(&database, id).await;
        assert_eq!(
            (row.state.as_str(), row.attempts, row.last_error),
            ("pending", 2, None)
        );
    }
    assert_eq!(
        kinds(&notifications(&database).await),
        [NotificationEventKind::Sent; 2]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_for_later_wait_for_their_time() {
    let (database, catcher) = (Database::create().await, Catcher::start().await);
    let id = arm(&database, database.user("ada@example.com").await, "x").await;
    sqlx::query("update delivery.deliveries set next_attempt_at = now() + interval '2500 milliseconds'")
        .execute(database.admin())
        .await
        .unwrap();
    let port = free_port();
    let more = [("HTTP_PORT", &*port.to_string())];
    let service = Running::start(config(&database, &no_topics(), catcher.port, &more));
    eventually("ready", async || {
        let (_, text) = readiness(port).await?;
        text.contains("\"name\":\"smtp\",\"state\":\"ready\"")
            .then_some(())
    })
    .await;
    assert_eq!(row(&database, id).await.state, "pending");
    until_state(&database, id, "sent").await;
    let (waited, polls): (f64, i32) = sqlx::query_as(
        "select extract(epoch from finished_at - created_at)::float8, attempts from delivery.deliveries",
    )
    .fetch_one(database.admin())
    .await
    .unwrap();
    service.stop().await;
    // Slept until its time, not until the next tick.
    assert!((2.5..4.0).contains(&waited), "{waited}");
    assert_eq!(polls, 1);
    assert!(Duration::from_secs_f64(waited) < Duration::from_secs(4));
}
