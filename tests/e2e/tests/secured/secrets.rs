//! Secrets change while the services run, and nobody tells one.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use e2e::Secured;
use schemas::access::OUTBOX_RELAY;
use schemas::topics::EMAIL_SENDER;
use support::eventually;

/// Whose password for Kafka is changed too, which takes a program of Kafka's for each: who produces, and who consumes.
const KAFKA_CHANGES: [&str; 2] = [OUTBOX_RELAY, EMAIL_SENDER.name];

/// Gives every service other passwords, in its files and where they are asked for, and then cuts all connections.
pub(crate) async fn change(secured: &mut Secured) {
    let mut secrets = secured.secrets();
    let is_of_a_service = |name: &str| {
        name == "SMTP_PASSWORD"
            || ["_DATABASE_PASSWORD", "_SCHEMA_REGISTRY_PASSWORD"]
                .iter()
                .any(|end| name.ends_with(end))
            || KAFKA_CHANGES
                .iter()
                .any(|service| name == kafka_password(service))
    };
    let mut changed = BTreeMap::new();
    for (name, value) in &mut secrets {
        if is_of_a_service(name) {
            let other: String = value.chars().rev().collect();
            changed.insert(value.clone(), other.clone());
            *value = other;
        }
    }
    secured.set_secrets(&secrets);
    let more: Vec<(&str, &str)> = secrets
        .iter()
        .filter(|(name, _)| name.ends_with("_DATABASE_PASSWORD"))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    secured.own(&["migrate"], &more);
    let configs: Vec<String> = KAFKA_CHANGES
        .iter()
        .map(|service| {
            let password = &secrets[&kafka_password(service)];
            format!(
                "$KAFKA_CONFIGS --bootstrap-server \"$KAFKA_BOOTSTRAP_SERVERS\" --command-config \"$KAFKA_COMMAND_CONFIG\" \
                 --alter --entity-type users --entity-name {service} --add-config 'SCRAM-SHA-512=[password={password}]'"
            )
        })
        .collect();
    secured.shell(&configs.join("\n"));
    for service in std::fs::read_dir(secured.folder().join("services")).unwrap() {
        for file in std::fs::read_dir(service.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let content = std::fs::read_to_string(&path).unwrap();
            let content = changed
                .iter()
                .fold(content, |text, (old, new)| text.replace(old, new));
            std::fs::write(&path, content).unwrap();
        }
    }
    // Each looks at its files every second, and says so.
    for service in migrations::SERVICES {
        let log = secured.service(service).log().to_owned();
        let kafka = KAFKA_CHANGES
            .contains(&service)
            .then_some("KAFKA_SASL_PASSWORD has changed");
        for words in ["DATABASE_URL has changed"].into_iter().chain(kafka) {
            eventually(&format!("{service}: {words}"), async || {
                std::fs::read_to_string(&log)
                    .unwrap()
                    .contains(words)
                    .then_some(())
            })
            .await;
        }
    }
    secured.stack(&["stop", "kafka", "postgres", "proxy", "mail"]);
    secured.stack(&["start", "kafka", "postgres", "proxy", "mail"]);
    secured.ready().await;
}

fn kafka_password(service: &str) -> String {
    format!("{}_KAFKA_PASSWORD", service.replace('-', "_").to_uppercase())
}

/// The lines of the API's signing key.
fn private_key(secured: &Secured) -> Vec<String> {
    let pem = std::fs::read_to_string(secured.folder().join("jwt.pem")).unwrap();
    pem.lines()
        .filter(|line| !line.starts_with('-'))
        .map(str::to_owned)
        .collect()
}

/// Looks through all that was said for each secret, as it is and as protocols write it.
pub(crate) async fn are_not_told(secured: &Secured, secrets: &BTreeSet<String>) {
    let said = secured.said().await;
    // The words that a service starts with are there, so what follows looks into something.
    for service in migrations::SERVICES {
        assert!(
            said.iter()
                .any(|(who, text)| who.contains(service) && text.contains("TRACE")),
            "{service} logs at its most talkative"
        );
    }
    let keys = private_key(secured);
    for secret in secrets.iter().chain(&keys) {
        assert!(secret.len() >= 16, "what is so short is found everywhere");
        let mut forms = vec![
            secret.clone(),
            STANDARD.encode(secret),
            STANDARD.encode(format!("\0carillon\0{secret}")),
        ];
        for user in migrations::roles().chain(["carillon"]) {
            forms.push(STANDARD.encode(format!("{user}:{secret}")));
            forms.push(URL_SAFE.encode(format!("{user}:{secret}")));
        }
        for form in forms {
            for (who, text) in &said {
                if let Some(at) = text.find(&form) {
                    let line = text[..at].lines().last().unwrap_or_default();
                    panic!("{who} tells a secret behind: {line}");
                }
            }
        }
    }
}
