use std::time::Duration;

use serde_json::json;

use super::Health;

const STALE: Duration = Duration::from_secs(30);

#[tokio::test(start_paused = true)]
async fn a_new_component_is_alive_and_starting() {
    let health = Health::new();
    health.component("consumer", STALE);
    let report = health.report();
    assert!(report.is_alive() && !report.is_ready());
    let expected = json!({
        "status": "not_ready",
        "components": [
            {"name": "consumer", "state": "not_ready", "reason": "starting", "seconds_since_progress": 0.0}
        ],
    });
    assert_eq!(serde_json::to_value(report).expect("a report is JSON"), expected);
}

#[tokio::test(start_paused = true)]
async fn a_process_is_ready_once_all_components_are() {
    let health = Health::new();
    let (consumer, database) = (
        health.component("consumer", STALE),
        health.component("database", STALE),
    );
    consumer.ready();
    assert!(!health.report().is_ready());
    database.ready();
    assert!(health.report().is_ready());
    database.not_ready("connection refused");
    assert!(!health.report().is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_component_without_progress_for_too_long_is_stuck() {
    let health = Health::new();
    let consumer = health.component("consumer", STALE);
    consumer.ready();
    tokio::time::advance(STALE).await;
    assert!(health.report().is_alive());
    tokio::time::advance(Duration::from_millis(1)).await;
    let report = health.report();
    assert!(!report.is_alive() && !report.is_ready());
    consumer.progress();
    assert!(health.report().is_alive() && health.report().is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_component_that_waits_and_says_so_is_not_stuck() {
    let health = Health::new();
    let consumer = health.component("consumer", STALE);
    for _ in 0..10 {
        tokio::time::advance(STALE / 2).await;
        consumer.not_ready("the broker is away");
    }
    let report = health.report();
    assert!(report.is_alive() && !report.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_component_without_a_loop_never_gets_stuck() {
    let health = Health::new();
    health.component("listener", Duration::MAX).ready();
    tokio::time::advance(Duration::from_secs(10_000_000)).await;
    assert!(health.report().is_ready());
}

#[test]
fn a_stopping_process_is_alive_but_not_ready() {
    let health = Health::new();
    health.component("consumer", STALE).ready();
    health.clone().stopping();
    let report = health.report();
    assert!(report.is_alive() && !report.is_ready());
}

#[test]
fn a_name_asked_for_twice_is_one_component() {
    let health = Health::new();
    health.component("consumer", STALE);
    health.component("consumer", STALE).ready();
    assert!(health.report().is_ready());
}
