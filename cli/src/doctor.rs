//! `carillon doctor`: looks at everything that the services need, and says what is wrong and how to mend it.

mod brokers;
mod database;
mod mail;
mod registry;

use std::time::Duration;

use kafka::{KafkaConfig, RegistryConfig};
use secrecy::SecretString;
use serde::Serialize;

use crate::output::{self, Format, Verdict, printable, say};

/// How long whatever is asked has to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What is wrong.
    what: String,
    /// Why it matters.
    why: &'static str,
    /// What mends it: a command, or what to do.
    mend: String,
}

impl Finding {
    fn new(what: impl Into<String>, why: &'static str, mend: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            why,
            mend: mend.into(),
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    name: &'static str,
    /// Why it could not be looked at, if so: something else must be mended first.
    skipped: Option<&'static str>,
    findings: Vec<Finding>,
}

impl Check {
    fn done(name: &'static str, findings: Vec<Finding>) -> Self {
        Self {
            name,
            skipped: None,
            findings,
        }
    }

    fn skipped(name: &'static str, why: &'static str) -> Self {
        Self {
            name,
            skipped: Some(why),
            findings: Vec::new(),
        }
    }
}

struct Config {
    database: SecretString,
    kafka: KafkaConfig,
    registry: RegistryConfig,
    mail: Option<mail::Server>,
}

pub(crate) async fn run(format: Format) -> anyhow::Result<Verdict> {
    let config = service::config::load(|env| {
        let database = env.secret("DATABASE_URL");
        let kafka = KafkaConfig::from_env(env);
        let registry = RegistryConfig::from_env(env);
        let mail = mail::Server::from_env(env);
        Some(Config {
            database: database?,
            kafka: kafka?,
            registry: registry?,
            mail: mail?,
        })
    })?;
    let (database, brokers, registry, mail) = tokio::join!(
        database::look(&config.database),
        brokers::look(&config.kafka),
        registry::look(&config.registry, &config.kafka),
        mail::look(config.mail.as_ref()),
    );
    let checks: Vec<Check> = [database, brokers, registry, mail]
        .into_iter()
        .flatten()
        .collect();
    let wrong = checks.iter().map(|check| check.findings.len()).sum::<usize>();
    match format {
        Format::Json => output::json(&checks)?,
        Format::Table => {
            for check in &checks {
                print(check);
            }
            say(match wrong {
                0 => "Nothing is wrong.".to_owned(),
                n => format!("Wrong: {}.", output::count(n, "thing")),
            });
        }
    }
    Ok(Verdict::wrong_if(wrong > 0))
}

fn print(check: &Check) {
    if let Some(why) = check.skipped {
        say(format_args!("skipped  {}: {why}", check.name));
    } else if check.findings.is_empty() {
        say(format_args!("ok       {}", check.name));
    }
    for finding in &check.findings {
        say(format_args!(
            "WRONG    {}: {}",
            check.name,
            printable(&finding.what)
        ));
        say(format_args!("         {}", finding.why));
        say(format_args!("         mend: {}", printable(&finding.mend)));
    }
}
