//! Every event has its effect once, and offsets follow effects.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::*;

/// Partitions and offsets of records.
type Places = Vec<(i32, i64)>;

#[tokio::test(flavor = "multi_thread")]
async fn every_event_has_its_effect_once_and_the_next_offsets_are_committed() {
    let world = World::create().await;
    let events = events(&users(30), 1..=40);
    world.publish(&events).await;
    let member = world.member(GROUP, BATCH, world.counting(GROUP));
    world.wait_for(GROUP, events.len()).await;
    member.stop().await;
    world.assert_once_and_in_order(&events).await;

    let mut next: HashMap<i32, i64> = HashMap::new();
    for record in world.topics.read(TASK_EVENTS).await {
        next.insert(record.partition, record.offset + 1);
    }
    for (partition, committed) in (0..).zip(world.topics.committed(GROUP, TASK_EVENTS).await) {
        assert_eq!(committed, next.get(&partition).copied(), "partition {partition}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_is_committed_only_after_its_effect_is_in_postgres() {
    let world = World::create().await;
    let events = events(&users(20), 1..=10);
    world.publish(&events).await;
    let watched = Arc::new(AtomicUsize::new(0));
    let processor = {
        let (topics, pool, watched) = (
            world.topics.clone(),
            world.database.admin().clone(),
            Arc::clone(&watched),
        );
        // Whenever a batch comes, whatever is committed by then must have its effect.
        Before(
            move |_: &[Record]| {
                tokio::task::block_in_place(|| {
                    tokio::runtime::Handle::current().block_on(async {
                        let committed: i64 = topics
                            .committed(GROUP, TASK_EVENTS)
                            .await
                            .into_iter()
                            .flatten()
                            .sum();
                        let effects: i64 = sqlx::query_scalar("select count(*) from public.effects")
                            .fetch_one(&pool)
                            .await
                            .unwrap();
                        assert!(
                            committed <= effects,
                            "{committed} are committed, {effects} had their effect"
                        );
                        watched.fetch_add(1, Ordering::Relaxed);
                    });
                });
                Ok(())
            },
            world.counting(GROUP),
        )
    };
    let member = world.member(
        GROUP,
        BatchConfig {
            max_events: 40,
            ..BATCH
        },
        processor,
    );
    world.wait_for(GROUP, events.len()).await;
    member.stop().await;
    assert!(watched.load(Ordering::Relaxed) >= 5);
    world.assert_once_and_in_order(&events).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_delivered_again_have_no_second_effect() {
    let world = World::create().await;
    let events = events(&users(10), 1..=20);
    // Produced twice, as by a relay that was killed after sending: some of the doubles share a batch with their twins.
    world.publish(&events).await;
    world.publish(&events).await;
    let doubled: Vec<Event> = events[..10].iter().flat_map(|e| [e.clone(), e.clone()]).collect();
    world.publish(&doubled).await;
    let member = world.member(GROUP, BATCH, world.counting(GROUP));
    world.wait_for(GROUP, events.len()).await;
    member.stop().await;
    world.assert_once_and_in_order(&events).await;

    // And all of it once more, from the beginning of the topic, as after a reset of the offsets.
    const AGAIN: &str = "recurrence-generator";
    let member = world.member(AGAIN, BATCH, world.counting(AGAIN));
    world.wait_for_commits(AGAIN).await;
    member.stop().await;
    world.assert_once_and_in_order(&events).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_the_effect_and_the_commit_of_its_offset_has_no_second_effect() {
    let world = World::create().await;
    let events = events(&users(10), 1..=10);
    world.publish(&events).await;
    /// Dies when the effect is durable, before the loop hears of it.
    struct DiesAfterwards(Events<Counting>);
    impl Processor for DiesAfterwards {
        async fn process(&mut self, batch: &[Record]) -> Result<Vec<Rejection>, ProcessError> {
            self.0.process(batch).await?;
            Err(ProcessError::Fatal("killed".into()))
        }
    }
    let member = world.member(GROUP, BATCH, DiesAfterwards(world.counting(GROUP)));
    assert!(matches!(member.ended().await, Err(ConsumerError::Process(_))));
    assert!(!world.effects().await.is_empty());
    assert!(
        world
            .topics
            .committed(GROUP, TASK_EVENTS)
            .await
            .iter()
            .all(Option::is_none)
    );

    let member = world.member(GROUP, BATCH, world.counting(GROUP));
    world.wait_for(GROUP, events.len()).await;
    member.stop().await;
    world.assert_once_and_in_order(&events).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_fails_for_good_stops_the_loop_and_no_later_one_is_committed_past_it() {
    let world = World::create().await;
    // One user, so one partition: a later commit would cover the failed batch.
    let user = users(1);
    let all = events(&user, 1..=100);
    world.publish(&all[..60]).await;
    let batch = BatchConfig {
        max_events: 10,
        ..BATCH
    };
    let mut batches = 0;
    let third_fails = Before(
        move |_: &[Record]| {
            batches += 1;
            if batches == 3 {
                Err(ProcessError::Fatal("a bug".into()))
            } else {
                Ok(())
            }
        },
        world.counting(GROUP),
    );
    let member = world.member(GROUP, batch, third_fails);
    let error = member.ended().await.unwrap_err();
    assert!(
        matches!(error, ConsumerError::Process(ProcessError::Fatal(_))),
        "{error}"
    );
    let effects = world.effects().await.len();
    let committed: Vec<i64> = world
        .topics
        .committed(GROUP, TASK_EVENTS)
        .await
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(committed, [i64::try_from(effects).unwrap()]);
    assert!(effects <= 20);

    // It fails again at every restart, however much is behind it, and nothing moves.
    world.publish(&all[60..]).await;
    for _ in 0..2 {
        let fails = Before(
            |_: &[Record]| Err(ProcessError::Fatal("a bug".into())),
            world.counting(GROUP),
        );
        world.member(GROUP, batch, fails).ended().await.unwrap_err();
    }
    let after: Vec<i64> = world
        .topics
        .committed(GROUP, TASK_EVENTS)
        .await
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(after, committed);

    let member = world.member(GROUP, batch, world.counting(GROUP));
    world.wait_for(GROUP, all.len()).await;
    member.stop().await;
    world.assert_once_and_in_order(&all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_something_is_away_the_same_batch_waits_then_everything_goes_on_in_order() {
    let world = World::create().await;
    let users = users(20);
    let first = events(&users, 1..=10);
    world.publish(&first).await;
    let tries: Arc<Mutex<Vec<Places>>> = Arc::default();
    let passed: Arc<Mutex<Places>> = Arc::default();
    let back = Arc::new(AtomicBool::new(false));
    let processor = {
        let (tries, passed, back) = (Arc::clone(&tries), Arc::clone(&passed), Arc::clone(&back));
        Before(
            move |batch: &[Record]| {
                let places: Places = batch.iter().map(|r| (r.partition, r.offset)).collect();
                if back.load(Ordering::Acquire) {
                    passed.lock().unwrap().extend(places);
                    return Ok(());
                }
                tries.lock().unwrap().push(places);
                Err(away())
            },
            world.counting(GROUP),
        )
    };
    let member = world.member(GROUP, BATCH, processor);
    // So many tries take several seconds, long enough for the partitions to be paused and polled meanwhile.
    let tried = || tries.lock().unwrap_or_else(PoisonError::into_inner).len();
    eventually("some tries", async || (tried() >= 3).then_some(())).await;
    assert!(!member.health.report().is_ready());
    let second = events(&users, 11..=20);
    world.publish(&second).await;
    eventually("many tries", async || (tried() >= 10).then_some(())).await;
    assert!(
        world
            .topics
            .committed(GROUP, TASK_EVENTS)
            .await
            .iter()
            .all(Option::is_none)
    );

    back.store(true, Ordering::Release);
    let all = [first, second].concat();
    world.wait_for(GROUP, all.len()).await;
    eventually("it is ready", async || {
        member.health.report().is_ready().then_some(())
    })
    .await;
    member.stop().await;
    world.assert_once_and_in_order(&all).await;

    let tries = tries.lock().unwrap();
    assert!(
        tries.windows(2).all(|pair| pair[0] == pair[1]),
        "each try was of the same batch"
    );
    // A consumer that had left the group, or had resumed at the wrong place, would have been given records twice.
    let passed = passed.lock().unwrap();
    assert_eq!(passed.len(), all.len());
    let mut newest: HashMap<i32, i64> = HashMap::new();
    for (partition, offset) in &*passed {
        let before = newest.insert(*partition, *offset);
        assert_eq!(
            *offset,
            before.map_or(0, |before| before + 1),
            "partition {partition}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_absence_holds_a_batch_back_and_nothing_more() {
    let world = World::create().await;
    let events = events(&users(20), 1..=10);
    world.publish(&events).await;
    let mut calls = 0;
    let every_other = Before(
        move |_: &[Record]| {
            calls += 1;
            if calls % 2 == 1 { Err(away()) } else { Ok(()) }
        },
        world.counting(GROUP),
    );
    let member = world.member(GROUP, BATCH, every_other);
    world.wait_for(GROUP, events.len()).await;
    member.stop().await;
    world.assert_once_and_in_order(&events).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_to_stop_while_a_batch_waits_it_ends_well_and_commits_nothing() {
    let world = World::create().await;
    let events = events(&users(5), 1..=4);
    world.publish(&events).await;
    let tries = Arc::new(AtomicUsize::new(0));
    let processor = {
        let tries = Arc::clone(&tries);
        Before(
            move |_: &[Record]| {
                tries.fetch_add(1, Ordering::Relaxed);
                Err(away())
            },
            world.counting(GROUP),
        )
    };
    let member = world.member(GROUP, BATCH, processor);
    // Once while it only waits, and once while the partitions are paused.
    eventually("a try", async || {
        (tries.load(Ordering::Relaxed) >= 1).then_some(())
    })
    .await;
    member.stop().await;
    assert!(
        world
            .topics
            .committed(GROUP, TASK_EVENTS)
            .await
            .iter()
            .all(Option::is_none)
    );

    let before = tries.load(Ordering::Relaxed);
    let processor = {
        let tries = Arc::clone(&tries);
        Before(
            move |_: &[Record]| {
                tries.fetch_add(1, Ordering::Relaxed);
                Err(away())
            },
            world.counting(GROUP),
        )
    };
    let member = world.member(GROUP, BATCH, processor);
    eventually("many tries", async || {
        (tries.load(Ordering::Relaxed) >= before + 7).then_some(())
    })
    .await;
    member.stop().await;
    assert!(
        world
            .topics
            .committed(GROUP, TASK_EVENTS)
            .await
            .iter()
            .all(Option::is_none)
    );

    let member = world.member(GROUP, BATCH, world.counting(GROUP));
    world.wait_for(GROUP, events.len()).await;
    member.stop().await;
    world.assert_once_and_in_order(&events).await;
}
