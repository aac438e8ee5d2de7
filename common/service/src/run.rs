use std::fmt::Debug;
use std::io::Write;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::config::{self, Env, ServiceConfig};
use crate::{healthcheck, metrics, runtime, shutdown, telemetry, trace};

/// The exit code of a process that was configured wrongly (`EX_CONFIG` of sysexits.h): starting it again is
/// useless.
pub const EX_CONFIG: u8 = 78;

/// The exit code for a command line that is not accepted (`EX_USAGE` of sysexits.h).
const EX_USAGE: u8 = 64;

/// How long the last spans may take to get out, of what is left of the shutdown budget.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// All crates of the workspace share their version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The whole of a service's `main`.
///
/// Without arguments it reads the configuration, starts logging, logs the configuration through its `Debug`
/// (so secrets must be [`SecretString`](secrecy::SecretString)s), and runs `service` until it returns. The
/// token it is given is cancelled at SIGTERM or SIGINT. `--version` and `--help` do what they say;
/// `healthcheck` asks the running service for its `/livez`. Other arguments that start with a dash reach
/// `from_env` as [`Env::flag`]s.
///
/// The exit code is 0 after an orderly stop (or good health), 1 after a failure, [`EX_CONFIG`] for a
/// configuration that is not accepted, 64 for an unknown command, and 130 when a second signal cut the stop
/// short.
pub fn run<C, F>(
    name: &'static str,
    from_env: impl FnOnce(&mut Env) -> Option<C>,
    service_config: impl FnOnce(&C) -> &ServiceConfig,
    service: impl FnOnce(C, CancellationToken) -> F,
) -> ExitCode
where
    C: Debug,
    F: Future<Output = anyhow::Result<()>>,
{
    let (flags, probe) = match Command::parse(std::env::args().skip(1)) {
        Command::Version => return print(&format!("{name} {VERSION}")),
        Command::Help => {
            return print(&format!(
                "{name}: configured by environment variables, see README.md. Commands: healthcheck"
            ));
        }
        Command::Unknown(argument) => {
            eprintln!("{name}: {argument} is not a command of this service: try --help");
            return ExitCode::from(EX_USAGE);
        }
        Command::HealthCheck => (Vec::new(), true),
        Command::Run { flags } => (flags, false),
    };
    let config = match config::load_from(Env::from_process().with_flags(flags), from_env) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{name} cannot start, its configuration has problems:\n{problems}");
            return ExitCode::from(EX_CONFIG);
        }
    };
    let common = service_config(&config).clone();
    let result = if probe {
        healthcheck::ask(common.http_bind).map_err(|error| eprintln!("{name} is not healthy: {error}"))
    } else {
        start(name, &common, config, service)
            .map_err(|error| tracing::error!(error = format!("{error:#}"), "stopped by a failure"))
    };
    result.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

fn start<C, F>(
    name: &'static str,
    common: &ServiceConfig,
    config: C,
    service: impl FnOnce(C, CancellationToken) -> F,
) -> anyhow::Result<()>
where
    C: Debug,
    F: Future<Output = anyhow::Result<()>>,
{
    telemetry::init(common, name);
    metrics::int_gauge_vec(
        "build_info",
        "Always 1; the labels say what runs.",
        &["service", "version"],
    )
    .with_label_values(&[name, VERSION])
    .set(1);
    tracing::info!(version = VERSION, ?config, "starting");
    let export = trace::start(&common.traces, name)?;
    let runtime = runtime::build(common.worker_threads)?;
    let stopping = Arc::new(OnceLock::new());
    let result = runtime.block_on(async {
        let shutdown = shutdown::on_signal()?;
        let (asked, at) = (shutdown.clone(), Arc::clone(&stopping));
        tokio::spawn(async move {
            asked.cancelled().await;
            at.get_or_init(Instant::now);
        });
        service(config, shutdown).await
    });
    // Dropping it would wait without bound for blocking calls. What had to end in order has ended by now.
    runtime.shutdown_background();
    if let Some(export) = export {
        let gone = stopping.get().map_or(Duration::ZERO, Instant::elapsed);
        export.finish(LAST_SPANS.min(common.shutdown_budget.saturating_sub(gone)));
    }
    if result.is_ok() {
        tracing::info!("stopped");
    }
    result
}

fn print(line: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{line}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

#[derive(Debug, PartialEq)]
enum Command {
    Run { flags: Vec<String> },
    HealthCheck,
    Version,
    Help,
    Unknown(String),
}

impl Command {
    fn parse(arguments: impl IntoIterator<Item = String>) -> Self {
        let mut flags = Vec::new();
        for argument in arguments {
            match argument.as_str() {
                "healthcheck" => return Self::HealthCheck,
                "--version" | "-V" => return Self::Version,
                "--help" | "-h" | "help" => return Self::Help,
                flag if flag.starts_with('-') => flags.push(argument),
                _ => return Self::Unknown(argument),
            }
        }
        Self::Run { flags }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Command {
        Command::parse(arguments.iter().map(ToString::to_string))
    }

    #[test]
    fn without_arguments_the_service_runs() {
        assert_eq!(parse(&[]), Command::Run { flags: Vec::new() });
    }

    #[test]
    fn flags_are_left_to_the_configuration() {
        assert_eq!(
            parse(&["--once"]),
            Command::Run {
                flags: vec!["--once".to_owned()]
            }
        );
    }

    #[test]
    fn version_help_and_healthcheck_are_commands() {
        assert_eq!(parse(&["--version"]), Command::Version);
        assert_eq!(parse(&["--help"]), Command::Help);
        assert_eq!(parse(&["healthcheck"]), Command::HealthCheck);
    }

    #[test]
    fn a_word_that_is_no_command_is_refused() {
        assert_eq!(parse(&["--once", "start"]), Command::Unknown("start".to_owned()));
    }
}
