//! Reminders that ring more than once, that are put off, and that come too late.

use schemas::Nag;

use super::*;
use crate::clock::Clock;

const MINUTE: f64 = 60.0;
const HOUR: f64 = 3600.0;

/// A task that was made an hour before `first_at`, with a reminder that rings then and every ten minutes after.
fn nagging(first_at: Timestamp, times: i32) -> Task {
    let mut task = created(first_at - TimeDelta::hours(1), first_at);
    task.reminders[0].nag = Some(Nag {
        every: "PT10M".to_owned(),
        times,
    });
    task
}

/// Of each event about this reminder: what it was, the number of the ring, its time and the reason.
async fn story(world: &World, id: Uuid) -> Vec<(ReminderEventKind, i32, Timestamp, Option<String>)> {
    let mut said = world.said().await;
    said.retain(|event| event.reminder.id == id);
    said.into_iter()
        .map(|event| {
            let reminder = event.reminder;
            (event.kind, reminder.ring, reminder.fire_at, reminder.reason)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_late_is_missed_and_what_may_be_late_rings() {
    let world = World::create().await;
    let patient = world.database.user("ada@example.com").await;
    let strict = world.database.user("bob@example.com").await;
    sqlx::query("update accounts.users set send_late_within_seconds = 600 where id = $1")
        .bind(strict)
        .execute(world.admin())
        .await
        .unwrap();
    let stranger = Uuid::now_v7();
    let mut expected = Vec::new();
    for (user_id, within, late, rings) in [
        // What the reminder says, with a minute of tolerance.
        (patient, Some("PT0S"), 30.0, true),
        (patient, Some("PT0S"), 2.0 * MINUTE, false),
        (patient, Some("PT1H"), HOUR, true),
        (patient, Some("PT1H"), HOUR + 2.0 * MINUTE, false),
        // What the person says, when the reminder says nothing.
        (patient, None, 23.0 * HOUR, true),
        (patient, None, 25.0 * HOUR, false),
        (strict, None, 9.0 * MINUTE, true),
        (strict, None, 12.0 * MINUTE, false),
        (strict, Some("P2D"), 25.0 * HOUR, true),
        // A person who is gone, or was never there.
        (stranger, None, 23.0 * HOUR, true),
        (stranger, None, 25.0 * HOUR, false),
    ] {
        let mut task = created(at(-late - HOUR), at(-late));
        task.reminders[0].send_late_within = within.map(str::to_owned);
        world.tell(TaskEventKind::Created, user_id, &task).await;
        expected.push((task, rings));
    }
    let scanner = world.scanner();
    world.caught_up().await;
    eventually("all are decided about", async || {
        let armed: i64 = sqlx::query_scalar("select count(*) from reminders.reminders where state = 'armed'")
            .fetch_one(world.admin())
            .await
            .unwrap();
        (armed == 0).then_some(())
    })
    .await;
    for (task, rings) in &expected {
        let (id, fire_at) = (only(task), task.reminders[0].at.unwrap());
        let (state, what, reason) = if *rings {
            ("fired", ReminderEventKind::Fired, None)
        } else {
            ("missed", ReminderEventKind::Cancelled, Some("missed".to_owned()))
        };
        let within = &task.reminders[0].send_late_within;
        assert_eq!(
            world.reminder(id).await,
            Some((state.to_owned(), fire_at)),
            "{within:?}"
        );
        assert_eq!(
            story(&world, id).await[1..],
            [(what, 0, fire_at, reason)],
            "{within:?}"
        );
    }
    world.assert_fired_once_and_never_early().await;
    scanner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nag_rings_again_and_again_until_the_task_is_done() {
    let world = World::create().await;
    let clock = Clock::of(&world).await;
    let scanner = world.scanner();
    let user_id = Uuid::now_v7();
    let first_at = at(MINUTE);
    let ring = |k: i32| first_at + TimeDelta::minutes(10) * k;
    let task = nagging(first_at, 5);
    let id = only(&task);
    world.tell(TaskEventKind::Created, user_id, &task).await;
    world.wait_for_state(id, "armed", first_at).await;
    for k in 0..3 {
        clock.set_ahead(2.0 * MINUTE + 10.0 * MINUTE * f64::from(k)).await;
        world.wait_for_state(id, "armed", ring(k + 1)).await;
    }
    let completed = Task {
        completed_at: Some(ring(2) + TimeDelta::minutes(2)),
        ..changed(&task, ring(2) + TimeDelta::minutes(2))
    };
    world.tell(TaskEventKind::Completed, user_id, &completed).await;
    world.wait_for_state(id, "cancelled", ring(3)).await;
    clock.set_ahead(32.0 * MINUTE).await;
    clock.everything_due_rang().await;
    // Opened again after ring 3 would have been: the others are still to come, and the last is the last.
    let reopened = Task {
        completed_at: None,
        ..changed(&completed, ring(3) + TimeDelta::minutes(2))
    };
    world.tell(TaskEventKind::Reopened, user_id, &reopened).await;
    world.wait_for_state(id, "armed", ring(4)).await;
    clock.set_ahead(42.0 * MINUTE).await;
    world.wait_for_state(id, "armed", ring(5)).await;
    clock.set_ahead(52.0 * MINUTE).await;
    world.wait_for_state(id, "fired", ring(5)).await;
    clock.set_ahead(200.0 * MINUTE).await;
    clock.everything_due_rang().await;
    use ReminderEventKind::{Cancelled, Fired, Scheduled};
    assert_eq!(
        story(&world, id).await,
        [
            (Scheduled, 0, first_at, None),
            (Fired, 0, first_at, None),
            (Fired, 1, ring(1), None),
            (Fired, 2, ring(2), None),
            (Cancelled, 3, ring(3), Some("completed".to_owned())),
            (Scheduled, 4, ring(4), None),
            (Fired, 4, ring(4), None),
            (Fired, 5, ring(5), None),
        ]
    );
    scanner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nag_that_is_dismissed_stops_and_one_that_is_put_off_rings_from_then_on() {
    let world = World::create().await;
    let clock = Clock::of(&world).await;
    let scanner = world.scanner();
    let user_id = Uuid::now_v7();
    let first_at = at(MINUTE);
    let (dismissed, snoozed) = (nagging(first_at, 50), nagging(first_at, 2));
    for task in [&dismissed, &snoozed] {
        world.tell(TaskEventKind::Created, user_id, task).await;
        world.wait_for_state(only(task), "armed", first_at).await;
    }
    clock.set_ahead(2.0 * MINUTE).await;
    let second = first_at + TimeDelta::minutes(10);
    for task in [&dismissed, &snoozed] {
        world.wait_for_state(only(task), "armed", second).await;
    }
    let then = first_at + TimeDelta::minutes(3);
    let until = first_at + TimeDelta::minutes(45);
    let mut no_more = changed(&dismissed, then);
    no_more.reminders[0].dismissed_at = Some(then);
    let mut later = changed(&snoozed, then);
    later.reminders[0].snoozed_until = Some(until);
    world.tell(TaskEventKind::Updated, user_id, &no_more).await;
    world.tell(TaskEventKind::Updated, user_id, &later).await;
    world.wait_for_state(only(&dismissed), "cancelled", second).await;
    world.wait_for_state(only(&snoozed), "armed", until).await;
    // None of the old rings comes.
    clock.set_ahead(40.0 * MINUTE).await;
    clock.everything_due_rang().await;
    for ring in 0..3 {
        clock
            .set_ahead(46.0 * MINUTE + 10.0 * MINUTE * f64::from(ring))
            .await;
        let fired = if ring < 2 { "armed" } else { "fired" };
        let next = until + TimeDelta::minutes(10) * (ring + 1).min(2);
        world.wait_for_state(only(&snoozed), fired, next).await;
    }
    // A change of something else brings nothing back.
    let renamed = Task {
        title: "Water them well".to_owned(),
        ..changed(&later, until + TimeDelta::minutes(30))
    };
    world.tell(TaskEventKind::Updated, user_id, &renamed).await;
    world.caught_up().await;
    clock.set_ahead(20.0 * HOUR).await;
    clock.everything_due_rang().await;
    use ReminderEventKind::{Cancelled, Fired, Scheduled, Snoozed};
    assert_eq!(
        story(&world, only(&dismissed)).await,
        [
            (Scheduled, 0, first_at, None),
            (Fired, 0, first_at, None),
            (Cancelled, 1, second, Some("dismissed".to_owned())),
        ]
    );
    assert_eq!(
        story(&world, only(&snoozed)).await,
        [
            (Scheduled, 0, first_at, None),
            (Fired, 0, first_at, None),
            (Snoozed, 0, until, None),
            (Fired, 0, until, None),
            (Fired, 1, until + TimeDelta::minutes(10), None),
            (Fired, 2, until + TimeDelta::minutes(20), None),
        ]
    );
    let put_off: Vec<_> = world
        .said()
        .await
        .into_iter()
        .filter_map(|event| event.reminder.snoozed_until)
        .collect();
    assert_eq!(put_off, [until]);
    scanner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_rang_and_is_put_off_rings_once_more_at_its_new_time() {
    let world = World::create().await;
    let scanner = world.scanner();
    let user_id = Uuid::now_v7();
    let fire_at = at(0.7);
    let task = samples::task_with_reminder(fire_at);
    world.tell(TaskEventKind::Created, user_id, &task).await;
    world.wait_for_fired(1).await;
    let until = at(1.0);
    let mut later = changed(&task, schemas::now());
    later.reminders[0].snoozed_until = Some(until);
    world.tell(TaskEventKind::Updated, user_id, &later).await;
    let fired = world.wait_for_fired(2).await;
    assert_eq!(
        fired
            .iter()
            .map(|event| event.reminder.fire_at)
            .collect::<Vec<_>>(),
        [fire_at, until]
    );
    // What is put off to a time that is past when it is asked for does not ring.
    let mut past = changed(&later, schemas::now());
    past.reminders[0].snoozed_until = Some(at(-5.0));
    world.tell(TaskEventKind::Updated, user_id, &past).await;
    world.caught_up().await;
    use ReminderEventKind::{Fired, Scheduled, Snoozed};
    assert_eq!(world.said_kinds().await, [Scheduled, Fired, Snoozed, Fired]);
    world.assert_fired_once_and_never_early().await;
    scanner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_a_nag_rings_once_or_is_missed_once_and_goes_on() {
    let world = World::create().await;
    let clock = Clock::of(&world).await;
    let user_id = Uuid::now_v7();
    let first_at = at(-34.0 * MINUTE);
    let ring = |k: i32| first_at + TimeDelta::minutes(10) * k;
    // Both were due 34 minutes ago; one may be that late.
    let mut drop = nagging(first_at, 6);
    drop.reminders[0].send_late_within = Some("PT0S".to_owned());
    let late = nagging(first_at, 6);
    for task in [&drop, &late] {
        world.tell(TaskEventKind::Created, user_id, task).await;
    }
    let scanner = world.scanner();
    for task in [&drop, &late] {
        world.wait_for_state(only(task), "armed", ring(4)).await;
    }
    clock.set_ahead(6.5 * MINUTE).await;
    for task in [&drop, &late] {
        world.wait_for_state(only(task), "armed", ring(5)).await;
    }
    use ReminderEventKind::{Cancelled, Fired, Scheduled};
    assert_eq!(
        story(&world, only(&drop)).await,
        [
            (Scheduled, 0, first_at, None),
            (Cancelled, 0, first_at, Some("missed".to_owned())),
            (Fired, 4, ring(4), None),
        ]
    );
    assert_eq!(
        story(&world, only(&late)).await,
        [
            (Scheduled, 0, first_at, None),
            (Fired, 0, first_at, None),
            (Fired, 4, ring(4), None),
        ]
    );
    scanner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_by_of_a_nag_does_not_come_back_with_a_change_that_is_heard_of_later() {
    let world = World::create().await;
    let user_id = Uuid::now_v7();
    let first_at = at(-34.0 * MINUTE);
    let ring = |k: i32| first_at + TimeDelta::minutes(10) * k;
    let task = nagging(first_at, 2);
    world.tell(TaskEventKind::Created, user_id, &task).await;
    let scanner = world.scanner();
    world.wait_for_state(only(&task), "fired", first_at).await;
    // Before all that it had been moved to begin ten minutes later: of its new times only the last has not gone by.
    let mut moved = changed(&task, first_at - TimeDelta::minutes(30));
    moved.reminders[0].at = Some(ring(1));
    world.tell(TaskEventKind::Updated, user_id, &moved).await;
    world.wait_for_state(only(&task), "fired", ring(3)).await;
    use ReminderEventKind::{Fired, Scheduled};
    assert_eq!(
        story(&world, only(&task)).await,
        [
            (Scheduled, 0, first_at, None),
            (Fired, 0, first_at, None),
            (Scheduled, 2, ring(3), None),
            (Fired, 2, ring(3), None),
        ]
    );
    scanner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_scanners_side_by_side_ring_each_ring_of_many_nags_once() {
    let world = World::create().await;
    let clock = Clock::of(&world).await;
    let first_at = at(MINUTE);
    let tasks: Vec<_> = (0..300).map(|_| (Uuid::now_v7(), nagging(first_at, 4))).collect();
    world.arm(&tasks).await;
    sqlx::query("update reminders.reminders set first_at = fire_at, nag_every_seconds = 600, nag_times = 4")
        .execute(world.admin())
        .await
        .unwrap();
    let scanners: Vec<_> = (0..3)
        .map(|_| {
            start(Config {
                fire_batch: 17,
                ..world.config()
            })
        })
        .collect();
    for k in 0..5 {
        clock.set_ahead(2.0 * MINUTE + 10.0 * MINUTE * f64::from(k)).await;
        eventually("all ring", async || {
            let rung: i64 = sqlx::query_scalar("select count(*) from outbox.events")
                .fetch_one(world.admin())
                .await
                .unwrap();
            (rung == 300 * (i64::from(k) + 1)).then_some(())
        })
        .await;
    }
    for scanner in scanners {
        scanner.stop().await;
    }
    let mut rung: Vec<_> = world
        .fired()
        .await
        .into_iter()
        .map(|event| {
            let reminder = event.reminder;
            assert!(reminder.fired_at >= Some(reminder.fire_at));
            assert_eq!(
                reminder.fire_at,
                first_at + TimeDelta::minutes(10) * reminder.ring
            );
            (reminder.id, reminder.ring)
        })
        .collect();
    rung.sort_unstable();
    rung.dedup();
    assert_eq!(rung.len(), 1500);
    let over: i64 =
        sqlx::query_scalar("select count(*) from reminders.reminders where state = 'fired' and ring = 4")
            .fetch_one(world.admin())
            .await
            .unwrap();
    assert_eq!(over, 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_databases_clock_is_an_hour_ahead_and_put_back_nothing_is_early_by_it_and_nothing_rings_twice()
 {
    let world = World::create().await;
    let clock = Clock::of(&world).await;
    let scanner = world.scanner();
    let user_id = Uuid::now_v7();
    let soon = samples::task_with_reminder(at(30.0 * MINUTE));
    let later = samples::task_with_reminder(at(90.0 * MINUTE));
    let nag = nagging(at(MINUTE), 100);
    for task in [&soon, &later, &nag] {
        world.tell(TaskEventKind::Created, user_id, task).await;
        world
            .wait_for_state(only(task), "armed", task.reminders[0].at.unwrap())
            .await;
    }
    clock.set_ahead(HOUR).await;
    world
        .wait_for_state(only(&soon), "fired", soon.reminders[0].at.unwrap())
        .await;
    let next = nag.reminders[0].at.unwrap() + TimeDelta::hours(1);
    world.wait_for_state(only(&nag), "armed", next).await;
    for ahead in [0.0, -HOUR] {
        clock.set_ahead(ahead).await;
        clock.everything_due_rang().await;
    }
    // What is set while the clock is behind rings by it; and another time for one that rang is another ring.
    let mut again = changed(&soon, at(-HOUR));
    again.reminders[0].at = Some(at(10.0 * MINUTE - HOUR));
    world.tell(TaskEventKind::Updated, user_id, &again).await;
    world
        .wait_for_state(only(&soon), "armed", again.reminders[0].at.unwrap())
        .await;
    clock.set_ahead(0.0).await;
    world
        .wait_for_state(only(&soon), "fired", again.reminders[0].at.unwrap())
        .await;
    clock.set_ahead(2.0 * HOUR).await;
    world
        .wait_for_state(only(&later), "fired", later.reminders[0].at.unwrap())
        .await;
    let mut rung = Vec::new();
    for event in world.fired().await {
        let reminder = event.reminder;
        assert!(
            reminder.fired_at.unwrap() >= reminder.fire_at,
            "{reminder:?} is early"
        );
        rung.push((reminder.id, reminder.fire_at));
    }
    let of = |task: &Task| rung.iter().filter(|(id, _)| *id == only(task)).count();
    assert_eq!((of(&soon), of(&later)), (2, 1));
    let all = rung.len();
    rung.sort_unstable();
    rung.dedup();
    assert_eq!(rung.len(), all, "some reminder rang twice");
    scanner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nag_that_cannot_be_is_a_dead_letter() {
    let world = World::create().await;
    let mut task = nagging(at(HOUR), 3);
    task.reminders[0].nag.as_mut().unwrap().every = "PT1S".to_owned();
    world.tell(TaskEventKind::Created, Uuid::now_v7(), &task).await;
    let scanner = world.scanner();
    world.caught_up().await;
    assert_eq!(world.reminder(only(&task)).await, None);
    let letters = world
        .topics
        .read(&dead_letter(TASK_EVENTS, REMINDER_SCANNER.name))
        .await;
    assert_eq!(letters.len(), 1);
    assert!(
        letters[0]
            .header("__connect.errors.exception.message")
            .unwrap()
            .contains("PT1S")
    );
    scanner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_has_thousands_at_one_instant_does_not_keep_the_others_waiting() {
    let world = World::create().await;
    let huge = Uuid::now_v7();
    let (then, instant) = (at(-MINUTE), at(-30.0));
    let mut tasks: Vec<_> = (0..3000).map(|_| (huge, created(then, instant))).collect();
    // Others at the same instant and after it, who would all be behind.
    for n in 0..50 {
        tasks.push((Uuid::max(), created(then, instant)));
        tasks.push((
            Uuid::now_v7(),
            created(then, instant + TimeDelta::milliseconds(n)),
        ));
    }
    world.arm(&tasks).await;
    let scanner = start(Config {
        fire_batch: 200,
        ..world.config()
    });
    let fired = world.wait_for_fired(tasks.len()).await;
    let last_of_others = fired.iter().rposition(|event| event.user_id != huge).unwrap();
    assert!(
        last_of_others < 600,
        "the last of the others was number {last_of_others}"
    );
    world.assert_fired_once_and_never_early().await;
    scanner.stop().await;
}
