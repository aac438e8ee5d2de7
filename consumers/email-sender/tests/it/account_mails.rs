//! Mails about accounts: links that the API asks for.

use schemas::NotificationEventKind;
use serde_json::json;
use sqlx::Row;
use support::{Database, eventually};
use uuid::Uuid;

use crate::catcher::Catcher;
use crate::fixture::{Running, arm, config, kinds, no_topics, notifications, until_state};

/// A mail as the API, with the API's rights, asks for it.
async fn ask(database: &Database, user_id: Uuid, kind: &str, token: &str, good_for: &str) -> Uuid {
    let id = Uuid::now_v7();
    sqlx::query(
        "insert into delivery.account_mails (id, user_id, kind, link_token, expires_at)
         values ($1, $2, $3, $4, now() + $5::interval)",
    )
    .bind(id)
    .bind(user_id)
    .bind(kind)
    .bind(token)
    .bind(good_for)
    .execute(&database.pool("api"))
    .await
    .unwrap();
    id
}

#[derive(Debug, PartialEq)]
struct MailRow {
    state: String,
    attempts: i32,
    link_token: Option<String>,
    last_error: Option<String>,
}

async fn row(database: &Database, id: Uuid) -> MailRow {
    let row = sqlx::query(
        "select state, attempts, link_token, last_error from delivery.account_mails where id = $1",
    )
    .bind(id)
    .fetch_one(database.admin())
    .await
    .unwrap();
    MailRow {
        state: row.get(0),
        attempts: row.get(1),
        link_token: row.get(2),
        last_error: row.get(3),
    }
}

