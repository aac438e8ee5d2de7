//! Arms reminders and fires them on time. README.md says how it is configured; `lib.rs` is what runs.

use std::process::ExitCode;

use reminder_scanner::Config;

fn main() -> ExitCode {
    service::run(
        "reminder-scanner",
        Config::from_env,
        |config| &config.service,
        reminder_scanner::run,
    )
}
