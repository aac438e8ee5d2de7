//! A secured stack of one test's own, with the platform on it as an operator would set it up.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use kafka::KafkaConfig;
use migrations::SERVICES;
use service::config::{Env, load_from};
use support::within;

use crate::{Client, Service};

/// How long everything may take to be there, on a busy machine.
const STARTING: Duration = Duration::from_mins(3);
/// A program that runs for a second.
const JAVA: &str = "java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC";

/// A secured stack, and every service on it.
#[derive(Debug)]
pub struct Secured {
    name: String,
    logs: PathBuf,
    owner: BTreeMap<String, String>,
    services: Vec<Service>,
}

fn checkout() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    folder.canonicalize().unwrap()
}

/// `scripts/stack` for a stack of that name, without anything that other stacks' environments say.
fn stack_command(name: &str) -> Command {
    let mut command = Command::new("bash");
    command
        .env_clear()
        .stdin(Stdio::null())
        .env("CARILLON_STACK", name)
        // A busy machine starts its parts slowly, and fails no test by that.
        .env("CARILLON_STACK_TIMEOUT", "600");
    for kept in [
        "PATH",
        "HOME",
        "JAVA_HOME",
        "CARILLON_CACHE",
        "CARILLON_PYTHON",
        "CARILLON_PG_BINDIR",
    ] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command
}

fn run_stack(name: &str, arguments: &[&str]) {
    let output = stack_command(name)
        .arg(checkout().join("scripts/stack"))
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "scripts/stack {arguments:?}: {}",
        text(&output)
    );
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Removes the stacks of tests that were killed.
fn sweep() {
    let Ok(folder) = std::fs::read_dir(checkout().join(".stack")) else {
        return;
    };
    for name in folder.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
        if let Some(pid) = name.strip_prefix("secured-")
            && !Path::new("/proc").join(pid).exists()
        {
            run_stack(&name, &["down", "--purge"]);
        }
    }
}

impl Secured {
    /// Starts the stack, sets it up as docs/SECURITY.md says, starts every service at its most talkative, and waits until
    /// all are ready.
    ///
    /// # Panics
    /// When something does not work.
    pub async fn start() -> Self {
        sweep();
        let name = format!("secured-{}", std::process::id());
        let mut secured = Self {
            logs: crate::platform::log_folder(&name),
            name,
            owner: BTreeMap::new(),
            services: Vec::new(),
        };
        crate::say(&format!("logs: {}", secured.logs.display()));
        run_stack(&secured.name, &["up", "--secure"]);
        secured.owner = secured.environment(None);
        secured.own(&["migrate"], &[]);
        secured.own(&["topics", "ensure"], &[]);
        // A registry that has just started takes its time for its first answers, and it may take more than a call waits.
        within(STARTING, "the schemas are registered", async || {
            let output = secured.carillon(&secured.owner, &["schemas", "register"], &[]);
            output.status.success().then_some(())
        })
        .await;
        let acls = secured.own(&["acls", "print"], &[]);
        secured.shell(&acls);
        for service in SERVICES {
            let mut environment = secured.environment(Some(service));
            environment.extend(
                [
                    ("RUST_LOG", "trace"),
                    // Built for debugging, TLS and SCRAM take their time, and everybody connects at once.
                    ("DATABASE_ACQUIRE_TIMEOUT_MS", "30000"),
                    // The schemas are registered.
                    ("SCHEMA_REGISTRY_AUTO_REGISTER", "false"),
                    ("SMTP_FROM_EMAIL", "carillon@example.org"),
                    ("EMAIL_RETRY_MIN_MS", "500"),
                    ("EMAIL_RETRY_MAX_MS", "2000"),
                    ("AUDIT_SEAL_SECONDS", "1"),
                    // The receiver of webhooks is on this machine.
                    ("WEBHOOK_ALLOW_HTTP", "true"),
                    ("WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8"),
                ]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
            );
            let log = secured.logs.join(format!("{service}.log"));
            secured
                .services
                .push(Service::new(service, environment.into_iter().collect(), log));
        }
        secured.services.iter_mut().for_each(Service::start);
        secured.ready().await;
        secured
    }

    /// Waits until every service is ready.
    pub async fn ready(&mut self) {
        for service in &mut self.services {
            service.ready_within(STARTING).await;
        }
    }

