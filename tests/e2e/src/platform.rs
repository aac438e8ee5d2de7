//! All services against a database and topics of their own.

use std::path::PathBuf;
use std::process::{Command, Output};

use support::{Database, Topics, stack};

use crate::service::binary;
use crate::{Client, SERVICES, Service};

/// Where the services find what they stand on. A test may put something between.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Host and port of Postgres.
    pub postgres: String,
    /// The brokers' addresses.
    pub kafka: String,
    /// URL of the schema registry.
    pub registry: String,
    /// Port of the mail server, on the same host as the stack's.
    pub smtp_port: String,
}

impl Parts {
    /// The stack's own, with nothing between.
    #[must_use]
    pub fn of_the_stack() -> Self {
        Self {
            postgres: format!("{}:{}", stack("POSTGRES_HOST"), stack("POSTGRES_PORT")),
            kafka: stack("KAFKA_BOOTSTRAP_SERVERS"),
            registry: stack("SCHEMA_REGISTRY_URL"),
            smtp_port: stack("SMTP_PORT"),
        }
    }
}

/// The platform.
#[derive(Debug)]
pub struct Platform {
    database: Database,
    topics: Topics,
    services: Vec<Service>,
}

impl Platform {
    /// Starts every service and waits until all are ready.
    ///
    /// # Panics
    /// When one does not get ready.
    pub async fn start() -> Self {
        Self::of(&SERVICES).await
    }

