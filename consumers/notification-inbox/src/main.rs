//! Keeps the list of notifications in the page: see README.md.

use std::process::ExitCode;

use notification_inbox::{Config, run};

fn main() -> ExitCode {
    service::run(
        "notification-inbox",
        Config::from_env,
        |config| &config.service,
        run,
    )
}
