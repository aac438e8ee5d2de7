//! What brokers, database, registry and mail server refuse.

use std::time::Duration;

use e2e::{Secured, say};
use kafka::KafkaConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, FutureRecord};
use schemas::access::{OUTBOX_RELAY, Operation, Resource, allows};
use schemas::topics::all;
use serde_json::json;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgPoolOptions;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::task::JoinSet;

use crate::LIMIT;

// ---------------------------------------------------------------- Kafka

fn client<T: rdkafka::config::FromClientConfig>(config: &KafkaConfig, more: &[(&str, &str)]) -> T {
    let mut client = config.client("test");
    for (name, value) in more {
        client.set(*name, *value);
    }
    client.create().unwrap()
}

/// How much was tried.
#[derive(Debug, Default, Clone, Copy)]
struct Tried {
    allowed: usize,
    refused: usize,
}

impl Tried {
    fn count(&mut self, allowed: bool) {
        *(if allowed {
            &mut self.allowed
        } else {
            &mut self.refused
        }) += 1;
    }
}

/// Each user writes where schemas/src/access.rs declares it, and nowhere else: every topic is tried.
pub(crate) async fn kafka(secured: &Secured) {
    let mut users = JoinSet::new();
    for user in migrations::roles() {
        let config = secured.kafka(user);
        users.spawn(async move {
            let mut tried = Tried::default();
            writes(user, &config, &mut tried).await;
            tried
        });
    }
    let tried = users.join_all().await;
    say(&format!(
        "Kafka: {} writes are allowed, {} refused",
        tried.iter().map(|tried| tried.allowed).sum::<usize>(),
        tried.iter().map(|tried| tried.refused).sum::<usize>()
    ));
}

async fn writes(user: &str, config: &KafkaConfig, tried: &mut Tried) {
    let producer: FutureProducer = client(config, &[("message.timeout.ms", "30000")]);
    for topic in all() {
        let may = allows(user, Operation::Write, &Resource::Topic(topic.name.clone()));
        let record = FutureRecord::<[u8], [u8]>::to(&topic.name).payload(b"x");
        let did = match producer.send(record, LIMIT).await {
            Ok(_) => true,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::TopicAuthorizationFailed), _)) => false,
            Err((error, _)) => panic!("{user} {}: {error}", topic.name),
        };
        assert_eq!(did, may, "{user} writes {}", topic.name);
        tried.count(may);
    }
}

/// Who does not say who they are, or cannot show it, or asks nobody who the broker is.
pub(crate) async fn strangers(secured: &Secured) {
    let config = secured.kafka(OUTBOX_RELAY);
    let answers = |ca: bool, more: &'static [(&'static str, &'static str)]| {
        let mut config = config.clone();
        if !ca {
            config.ssl_ca_location = None;
        }
        tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = client(&config, more);
            consumer.fetch_metadata(None, Duration::from_secs(5)).is_ok()
        })
    };
    assert!(
        answers(true, &[]).await.unwrap(),
        "with the right password it works"
    );
    let wrong = [
        &[("security.protocol", "plaintext")][..],
        &[("security.protocol", "ssl")],
        &[("security.protocol", "sasl_plaintext")],
        &[("sasl.password", "wrong")],
        &[("sasl.username", "audit-sink")],
        &[("sasl.username", "carillon")],
    ];
    let wrong: Vec<_> = wrong.map(|more| (more, answers(true, more))).into();
    let unvouched = answers(false, &[]);
    for (more, answered) in wrong {
        assert!(!answered.await.unwrap(), "{more:?}");
    }
    assert!(!unvouched.await.unwrap(), "a broker that nobody vouches for");
}

// ---------------------------------------------------------------- the others

pub(crate) async fn registry(secured: &Secured) {
    let pem = std::fs::read(secured.owner("SCHEMA_REGISTRY_CA_FILE")).unwrap();
    let http = reqwest::Client::builder()
        .tls_certs_merge([reqwest::Certificate::from_pem(&pem).unwrap()])
        .build()
        .unwrap();
    let url = format!("{}/subjects", secured.owner("SCHEMA_REGISTRY_URL"));
    assert_eq!(http.get(&url).send().await.unwrap().status(), 401);
    let wrong = http.get(&url).basic_auth(OUTBOX_RELAY, Some("wrong"));
    assert_eq!(wrong.send().await.unwrap().status(), 401);
    assert!(
        http.get(url.replacen("https:", "http:", 1))
            .send()
            .await
            .is_err_and(|e| !e.is_builder())
    );
    assert!(
        reqwest::get(&url).await.is_err(),
        "a registry that nobody vouches for"
    );
    for user in migrations::roles() {
        let environment = secured.environment(Some(user));
        let password = std::fs::read_to_string(&environment["SCHEMA_REGISTRY_PASSWORD_FILE"]).unwrap();
        let status = async |request: reqwest::RequestBuilder| {
            let answer = request.basic_auth(user, Some(password.trim())).send().await;
            answer.unwrap().status().as_u16()
        };
        assert_eq!(status(http.get(&url)).await, 200, "{user} reads");
        let body = json!({"schema": "\"string\""});
        let looks_up = http.post(format!("{url}/nothing")).json(&body);
        assert_eq!(status(looks_up).await, 404, "{user} looks up");
        let expected = if user == OUTBOX_RELAY { 200 } else { 403 };
        let registers = http.post(format!("{url}/x-{user}/versions")).json(&body);
        assert_eq!(status(registers).await, expected, "{user} registers");
        let deletes = http.delete(format!("{url}/x-{OUTBOX_RELAY}"));
        assert_eq!(status(deletes).await, expected, "{user} deletes");
    }
}

