//! Tells people's own services what happened: see README.md.

use std::process::ExitCode;

use webhook_sender::{Config, run};

fn main() -> ExitCode {
    service::run("webhook-sender", Config::from_env, |config| &config.service, run)
}
