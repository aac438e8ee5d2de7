//! docs/API.md, typed as it stands.

use std::process::{Command, Stdio};

use api::HttpConfig;
use serde_json::Value;
use support::Database;

use crate::server::Server;

const PAGE: &str = include_str!("../../../../docs/API.md");

/// A block of the page: its language and its text.
fn blocks() -> Vec<(&'static str, &'static str)> {
    let mut blocks = Vec::new();
    let mut rest = PAGE;
    while let Some((_, after)) = rest.split_once("\n```") {
        let (language, after) = after.split_once('\n').unwrap();
        let (text, after) = after.split_once("\n```").unwrap();
        blocks.push((language, text));
        rest = after;
    }
    blocks
}

/// Whether `…` in what is shown stands for what is there.
fn text_matches(shown: &str, there: &str) -> bool {
    let mut rest = there;
    for (n, part) in shown.split('…').enumerate() {
        match rest.find(part) {
            Some(at) if n > 0 || at == 0 => rest = &rest[at + part.len()..],
            _ => return false,
        }
    }
    rest.is_empty() || shown.ends_with('…')
}

/// The same for JSON; a member `…` stands for further ones.
fn json_matches(shown: &Value, there: &Value) -> bool {
    match (shown, there) {
        (Value::String(shown), Value::String(there)) => text_matches(shown, there),
        (Value::Array(shown), Value::Array(there)) => {
            shown.len() == there.len() && shown.iter().zip(there).all(|(a, b)| json_matches(a, b))
        }
        (Value::Object(shown), Value::Object(there)) => {
            let more = shown.contains_key("…");
            let named = shown.iter().filter(|(name, _)| *name != "…");
            let all_there = named
                .clone()
                .all(|(name, value)| there.get(name).is_some_and(|found| json_matches(value, found)));
            all_there && (more || named.count() == there.len())
        }
        _ => shown == there,
    }
}

fn values(text: &str) -> Vec<Value> {
    let values = serde_json::Deserializer::from_str(text).into_iter();
    values
        .collect::<Result<_, _>>()
        .unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn every_line_of_the_first_hour_does_what_the_page_says() {
    let database = Database::create().await;
    let config = database.config("api");
    let server = Server::with_http(database, config, HttpConfig::default()).await;
    let folder = std::env::temp_dir().join(format!("walkthrough-{}", server.database.name()));
    std::fs::create_dir(&folder).unwrap();

    // One shell for all of them, so that what one sets the next has. Each writes into a file of its own.
    let blocks = blocks();
    let mut script = "set -euo pipefail\n".to_owned();
    for (n, (_, text)) in blocks
        .iter()
        .enumerate()
        .filter(|(_, (language, _))| *language == "sh")
    {
        let text = text.replace("http://localhost:8000", &format!("http://{}", server.address));
        script.push_str(&format!("exec > out-{n}\n{text}\n"));
    }
    let mut shell = Command::new("bash");
    shell
        .args(["-c", &script])
        .current_dir(&folder)
        .stdin(Stdio::null());
    let shell = tokio::task::spawn_blocking(move || shell.output().unwrap())
        .await
        .unwrap();
    let complaints = String::from_utf8_lossy(&shell.stderr);
    assert!(shell.status.success() && complaints.is_empty(), "{complaints}");

    let (mut run, mut compared) = (0, 0);
    for (n, (language, text)) in blocks.iter().enumerate() {
        let of_block = |n: usize| std::fs::read_to_string(folder.join(format!("out-{n}"))).unwrap();
        match *language {
            "sh" => {
                run += 1;
                let shown = blocks.get(n + 1).is_some_and(|(next, _)| *next != "sh");
                assert!(shown || of_block(n).is_empty(), "the answer is not shown: {text}");
                continue;
            }
            "json" => {
                let (shown, there) = (values(text), values(&of_block(n - 1)));
                let same = shown.len() == there.len()
                    && shown
                        .iter()
                        .zip(&there)
                        .all(|(shown, there)| json_matches(shown, there));
                assert!(same, "shown: {text}\nthere: {there:?}");
            }
            "text" => {
                let there = of_block(n - 1);
                for line in text.lines() {
                    assert!(
                        there.lines().any(|there| text_matches(line, there)),
                        "{line}\nis not in:\n{there}"
                    );
                }
            }
            other => panic!("a block of {other}"),
        }
        compared += 1;
    }
    assert!(run >= 20 && compared >= 18, "{run} run, {compared} compared");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_is_shown_is_held_against_what_is_there() {
    assert!(text_matches("a…c", "abc") && text_matches("…", "x") && text_matches("a", "a"));
    assert!(!text_matches("a…c", "abx") && !text_matches("a", "ab") && !text_matches("b", "ab"));
    let matches = |shown: &str, there: &str| json_matches(&values(shown)[0], &values(there)[0]);
    assert!(matches(r#"{"a": 1, "…": "…"}"#, r#"{"a": 1, "b": 2}"#));
    assert!(
        !matches(r#"{"a": 1}"#, r#"{"a": 1, "b": 2}"#) && !matches(r#"{"a": 1, "…": "…"}"#, r#"{"b": 2}"#)
    );
    assert!(!matches(r#"["…"]"#, "[null]") && !matches("[1]", "[1, 2]") && !matches("1", "2"));
}
