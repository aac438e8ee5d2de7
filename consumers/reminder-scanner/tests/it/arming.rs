//! Task events arm, re-arm and cancel.

use ReminderEventKind::{Cancelled, Fired, Scheduled};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_task_arms_its_reminders_and_says_so() {
    let world = World::create().await;
    let scanner = world.scanner();
    let user_id = Uuid::now_v7();
    let mut task = samples::task_with_reminder(at(3600.0));
    let relative = TaskReminder::relative("-PT10M".to_owned());
    task.reminders.push(relative.clone());
    world.tell(TaskEventKind::Created, user_id, &task).await;
    let ten_before = task.due_at.unwrap() - TimeDelta::minutes(10);
    world
        .wait_for_state(task.reminders[0].id, "armed", task.reminders[0].at.unwrap())
        .await;
    world.wait_for_state(relative.id, "armed", ten_before).await;
    let said = world.said().await;
    assert_eq!(
        said.iter().map(|e| e.kind).collect::<Vec<_>>(),
        [Scheduled, Scheduled]
    );
    assert_eq!(said[1].reminder.id, relative.id);
    assert_eq!(said[1].reminder.fire_at, ten_before);
    assert_eq!((said[1].user_id, &said[1].task), (user_id, &task));
    scanner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_move_cancel_and_arm_again() {
    let world = World::create().await;
    let scanner = world.scanner();
    let user_id = Uuid::now_v7();
    let (first, second) = (at(3600.0), at(7200.0));
    let task = samples::task_with_reminder(first);
    let id = only(&task);
    world.tell(TaskEventKind::Created, user_id, &task).await;
    world.wait_for_state(id, "armed", first).await;

    let mut task = changed(&task, schemas::now());
    task.reminders[0].at = Some(second);
    world.tell(TaskEventKind::Updated, user_id, &task).await;
    world.wait_for_state(id, "armed", second).await;

    let completed = Task {
        completed_at: Some(schemas::now()),
        ..changed(&task, schemas::now())
    };
    world.tell(TaskEventKind::Completed, user_id, &completed).await;
    world.wait_for_state(id, "cancelled", second).await;

    let reopened = Task {
        completed_at: None,
        ..changed(&completed, schemas::now())
    };
    world.tell(TaskEventKind::Reopened, user_id, &reopened).await;
    world.wait_for_state(id, "armed", second).await;

    let deleted = Task {
        deleted_at: Some(schemas::now()),
        ..changed(&reopened, schemas::now())
    };
    world.tell(TaskEventKind::Deleted, user_id, &deleted).await;
    world.wait_for_state(id, "cancelled", second).await;

    let restored = Task {
        deleted_at: None,
        ..changed(&deleted, schemas::now())
    };
    world.tell(TaskEventKind::Restored, user_id, &restored).await;
    world.wait_for_state(id, "armed", second).await;

    let without = Task {
        reminders: Vec::new(),
        ..changed(&restored, schemas::now())
    };
    world.tell(TaskEventKind::Updated, user_id, &without).await;
    world.wait_for_state(id, "cancelled", second).await;
    let said = world.said().await;
    assert_eq!(
        said.iter()
            .map(|e| (e.kind, e.reminder.reason.as_deref()))
            .collect::<Vec<_>>(),
        [
            (Scheduled, None),
            (Scheduled, None),
            (Cancelled, Some("completed")),
            (Scheduled, None),
            (Cancelled, Some("deleted")),
            (Scheduled, None),
            (Cancelled, Some("removed")),
        ]
    );
    scanner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_is_refused_whenever_it_comes_and_however_often() {
    let world = World::create().await;
    let scanner = world.scanner();
    let user_id = Uuid::now_v7();
    let first = samples::task_with_reminder(at(3600.0));
    let id = only(&first);
    let mut second = changed(&first, schemas::now());
    second.reminders[0].at = Some(at(7200.0));
    let mut third = changed(&second, schemas::now());
    let newest = at(10_800.0);
    third.reminders[0].at = Some(newest);
    // Each time as a new event, so that the inbox knows none of them.
    for task in [&first, &third, &second, &first, &third, &second] {
        world.tell(TaskEventKind::Updated, user_id, task).await;
    }
    world.wait_for_state(id, "armed", newest).await;
    world.caught_up().await;
    assert_eq!(world.reminder(id).await, Some(("armed".to_owned(), newest)));
    assert_eq!(world.said_kinds().await, [Scheduled, Scheduled]);
    scanner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_versions_of_many_tasks_in_one_batch_end_at_the_newest_of_each() {
    let world = World::create().await;
    let users: Vec<Uuid> = (0..5).map(|_| Uuid::now_v7()).collect();
    let mut tasks: Vec<(Uuid, Task)> = users
        .iter()
        .cycle()
        .take(20)
        .map(|user| (*user, samples::task_with_reminder(at(3600.0))))
        .collect();
    // All of it is there before the scanner is.
    for round in 0..6 {
        let mut events = Vec::new();
        for (user_id, task) in &mut tasks {
            task.version = round + 1;
            task.reminders[0].at = Some(at(3600.0 + round as f64));
            events.push(samples::event(TaskEventKind::Updated, *user_id, task).into());
        }
        world.topics.publish(&events).await;
    }
    let scanner = world.scanner();
    world.caught_up().await;
    for (_, task) in &tasks {
        assert_eq!(
            world.reminder(only(task)).await,
            Some(("armed".to_owned(), task.reminders[0].at.unwrap()))
        );
    }
    scanner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_touch_a_reminder_of_somebody_else_not_even_under_its_ids() {
    let world = World::create().await;
    let scanner = world.scanner();
    let (owner, stranger) = (Uuid::now_v7(), Uuid::now_v7());
    let fire_at = at(3600.0);
    let task = samples::task_with_reminder(fire_at);
    world.tell(TaskEventKind::Created, owner, &task).await;
    world.wait_for_state(only(&task), "armed", fire_at).await;
    let deleted = Task {
        deleted_at: Some(schemas::now()),
        version: 9,
        ..task.clone()
    };
    world.tell(TaskEventKind::Deleted, stranger, &deleted).await;
    world.caught_up().await;
    assert_eq!(
        world.reminder(only(&task)).await,
        Some(("armed".to_owned(), fire_at))
    );
    assert_eq!(world.said_kinds().await, [Scheduled]);
    scanner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_from_before_the_reminder_rang_that_arrives_after_it_rang_rings_nothing_twice() {
    let world = World::create().await;
    let scanner = world.scanner();
    let user_id = Uuid::now_v7();
    let fire_at = at(1.0);
    let task = samples::task_with_reminder(fire_at);
    world.tell(TaskEventKind::Created, user_id, &task).await;
    world.wait_for_fired(1).await;
    // Kafka or the relay was slow: the person changed the title, completed and reopened the task before it rang.
    let before = fire_at - TimeDelta::milliseconds(500);
    let renamed = Task {
        title: "Water them well".to_owned(),
        ..changed(&task, before)
    };
    let completed = Task {
        completed_at: Some(before),
        ..changed(&renamed, before)
    };
    let reopened = Task {
        completed_at: None,
        ..changed(&completed, before)
    };
    world.tell(TaskEventKind::Updated, user_id, &renamed).await;
    world.tell(TaskEventKind::Completed, user_id, &completed).await;
    world.tell(TaskEventKind::Reopened, user_id, &reopened).await;
    world.caught_up().await;
    assert_eq!(
        world.reminder(only(&task)).await,
        Some(("fired".to_owned(), fire_at))
    );

    // Another time is another firing.
    let again = at(1.0);
    let mut moved = changed(&reopened, before);
    moved.reminders[0].at = Some(again);
    world.tell(TaskEventKind::Updated, user_id, &moved).await;
    let fired = world.wait_for_fired(2).await;
    assert_eq!(
        fired.iter().map(|e| e.reminder.fire_at).collect::<Vec<_>>(),
        [fire_at, again]
    );
    assert_eq!(world.said_kinds().await, [Scheduled, Fired, Scheduled, Fired]);
    world.assert_fired_once_and_never_early().await;
    scanner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_cannot_be_armed_are_dead_lettered_and_their_neighbours_pass() {
    let world = World::create().await;
    let user_id = Uuid::now_v7();
    let fire_at = at(3600.0);
    let good: Vec<Task> = (0..5).map(|_| samples::task_with_reminder(fire_at)).collect();
    let mut nowhere = samples::task_with_reminder(fire_at);
    nowhere.timezone = "Mars/Olympus".to_owned();
    let mut unreadable = samples::task_with_reminder(fire_at);
    unreadable.reminders = vec![TaskReminder::relative("soon".to_owned())];
    // Two reminders under one id would be one row.
    let mut twins = samples::task_with_reminder(fire_at);
    twins.reminders.push(TaskReminder {
        at: Some(at(7200.0)),
        ..twins.reminders[0].clone()
    });
    let mut no_text = samples::task_with_reminder(fire_at);
    no_text.title = "\0".to_owned();
    let bad = [nowhere, unreadable, twins, no_text];
    let mut events: Vec<Event> = Vec::new();
    for (n, task) in good.iter().enumerate() {
        events.push(samples::event(TaskEventKind::Created, user_id, task).into());
        if let Some(task) = bad.get(n) {
            events.push(samples::event(TaskEventKind::Created, user_id, task).into());
        }
    }
    world.topics.publish(&events).await;
    let scanner = world.scanner();
    world.caught_up().await;
    for task in &good {
        assert_eq!(
            world.reminder(only(task)).await,
            Some(("armed".to_owned(), fire_at))
        );
    }
    assert_eq!(world.said_kinds().await, [Scheduled; 5]);
    let letters = world
        .topics
        .read(&dead_letter(TASK_EVENTS, REMINDER_SCANNER.name))
        .await;
    assert_eq!(letters.len(), bad.len());
    for letter in &letters {
        assert_eq!(letter.header("__connect.errors.stage"), Some("TASK_PUT"));
    }
    assert!(
        letters[0]
            .header("__connect.errors.exception.message")
            .unwrap()
            .contains("Mars/Olympus")
    );
    // A version that can be read, later, is no old news.
    let mended = changed(&samples::task_with_reminder(fire_at), schemas::now());
    let mended = Task {
        id: bad[0].id,
        ..mended
    };
    world.tell(TaskEventKind::Updated, user_id, &mended).await;
    world.wait_for_state(only(&mended), "armed", fire_at).await;
    scanner.stop().await;
}
