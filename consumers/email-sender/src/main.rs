//! Mails what rang: see README.md.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::run(
        "email-sender",
        email_sender::Config::from_env,
        |config| &config.service,
        email_sender::run,
    )
}
