//! docs/OPERATIONS.md, run as it stands against a running platform.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::process::Output;

use e2e::Platform;
use schemas::topics::TASK_EVENTS;
use serde_json::Value;
use support::{eventually, stack};
use uuid::Uuid;

const PAGE: &str = include_str!("../../../docs/OPERATIONS.md");
/// The dead-letter topic that the page looks at.
const LETTERS: &str = "task-events.reminder-scanner.dlq";

/// A part of the page.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// What is to be wrong from here on.
    SetUp(String),
    /// Commands.
    Run(String),
    /// Commands that are not run, and why.
    Skip(String),
}

fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    let mut skip = None;
    let mut lines = PAGE.lines();
    while let Some(line) = lines.next() {
        let comment = |kind: &str| {
            let text = line
                .strip_prefix("<!-- ")?
                .strip_suffix(" -->")?
                .strip_prefix(kind)?;
            Some(text.trim().to_owned())
        };
        if let Some(what) = comment("set up:") {
            steps.push(Step::SetUp(what));
        } else if let Some(why) = comment("not run:") {
            skip = Some(why);
        } else if line.starts_with("```") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            assert_eq!(line, "```sh", "a block of another kind: say how it is tested");
            steps.push(match skip.take() {
                Some(why) => Step::Skip(why),
                None => Step::Run(block.join("\n")),
            });
        } else {
            assert!(skip.is_none(), "what is not run follows at once");
        }
    }
    steps
}

fn said(output: &Output) -> String {
    format!(
        "{} {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// How many letters are open in a topic.
fn open(platform: &Platform, topic: &str) -> usize {
    let output = platform.carillon(&[], &["dlq", "list", topic, "--format", "json"]);
    let letters: Value = serde_json::from_slice(&output.stdout).unwrap();
    letters.as_array().unwrap().len()
}

async fn deliveries(platform: &Platform, state: &str) -> i64 {
    sqlx::query_scalar("select count(*) from delivery.deliveries where state = $1")
        .bind(state)
        .fetch_one(platform.database().admin())
        .await
        .unwrap()
}

async fn set_up(platform: &Platform, what: &str) {
    match what {
        "a dead letter" => {
            platform
                .topics()
                .produce(TASK_EVENTS, b"key", Some(b"poison"))
                .await;
        }
        // The page has given it again.
        "the letter comes back" => {}
        "a failed delivery" => {
            sqlx::query(
                "insert into delivery.deliveries (id, user_id, channel, reminder_id, task_id, fire_at, fired_at, task, state)
                 values ($1, $1, 'email', $1, $1, now(), now(), '{}', 'failed')",
            )
            .bind(Uuid::now_v7())
            .execute(platform.database().admin())
            .await
            .unwrap();
            return;
        }
        _ => panic!("the page asks for {what:?}, and this test does not know how"),
    }
    eventually("a letter is open", async || {
        (open(platform, LETTERS) == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_platform_has_nothing_wrong_and_every_command_of_the_page_does_what_it_says() {
    let platform = Platform::start().await;
    let url = stack("DATABASE_URL");
    let (server, _) = url.rsplit_once('/').unwrap();
    let owner = format!("{server}/{}", platform.database().name());
    let settings = [
        ("OWNER_DATABASE_URL", owner.as_str()),
        ("SMTP_HOST", &stack("SMTP_HOST")),
        ("SMTP_PORT", &stack("SMTP_PORT")),
        ("SMTP_TLS", &stack("SMTP_TLS")),
    ];
    let mut ran = 0;
    for step in steps() {
        match step {
            Step::SetUp(what) => set_up(&platform, &what).await,
            Step::Run(script) => {
                let output = platform.shell(&settings, &script);
                e2e::say(&format!("$ {script}\n{}", said(&output)));
                assert!(output.status.success(), "{script}\n{}", said(&output));
                ran += 1;
            }
            Step::Skip(why) => assert!(!why.is_empty(), "it says why it is not run"),
        }
    }
    assert!(ran > 10, "{ran} blocks were run");
    // The page has dropped the letter that came back, and then had the past handled again, in which the poison still lies.
    eventually("one letter is open again", async || {
        (open(&platform, LETTERS) == 1).then_some(())
    })
    .await;
    assert_eq!(deliveries(&platform, "failed").await, 0);
    let doctor = platform.carillon(&[], &["doctor"]);
    assert_eq!(doctor.status.code(), Some(1));
    let told = String::from_utf8_lossy(&doctor.stdout);
    assert!(told.contains(&format!("1 letter open in {LETTERS}")), "{told}");
    assert!(
        told.contains("ok       consumers\n") && told.contains("ok       outbox\n"),
        "{told}"
    );
}
