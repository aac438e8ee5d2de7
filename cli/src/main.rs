//! `carillon`: what operators and scripts do around the services.

mod migrate;
mod occurrences;
mod schema_gate;
mod topics;
mod why;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Carillon's operator command. It takes the same environment variables as the services.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Applies the database migrations that are missing. Safe to run by many at once. DATABASE_URL is the owner's;
    /// `<SERVICE>_DATABASE_PASSWORD` (or `…_FILE`), where set, becomes the password of that service's role.
    Migrate,
    /// Prints when something recurs: of rules, dates and exceptions as iCalendar has them. Exit code 2, with the reason,
    /// for a rule that is no good.
    Occurrences(occurrences::Occurrences),
    /// Tells what happened to a reminder, or to all of a task, and what will. DATABASE_URL is the owner's.
    Why(why::Why),
    /// Topics, as they are declared in schemas/src/topics.rs.
    #[command(subcommand)]
    Topics(Topics),
    /// Event schemas.
    #[command(subcommand)]
    Schemas(Schemas),
}

#[derive(Debug, Subcommand)]
enum Topics {
    /// Creates the topics that do not exist.
    Ensure {
        /// Copies of each partition.
        #[arg(long, env = "KAFKA_REPLICATION_FACTOR", default_value_t = 1)]
        replication_factor: i32,
    },
    /// Compares what the cluster has with what is declared. Exit code 1 when they differ.
    Describe,
}

#[derive(Debug, Subcommand)]
enum Schemas {
    /// Refuses schemas that today's readers could not use for what a released version wrote. Exit code 1 when one is.
    Check {
        /// The folder of .avsc files.
        #[arg(long, default_value = "schemas/avro")]
        avro: PathBuf,
        /// The folder with one folder per release.
        #[arg(long, default_value = "schemas/released")]
        released: PathBuf,
    },
    /// Registers every schema, for installations whose relay may not (SCHEMA_REGISTRY_AUTO_REGISTER=false).
    Register,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Migrate => migrate::run().await,
        Command::Occurrences(arguments) => occurrences::run(&arguments),
        Command::Why(arguments) => why::run(&arguments).await,
        Command::Topics(Topics::Ensure { replication_factor }) => topics::ensure(replication_factor).await,
        Command::Topics(Topics::Describe) => topics::describe().await,
        Command::Schemas(Schemas::Check { avro, released }) => schema_gate::check(&avro, &released),
        Command::Schemas(Schemas::Register) => schema_gate::register().await,
    }
}

/// What a command prints for people.
#[expect(clippy::print_stdout, reason = "standard output is a command's answer")]
fn say(line: impl std::fmt::Display) {
    println!("{line}");
}
