//! The audit sink: see README.md.

use std::process::ExitCode;

use audit_sink::{Config, run};

fn main() -> ExitCode {
    service::run("audit-sink", Config::from_env, |config| &config.service, run)
}
