use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::bail;

use super::*;

const BUDGET: Duration = Duration::from_secs(20);

fn supervisor() -> (Supervisor, CancellationToken, Health) {
    let (shutdown, health) = (CancellationToken::new(), Health::new());
    (
        Supervisor::new(shutdown.clone(), health.clone(), BUDGET),
        shutdown,
        health,
    )
}

async fn until(shutdown: CancellationToken) -> anyhow::Result<()> {
    shutdown.cancelled().await;
    Ok(())
}

#[tokio::test]
async fn a_requested_stop_ends_all_tasks_without_an_error() {
    let (mut supervisor, shutdown, health) = supervisor();
    supervisor.spawn("consumer", until(shutdown.clone()));
    supervisor.spawn("http", until(shutdown.clone()));
    shutdown.cancel();
    supervisor.run().await.expect("an orderly stop");
    assert!(!health.report().is_ready());
}

#[tokio::test]
async fn a_supervised_task_that_ends_early_stops_the_process() {
    let (mut supervisor, shutdown, _) = supervisor();
    supervisor.spawn("http", until(shutdown.clone()));
    supervisor.spawn("consumer", async { Ok(()) });
    let error = supervisor.run().await.expect_err("no task may end early");
    assert_eq!(
        error.to_string(),
        "task consumer ended before a stop was requested"
    );
    assert!(shutdown.is_cancelled());
}

#[tokio::test]
async fn a_task_that_fails_is_named_with_its_reason() {
    let (mut supervisor, shutdown, _) = supervisor();
    supervisor.spawn("http", until(shutdown.clone()));
    supervisor.spawn("consumer", async { bail!("the group is fenced") });
    let error = supervisor.run().await.expect_err("the task failed");
    assert_eq!(format!("{error:#}"), "task consumer failed: the group is fenced");
}

#[tokio::test]
async fn a_task_that_panics_is_named_with_its_message() {
    let (mut supervisor, shutdown, _) = supervisor();
    supervisor.spawn("http", until(shutdown.clone()));
    supervisor.spawn("consumer", async { panic!("on purpose") });
    let error = format!("{:#}", supervisor.run().await.expect_err("the task panicked"));
    assert!(
        error.starts_with("task consumer failed: ") && error.contains("on purpose"),
        "{error}"
    );
}

#[tokio::test]
async fn a_failure_while_stopping_is_a_failure() {
    let (mut supervisor, shutdown, _) = supervisor();
    let stop = shutdown.clone();
    supervisor.spawn("consumer", async move {
        stop.cancelled().await;
        bail!("the last commit failed")
    });
    shutdown.cancel();
    let error = supervisor.run().await.expect_err("the task failed");
    assert_eq!(
        format!("{error:#}"),
        "task consumer failed: the last commit failed"
    );
}

#[tokio::test]
async fn the_first_failure_is_the_one_reported() {
    let (mut supervisor, shutdown, _) = supervisor();
    supervisor.spawn("relay", async move {
        shutdown.cancelled().await;
        bail!("a consequence")
    });
    supervisor.spawn("consumer", async { bail!("the cause") });
    let error = supervisor.run().await.expect_err("both failed");
    assert_eq!(format!("{error:#}"), "task consumer failed: the cause");
}

#[tokio::test(start_paused = true)]
async fn tasks_that_outlast_the_budget_are_named_and_not_aborted() {
    let (mut supervisor, shutdown, _) = supervisor();
    let finished = Arc::new(AtomicBool::new(false));
    for name in ["sender", "consumer"] {
        let finished = finished.clone();
        supervisor.spawn(name, async move {
            tokio::time::sleep(BUDGET * 2).await;
            finished.store(true, Ordering::Relaxed);
            Ok(())
        });
    }
    supervisor.spawn("http", until(shutdown.clone()));
    shutdown.cancel();
    let started = Instant::now();
    let error = supervisor.run().await.expect_err("two tasks go on");
    assert_eq!(error.to_string(), "did not end within 20s: consumer, sender");
    assert_eq!(started.elapsed(), BUDGET);
    tokio::time::sleep(BUDGET * 2).await;
    assert!(finished.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_supervisor_without_tasks_waits_for_the_stop() {
    let (supervisor, shutdown, _) = supervisor();
    let running = tokio::spawn(supervisor.run());
    tokio::task::yield_now().await;
    assert!(!running.is_finished());
    shutdown.cancel();
    running.await.expect("no panic").expect("an orderly stop");
}
