//! What brokers, database, registry and mail server refuse.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use e2e::{Secured, say};
use kafka::KafkaConfig;
use kafka::admin::describe_topics;
use rdkafka::Offset;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::TopicPartitionList;
use schemas::access::{OPERATOR, OUTBOX_RELAY, Operation, READER_GROUP, Resource, allows};
use schemas::topics::{GROUPS, all};
use serde_json::json;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgPoolOptions;
use support::PATIENCE;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::task::JoinSet;

use crate::LIMIT;

// ---------------------------------------------------------------- Kafka

fn client<T: rdkafka::config::FromClientConfig>(config: &KafkaConfig, more: &[(&str, &str)]) -> T {
    let mut client = config.client("test");
    client.set("fetch.wait.max.ms", "10");
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

/// Each user is allowed what schemas/src/access.rs declares, and nothing else: every topic and every group is tried.
pub(crate) async fn kafka(secured: &Secured) {
    let mut users = JoinSet::new();
    for (index, user) in migrations::roles().enumerate() {
        let config = secured.kafka(user);
        users.spawn(async move {
            let mut tried = Tried::default();
            writes(user, &config, &mut tried).await;
            reads(user, &config, &mut tried).await;
            joins(user, &config, &mut tried).await;
            manages_nothing(user, &config, index, &mut tried).await;
            tried
        });
    }
    let tried = users.join_all().await;
    settings_are_as_declared(secured).await;
    say(&format!(
        "Kafka: {} things are allowed, {} refused",
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

async fn reads(user: &'static str, config: &KafkaConfig, tried: &mut Tried) {
    let config = config.clone();
    let readable: BTreeSet<String> = tokio::task::spawn_blocking(move || {
        // librdkafka looks for the coordinator of the group it is given, and fetches slowly while it is refused that.
        let group = if user == OPERATOR { READER_GROUP } else { user };
        let consumer: BaseConsumer =
            client(&config, &[("group.id", group), ("enable.partition.eof", "true")]);
        let names = all().into_iter().map(|topic| topic.name);
        names.filter(|topic| fetches(&consumer, topic)).collect()
    })
    .await
    .unwrap();
    for topic in all() {
        let may = allows(user, Operation::Read, &Resource::Topic(topic.name.clone()));
        assert_eq!(readable.contains(&topic.name), may, "{user} reads {}", topic.name);
        tried.count(may);
    }
}

/// Whether a fetch from a topic is answered.
fn fetches(consumer: &BaseConsumer, topic: &str) -> bool {
    // Who may not even know of it is told so here.
    let metadata = consumer.fetch_metadata(Some(topic), LIMIT).unwrap();
    if let Some(error) = metadata.topics()[0].error() {
        assert_eq!(
            RDKafkaErrorCode::from(error),
            RDKafkaErrorCode::TopicAuthorizationFailed,
            "{topic}"
        );
        return false;
    }
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    loop {
        match next(consumer, topic) {
            Ok(()) => return true,
            Err(RDKafkaErrorCode::TopicAuthorizationFailed) => return false,
            // Of a group that the client names and does not join.
            Err(RDKafkaErrorCode::GroupAuthorizationFailed) => {}
            Err(error) => panic!("{topic}: {error}"),
        }
    }
}

/// What the broker says next: records or the end of a partition, or an error.
fn next(consumer: &BaseConsumer, of: &str) -> Result<(), RDKafkaErrorCode> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        match consumer.poll(Duration::from_secs(1)) {
            // Nothing within that second, or nothing but news of the group.
            None => {}
            Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => return Ok(()),
            Some(Err(error)) => return Err(error.rdkafka_error_code().expect("a code")),
        }
    }
    panic!("no answer about {of}");
}

async fn joins(user: &'static str, config: &KafkaConfig, tried: &mut Tried) {
    for group in GROUPS {
        let may = allows(user, Operation::Read, &Resource::Group(group.name.to_owned()));
        let config = config.clone();
        let did = tokio::task::spawn_blocking(move || gets_in(&config, group.name, group.topics[0]))
            .await
            .unwrap();
        assert_eq!(did, may, "{user} in the group {}", group.name);
        tried.count(may);
    }
}

/// Whether who says to be in that group gets in.
fn gets_in(config: &KafkaConfig, group: &str, topic: &str) -> bool {
    let consumer: BaseConsumer = client(
        config,
        &[
            ("group.id", group),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "earliest"),
            ("enable.partition.eof", "true"),
            ("session.timeout.ms", "6000"),
        ],
    );
    consumer.subscribe(&[topic]).unwrap();
    loop {
        match next(&consumer, group) {
            Ok(()) => return true,
            Err(RDKafkaErrorCode::GroupAuthorizationFailed) => return false,
            // Of the topic, which most groups may not read either.
            Err(RDKafkaErrorCode::TopicAuthorizationFailed) => {}
            Err(error) => panic!("{group}: {error}"),
        }
    }
}

/// Nobody makes, removes, grows, alters or empties topics, or removes groups.
async fn manages_nothing(user: &str, config: &KafkaConfig, index: usize, tried: &mut Tried) {
    let admin: AdminClient<DefaultClientContext> = client(config, &[]);
    let options = AdminOptions::new().request_timeout(Some(LIMIT));
    let new = NewTopic::new("x", 1, TopicReplication::Fixed(1));
    let mut results = admin.create_topics([&new], &options).await.unwrap();
    let topics = all();
    let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
    results.extend(admin.delete_topics(&names, &options).await.unwrap());
    let grown: Vec<NewPartitions<'_>> = names.iter().map(|name| NewPartitions::new(name, 50)).collect();
    results.extend(admin.create_partitions(&grown, &options).await.unwrap());
    let groups = GROUPS.map(|group| group.name);
    results.extend(admin.delete_groups(&groups, &options).await.unwrap());
    for result in results {
        let (what, code) = result.expect_err("this is nobody's to do");
        assert!(is_refusal(code), "{user} manages {what}: {code}");
        tried.count(false);
    }
    // rust-rdkafka 0.39 drops what the broker says of each resource and answers Ok whatever became of it (`AlterConfigsFuture`):
    // so there is nothing to assert here, and `settings_are_as_declared` looks at what became of them. The value says who did it.
    let retention = (1_000_000 + index).to_string();
    let altered: Vec<AlterConfig<'_>> = names
        .iter()
        .map(|name| AlterConfig::new(ResourceSpecifier::Topic(name)).set("retention.ms", &retention))
        .collect();
    admin.alter_configs(&altered, &options).await.unwrap();
    for name in names {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(name, 0, Offset::End).unwrap();
        match admin.delete_records(&list, &options).await {
            // Who may not know of the topic finds no leader to ask.
            Err(KafkaError::AdminOp(code)) => {
                assert!(
                    is_refusal(code) || code == RDKafkaErrorCode::NoEnt,
                    "{user} {name}: {code}"
                );
            }
            Err(error) => panic!("{user} {name}: {error}"),
            Ok(list) => {
                for element in list.elements() {
                    let error = element.error().expect_err("nobody deletes records");
                    assert!(
                        error.rdkafka_error_code().is_some_and(is_refusal),
                        "{user} {name}: {error}"
                    );
                }
            }
        }
        tried.count(false);
    }
}

fn is_refusal(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
    )
}

