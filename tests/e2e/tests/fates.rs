//! `carillon why` tells ten and more fates of reminders, each made here, as docs/REMINDERS.md shows them. `UPDATE_DOCS=1`
//! writes what it tells into the page.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;
use std::process::Command;

use chrono::{DateTime, TimeDelta, Utc};
use e2e::{Client, Platform};
use regex::Regex;
use reqwest::Method;
use serde_json::{Value, json};
use support::{Clock, Database, eventually, stack};
use uuid::Uuid;

/// What the page has around what is told.
const BEGIN: &str = "<!-- fates: written by tests/e2e/tests/fates.rs -->\n";
const END: &str = "<!-- end of fates -->\n";

struct World {
    platform: Platform,
    client: Client,
    told: Vec<(&'static str, String)>,
}

/// The first reminder of a task.
fn reminder(task: &Value) -> Uuid {
    task["reminders"][0]["id"].as_str().unwrap().parse().unwrap()
}

fn path(task: &Value, action: &str) -> String {
    format!("/api/tasks/{}{action}", task["id"].as_str().unwrap())
}

fn soon(seconds: f64) -> String {
    (Utc::now() + TimeDelta::microseconds((seconds * 1e6) as i64)).to_rfc3339()
}

fn days_from_now(days: i64) -> DateTime<Utc> {
    (Utc::now() + TimeDelta::days(days))
        .date_naive()
        .and_hms_opt(9, 0, 0)
        .unwrap()
        .and_utc()
}

impl World {
    async fn post(&mut self, path: &str, body: Value) -> Value {
        self.client.call(Method::POST, path, Some(body)).await
    }

    async fn task(&mut self, task: Value) -> Value {
        self.post("/api/tasks", task).await
    }

