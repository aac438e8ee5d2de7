//! Members that come, go and are killed while events flow.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

const PREFIX: &str = "CARILLON_TEST_PREFIX";
const DATABASE: &str = "CARILLON_TEST_DATABASE";
const NAME: &str = "CARILLON_TEST_MEMBER";

const BATCH: BatchConfig = BatchConfig {
    max_events: 20,
    ..super::BATCH
};

/// Not a test: the process that the tests below start, to kill it. A member that is dropped or aborted would still take
/// its leave; only a process can be killed without a word to broker and database.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by other tests"]
async fn member_process() {
    let Ok(prefix) = std::env::var(PREFIX) else { return };
    let url = format!(
        "{}?application_name={}",
        std::env::var(DATABASE).unwrap(),
        std::env::var(NAME).unwrap()
    );
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(2)
        .connect_lazy(&url)
        .unwrap();
    let topics = Topics::named(&prefix);
    Member::start(
        &topics.config(),
        GROUP,
        BATCH,
        counting(GROUP, pool, &topics.registry()),
    )
    .task
    .await
    .unwrap()
    .unwrap();
}

/// A member in a process of its own.
struct Process {
    name: String,
    child: Child,
}

impl Process {
    fn start(world: &World) -> Self {
        let name = format!("member_{}", Uuid::new_v4().simple());
        let url = support::stack("DATABASE_URL");
        let (server, _) = url.rsplit_once('/').unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["rebalance::member_process", "--exact", "--ignored", "--nocapture"])
            .env(PREFIX, world.topics.config().topic_prefix)
            .env(DATABASE, format!("{server}/{}", world.database.name()))
            .env(NAME, &name)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { name, child }
    }

    async fn has_effects(&self, world: &World) -> bool {
        sqlx::query_scalar("select exists (select from public.effects where member = $1)")
            .bind(&self.name)
            .fetch_one(world.database.admin())
            .await
            .unwrap()
    }
}

impl Drop for Process {
    /// SIGKILL: it has no chance to commit, to leave the group or to close a connection.
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Rows say who wrote them, and batches take a moment, so that rebalances fall into the middle of them.
async fn create() -> World {
    let world = World::create().await;
    for statement in [
        "alter table public.effects add member text default current_setting('application_name')",
        "create function public.slowly() returns trigger language plpgsql as
         $$ begin perform pg_sleep(0.001); return new; end $$",
        "create trigger slowly before insert on public.effects for each row execute function public.slowly()",
    ] {
        sqlx::query(statement)
            .execute(world.database.admin())
            .await
            .unwrap();
    }
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn members_join_leave_and_are_killed_while_events_flow_and_every_effect_is_made_once() {
    let world = create().await;
    let users = users(50);
    let all = events(&users, 1..=100);
    let mut waves = all.chunks(125);
    let mut members = vec![world.member(GROUP, BATCH, world.counting(GROUP))];
    let mut killed = 0;
    let mut next = 0;
    while let Some(wave) = waves.next() {
        world.publish(wave).await;
        next += 1;
        // Which comes next is drawn, but each kind of it does come.
        match if next <= 3 {
            next
        } else {
            Uuid::new_v4().as_u128() % 4
        } {
            1 if members.len() < 4 => members.push(world.member(GROUP, BATCH, world.counting(GROUP))),
            2 if members.len() > 1 => {
                let at = usize::try_from(Uuid::new_v4().as_u128() % 64).unwrap() % members.len();
                members.swap_remove(at).stop().await;
            }
            3 if killed < 2 => {
                let process = Process::start(&world);
                // It dies when it has partitions and is at work on them.
                while !process.has_effects(&world).await {
                    let Some(wave) = waves.next() else { break };
                    world.publish(wave).await;
                    eventually("something moves", async || {
                        let done = process.has_effects(&world).await;
                        (done || world.topics.lag(GROUP, TASK_EVENTS).await < 100).then_some(())
                    })
                    .await;
                }
                killed += 1;
            }
            _ => {}
        }
    }
    world.wait_for(GROUP, all.len()).await;
    for member in members {
        member.stop().await;
    }
    assert!(killed > 0);
    world.assert_once_and_in_order(&all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_member_had_is_taken_over_by_another() {
    let world = create().await;
    let all = events(&users(30), 1..=60);
    world.publish(&all[..900]).await;
    let process = Process::start(&world);
    eventually("it works", async || {
        process.has_effects(&world).await.then_some(())
    })
    .await;
    drop(process);
    world.publish(&all[900..]).await;
    let member = world.member(GROUP, BATCH, world.counting(GROUP));
    world.wait_for(GROUP, all.len()).await;
    member.stop().await;
    world.assert_once_and_in_order(&all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_go_to_another_member_while_a_batch_waits_are_read_when_they_come_back() {
    let world = World::create().await;
    let users = users(40);
    let first = events(&users, 1..=10);
    world.publish(&first).await;
    let back = Arc::new(AtomicBool::new(false));
    let tries = Arc::new(AtomicUsize::new(0));
    let waits = {
        let (back, tries) = (Arc::clone(&back), Arc::clone(&tries));
        Before(
            move |_: &[Record]| {
                tries.fetch_add(1, Ordering::Relaxed);
                if back.load(Ordering::Acquire) {
                    Ok(())
                } else {
                    Err(away())
                }
            },
            world.counting(GROUP),
        )
    };
    let stays = world.member(GROUP, BATCH, waits);
    // Long enough to have paused all partitions.
    eventually("it waits", async || {
        (tries.load(Ordering::Relaxed) >= 7).then_some(())
    })
    .await;
    let goes = world.member(GROUP, BATCH, world.counting(GROUP));
    eventually("the other one works", async || {
        (!world.effects().await.is_empty()).then_some(())
    })
    .await;
    back.store(true, Ordering::Release);
    world.wait_for(GROUP, first.len()).await;
    goes.stop().await;

    let second = events(&users, 11..=20);
    world.publish(&second).await;
    let all = [first, second].concat();
    world.wait_for(GROUP, all.len()).await;
    stays.stop().await;
    world.assert_once_and_in_order(&all).await;
}
