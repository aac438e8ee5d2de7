//! `carillon doctor` names the cause of each thing that can be broken.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpListener;

use kafka::Registry;
use schemas::{Event, TaskEventKind};
use support::{Clock, samples};
use uuid::Uuid;

use super::*;

/// What is wrong, by what was looked at; nothing where that was skipped.
type Diagnosis = BTreeMap<String, Option<Vec<String>>>;

impl SetUp {
    async fn diagnosis(&self) -> Diagnosis {
        let answer = self.run(&["doctor", "--format", "json"]).await;
        assert_eq!(answer.code, Some(1), "{} {}", answer.out, answer.err);
        let checks = answer.json();
        checks
            .as_array()
            .unwrap()
            .iter()
            .map(|check| {
                let findings: Vec<String> = check["findings"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|finding| {
                        for part in ["what", "why", "mend"] {
                            assert!(!finding[part].as_str().unwrap().is_empty(), "{finding}");
                        }
                        finding["what"].as_str().unwrap().to_owned()
                    })
                    .collect();
                let looked = check["skipped"].is_null().then_some(findings);
                (check["name"].as_str().unwrap().to_owned(), looked)
            })
            .collect()
    }

    /// Checks that this is what it says of `check`, and that it has nothing to say of all that is as it should be.
    async fn is_told(&self, check: &str, cause: &str) {
        let diagnosis = self.diagnosis().await;
        let told = diagnosis[check].as_ref().unwrap();
        assert!(
            told.iter().any(|what| what.contains(cause)),
            "{check}: {cause:?} is not in {told:?}"
        );
        for (other, told) in &diagnosis {
            // No service runs here, so these always have something to say; `a_whole_platform…` (e2e) is about that.
            if other != check && !["consumers", "outbox", "schemas"].contains(&other.as_str()) {
                assert!(told.as_ref().is_none_or(Vec::is_empty), "{other}: {told:?}");
            }
        }
    }

    async fn execute(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(self.database.admin()).await.unwrap();
    }

