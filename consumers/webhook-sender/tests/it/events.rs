//! From events to requests.

use std::collections::HashSet;
use std::path::Path;
use std::process::Stdio;

use schemas::{TaskEventKind, short_type};
use serde_json::{Value, json};
use sqlx::types::chrono::Utc;
use support::{Database, Topics, eventually};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use uuid::Uuid;
use webhooks::{Secret, Signature, delivery_id};

use crate::fixture::{
    Running, SECRET, attempts, config, count, endpoint, no_topics, nothing_happens, number, one, task_event,
    until,
};
use crate::receiver::{Received, Receiver};

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_one_signed_request_to_each_endpoint_that_wants_it_however_often_it_comes() {
    let (database, topics, receiver) = (
        Database::create().await,
        Topics::create().await,
        Receiver::start().await,
    );
    let ada = database.user("ada@example.org").await;
    let bob = database.user("bob@example.org").await;
    let all = endpoint(&database, ada, &receiver.url("/all"), &[]).await;
    let some = endpoint(
        &database,
        ada,
        &receiver.url("/some"),
        &["task.completed", "reminder.fired"],
    )
    .await;
    let off = endpoint(&database, ada, &receiver.url("/off"), &[]).await;
    sqlx::query("update webhooks.endpoints set enabled = false, disabled_reason = 'paused', disabled_at = now() where id = $1")
        .bind(off)
        .execute(database.admin())
        .await
        .unwrap();
    let bobs = endpoint(&database, bob, &receiver.url("/bob"), &[]).await;
    let created = task_event(TaskEventKind::Created, ada, "Grüße \"hier\"\n");
    let completed = task_event(TaskEventKind::Completed, ada, "t");
    topics.publish(&[created.clone(), completed.clone()]).await;
    topics.publish(std::slice::from_ref(&created)).await;
    let service = Running::start(config(&database, &topics, &[]));
    eventually("all is committed", async || {
        (topics.lag("webhook-sender", "task-events").await == 0).then_some(())
    })
    .await;
    until(&database, all, "sent", 2).await;
    until(&database, some, "sent", 1).await;
    // A replay into an inbox that has forgotten meets the deliveries that there are.
    sqlx::query("truncate webhooks.inbox")
        .execute(database.admin())
        .await
        .unwrap();
    topics.publish(&[created.clone(), completed.clone()]).await;
    eventually("that is committed too", async || {
        (topics.lag("webhook-sender", "task-events").await == 0).then_some(())
    })
    .await;
    nothing_happens().await;
    service.stop().await;
    assert_eq!(receiver.received().len(), 3);
    for endpoint in [off, bobs] {
        assert_eq!(
            number(
                &database,
                &format!("select count(*) from webhooks.deliveries where endpoint_id = '{endpoint}'")
            )
            .await,
            0
        );
    }

    let requests = receiver.at("/all");
    let id = delivery_id(all, created.head().event_id).to_string();
    let request = requests
        .iter()
        .find(|request| request.header("webhook-id") == id)
        .unwrap();
    assert_eq!(request.header("content-type"), "application/json");
    let timestamp: i64 = request.header("webhook-timestamp").parse().unwrap();
    assert!((Utc::now().timestamp() - timestamp).abs() < 120);
    let secret = Secret::from_bytes(SECRET.to_vec()).unwrap();
    let signature = Signature::of(&[secret], &id, timestamp, &request.body);
    assert_eq!(request.header("webhook-signature"), signature.as_str());
    let body: Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!(body["type"], "task.created");
    assert_eq!(body["data"]["task"]["title"], "Grüße \"hier\"\n");
    assert!(!request.body.contains('@'), "{}", request.body);
    assert_eq!(
        receiver.at("/some")[0].header("webhook-id"),
        delivery_id(some, completed.head().event_id).to_string()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_before_an_endpoint_was_made_is_not_sent_there() {
    let (database, topics, receiver) = (
        Database::create().await,
        Topics::create().await,
        Receiver::start().await,
    );
    let ada = database.user("ada@example.org").await;
    let before = task_event(TaskEventKind::Created, ada, "before");
    let id = endpoint(&database, ada, &receiver.url("/"), &[]).await;
    sqlx::query("update webhooks.endpoints set created_at = now()")
        .execute(database.admin())
        .await
        .unwrap();
    let after = task_event(TaskEventKind::Created, ada, "after");
    topics.publish(&[before, after]).await;
    let service = Running::start(config(&database, &topics, &[]));
    until(&database, id, "sent", 1).await;
    service.stop().await;
    let received = receiver.received();
    assert_eq!(received.len(), 1);
    assert!(received[0].body.contains("\"after\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_in_rotation_sign_side_by_side_until_the_old_one_has_had_its_time() {
    let (database, receiver) = (Database::create().await, Receiver::start().await);
    let id = one(&database, &receiver.url("/first")).await;
    let user_id: Uuid = sqlx::query_scalar("select user_id from webhooks.endpoints")
        .fetch_one(database.admin())
        .await
        .unwrap();
    let (new, expired) = (Secret::generate().unwrap(), Secret::generate().unwrap());
    sqlx::query("update webhooks.secrets set expires_at = now() + interval '1 day'")
        .execute(database.admin())
        .await
        .unwrap();
    for (secret, expires) in [(&new, "null"), (&expired, "now() - interval '1 second'")] {
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "insert into webhooks.secrets (user_id, endpoint_id, secret, expires_at) values ($1, $2, $3, {expires})"
        )))
        .bind(user_id)
        .bind(id)
        .bind(secret.bytes())
        .execute(&database.pool("api"))
        .await
        .unwrap();
    }
    let service = Running::sending(&database, &[]);
    until(&database, id, "sent", 1).await;
    service.stop().await;
    let request = &receiver.received()[0];
    let old = Secret::from_bytes(SECRET.to_vec()).unwrap();
    let verifying = [old.reveal(), new.reveal()];
    let timestamp = request.header("webhook-timestamp").parse().unwrap();
    let expected = Signature::of(
        &[new, old],
        request.header("webhook-id"),
        timestamp,
        &request.body,
    );
    assert_eq!(request.header("webhook-signature"), expected.as_str());
    official_library_verifies(request, &verifying, &[expired.reveal()]).await;
    // The log shows what was sent.
    let log = attempts(&database, id).await;
    assert_eq!(log[0].request_headers["webhook-signature"], expected.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_has_a_type_that_endpoints_may_ask_for() {
    let types: HashSet<&str> = webhooks::types().iter().copied().collect();
    for schema in schemas::all_schemas() {
        assert!(types.contains(short_type(&schema.event_type)), "{}", schema.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_nobody_to_go_to_any_more_is_suppressed() {
    let (database, receiver) = (Database::create().await, Receiver::start().await);
    let deleted = one(&database, &receiver.url("/deleted")).await;
    let disabled = one(&database, &receiver.url("/disabled")).await;
    let left = one(&database, &receiver.url("/left")).await;
    for statement in [
        format!("delete from webhooks.endpoints where id = '{deleted}'"),
        format!(
            "update webhooks.endpoints set enabled = false, disabled_reason = 'paused', disabled_at = now() where id = '{disabled}'"
        ),
        format!(
            "update accounts.users set deleted_at = now() where id = (select user_id from webhooks.endpoints where id = '{left}')"
        ),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .execute(database.admin())
            .await
            .unwrap();
    }
    let service = Running::start(config(&database, &no_topics(), &[]));
    for (id, reason) in [
        (deleted, "the webhook was deleted"),
        (disabled, "the webhook is disabled"),
        (left, "there is no such user"),
    ] {
        until(&database, id, "suppressed", 1).await;
        let delivery = crate::fixture::delivery(&database, id).await;
        assert_eq!(
            (delivery.attempts, delivery.last_error.as_deref()),
            (0, Some(reason))
        );
    }
    service.stop().await;
    assert!(receiver.received().is_empty());
    assert_eq!(count(&database, disabled, "pending").await, 0);
}

/// Has the official Python library of Standard Webhooks verify a request.
async fn official_library_verifies(request: &Received, secrets: &[String], others: &[String]) {
    let interop = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/interop");
    let venv = Command::new(interop.join("../../scripts/venv"))
        .arg(interop.join("webhooks_requirements.txt"))
        .output()
        .await
        .unwrap();
    assert!(venv.status.success(), "{}", String::from_utf8_lossy(&venv.stderr));
    let venv = String::from_utf8(venv.stdout).unwrap();
    let headers: serde_json::Map<String, Value> = ["webhook-id", "webhook-timestamp", "webhook-signature"]
        .into_iter()
        .map(|name| (name.to_owned(), request.header(name).into()))
        .collect();
    let asked = json!({"headers": headers, "body": request.body, "secrets": secrets, "others": others});
    let mut python = Command::new(Path::new(venv.trim()).join("bin/python"))
        .arg("-I")
        .arg(interop.join("webhook_abroad.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = python.stdin.take().unwrap();
    input.write_all(asked.to_string().as_bytes()).await.unwrap();
    drop(input);
    let done = python.wait_with_output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let read: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(read, serde_json::from_str::<Value>(&request.body).unwrap());
}
