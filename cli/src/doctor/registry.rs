//! The schema registry: whether it answers, and has what this version writes.

use kafka::{KafkaConfig, Registry, RegistryConfig, RegistryError};

use super::{Check, Finding};
use crate::output::count;

pub(super) async fn look(config: &RegistryConfig, kafka: &KafkaConfig) -> Vec<Check> {
    match schemas_of(config, kafka).await {
        Ok(findings) => vec![
            Check::done("registry", Vec::new()),
            Check::done("schemas", findings),
        ],
        Err(how) => {
            let finding = Finding::new(
                format!("the schema registry does not answer at {}: {how}", config.url),
                "The relay cannot publish events with a schema that is new to it, and consumers cannot read them: both wait.",
                "start the registry, or mend SCHEMA_REGISTRY_URL, _CA_FILE, _USERNAME and _PASSWORD",
            );
            vec![
                Check::done("registry", vec![finding]),
                Check::skipped("schemas", "the registry must be there first"),
            ]
        }
    }
}

async fn schemas_of(config: &RegistryConfig, kafka: &KafkaConfig) -> Result<Vec<Finding>, String> {
    let registry = Registry::new(config).map_err(|error| error.to_string())?;
    let mut findings = Vec::new();
    let mut missing = Vec::new();
    for schema in schemas::all_schemas() {
        let subject = schema.subject(&kafka.topic_prefix);
        match registry
            .id(schema.fingerprint, &subject, &schema.json, false)
            .await
        {
            Ok(_) => continue,
            Err(RegistryError::Refused { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
        let latest = registry
            .latest(&subject)
            .await
            .map_err(|error| error.to_string())?;
        match latest.and_then(|latest| schemas::compat::unreadable_json(&latest, schema)) {
            Some(problem) => findings.push(Finding::new(
                format!("the newest schema of {subject} in the registry is not compatible with this version's: {problem}"),
                "Its events cannot be published, or not be read: the outbox waits, or letters pile up.",
                "find out who registered it; deploy the version that belongs to it, or delete it from the registry",
            )),
            None => missing.push(subject),
        }
    }
    if !missing.is_empty() {
        findings.push(Finding::new(
            format!("not registered: {} ({})", count(missing.len(), "schema"), missing.join(", ")),
            "A relay that may not register them (SCHEMA_REGISTRY_AUTO_REGISTER=false) stops at the first event of each.",
            "carillon schemas register",
        ));
    }
    Ok(findings)
}