    /// What `scripts/stack env` says: for the owner, who may do everything, or for a service or the operator.
    ///
    /// # Panics
    /// When it says nothing.
    #[must_use]
    pub fn environment(&self, user: Option<&str>) -> BTreeMap<String, String> {
        let output = stack_command(&self.name)
            .arg("-ec")
            .arg(r#"print=$(command -v printenv); settings=$("$0" env "$@"); for n in $(compgen -e); do unset "$n"; done; eval "$settings"; "$print" -0"#)
            .arg(checkout().join("scripts/stack"))
            .args(user)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8(output.stdout)
            .unwrap()
            .split_terminator('\0')
            .filter_map(|pair| pair.split_once('='))
            .filter(|(name, _)| name.starts_with(|c: char| c.is_ascii_uppercase()))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// A setting of the owner's.
    ///
    /// # Panics
    /// When there is none of that name.
    #[must_use]
    pub fn owner(&self, name: &str) -> &str {
        self.owner
            .get(name)
            .unwrap_or_else(|| panic!("the stack sets no {name}"))
    }

    /// How a service or the operator reaches Kafka, read as they read it.
    ///
    /// # Panics
    /// When it is not accepted.
    #[must_use]
    pub fn kafka(&self, user: &str) -> KafkaConfig {
        load_from(
            Env::from_pairs(self.environment(Some(user))),
            KafkaConfig::from_env,
        )
        .unwrap()
    }

    /// How the owner reaches Kafka.
    ///
    /// # Panics
    /// When it is not accepted.
    #[must_use]
    pub fn owner_kafka(&self) -> KafkaConfig {
        load_from(Env::from_pairs(self.owner.clone()), KafkaConfig::from_env).unwrap()
    }

    /// Runs `carillon` as the owner, with more variables if need be. It must succeed.
    ///
    /// # Panics
    /// When it fails.
    pub fn own(&self, arguments: &[&str], more: &[(&str, &str)]) -> String {
        let output = self.carillon(&self.owner, arguments, more);
        assert!(
            output.status.success(),
            "carillon {arguments:?}: {}",
            text(&output)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs `carillon` as the operator, with more variables if need be.
    #[must_use]
    pub fn operate(&self, arguments: &[&str], more: &[(&str, &str)]) -> Output {
        let environment = self.environment(Some(migrations::OPERATOR));
        self.carillon(&environment, arguments, more)
    }

    /// What it prints is kept beside the logs of the services.
    fn carillon(
        &self,
        environment: &BTreeMap<String, String>,
        arguments: &[&str],
        more: &[(&str, &str)],
    ) -> Output {
        let binary = crate::service::binary("carillon");
        let output = Command::new(&binary)
            .args(arguments)
            .env_clear()
            .envs(environment)
            .envs(more.iter().copied())
            .env("RUST_LOG", "trace")
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}: build the binaries first", binary.display()));
        self.keep("carillon", &text(&output));
        output
    }

    /// Runs lines of shell as the owner, with Kafka's own tools at hand.
    ///
    /// # Panics
    /// When one fails.
    pub fn shell(&self, lines: &str) {
        let output = stack_command(&self.name)
            .arg("-ec")
            .arg(lines)
            .envs(&self.owner)
            .env("CLASSPATH", self.owner("KAFKA_TOOLS_CLASSPATH"))
            .env("KAFKA_ACLS", format!("{JAVA} org.apache.kafka.tools.AclCommand"))
            .env("KAFKA_CONFIGS", format!("{JAVA} kafka.admin.ConfigCommand"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }

    fn keep(&self, name: &str, text: &str) {
        let path = self.logs.join(format!("{name}.log"));
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        std::fs::write(path, before + text).unwrap();
    }

    /// Every secret of the stack by name, as it is now.
    ///
    /// # Panics
    /// When the file cannot be read.
    #[must_use]
    pub fn secrets(&self) -> BTreeMap<String, String> {
        let text = std::fs::read_to_string(self.folder().join("secrets")).unwrap();
        text.lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// Writes other secrets down, where the stack's parts take theirs from when they are started.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn set_secrets(&self, secrets: &BTreeMap<String, String>) {
        let text = secrets.iter().fold(String::new(), |mut text, (name, value)| {
            writeln!(text, "{name}={value}").unwrap();
            text
        });
        std::fs::write(self.folder().join("secrets"), text).unwrap();
    }

    /// The stack's folder.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        checkout().join(".stack").join(&self.name)
    }

    /// Calls `scripts/stack` for it.
    pub fn stack(&self, arguments: &[&str]) {
        run_stack(&self.name, arguments);
    }

    /// A client of its API.
    pub fn client(&mut self) -> Client {
        Client::new(self.service("api").url())
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

    /// Its services.
    pub fn services(&mut self) -> &mut [Service] {
        &mut self.services
    }

    /// Everything that the services and `carillon` have said so far, by who said it: logs, metrics, health.
    ///
    /// # Panics
    /// When a service does not answer.
    pub async fn said(&self) -> Vec<(String, String)> {
        let mut said = Vec::new();
        for service in &self.services {
            for path in ["metrics", "readyz", "livez"] {
                let answer = reqwest::get(format!("{}/{path}", service.url())).await.unwrap();
                said.push((
                    format!("{} /{path}", service.name()),
                    answer.text().await.unwrap(),
                ));
            }
        }
        for file in std::fs::read_dir(&self.logs).unwrap() {
            let path = file.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            said.push((
                path.display().to_string(),
                String::from_utf8_lossy(&bytes).into_owned(),
            ));
        }
        said
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        self.services.clear();
        let name = self.name.clone();
        // A panic in here would hide the one that brought us here.
        drop(
            stack_command(&name)
                .arg(checkout().join("scripts/stack"))
                .args(["down", "--purge"])
                .output(),
        );
    }
}
