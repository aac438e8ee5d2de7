//! The command as a shell sees it, on a database and topics of each test's own.
#![expect(clippy::unwrap_used, reason = "tests")]

mod audit;
mod commands;
mod doctor;
mod occurrences;

use std::process::{Command, Output};

use serde_json::Value;
use support::{Database, Topics, stack};

/// What a command works on.
struct SetUp {
    database: Database,
    topics: Topics,
    /// Variables beside the usual ones, or in their place.
    settings: Vec<(&'static str, String)>,
}

/// What a command said.
struct Answer {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {} {}", self.out, self.err))
    }
}

impl SetUp {
    async fn create() -> Self {
        let (database, topics) = tokio::join!(Database::create(), Topics::create());
        Self::of(database, topics)
    }

    fn of(database: Database, topics: Topics) -> Self {
        Self {
            database,
            topics,
            settings: Vec::new(),
        }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.settings.push((name, value.into()));
        self
    }

    /// Runs the command.
    async fn run(&self, arguments: &[&str]) -> Answer {
        let mut command = Command::new(env!("CARGO_BIN_EXE_carillon"));
        command
            .args(arguments)
            .env_clear()
            .env("DATABASE_URL", self.database.url(migrations::OPERATOR))
            .env("KAFKA_BOOTSTRAP_SERVERS", stack("KAFKA_BOOTSTRAP_SERVERS"))
            .env("KAFKA_TOPIC_PREFIX", self.topics.config().topic_prefix)
            .env("SCHEMA_REGISTRY_URL", stack("SCHEMA_REGISTRY_URL"))
            .envs(self.settings.iter().map(|(name, value)| (name, value)));
        let ran = tokio::task::spawn_blocking(move || command.output())
            .await
            .unwrap();
        let Output {
            status,
            stdout,
            stderr,
        } = ran.unwrap();
        Answer {
            code: status.code(),
            out: String::from_utf8(stdout).unwrap(),
            err: String::from_utf8(stderr).unwrap(),
        }
    }
}
