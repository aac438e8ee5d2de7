//! A batch that is shared among lanes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

/// Large enough for two lanes.
const LARGE: BatchConfig = BatchConfig {
    max_events: 400,
    max_wait: Duration::from_millis(200),
    ..BATCH
};

/// Counts the events that its lane was given, and fails once if it is told to, when it has written them.
struct InLane {
    given: Arc<AtomicUsize>,
    fails: Arc<AtomicBool>,
}

impl Handler for InLane {
    async fn handle(&mut self, tx: &mut PgConnection, events: Vec<Event>) -> Result<(), HandleError> {
        self.given.fetch_add(events.len(), Ordering::Relaxed);
        Counting.handle(&mut *tx, events).await?;
        if self.fails.swap(false, Ordering::Relaxed) {
            sqlx::query("select pg_terminate_backend(pg_backend_pid())")
                .execute(tx)
                .await?;
        }
        Ok(())
    }
}

fn lanes(world: &World, fails: [bool; 2]) -> (Events<InLane>, [Arc<AtomicUsize>; 2]) {
    let given: [Arc<AtomicUsize>; 2] = Default::default();
    let [first, second] = [0, 1].map(|lane| InLane {
        given: Arc::clone(&given[lane]),
        fails: Arc::new(AtomicBool::new(fails[lane])),
    });
    let registry = Arc::new(Registry::new(&world.topics.registry()).unwrap());
    let pool = world.database.admin().clone();
    let events = Events::new(GROUP, pool, registry, db::inbox::REMINDER_SCANNER, first).beside(second);
    (events, given)
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_shared_among_lanes_and_the_events_of_each_stay_in_order() {
    let world = World::create().await;
    let events = events(&users(40), 1..=20);
    world.publish(&events).await;
    let (processor, given) = lanes(&world, [false, false]);
    let member = world.member(GROUP, LARGE, processor);
    world.wait_for(GROUP, events.len()).await;
    member.stop().await;
    world.assert_once_and_in_order(&events).await;
    for lane in given {
        assert!(lane.load(Ordering::Relaxed) > 0, "a lane that was given nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_lane_has_done_stays_when_another_loses_its_session_and_nothing_is_done_twice() {
    for fails in [[true, false], [false, true], [true, true]] {
        let world = World::create().await;
        let events = events(&users(40), 1..=10);
        world.publish(&events).await;
        let (processor, given) = lanes(&world, fails);
        let member = world.member(GROUP, LARGE, processor);
        world.wait_for(GROUP, events.len()).await;
        member.stop().await;
        world.assert_once_and_in_order(&events).await;
        let given: usize = given.iter().map(|lane| lane.load(Ordering::Relaxed)).sum();
        assert!(given > events.len(), "nothing came again");
    }
}
