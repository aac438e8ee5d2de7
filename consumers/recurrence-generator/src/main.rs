//! The recurrence generator: see README.md.

use std::process::ExitCode;

use recurrence_generator::{Config, run};

fn main() -> ExitCode {
    service::run(
        "recurrence-generator",
        Config::from_env,
        |config| &config.service,
        run,
    )
}
