//! What every command has in common, and those that need no service to be there.

use schemas::topics::{TASK_EVENTS, dead_letter};
use serde_json::json;
use uuid::Uuid;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_tell_what_is_wrong_from_what_was_asked_wrongly() {
    let set_up = SetUp::create().await;
    let code = async |arguments: &[&str]| {
        let answer = set_up.run(arguments).await;
        (answer.code, answer.err)
    };
    for (arguments, expected) in [
        (["dlq", "list"], 0),
        (["topics", "describe"], 0),
        // Something is wrong: no relay runs.
        (["outbox", "status"], 1),
    ] {
        let (code, said) = code(&arguments).await;
        assert_eq!(code, Some(expected), "{arguments:?}: {said}");
    }
    let letters = dead_letter(TASK_EVENTS, "reminder-scanner");
    let (failed, said) = code(&["dlq", "show", &letters, "--offset", "0:5"]).await;
    assert_eq!(failed, Some(1), "{said}");
    assert!(said.contains("has no record at 0:5"), "{said}");
    for (arguments, reason) in [
        (&["dlq", "sing"] as &[&str], "unrecognized subcommand"),
        (&["dlq", "list", "task-events"], "is no dead-letter topic"),
        (
            &["dlq", "show", &letters, "--offset", "five"],
            "not PARTITION:OFFSET",
        ),
        (&["dlq", "replay", &letters, "--since", "soon"], "neither a time"),
        (&["lag", "--group", "nobody"], "is no group"),
        (
            &["deliveries", "list", "--state", "lost"],
            "possible values: pending, sent, failed, suppressed, collected",
        ),
        (&["deliveries", "list", "--limit", "0"], "1..=10000"),
        (
            &[
                "replay",
                "--topic",
                "task-reminders",
                "--group",
                "reminder-scanner",
                "--from",
                "1h",
            ],
            "does not read",
        ),
        (
            &[
                "replay",
                "--topic",
                "task-events",
                "--group",
                "reminder-scanner",
                "--from",
                "1h",
                "--to",
                "2h",
            ],
            "is not before",
        ),
    ] {
        let (bad, said) = code(arguments).await;
        assert_eq!(bad, Some(2), "{arguments:?}: {said}");
        assert!(said.contains(reason), "{arguments:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_problem_of_the_configuration_is_told_at_once_and_no_secret() {
    let set_up = SetUp::create()
        .await
        .with("KAFKA_SECURITY_PROTOCOL", "sasl_ssl")
        .with("KAFKA_SASL_PASSWORD", "open sesame")
        .with("SCHEMA_REGISTRY_URL", "ftp://registry");
    let answer = set_up.run(&["doctor"]).await;
    assert_eq!(answer.code, Some(2));
    assert!(answer.err.contains("KAFKA_SASL_USERNAME"), "{}", answer.err);
    assert!(answer.err.contains("SCHEMA_REGISTRY_URL"), "{}", answer.err);
    assert!(!answer.err.contains("sesame"));
}

#[tokio::test(flavor = "multi_thread")]
async fn shells_can_complete_the_command() {
    let set_up = SetUp::create().await;
    for shell in ["bash", "zsh", "fish"] {
        let script = set_up.run(&["completions", shell]).await;
        assert_eq!(script.code, Some(0));
        assert!(
            script.out.contains("doctor") && script.out.contains("dry-run"),
            "{shell}"
        );
    }
    let help = set_up.run(&["--help"]).await.out;
    assert!(help.contains("Exit codes: 0 all is well"), "{help}");
    assert!(help.lines().all(|line| line.chars().count() <= 140), "{help}");
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_selected_by_reason_time_place_and_number() {
    let set_up = SetUp::create().await;
    let letters = dead_letter(TASK_EVENTS, "reminder-scanner");
    for n in 0..5_u8 {
        set_up.topics.produce(&letters, &[n], Some(&[n; 20])).await;
    }
    let listed = async |selection: &[&str]| {
        let answer = set_up
            .run(&[&["dlq", "list", &letters, "--format", "json"], selection].concat())
            .await;
        let rows = answer.json();
        let offsets = rows.as_array().unwrap().iter();
        offsets
            .map(|row| row["offset"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(listed(&[]).await, ["0:0", "0:1", "0:2", "0:3", "0:4"]);
    assert_eq!(listed(&["--limit", "2"]).await, ["0:0", "0:1"]);
    assert_eq!(
        listed(&["--offset", "0:3", "--offset", "0:1"]).await,
        ["0:1", "0:3"]
    );
    assert_eq!(listed(&["--since", "1h"]).await.len(), 5);
    assert_eq!(
        listed(&["--since", "2099-01-01T00:00:00Z"]).await,
        [] as [&str; 0]
    );
    assert_eq!(listed(&["--reason", "not_framed"]).await, [] as [&str; 0]);
    assert_eq!(listed(&["--reason", "put_there_by_hand"]).await.len(), 5);
    let refused = set_up
        .run(&["dlq", "drop", &letters, "--yes", "--offset", "0:9"])
        .await;
    assert!(
        refused.err.contains("no open letter that is chosen is at 0:9"),
        "{}",
        refused.err
    );

    // What nobody knows the source of cannot be given again, and says so; it can be dropped.
    let replayed = set_up.run(&["dlq", "replay", &letters, "--format", "json"]).await;
    assert_eq!(
        (replayed.code, replayed.json()),
        (Some(1), json!({"replayed": 0, "left": 5}))
    );
    assert!(replayed.err.contains("put there by hand"), "{}", replayed.err);
    let dropped = set_up
        .run(&[
            "dlq", "drop", &letters, "--yes", "--limit", "4", "--format", "json",
        ])
        .await;
    assert_eq!((dropped.code, dropped.json()), (Some(0), json!({"dropped": 4})));
    assert_eq!(listed(&[]).await, ["0:4"]);
    let shown = set_up
        .run(&["dlq", "show", &letters, "--offset", "0:0"])
        .await
        .out;
    assert!(shown.contains("done: replayed or dropped"), "{shown}");
    assert!(shown.contains("00000010  00 00 00 00"), "it is dumped: {shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_deliveries_get_another_try_and_no_others() {
    let set_up = SetUp::create().await;
    for (table, state) in [
        ("mail", "failed"),
        ("mail", "sent"),
        ("webhook", "failed"),
        ("webhook", "sent"),
    ] {
        let statement = match table {
            "mail" => {
                "insert into delivery.deliveries (id, user_id, channel, reminder_id, task_id, fire_at, fired_at, task, state,
                                                  last_error)
                 values ($1, $1, 'email', $1, $1, now(), now(), '{}', $2, 'said ' || chr(27) || '[2J')"
            }
            _ => {
                "insert into webhooks.deliveries (id, user_id, endpoint_id, event_id, event_type, occurred_at, body, attempts,
                                                  state)
                 values ($1, $1, $1, $1, 'task.created', now(), '{}', 8, $2)"
            }
        };
        sqlx::query(statement)
            .bind(Uuid::now_v7())
            .bind(state)
            .execute(set_up.database.admin())
            .await
            .unwrap();
    }
    let listed = set_up.run(&["deliveries", "list", "--state", "failed"]).await.out;
    assert_eq!(listed.lines().count(), 3, "{listed}");
    assert!(
        !listed.contains('\u{1b}'),
        "what a server said does not reach the terminal as it is"
    );
    let would = set_up
        .run(&[
            "deliveries",
            "retry",
            "--channel",
            "email",
            "--dry-run",
            "--format",
            "json",
        ])
        .await;
    assert_eq!(would.json().as_array().unwrap().len(), 1);
    let retried = set_up
        .run(&["deliveries", "retry", "--channel", "email", "--format", "json"])
        .await;
    assert_eq!(retried.json()["retried"].as_array().unwrap().len(), 1);
    let pending = set_up
        .run(&["deliveries", "list", "--state", "pending", "--format", "json"])
        .await
        .json();
    assert_eq!(pending.as_array().unwrap().len(), 1);
    assert_eq!(pending[0]["last_error"], json!(null));
    let nothing = set_up
        .run(&["deliveries", "retry", "--since", "2099-01-01T00:00:00Z"])
        .await
        .out;
    assert_eq!(nothing, "Another try: 0.\n");
    let retried = set_up.run(&["deliveries", "retry"]).await.out;
    assert_eq!(retried, "Another try: 1.\n", "it is the webhook's turn");
    let (attempts, before, due): (i32, i32, bool) = sqlx::query_as(
        "select attempts, attempts_before, q.due_at <= now()
         from webhooks.deliveries d join webhooks.queues q using (user_id, endpoint_id) where state = 'pending'",
    )
    .fetch_one(set_up.database.admin())
    .await
    .unwrap();
    assert_eq!((attempts, before, due), (8, 8, true), "the schedule begins anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_is_told_in_messages_and_seconds_and_judged_if_asked_to() {
    let set_up = SetUp::create().await;
    for _ in 0..3 {
        set_up
            .topics
            .produce(TASK_EVENTS, b"key", Some(b"an event"))
            .await;
    }
    let rows = set_up
        .run(&["lag", "--group", "reminder-scanner", "--format", "json"])
        .await
        .json();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 12, "six partitions, and six to try again");
    let behind: Vec<&Value> = rows.iter().filter(|row| row["messages"] != 0).collect();
    assert_eq!(behind.len(), 1, "one key is in one partition");
    assert_eq!(
        (&behind[0]["messages"], &behind[0]["members"]),
        (&json!(3), &json!(0))
    );
    assert!(behind[0]["seconds"].as_f64().unwrap() > 0.0);
    let judged = async |limit: &[&str]| {
        set_up
            .run(&[&["lag", "--group", "reminder-scanner"], limit].concat())
            .await
            .code
    };
    assert_eq!(judged(&["--max-messages", "3"]).await, Some(0));
    assert_eq!(judged(&["--max-messages", "2"]).await, Some(1));
    assert_eq!(judged(&["--max-seconds", "0"]).await, Some(1));
    assert_eq!(judged(&["--max-seconds", "86400"]).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_time_is_given_again_and_waits_for_a_group_that_nobody_is_in() {
    let set_up = SetUp::create().await;
    for _ in 0..7 {
        set_up
            .topics
            .produce(TASK_EVENTS, b"key", Some(b"an event"))
            .await;
    }
    let replay = [
        "replay",
        "--topic",
        TASK_EVENTS,
        "--group",
        "reminder-scanner",
        "--format",
        "json",
    ];
    let run = async |more: &[&str]| set_up.run(&[&replay, more].concat()).await;
    assert_eq!(
        run(&["--from", "1h", "--dry-run"]).await.json(),
        json!({"records": 7})
    );
    assert_eq!(
        run(&["--from", "2h", "--to", "1h"]).await.json(),
        json!({"given": 0, "handled": true})
    );
    let given = run(&["--from", "1h"]).await;
    assert_eq!(
        (given.code, given.json()),
        (Some(0), json!({"given": 7, "handled": false}))
    );
    assert!(
        given.err.contains("Waiting until somebody is: 7 records."),
        "{}",
        given.err
    );
    assert_eq!(
        set_up
            .topics
            .read("task-events.reminder-scanner.retry")
            .await
            .len(),
        7
    );
    assert_eq!(
        set_up.topics.read(TASK_EVENTS).await.len(),
        7,
        "nobody else sees it again"
    );
}