    /// What the command tells, once it tells all that. What happened comes by way of several topics, in no order.
    async fn tells(&mut self, fate: &'static str, id: Uuid, sentences: &[&str]) {
        let database = self.platform.database().clone();
        let story = eventually(&format!("it is told: {sentences:?}"), async || {
            let story = carillon(&database, &["why", "reminder", &id.to_string()]);
            let all = sentences.iter().all(|sentence| story.contains(sentence));
            all.then_some(story)
        })
        .await;
        // The API tells the same.
        let answer = self
            .client
            .call(Method::GET, &format!("/api/reminders/{id}/why"), None)
            .await;
        let texts = |key: &str, text: fn(&Value) -> &Value| -> Vec<String> {
            answer[key]
                .as_array()
                .unwrap()
                .iter()
                .map(|v| text(v).as_str().unwrap().to_owned())
                .collect()
        };
        for told in texts("rule", |v| v)
            .into_iter()
            .chain(texts("happened", |v| &v["text"]))
        {
            assert!(
                normal(&story).contains(&normal(&told)),
                "{told:?} is not in {story}"
            );
        }
        self.told.push((fate, story));
    }
}

/// The operator's command, beside this test's own executable.
fn carillon(database: &Database, arguments: &[&str]) -> String {
    let binary = std::env::current_exe()
        .unwrap()
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("carillon");
    let url = stack("DATABASE_URL");
    let (server, _) = url.rsplit_once('/').unwrap();
    let output = Command::new(binary)
        .args(arguments)
        .env("DATABASE_URL", format!("{server}/{}", database.name()))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The story with times, spans and ids left out, so that two tellings of one fate are alike.
fn normal(story: &str) -> String {
    let time = Regex::new(r"\w{3} \d{1,2} \w{3} \d{4}(, \d\d:\d\d(:\d\d(\.\d+)?)?)?").unwrap();
    let span = Regex::new(r"\b\d+(\.\d+)? (ms|s|min|h|days?)\b( \d+ (s|min|h)\b)?").unwrap();
    let id = Regex::new(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").unwrap();
    let tries = Regex::new(r"at the first try|at try \d+").unwrap();
    let story = time.replace_all(story, "TIME");
    let story = span.replace_all(&story, "SPAN");
    let story = tries.replace_all(&story, "TRY");
    id.replace_all(&story, "ID").into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn why_tells_of_every_fate_what_happened_to_a_reminder_and_what_will() {
    let mut platform = Platform::start().await;
    let address = format!("{}@example.com", Uuid::new_v4());
    let client = platform.client().register(&address).await;
    let mut world = World {
        platform,
        client,
        told: Vec::new(),
    };

    let due = days_from_now(3);
    let task = world
        .task(json!({"title": "Call the dentist", "due_at": due, "reminders": [{"offset": "-PT10M"}]}))
        .await;
    world
        .tells("It is to ring", reminder(&task), &["armed by", "It will ring"])
        .await;

    let task = world
        .task(json!({"title": "Take the bread out", "reminders": [{"at": soon(2.0)}]}))
        .await;
    world
        .tells(
            "It rang, and the mail was sent",
            reminder(&task),
            &["armed by", ": rang", "sent by email at"],
        )
        .await;

    let task = world
        .task(json!({"title": "Take the pill", "reminders": [{"at": soon(2.0), "nag": {"every": "PT10M", "times": 3}}]}))
        .await;
    world
        .tells(
            "It rang and repeats until the task is done",
            reminder(&task),
            &["armed by", ": rang", "sent by email at"],
        )
        .await;

    let day = due.date_naive();
    let task = world
        .task(json!({"title": "Buy flowers", "due_on": day, "reminders": [{"offset": "-P1D"}]}))
        .await;
    world
        .tells(
            "It counts from a whole day",
            reminder(&task),
            &["armed by", "It will ring"],
        )
        .await;

    let task = world
        .task(json!({"title": "Pay the rent", "due_at": due, "reminders": [{"offset": "-P1D"}]}))
        .await;
    let id = reminder(&task);
    world.tells_not_yet(id, "It will ring").await;
    world
        .post(&format!("/api/reminders/{id}/snooze"), json!({"for": "PT3H"}))
        .await;
    world
        .tells("It was put off", id, &["snoozed by the person until"])
        .await;

    let task = world
        .task(json!({"title": "Stretch", "due_at": due, "reminders": [{"offset": "PT0S"}]}))
        .await;
    let id = reminder(&task);
    world.tells_not_yet(id, "It will ring").await;
    world
        .post(&format!("/api/reminders/{id}/dismiss"), json!({}))
        .await;
    world.tells("It was dismissed", id, &["will not ring at"]).await;

    let task = world
        .task(json!({"title": "Water the plants", "due_at": due, "reminders": [{"offset": "-PT1H"}]}))
        .await;
    world.tells_not_yet(reminder(&task), "It will ring").await;
    world.post(&path(&task, "/complete"), json!({})).await;
    world
        .tells("The task was done before", reminder(&task), &["will not ring at"])
        .await;

    let task = world
        .task(json!({"title": "Sell the piano", "due_at": due, "reminders": [{"offset": "-PT1H"}]}))
        .await;
    world.tells_not_yet(reminder(&task), "It will ring").await;
    world.client.call(Method::DELETE, &path(&task, ""), None).await;
    world
        .tells_by_command("The task was deleted", reminder(&task), "will not ring at")
        .await;

    let task = world
        .task(json!({"title": "Read the report", "due_at": due, "reminders": [{"offset": "-PT1H"}]}))
        .await;
    world.tells_not_yet(reminder(&task), "It will ring").await;
    world
        .client
        .call(
            Method::PATCH,
            &path(&task, ""),
            Some(json!({"due_at": soon(1800.0)})),
        )
        .await;
    world
        .tells(
            "The due date was moved nearer than the reminder",
            reminder(&task),
            &["will not ring at"],
        )
        .await;

    let task = world
        .task(json!({"title": "Send the invoice", "due_at": due, "reminders": [{"offset": "-PT1H"}]}))
        .await;
    world.tells_not_yet(reminder(&task), "It will ring").await;
    world
        .client
        .call(Method::PATCH, &path(&task, ""), Some(json!({"reminders": []})))
        .await;
    world
        .tells(
            "It was taken out of the task",
            reminder(&task),
            &["will not ring at"],
        )
        .await;

    let tomorrow = days_from_now(1);
    let task = world
        .task(json!({"title": "Pack", "due_at": tomorrow, "reminders": [{"offset": "-P7D"}]}))
        .await;
    world
        .tells(
            "Its time had passed when it was set",
            reminder(&task),
            &["It does not ring"],
        )
        .await;

    // The mail server refuses one mail for good.
    let faults = format!("{}/faults", stack("MAIL_INBOX_URL"));
    let http = reqwest::Client::new();
    let fault = json!([{"at": "rcpt", "match": address, "code": 554, "message": "5.7.1 refused by policy"}]);
    http.put(&faults)
        .json(&fault)
        .send()
        .await
        .unwrap()
        .error_for_status()
        .unwrap();
    let task = world
        .task(json!({"title": "Answer Ada", "reminders": [{"at": soon(2.0)}]}))
        .await;
    world
        .tells(
            "It rang, and the mail was refused",
            reminder(&task),
            &["armed by", ": rang", "not sent by email after"],
        )
        .await;
    http.delete(&faults)
        .send()
        .await
        .unwrap()
        .error_for_status()
        .unwrap();

    // The scanner is away when these fall due, and two minutes pass.
    world.platform.service("reminder-scanner").kill();
    let late = world
        .task(json!({"title": "Leave for the train", "reminders": [{"at": soon(1.0)}]}))
        .await;
    let dropped =
        json!({"title": "Feed the cat", "reminders": [{"at": soon(1.0), "send_late_within": "PT0S"}]});
    let dropped = world.task(dropped).await;
    world
        .tells(
            "The scanner is away",
            reminder(&late),
            &["has not seen version 1"],
        )
        .await;
    let clock = Clock::of(world.platform.database(), Some("reminder-scanner")).await;
    clock.go_ahead(120.0).await;
    world.platform.service("reminder-scanner").start();
    world
        .tells(
            "It rang late",
            reminder(&late),
            &["armed by", ": rang", "sent by email at"],
        )
        .await;
    world
        .tells(
            "It was too late to ring",
            reminder(&dropped),
            &["armed by", "did not ring at"],
        )
        .await;

    compare_with_the_page(&world.told);
}

impl World {
    /// Waits until the command tells that.
    async fn tells_not_yet(&mut self, id: Uuid, sentence: &str) {
        let database = self.platform.database().clone();
        eventually(&format!("it is told: {sentence}"), async || {
            carillon(&database, &["why", "reminder", &id.to_string()])
                .contains(sentence)
                .then_some(())
        })
        .await;
    }

    /// What the command tells of what the API does not have any more.
    async fn tells_by_command(&mut self, fate: &'static str, id: Uuid, sentence: &str) {
        self.tells_not_yet(id, sentence).await;
        let story = carillon(self.platform.database(), &["why", "reminder", &id.to_string()]);
        self.told.push((fate, story));
    }
}

fn compare_with_the_page(told: &[(&str, String)]) {
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/REMINDERS.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (shown, after) = rest.split_once(END).unwrap();
    let told: String = told
        .iter()
        .map(|(fate, story)| format!("\n**{fate}**\n\n```text\n{}\n```\n", story.trim_end()))
        .collect();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&page, format!("{before}{BEGIN}{told}\n{END}{after}")).unwrap();
    } else {
        assert_eq!(
            normal(shown).trim(),
            normal(&told).trim(),
            "UPDATE_DOCS=1 writes the page anew"
        );
    }
}