async fn until(database: &Database, id: Uuid, state: &str) -> MailRow {
    eventually(&format!("the mail is {state}"), async || {
        let row = row(database, id).await;
        (row.state == state).then_some(row)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_mailed_and_forgotten_and_no_event_tells_of_it() {
    let (database, catcher) = (Database::create().await, Catcher::start().await);
    let user = database.user("ada@example.com").await;
    let verify = ask(&database, user, "verify_email", "verify-secret", "1 hour").await;
    let reset = ask(&database, user, "reset_password", "reset-secret", "1 hour").await;
    let more = [("PUBLIC_URL", "https://carillon.example/")];
    let service = Running::start(config(&database, &no_topics(), catcher.port, &more));
    for id in [verify, reset] {
        let row = until(&database, id, "sent").await;
        assert_eq!((row.attempts, row.link_token, row.last_error), (1, None, None));
    }
    service.stop().await;
    let mails = catcher.mails().await;
    assert_eq!(mails.len(), 2);
    for (subject, link) in [
        (
            "Please confirm your email address",
            "https://carillon.example/verify-email#verify-secret",
        ),
        (
            "Set a new password",
            "https://carillon.example/reset-password#reset-secret",
        ),
    ] {
        let mail = mails.iter().find(|mail| mail.subject == subject).unwrap();
        assert_eq!(mail.to, "ada@example.com");
        assert!(mail.text.contains(link), "{}", mail.text);
        assert!(mail.html.contains(&format!("href=\"{link}\"")), "{}", mail.html);
    }
    assert!(notifications(&database).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_waits_for_a_server_that_is_busy_and_goes_when_nobody_will_get_it() {
    let (database, catcher) = (Database::create().await, Catcher::start().await);
    catcher
        .faults(json!([
            {"at": "rcpt", "match": "busy@*", "code": 450, "times": 1},
            {"at": "rcpt", "match": "nobody@*", "code": 550},
        ]))
        .await;
    let busy = database.user("busy@example.com").await;
    let nobody = database.user("nobody@example.com").await;
    let gone = database.user("gone@example.com").await;
    sqlx::query("update accounts.users set deleted_at = now() where id = $1")
        .bind(gone)
        .execute(database.admin())
        .await
        .unwrap();
    let busy = ask(&database, busy, "verify_email", "busy", "1 hour").await;
    let nobody = ask(&database, nobody, "verify_email", "nobody", "1 hour").await;
    let expired = ask(&database, gone, "verify_email", "expired", "-1 second").await;
    let late = database.user("late@example.com").await;
    let late = ask(&database, late, "reset_password", "late", "-1 second").await;
    let service = Running::start(config(&database, &no_topics(), catcher.port, &[]));
    assert_eq!(until(&database, busy, "sent").await.attempts, 2);
    let refused = until(&database, nobody, "failed").await;
    assert_eq!(refused.link_token, None);
    let gone = until(&database, expired, "suppressed").await;
    assert_eq!(gone.last_error.as_deref(), Some("there is no such user"));
    let late = until(&database, late, "suppressed").await;
    assert_eq!(
        (late.attempts, late.link_token, late.last_error.as_deref()),
        (0, None, Some("the link has expired"))
    );
    service.stop().await;
    assert_eq!(catcher.count().await, 1);
    assert!(notifications(&database).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn reminders_go_to_verified_addresses_only_where_that_is_required() {
    let (database, catcher) = (Database::create().await, Catcher::start().await);
    let (ada, bob) = (
        database.user("ada@example.com").await,
        database.user("bob@example.com").await,
    );
    sqlx::query("update accounts.users set email_verified_at = now() where id = $1")
        .bind(ada)
        .execute(database.admin())
        .await
        .unwrap();
    let (to_ada, to_bob) = (arm(&database, ada, "x").await, arm(&database, bob, "y").await);
    let link = ask(&database, bob, "verify_email", "secret", "1 hour").await;
    let more = [("REQUIRE_VERIFIED_EMAIL", "true")];
    let service = Running::start(config(&database, &no_topics(), catcher.port, &more));
    until_state(&database, to_ada, "sent").await;
    let suppressed = until_state(&database, to_bob, "suppressed").await;
    assert_eq!(
        suppressed.last_error.as_deref(),
        Some("the address is not verified")
    );
    // The link to do so is mailed nevertheless.
    until(&database, link, "sent").await;
    service.stop().await;
    let events = notifications(&database).await;
    assert_eq!(events.len(), 2);
    assert!(kinds(&events).contains(&NotificationEventKind::Sent));
    let event = events
        .iter()
        .find(|event| event.kind == NotificationEventKind::Suppressed)
        .unwrap();
    assert_eq!(
        (event.user_id, event.notification.reason.as_deref()),
        (bob, Some("the address is not verified"))
    );
    assert_eq!(catcher.count().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_mailed_to_somebody_who_has_left() {
    let (database, catcher) = (Database::create().await, Catcher::start().await);
    let user = database.user("ada@example.com").await;
    let id = arm(&database, user, "x").await;
    sqlx::query("update accounts.users set deleted_at = now()")
        .execute(database.admin())
        .await
        .unwrap();
    let service = Running::start(config(&database, &no_topics(), catcher.port, &[]));
    let row = until_state(&database, id, "suppressed").await;
    assert_eq!(row.last_error.as_deref(), Some("there is no such user"));
    service.stop().await;
    assert_eq!(catcher.count().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_of_a_change_of_address_go_to_the_addresses_that_they_are_about_and_forget_them() {
    let (database, catcher) = (Database::create().await, Catcher::start().await);
    let user = database.user("old@example.com").await;
    sqlx::query("update accounts.users set email_verified_at = now()")
        .execute(database.admin())
        .await
        .unwrap();
    let mut ids = Vec::new();
    for (kind, email, token) in [
        ("change_email", "new@example.com", Some("change-secret")),
        ("email_changing", "old@example.com", None),
        ("address_taken", "bob@example.com", None),
    ] {
        let id = Uuid::now_v7();
        sqlx::query(
            "insert into delivery.account_mails (id, user_id, kind, link_token, email, expires_at)
             values ($1, $2, $3, $4, $5, now() + interval '1 day')",
        )
        .bind(id)
        .bind(user)
        .bind(kind)
        .bind(token)
        .bind(email)
        .execute(&database.pool("api"))
        .await
        .unwrap();
        ids.push(id);
    }
    // A notice is worth reading even when the link that it tells of has expired; one of a kind that this version does not
    // know is left to one that does, and holds nothing up.
    sqlx::raw_sql(
        "update delivery.account_mails set expires_at = now() - interval '1 second' where kind = 'email_changing';
         alter table delivery.account_mails drop constraint account_mails_kind_check;",
    )
    .execute(database.admin())
    .await
    .unwrap();
    let unknown = ask(&database, user, "of_the_future", "x", "1 hour").await;
    let more = [("PUBLIC_URL", "https://carillon.example/")];
    let service = Running::start(config(&database, &no_topics(), catcher.port, &more));
    for id in ids {
        let row = until(&database, id, "sent").await;
        assert_eq!((row.link_token, row.last_error), (None, None));
        let address: Option<String> =
            sqlx::query_scalar("select email from delivery.account_mails where id = $1")
                .bind(id)
                .fetch_one(database.admin())
                .await
                .unwrap();
        assert_eq!(address, None);
    }
    service.stop().await;
    let left = row(&database, unknown).await;
    assert_eq!((left.state.as_str(), left.attempts), ("pending", 0));
    let mails = catcher.mails().await;
    assert_eq!(mails.len(), 3);
    let to = |address: &str| mails.iter().find(|mail| mail.to == address).unwrap();
    let link = "https://carillon.example/change-email#change-secret";
    let new = to("new@example.com");
    assert_eq!(new.subject, "Please confirm your new email address");
    assert!(
        new.text.contains(link) && new.html.contains(&format!("href=\"{link}\"")),
        "{}",
        new.text
    );
    let old = to("old@example.com");
    assert_eq!(old.subject, "Your email address is about to change");
    let taken = to("bob@example.com");
    assert_eq!(taken.subject, "This email address has an account already");
    // Who reads at an address that is not the account's is told no name, which somebody may have chosen for that.
    for (mail, greeting) in [(new, "Hello,"), (taken, "Hello,"), (old, "Hello Ada Lovelace,")] {
        assert!(mail.text.starts_with(greeting), "{}", mail.text);
    }
    for mail in [old, taken] {
        assert!(!mail.text.contains("carillon.example"), "{}", mail.text);
    }
    assert!(notifications(&database).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_was_disabled_is_told_of_by_its_name_only_where_the_address_is_known_to_be_its_owners()
{
    let (database, catcher) = (Database::create().await, Catcher::start().await);
    let ada = database.user("ada@example.com").await;
    sqlx::query("update accounts.users set email_verified_at = now()")
        .execute(database.admin())
        .await
        .unwrap();
    let eve = database.user("victim@example.com").await;
    let mut ids = Vec::new();
    for user in [ada, eve] {
        let id = Uuid::now_v7();
        sqlx::query(
            "insert into delivery.account_mails (id, user_id, kind, expires_at, detail)
             values ($1, $2, 'webhook_disabled', now() + interval '1 day', 'Buy <now> (hooks.example.org)')",
        )
        .bind(id)
        .bind(user)
        .execute(&database.pool("webhook-sender"))
        .await
        .unwrap();
        ids.push(id);
    }
    let service = Running::start(config(&database, &no_topics(), catcher.port, &[]));
    for id in ids {
        until(&database, id, "sent").await;
    }
    service.stop().await;
    for mail in catcher.mails().await {
        assert_eq!(mail.subject, "A webhook of yours was disabled");
        let named = mail.to == "ada@example.com";
        assert_eq!(
            mail.text.contains("Buy <now> (hooks.example.org)"),
            named,
            "{}",
            mail.text
        );
        assert_eq!(mail.html.contains("Buy &lt;now&gt;"), named, "{}", mail.html);
    }
    let kept: i64 = sqlx::query_scalar("select count(detail) from delivery.account_mails")
        .fetch_one(database.admin())
        .await
        .unwrap();
    assert_eq!(kept, 0);
}
