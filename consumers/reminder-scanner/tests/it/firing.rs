//! What is due rings: once, not early, the urgent first.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_reminder_rings_once_when_it_is_due() {
    let world = World::create().await;
    let scanner = world.scanner();
    let user_id = Uuid::now_v7();
    let task = samples::task_with_reminder(at(1.5));
    world.tell(TaskEventKind::Created, user_id, &task).await;
    let fired = world.wait_for_fired(1).await;
    assert_eq!((fired[0].user_id, &fired[0].task), (user_id, &task));
    assert_eq!(
        (fired[0].reminder.id, Some(fired[0].reminder.fire_at)),
        (only(&task), task.due_at)
    );
    let (state, fired_at): (String, Option<Timestamp>) =
        sqlx::query_as("select state, fired_at from reminders.reminders")
            .fetch_one(world.admin())
            .await
            .unwrap();
    assert_eq!((state.as_str(), fired_at), ("fired", fired[0].reminder.fired_at));
    // Two more, so that a second ring of the first would have been seen.
    for _ in 0..2 {
        world
            .tell(
                TaskEventKind::Created,
                user_id,
                &samples::task_with_reminder(at(0.7)),
            )
            .await;
    }
    world.wait_for_fired(3).await;
    world.assert_fired_once_and_never_early().await;
    scanner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_that_fall_due_one_after_the_other_all_ring_and_none_before_its_time() {
    let world = World::create().await;
    let scanner = world.scanner();
    let mut events = Vec::new();
    for n in 0..40 {
        let mut task = samples::task();
        task.reminders = (0..10)
            .map(|m| TaskReminder::absolute(at(1.0 + f64::from(n * 10 + m) * 0.009)))
            .collect();
        events.push(samples::event(TaskEventKind::Created, Uuid::now_v7(), &task).into());
    }
    world.topics.publish(&events).await;
    world.caught_up().await;
    // What had passed before the task was told of was still to come when the task was made.
    world.wait_for_fired(400).await;
    assert_eq!(world.fired().await.len(), 400);
    world.assert_fired_once_and_never_early().await;
    scanner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_scanners_side_by_side_ring_two_thousand_due_reminders_once_each() {
    let world = World::create().await;
    let tasks: Vec<_> = (0..2000)
        .map(|n| {
            (
                Uuid::now_v7(),
                created(at(-60.0), at(-30.0 + f64::from(n) * 0.01)),
            )
        })
        .collect();
    world.arm(&tasks).await;
    let scanners: Vec<_> = (0..3)
        .map(|_| {
            start(Config {
                fire_batch: 17,
                ..world.config()
            })
        })
        .collect();
    let fired = world.wait_for_fired(tasks.len()).await;
    assert_eq!(fired.len(), tasks.len());
    for scanner in scanners {
        scanner.stop().await;
    }
    assert_eq!(world.fired().await.len(), tasks.len());
    world.assert_fired_once_and_never_early().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fell_due_while_the_scanner_was_down_rings_late_and_once() {
    let world = World::create().await;
    let scanner = world.scanner();
    let task = samples::task_with_reminder(at(3600.0));
    world.tell(TaskEventKind::Created, Uuid::now_v7(), &task).await;
    world
        .wait_for_state(only(&task), "armed", task.due_at.unwrap())
        .await;
    scanner.stop().await;
    // An hour and a minute later.
    sqlx::query("update reminders.reminders set fire_at = now() - interval '1 minute'")
        .execute(world.admin())
        .await
        .unwrap();
    for _ in 0..2 {
        let scanner = world.scanner();
        let fired = world.wait_for_fired(1).await;
        assert!(fired[0].reminder.fired_at.unwrap() >= fired[0].reminder.fire_at + TimeDelta::minutes(1));
        world.caught_up().await;
        scanner.stop().await;
    }
    world.assert_fired_once_and_never_early().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn created_and_changed_while_the_scanner_was_down_with_the_reminders_time_between_it_still_rings() {
    let world = World::create().await;
    let user_id = Uuid::now_v7();
    // Ten seconds ago a task with a reminder in five; now its title changes: it should have rung between the two.
    let task = created(at(-10.0), at(-5.0));
    let renamed = Task {
        title: "Water them well".to_owned(),
        ..changed(&task, schemas::now())
    };
    world.tell(TaskEventKind::Created, user_id, &task).await;
    world.tell(TaskEventKind::Updated, user_id, &renamed).await;
    // And one whose reminder had passed when it was made: that one is not meant to ring.
    let past = created(at(-5.0), at(-10.0));
    world.tell(TaskEventKind::Created, user_id, &past).await;
    let scanner = world.scanner_of_one_batch(3, 100);
    let fired = world.wait_for_fired(1).await;
    assert_eq!((fired[0].reminder.id, &fired[0].task), (only(&task), &renamed));
    world.caught_up().await;
    assert_eq!(world.reminder(only(&past)).await, None);
    world.assert_fired_once_and_never_early().await;
    scanner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_those_due_in_one_instant_the_urgent_ring_first() {
    let world = World::create().await;
    let user_id = Uuid::now_v7();
    let (then, fire_at) = (at(-60.0), at(-30.0));
    // Low ones first, so that nothing but their priority can put them last.
    for priority in [Priority::Low, Priority::Medium, Priority::High, Priority::Urgent] {
        for _ in 0..3 {
            let task = Task {
                priority,
                ..created(then, fire_at)
            };
            world.tell(TaskEventKind::Created, user_id, &task).await;
        }
    }
    // One becomes urgent after it was armed.
    let raised = Task {
        priority: Priority::Low,
        ..created(then, fire_at)
    };
    world.tell(TaskEventKind::Created, user_id, &raised).await;
    let raised = Task {
        priority: Priority::Urgent,
        ..changed(&raised, then)
    };
    world.tell(TaskEventKind::Updated, user_id, &raised).await;

    // Fired in small transactions: the order must not be that of one sort.
    let scanner = world.scanner_of_one_batch(14, 2);
    let fired = world.wait_for_fired(13).await;
    let order: Vec<Priority> = fired.iter().map(|e| e.task.priority).collect();
    let mut sorted = order.clone();
    sorted.sort_by_key(|priority| std::cmp::Reverse(*priority));
    assert_eq!(order, sorted);
    assert_eq!(world.said().await.len(), 26, "another priority is no other time");
    world.assert_fired_once_and_never_early().await;
    scanner.stop().await;
}
