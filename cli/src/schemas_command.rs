//! `carillon schemas`.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Subcommand;
use kafka::{KafkaConfig, Registry, RegistryConfig};
use serde_json::json;

use crate::output::{self, Format, Verdict, note, say};

#[derive(Debug, Subcommand)]
pub(crate) enum Schemas {
    /// Refuses schemas that cannot follow those of a release.
    ///
    /// Today's readers must be able to read whatever a released version wrote. Exit code 1 when one cannot.
    Check {
        /// The folder of .avsc files.
        #[arg(long, default_value = "schemas/avro")]
        avro: PathBuf,
        /// The folder with one folder per release.
        #[arg(long, default_value = "schemas/released")]
        released: PathBuf,
    },
    /// Registers every schema.
    ///
    /// For installations whose relay may not (SCHEMA_REGISTRY_AUTO_REGISTER=false).
    Register,
}

pub(crate) async fn run(command: Schemas, format: Format) -> anyhow::Result<Verdict> {
    match command {
        Schemas::Check { avro, released } => check(&avro, &released, format),
        Schemas::Register => register(format).await,
    }
}

fn check(avro: &Path, released: &Path, format: Format) -> anyhow::Result<Verdict> {
    let breaks = schemas::compat::check(avro, released).map_err(|error| anyhow!(error))?;
    let breaks: Vec<String> = breaks.iter().map(ToString::to_string).collect();
    match format {
        Format::Json => output::json(&breaks)?,
        Format::Table if breaks.is_empty() => say("every schema can read what every release wrote"),
        Format::Table => {
            breaks.iter().for_each(say);
            note(format_args!(
                "{} incompatible changes: add a field with a default instead, or a new event",
                breaks.len()
            ));
        }
    }
    Ok(Verdict::wrong_if(!breaks.is_empty()))
}

async fn register(format: Format) -> anyhow::Result<Verdict> {
    let (kafka, registry) = service::config::load(|env| {
        // Subjects carry the topics' prefix, so the Kafka settings are asked for too.
        let kafka = KafkaConfig::from_env(env);
        let registry = RegistryConfig::from_env(env);
        Some((kafka?, registry?))
    })?;
    let registry = Registry::new(&registry)?;
    let mut rows = Vec::new();
    for schema in schemas::all_schemas() {
        let subject = schema.subject(&kafka.topic_prefix);
        let id = registry
            .id(schema.fingerprint, &subject, &schema.json, true)
            .await
            .with_context(|| format!("cannot register {subject}"))?;
        rows.push(json!({"id": id, "subject": subject}));
        if format == Format::Table {
            say(format_args!("{id:>6}  {subject}"));
        }
    }
    if format == Format::Json {
        output::json(&rows)?;
    }
    Ok(Verdict::Fine)
}
