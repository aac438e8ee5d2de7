//! `carillon schemas`.

use std::path::Path;

use anyhow::{Context, anyhow, bail};
use kafka::{KafkaConfig, Registry, RegistryConfig};

use crate::say;

pub(crate) fn check(avro: &Path, released: &Path) -> anyhow::Result<()> {
    let breaks = schemas::compat::check(avro, released).map_err(|error| anyhow!(error))?;
    for problem in &breaks {
        say(problem);
    }
    if !breaks.is_empty() {
        bail!(
            "{} incompatible changes: add a field with a default instead, or a new event",
            breaks.len()
        );
    }
    say("every schema can read what every release wrote");
    Ok(())
}

pub(crate) async fn register() -> anyhow::Result<()> {
    let (kafka, registry) = service::config::load(|env| {
        // Subjects carry the topics' prefix, so the Kafka settings are asked for too.
        let kafka = KafkaConfig::from_env(env);
        let registry = RegistryConfig::from_env(env);
        Some((kafka?, registry?))
    })?;
    let registry = Registry::new(&registry)?;
    for schema in schemas::all_schemas() {
        let subject = schema.subject(&kafka.topic_prefix);
        let id = registry
            .id(schema.fingerprint, &subject, &schema.json, true)
            .await
            .with_context(|| format!("cannot register {subject}"))?;
        say(format_args!("{id:>6}  {subject}"));
    }
    Ok(())
}