    /// Puts an event into the outbox.
    async fn write_event(&self) {
        let event = samples::event(TaskEventKind::Created, Uuid::now_v7(), &samples::task());
        let event = Event::from(event).encode("test").unwrap();
        let mut connection = self.database.config("api").connect().await.unwrap();
        db::outbox::insert(&mut connection, &[event]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_service_runs_that_is_all_there_is_to_say() {
    let set_up = SetUp::create().await;
    assert_eq!(set_up.run(&["schemas", "register"]).await.code, Some(0));
    let diagnosis = set_up.diagnosis().await;
    for (check, told) in diagnosis {
        let count = told.as_ref().map(Vec::len);
        match check.as_str() {
            "consumers" => assert_eq!(count, Some(schemas::topics::GROUPS.len()), "{told:?}"),
            "outbox" => assert_eq!(count, Some(2), "{told:?}"),
            "mail" => assert_eq!(count, None),
            _ => assert_eq!(count, Some(0), "{check}: {told:?}"),
        }
    }
    let table = set_up.run(&["doctor"]).await;
    assert_eq!(table.code, Some(1));
    assert!(table.out.contains("ok       postgres\n"), "{}", table.out);
    assert!(table.out.contains("mend: start email-sender"), "{}", table.out);
    let wrong = format!("Wrong: {} things.\n", schemas::topics::GROUPS.len() + 2);
    assert!(table.out.ends_with(&wrong), "{}", table.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away() {
    let set_up = SetUp::create()
        .await
        .with("DATABASE_URL", "postgres://somebody:secret@127.0.0.1:1/carillon");
    set_up.is_told("postgres", "does not answer at 127.0.0.1:1").await;
    assert_eq!(
        set_up.diagnosis().await["migrations"],
        None,
        "what cannot be looked at is said to be skipped"
    );
    let said = set_up.run(&["doctor"]).await;
    assert!(!said.out.contains("secret") && !said.err.contains("secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_wrong_and_a_database_that_does_not_exist() {
    let set_up = SetUp::create().await;
    let url = set_up.database.url("api");
    let (role, place) = url.split_once('@').unwrap();
    let (role, _) = role.rsplit_once(':').unwrap();
    let (server, _) = url.rsplit_once('/').unwrap();
    let elsewhere = format!("{server}/nowhere");
    let wrong = SetUp::of(set_up.database.clone(), set_up.topics.clone())
        .with("DATABASE_URL", format!("{role}:wrong@{place}"));
    wrong.is_told("postgres", "refuses the role carillon_api").await;
    set_up
        .with("DATABASE_URL", elsewhere)
        .is_told("postgres", "has no such database")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_that_are_missing_or_not_those_of_this_version() {
    let set_up = SetUp::create().await;
    set_up
        .execute("delete from _sqlx_migrations where version = (select max(version) from _sqlx_migrations)")
        .await;
    set_up.is_told("migrations", "missing: 1 migration (2026").await;
    set_up
        .execute("update _sqlx_migrations set checksum = '\\x00' where version = (select min(version) from _sqlx_migrations)")
        .await;
    set_up.is_told("migrations", "in another wording").await;
    set_up
        .execute(
            "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
             values (20990101000000, 'from the future', true, '', 0)",
        )
        .await;
    set_up
        .is_told(
            "migrations",
            "migration 20990101000000, which this version does not know",
        )
        .await;
    set_up.execute("drop table _sqlx_migrations").await;
    set_up.is_told("migrations", "no migration is applied").await;
    assert_eq!(set_up.diagnosis().await["rights"], None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_a_service_lacks() {
    let set_up = SetUp::create().await;
    set_up
        .execute("revoke insert on outbox.events from carillon_reminder_scanner")
        .await;
    set_up
        .is_told("rights", "carillon_reminder_scanner may not insert outbox.events")
        .await;
    set_up
        .execute(
            "grant insert on outbox.events to carillon_reminder_scanner;
             revoke usage on schema delivery from carillon_email_sender",
        )
        .await;
    set_up
        .is_told(
            "rights",
            "carillon_email_sender may not update delivery.deliveries",
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_goes_wrong() {
    let set_up = SetUp::create().await;
    let clock = Clock::of(&set_up.database, None).await;
    clock.go_ahead(3_600.0).await;
    set_up.is_told("clock", "is 60 min ahead of").await;
    clock.go_ahead(-90.0).await;
    set_up.is_told("clock", "s behind this machine's").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_that_nobody_publishes_and_an_event_that_nobody_can_publish() {
    let set_up = SetUp::create().await;
    set_up.write_event().await;
    set_up
        .is_told("outbox", "of the outbox; waiting: 1 event, the oldest")
        .await;
    set_up.execute("delete from outbox.schemas").await;
    set_up
        .is_told(
            "outbox",
            "1 event com.carillon.task.created.v1 cannot be published",
        )
        .await;
    let status = set_up.run(&["outbox", "status", "--format", "json"]).await;
    assert_eq!(
        (status.code, status.json()["obstacles"].as_array().unwrap().len()),
        (Some(1), 1)
    );
    let mended = set_up.run(&["outbox", "retry", "--format", "json"]).await;
    assert_eq!(mended.code, Some(0), "{}", mended.err);
    assert_eq!(
        mended.json()["schemas_added"].as_array().unwrap().len(),
        schemas::all_schemas().len()
    );
    let status = set_up.run(&["outbox", "status", "--format", "json"]).await.json();
    assert_eq!(status["obstacles"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_holds_its_shard_and_does_not_get_on() {
    let set_up = SetUp::create().await;
    set_up.write_event().await;
    set_up
        .execute("update outbox.events set created_at = now() - interval '10 minutes'")
        .await;
    let mut relay = set_up.database.config("outbox-relay").connect().await.unwrap();
    for shard in 0..2 {
        sqlx::query("select pg_advisory_lock($1, $2)")
            .bind(db::outbox::RELAY_LOCK_CLASS)
            .bind(shard)
            .execute(&mut relay)
            .await
            .unwrap();
    }
    set_up
        .is_told("outbox", "the relay does not get on with shard")
        .await;
    let told = set_up.diagnosis().await;
    assert_eq!(
        told["outbox"].as_ref().unwrap().len(),
        1,
        "the other shard has nothing to do"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_are_away() {
    let set_up = SetUp::create()
        .await
        .with("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1");
    set_up.is_told("kafka", "no broker answers at 127.0.0.1:1").await;
    assert_eq!(set_up.diagnosis().await["topics"], None);
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_are_missing_or_are_not_as_declared() {
    let topics = Topics::named(&format!("t{}.", Uuid::new_v4().simple()));
    let mut declared = schemas::topics::all();
    let missing = declared.pop().unwrap();
    declared[0].partitions += 1;
    declared[1].max_record_bytes = 1 << 10;
    declared[2].retention *= 2;
    kafka::admin::ensure_topics(&topics.config(), &declared, 1)
        .await
        .unwrap();
    let set_up = SetUp::of(Database::create().await, topics);
    set_up
        .is_told("topics", &format!("{} is missing", missing.name))
        .await;
    set_up.is_told("topics", "has 7 partitions, declared are 6").await;
    set_up.is_told("topics", "takes records of 1024 bytes").await;
    set_up.is_told("topics", "(retention.ms)").await;
    assert_eq!(set_up.diagnosis().await["topics"].as_ref().unwrap().len(), 4);
    let described = set_up.run(&["topics", "describe", "--format", "json"]).await;
    assert_eq!(described.code, Some(1));
    let differing = described
        .json()
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| !row["difference"].is_null())
        .count();
    assert_eq!(differing, 4);
    let ensured = set_up.run(&["topics", "ensure"]).await;
    assert_eq!(
        ensured
            .out
            .lines()
            .filter(|line| line.starts_with("created"))
            .count(),
        1,
        "{}",
        ensured.out
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_that_are_open_and_messages_that_nobody_handles() {
    let set_up = SetUp::create().await;
    set_up
        .topics
        .produce("task-events.reminder-scanner.dlq", b"key", Some(b"a letter"))
        .await;
    set_up
        .topics
        .produce("task-events", b"key", Some(b"an event"))
        .await;
    set_up
        .is_told(
            "dead letters",
            "1 letter open in task-events.reminder-scanner.dlq",
        )
        .await;
    let told = set_up.diagnosis().await["consumers"].clone().unwrap();
    let expected = "nobody is in the group reminder-scanner; waiting: 1 message";
    assert!(told.iter().any(|what| what == expected), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away() {
    let set_up = SetUp::create()
        .await
        .with("SCHEMA_REGISTRY_URL", "http://127.0.0.1:1");
    set_up
        .is_told("registry", "does not answer at http://127.0.0.1:1")
        .await;
    assert_eq!(set_up.diagnosis().await["schemas"], None);
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_that_are_missing_or_not_compatible() {
    let set_up = SetUp::create().await;
    set_up.is_told("schemas", "not registered: 13 schemas").await;
    let schema = &schemas::all_schemas()[0];
    let subject = schema.subject(&set_up.topics.config().topic_prefix);
    let other = r#"{"type":"record","name":"TaskCreated","namespace":"com.carillon.task","fields":[{"name":"event_id","type":"int"}]}"#;
    let registry = Registry::new(&set_up.topics.registry()).unwrap();
    registry.id(Uuid::now_v7(), &subject, other, true).await.unwrap();
    set_up
        .is_told(
            "schemas",
            &format!("the newest schema of {subject} in the registry is not compatible"),
        )
        .await;
    set_up.is_told("schemas", "not registered: 12 schemas").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_that_refuses_and_one_that_is_away() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            client.unwrap().write_all(b"554 no service here\r\n").unwrap();
        }
    });
    let set_up = SetUp::create()
        .await
        .with("SMTP_HOST", "127.0.0.1")
        .with("SMTP_PORT", port.to_string());
    set_up.is_told("mail", "refuses: 554 no service here").await;
    let away = set_up.with("SMTP_PORT", "1");
    away.is_told("mail", "the mail server at 127.0.0.1:1 does not answer")
        .await;
    let there = away.with("SMTP_PORT", stack("SMTP_PORT"));
    there
        .is_told("mail", "offers no STARTTLS, which SMTP_TLS asks for")
        .await;
    let there = there.with("SMTP_TLS", "off");
    assert_eq!(there.diagnosis().await["mail"], Some(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_look_is_told_so_and_not_that_all_is_well() {
    let set_up = SetUp::create().await;
    let api = set_up.database.url("api");
    let set_up = set_up.with("DATABASE_URL", api);
    let diagnosis = set_up.diagnosis().await;
    let told = diagnosis["migrations"].as_ref().unwrap();
    assert!(told[0].contains("permission denied"), "{told:?}");
}