/// What no role may do.
const NOBODYS: [&str; 7] = [
    "create role intruder",
    "create database intruder",
    "create schema intruder",
    "create table public.intruder ()",
    "alter system set fsync = off",
    "copy (select 1) to program 'true'",
    "set role carillon_owner",
];

/// What belongs to others, role by role. common/db/tests/it/roles.rs has every table and every role.
const OTHERS: [(&str, &[&str]); 9] = [
    (
        "api",
        &[
            "delete from audit.events",
            "select raw from audit.events",
            "delete from outbox.events",
            "update outbox.cursors set done_seq = 0",
            "set role carillon_audit_sink",
        ],
    ),
    (
        "outbox-relay",
        &[
            "select * from accounts.users",
            "select * from tasks.tasks",
            "delete from outbox.events",
            "insert into outbox.events default values",
        ],
    ),
    (
        "reminder-scanner",
        &[
            "select * from accounts.sessions",
            "update tasks.tasks set title = ''",
            "select * from outbox.events",
        ],
    ),
    (
        "email-sender",
        &[
            "select * from accounts.sessions",
            "select * from tasks.tasks",
            "select * from webhooks.secrets",
        ],
    ),
    (
        "recurrence-generator",
        &[
            "select * from accounts.sessions",
            "delete from tasks.tasks",
            "select * from outbox.events",
        ],
    ),
    (
        "audit-sink",
        &[
            "select * from accounts.users",
            "select * from tasks.tasks",
            "delete from audit.events",
            "update audit.events set raw = null",
        ],
    ),
    (
        "webhook-sender",
        &[
            "select * from accounts.users",
            "select * from tasks.tasks",
            "insert into webhooks.endpoints default values",
        ],
    ),
    (
        "notification-inbox",
        &[
            "select * from accounts.sessions",
            "delete from tasks.tasks",
            "select * from webhooks.secrets",
        ],
    ),
    (
        "operator",
        &[
            "select * from accounts.users",
            "select * from tasks.tasks",
            "select body from outbox.events",
            "delete from audit.events",
        ],
    ),
];

pub(crate) async fn postgres(secured: &Secured) {
    let mut refused = 0;
    for user in migrations::roles() {
        let file = &secured.environment(Some(user))["DATABASE_URL_FILE"];
        let url = std::fs::read_to_string(file).unwrap();
        let url = url.trim();
        let pool = |url: &str| {
            PgPoolOptions::new()
                .max_connections(1)
                .acquire_timeout(LIMIT)
                .connect_lazy(url)
                .unwrap()
        };
        let right = pool(url);
        sqlx::query("select 1").execute(&right).await.unwrap();
        let (_, others) = OTHERS
            .iter()
            .find(|(of, _)| *of == user)
            .expect("a list of everybody");
        for statement in NOBODYS.iter().chain(*others) {
            let error = sqlx::query(AssertSqlSafe(*statement))
                .execute(&right)
                .await
                .expect_err(statement);
            let code = error.as_database_error().and_then(|error| error.code());
            assert_eq!(code.as_deref(), Some("42501"), "{user}: {statement}: {error}");
            refused += 1;
        }
        let (plain, _) = url.split_once('?').expect("the URL asks for TLS");
        let (_, rest) = url.split_once('@').unwrap();
        let role = migrations::role(user);
        for (what, url) in [
            ("without TLS", format!("{plain}?sslmode=disable")),
            (
                "with no certificate to trust",
                format!("{plain}?sslmode=verify-full"),
            ),
            ("with a wrong password", format!("postgres://{role}:wrong@{rest}")),
            ("without a password", format!("postgres://{role}@{rest}")),
        ] {
            let answer = sqlx::query("select 1").execute(&pool(&url)).await;
            assert!(answer.is_err(), "{user} {what}");
        }
    }
    say(&format!("Postgres: {refused} statements refused"));
}

pub(crate) async fn smtp(secured: &Secured) {
    let port: u16 = secured.owner("SMTP_PORT").parse().unwrap();
    let mut stream = BufReader::new(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    stream
        .write_all(b"HELO stranger\r\nMAIL FROM:<a@example.org>\r\n")
        .await
        .unwrap();
    line.clear();
    stream.read_line(&mut line).await.unwrap();
    line.clear();
    stream.read_line(&mut line).await.unwrap();
    assert!(line.starts_with("530"), "{line}");
}
