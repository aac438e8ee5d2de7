#![doc = include_str!("../README.md")]

mod acls;
mod arguments;
mod audit;
mod database;
mod deliveries;
mod dlq;
mod doctor;
mod key;
mod lag;
mod migrate;
mod occurrences;
mod outbox;
mod output;
mod replay;
mod schemas_command;
mod topics;
mod why;

use std::net::Ipv4Addr;
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use service::config::ConfigProblems;

use crate::output::{Format, Usage, Verdict};

/// The exit codes, below the help of the command.
const EXIT_CODES: &str = "Exit codes: 0 all is well; 1 something is wrong, found or met on the way; 2 the command line or the \
    configuration is not accepted.";

/// Carillon's operator command.
///
/// It takes the same environment variables as the services. docs/OPERATIONS.md says what to run when.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// How the answer is printed.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Looks at everything that the services need, and says what is wrong.
    ///
    /// Postgres, its migrations, rights and clock; the outbox; Kafka, its topics, groups and dead letters; the registry and its
    /// schemas; and the mail server, if SMTP_HOST is set. Of each thing that is wrong: what, why it matters, and what mends it.
    Doctor,
    /// Applies the database migrations that are missing.
    ///
    /// Safe to run by many at once. DATABASE_URL is the owner's; `<SERVICE>_DATABASE_PASSWORD` (or `…_FILE`), where set, becomes
    /// the password of that service's role, and OPERATOR_DATABASE_PASSWORD that of carillon_operator.
    Migrate,
    Key(key::Key),
    /// Asks a service on this machine whether it lives. Exit code 1 when it does not.
    ///
    /// For the health check of images, in which there is no other program to ask with.
    Healthcheck {
        /// Where the service listens.
        #[arg(long, env = "HTTP_PORT")]
        port: u16,
    },
    /// Who may do what in Kafka, as it is declared in schemas/src/access.rs.
    #[command(subcommand)]
    Acls(acls::Acls),
    /// The audit trail.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Topics, as they are declared in schemas/src/topics.rs.
    #[command(subcommand)]
    Topics(topics::Topics),
    /// Event schemas.
    #[command(subcommand)]
    Schemas(schemas_command::Schemas),
    /// Dead letters: records that a consumer could not handle.
    #[command(subcommand)]
    Dlq(dlq::Dlq),
    Lag(lag::Lag),
    /// Events on their way to Kafka.
    ///
    /// DATABASE_URL is the operator's, as carillon_operator.
    #[command(subcommand)]
    Outbox(outbox::Outbox),
    /// What is sent to people.
    ///
    /// DATABASE_URL is the operator's, as carillon_operator.
    #[command(subcommand)]
    Deliveries(deliveries::Deliveries),
    Replay(replay::Replay),
    /// Tells what happened to a reminder, or to all of a task, and what will.
    ///
    /// DATABASE_URL is the owner's: it reads what people wrote.
    Why(why::Why),
    /// Prints when something recurs.
    ///
    /// By rules, dates and exceptions as iCalendar has them. Exit code 2, with the reason, for a rule that is no good.
    Occurrences(occurrences::Occurrences),
    /// Prints what makes a shell complete this command.
    ///
    /// In bash: source <(carillon completions bash).
    Completions {
        /// The shell.
        shell: Shell,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { command, format } = Arguments::parse();
    match run(command, format).await {
        Ok(Verdict::Fine) => ExitCode::SUCCESS,
        Ok(Verdict::Wrong) => ExitCode::FAILURE,
        Err(error) => {
            output::note(format_args!(
                "carillon: {}",
                output::printable_lines(&format!("{error:#}"))
            ));
            let usage = error.is::<Usage>() || error.is::<ConfigProblems>();
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}

async fn run(command: Command, format: Format) -> anyhow::Result<Verdict> {
    match command {
        Command::Doctor => doctor::run(format).await,
        Command::Migrate => migrate::run(format).await,
        Command::Key(arguments) => key::run(&arguments, format),
        Command::Healthcheck { port } => {
            service::healthcheck::ask((Ipv4Addr::LOCALHOST, port).into())
                .with_context(|| format!("the service at port {port} is not healthy"))?;
            Ok(Verdict::Fine)
        }
        Command::Acls(command) => acls::run(&command, format),
        Command::Audit(command) => audit::run(&command, format).await,
        Command::Topics(command) => topics::run(command, format).await,
        Command::Schemas(command) => schemas_command::run(command, format).await,
        Command::Dlq(command) => dlq::run(command, format).await,
        Command::Lag(arguments) => lag::run(&arguments, format).await,
        Command::Outbox(command) => outbox::run(command, format).await,
        Command::Deliveries(command) => deliveries::run(command, format).await,
        Command::Replay(arguments) => replay::run(&arguments, format).await,
        Command::Why(arguments) => why::run(&arguments, format).await,
        Command::Occurrences(arguments) => occurrences::run(&arguments, format),
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Arguments::command(),
                "carillon",
                &mut std::io::stdout(),
            );
            Ok(Verdict::Fine)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }
}