    /// Starts these services only, one that is named twice as two replicas, and waits until they are ready.
    ///
    /// # Panics
    /// When one does not get ready.
    pub async fn of(names: &[&'static str]) -> Self {
        let (database, topics) = tokio::join!(Database::create(), Topics::create());
        Self::upon(database, topics, names, &[]).await
    }

    /// Starts these services upon a database and topics that a test has prepared, with these settings beside the usual ones,
    /// and waits until they are ready.
    ///
    /// # Panics
    /// When one does not get ready.
    pub async fn upon(
        database: Database,
        topics: Topics,
        names: &[&'static str],
        settings: &[(&str, &str)],
    ) -> Self {
        Self::through(database, topics, names, settings, &Parts::of_the_stack()).await
    }

    /// The same for services that reach what they stand on through something else.
    ///
    /// # Panics
    /// When one does not get ready.
    pub async fn through(
        database: Database,
        topics: Topics,
        names: &[&'static str],
        settings: &[(&str, &str)],
        parts: &Parts,
    ) -> Self {
        let mut platform = Self::stopped(database, topics, names, settings, parts);
        for service in platform.services() {
            service.start();
        }
        for service in platform.services() {
            service.ready().await;
        }
        platform
    }

    /// The same services, none of which runs yet.
    ///
    /// # Panics
    /// When there is no place for their logs.
    #[must_use]
    pub fn stopped(
        database: Database,
        topics: Topics,
        names: &[&'static str],
        settings: &[(&str, &str)],
        parts: &Parts,
    ) -> Self {
        let logs = log_folder(database.name());
        let mut services: Vec<Service> = Vec::with_capacity(names.len());
        for &name in names {
            let others = services.iter().filter(|service| service.name() == name).count();
            let log = match others {
                0 => format!("{name}.log"),
                others => format!("{name}-{}.log", others + 1),
            };
            let mut environment = environment(name, &database, &topics, parts);
            // The last of a name counts.
            environment.extend(
                settings
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
            );
            services.push(Service::new(name, environment, logs.join(log)));
        }
        crate::say(&format!("logs: {}", logs.display()));
        Self {
            database,
            topics,
            services,
        }
    }

    /// Its database.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Its topics.
    #[must_use]
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// A service of it.
    ///
    /// # Panics
    /// When there is none of that name.
    pub fn service(&mut self, name: &str) -> &mut Service {
        self.services
            .iter_mut()
            .find(|service| service.name() == name)
            .expect("a service of that name")
    }

    /// All replicas of a service.
    pub fn replicas(&mut self, name: &str) -> Vec<&mut Service> {
        let services = self.services.iter_mut();
        services.filter(|service| service.name() == name).collect()
    }

    /// Its services.
    pub fn services(&mut self) -> &mut [Service] {
        &mut self.services
    }

    /// Runs the operator's command on it, as the operator, with these settings beside the usual ones.
    ///
    /// # Panics
    /// When its binary is not built.
    #[must_use]
    pub fn carillon(&self, settings: &[(&str, &str)], arguments: &[&str]) -> Output {
        self.operated(binary("carillon"), settings)
            .args(arguments)
            .output()
            .unwrap()
    }

    /// Runs a script in the root of the sources, as the operator would in a shell: `carillon` is in the path.
    ///
    /// # Panics
    /// When there is no bash.
    #[must_use]
    pub fn shell(&self, settings: &[(&str, &str)], script: &str) -> Output {
        let binaries = binary("");
        let path = format!(
            "{}:{}",
            binaries.display(),
            std::env::var("PATH").unwrap_or_default()
        );
        self.operated("bash".into(), settings)
            .args(["-euo", "pipefail", "-c", script])
            .env("PATH", path)
            .current_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.."))
            .output()
            .unwrap()
    }

    fn operated(&self, program: PathBuf, settings: &[(&str, &str)]) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("DATABASE_URL", self.database.url(migrations::OPERATOR))
            .env("KAFKA_BOOTSTRAP_SERVERS", stack("KAFKA_BOOTSTRAP_SERVERS"))
            .env("KAFKA_TOPIC_PREFIX", self.topics.config().topic_prefix)
            .env("SCHEMA_REGISTRY_URL", stack("SCHEMA_REGISTRY_URL"))
            .env("CARILLON_OPERATOR", "ada")
            .envs(settings.iter().copied());
        command
    }

    /// A client of its API.
    pub fn client(&mut self) -> Client {
        Client::new(self.service("api").url())
    }
}

/// Calls `scripts/stack` for the stack that the tests run on: `stop kafka`, `start kafka`.
///
/// # Panics
/// When it fails.
pub fn run_stack(arguments: &[&str]) {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../scripts/stack");
    let status = Command::new(script)
        .args(arguments)
        // A machine with much to do beside it starts a JVM slowly, which is not what is tested.
        .env("CARILLON_STACK_TIMEOUT", "600")
        .status()
        .unwrap();
    assert!(status.success(), "scripts/stack {arguments:?} failed");
}

impl Platform {
    /// Stops a part of the stack: `kafka`, `registry`, `postgres` or `mail`.
    pub fn stop_part(&self, part: &str) {
        run_stack(&["stop", part]);
    }

    /// Starts it again and waits until it answers.
    pub fn start_part(&self, part: &str) {
        run_stack(&["start", part]);
    }
}

pub(crate) fn log_folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../.stack/e2e-logs")
        .join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder.canonicalize().unwrap()
}

/// What the links in mails are signed with.
const LINK_KEY: &str = "a-key-of-tests-for-links-in-mails";

fn environment(service: &str, database: &Database, topics: &Topics, parts: &Parts) -> Vec<(String, String)> {
    let mut environment = vec![
        ("DATABASE_URL", database.url_at(&parts.postgres, service)),
        ("KAFKA_BOOTSTRAP_SERVERS", parts.kafka.clone()),
        ("KAFKA_TOPIC_PREFIX", topics.config().topic_prefix),
        ("SCHEMA_REGISTRY_URL", parts.registry.clone()),
        // Receivers of webhooks are on this machine.
        ("WEBHOOK_ALLOW_HTTP", "true".to_owned()),
        ("WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8".to_owned()),
        ("RUST_LOG", "info".to_owned()),
    ];
    match service {
        "api" => environment.extend([
            ("JWT_PRIVATE_KEY_FILE", stack("JWT_PRIVATE_KEY_FILE")),
            ("LINK_KEY", LINK_KEY.to_owned()),
            // One machine asks for everybody.
            ("RATE_LIMIT_USER_PER_MINUTE", "0".to_owned()),
            ("RATE_LIMIT_ADDRESS_PER_MINUTE", "0".to_owned()),
        ]),
        "email-sender" => environment.extend([
            ("SMTP_HOST", stack("SMTP_HOST")),
            ("SMTP_PORT", parts.smtp_port.clone()),
            ("SMTP_TLS", "off".to_owned()),
            ("SMTP_FROM_EMAIL", "carillon@example.org".to_owned()),
            ("LINK_KEY", LINK_KEY.to_owned()),
            // What a killed sender had claimed is sent again when its lease ends, and failed attempts soon: the tests wait
            // for both.
            ("EMAIL_LEASE_SECONDS", "30".to_owned()),
            ("SMTP_TIMEOUT_MS", "1000".to_owned()),
            ("EMAIL_RETRY_MIN_MS", "1000".to_owned()),
            ("EMAIL_RETRY_MAX_MS", "5000".to_owned()),
        ]),
        "webhook-sender" => environment.extend([
            ("WEBHOOK_LEASE_SECONDS", "30".to_owned()),
            ("WEBHOOK_TIMEOUT_MS", "2000".to_owned()),
            ("WEBHOOK_RETRY_DELAYS_MS", ["2000"; 20].join(",")),
        ]),
        _ => {}
    }
    environment
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
