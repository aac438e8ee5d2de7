//! `carillon acls`: what schemas/src/access.rs declares, as commands of the tools that brokers come with. librdkafka can set
//! access lists; its Rust client cannot, and those tools are where a broker is.

use clap::{Subcommand, ValueEnum};
use schemas::access::{Grant, Operation, Resource, grants};
use serde_json::json;
use service::config::Env;

use crate::output::{self, Format, Verdict, say};

#[derive(Debug, Subcommand)]
pub(crate) enum Acls {
    /// Prints the commands that allow everybody what they must do in Kafka, for a shell.
    ///
    /// KAFKA_TOPIC_PREFIX stands before topics and groups, as for the services.
    Print {
        /// Whose commands.
        #[arg(long, value_enum, default_value_t = Tool::Kafka)]
        tool: Tool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tool {
    /// kafka-acls.sh, or what KAFKA_ACLS says instead; it reads KAFKA_BOOTSTRAP_SERVERS and KAFKA_COMMAND_CONFIG.
    Kafka,
    /// rpk, as its profile or its variables say.
    Rpk,
}

pub(crate) fn run(command: &Acls, format: Format) -> anyhow::Result<Verdict> {
    let Acls::Print { tool } = command;
    let prefix = service::config::load(|env: &mut Env| env.or("KAFKA_TOPIC_PREFIX", String::new()))?;
    match format {
        Format::Json => output::json(&rows(&prefix))?,
        Format::Table => {
            for line in lines(*tool, &prefix) {
                say(line);
            }
        }
    }
    Ok(Verdict::Fine)
}

fn rows(prefix: &str) -> Vec<serde_json::Value> {
    let row = |grant: &Grant, resource: &Resource| {
        let (kind, name) = match resource {
            Resource::Topic(name) => ("topic", Some(format!("{prefix}{name}"))),
            Resource::Group(name) => ("group", Some(format!("{prefix}{name}"))),
            Resource::Cluster => ("cluster", None),
        };
        json!({"user": grant.user, "operation": word(Tool::Rpk, grant.operation), "resource": kind, "name": name})
    };
    let grants = grants();
    grants
        .iter()
        .flat_map(|grant| grant.resources.iter().map(|resource| row(grant, resource)))
        .collect()
}

fn lines(tool: Tool, prefix: &str) -> Vec<String> {
    // What several may do is one command: each starts a program that takes a while.
    let mut together: Vec<(Vec<&str>, Grant)> = Vec::new();
    for grant in grants() {
        let same = together
            .iter_mut()
            .find(|(_, other)| (other.operation, &other.resources) == (grant.operation, &grant.resources));
        match same {
            Some((users, _)) => users.push(grant.user),
            None => together.push((vec![grant.user], grant)),
        }
    }
    together
        .iter()
        .map(|(users, grant)| line(tool, prefix, users, grant))
        .collect()
}

fn line(tool: Tool, prefix: &str, users: &[&str], grant: &Grant) -> String {
    let mut line = match tool {
        Tool::Kafka => {
            "${KAFKA_ACLS:-kafka-acls.sh} --bootstrap-server \"$KAFKA_BOOTSTRAP_SERVERS\" \
             ${KAFKA_COMMAND_CONFIG:+--command-config \"$KAFKA_COMMAND_CONFIG\"} --add"
        }
        Tool::Rpk => "rpk security acl create",
    }
    .to_owned();
    // Names hold nothing that a shell would take for anything else: letters, digits, dots, hyphens, underscores.
    for user in users {
        line.push_str(&format!(" --allow-principal User:{user}"));
    }
    line.push_str(&format!(" --operation {}", word(tool, grant.operation)));
    for resource in &grant.resources {
        line.push_str(&match resource {
            Resource::Topic(name) => format!(" --topic {prefix}{name}"),
            Resource::Group(name) => format!(" --group {prefix}{name}"),
            Resource::Cluster => " --cluster".to_owned(),
        });
    }
    line
}

fn word(tool: Tool, operation: Operation) -> &'static str {
    match (tool, operation) {
        (Tool::Kafka, Operation::Read) => "Read",
        (Tool::Kafka, Operation::Write) => "Write",
        (Tool::Kafka, Operation::IdempotentWrite) => "IdempotentWrite",
        (Tool::Kafka, Operation::Describe) => "Describe",
        (Tool::Kafka, Operation::DescribeConfigs) => "DescribeConfigs",
        (Tool::Rpk, Operation::Read) => "read",
        (Tool::Rpk, Operation::Write) => "write",
        (Tool::Rpk, Operation::IdempotentWrite) => "idempotent_write",
        (Tool::Rpk, Operation::Describe) => "describe",
        (Tool::Rpk, Operation::DescribeConfigs) => "describe_configs",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_grant_is_in_a_command_with_all_it_is_about_and_the_prefix() {
        let kafka = lines(Tool::Kafka, "p.");
        for grant in grants() {
            let user = format!("--allow-principal User:{} ", grant.user);
            let operation = format!("--operation {:?} ", grant.operation);
            let named = |line: &&String| {
                grant.resources.iter().all(|resource| match resource {
                    Resource::Topic(name) => line.contains(&format!("--topic p.{name}")),
                    Resource::Group(name) => line.contains(&format!("--group p.{name}")),
                    Resource::Cluster => line.ends_with("--cluster"),
                })
            };
            assert!(
                kafka
                    .iter()
                    .filter(named)
                    .any(|line| line.contains(&user) && line.contains(&operation)),
                "{grant:?} in {kafka:?}"
            );
        }
        assert!(
            kafka.iter().any(|line| line.ends_with(
                "--add --allow-principal User:email-sender --operation Read --topic p.task-reminders \
                 --topic p.task-reminders.email-sender.retry --group p.email-sender"
            )),
            "{kafka:?}"
        );
        let rpk = lines(Tool::Rpk, "");
        assert!(
            rpk.contains(
                &"rpk security acl create --allow-principal User:outbox-relay --operation write --topic task-events \
                  --topic task-reminders --topic notification-events"
                    .to_owned()
            ),
            "{rpk:?}"
        );
    }
}
