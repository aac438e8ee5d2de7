//! The HTTP API.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::run("api", api::Config::from_env, |config| &config.service, api::run)
}