/// Nobody has altered a topic.
async fn settings_are_as_declared(secured: &Secured) {
    let owner = secured.owner_kafka();
    // The brokers take changes in order: when they have this topic, they have what was altered before.
    let admin: AdminClient<DefaultClientContext> = client(&owner, &[]);
    let last = NewTopic::new("last", 1, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(LIMIT));
    let created = admin.create_topics([&last], &options).await.unwrap();
    assert!(created.iter().all(Result::is_ok), "{created:?}");
    let declared: BTreeMap<String, i64> = all()
        .into_iter()
        .map(|topic| (topic.name, i64::try_from(topic.retention.as_millis()).unwrap()))
        .collect();
    for (name, state) in describe_topics(&owner, &all()).await.unwrap() {
        let retention_ms = state.and_then(|state| state.retention_ms).unwrap();
        let who: Vec<&str> = migrations::roles().collect();
        let by = usize::try_from(retention_ms - 1_000_000)
            .ok()
            .and_then(|index| who.get(index));
        assert_eq!(retention_ms, declared[&name], "{name} was altered by {by:?}");
    }
    // Who may, does so by the same call: what was looked at would have shown it.
    let topic = all().remove(0);
    let altered = AlterConfig::new(ResourceSpecifier::Topic(&topic.name)).set("retention.ms", "2000000");
    admin.alter_configs([&altered], &options).await.unwrap();
    support::eventually("the owner has altered a topic", async || {
        let described = describe_topics(&owner, std::slice::from_ref(&topic))
            .await
            .unwrap();
        let (_, state) = &described[0];
        (state.as_ref()?.retention_ms == Some(2_000_000)).then_some(())
    })
    .await;
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
