//! Publishes the outbox to Kafka. README.md says how it is configured; `lib.rs` is what runs.

use std::process::ExitCode;

use outbox_relay::Config;

fn main() -> ExitCode {
    service::run(
        "outbox-relay",
        Config::from_env,
        |config| &config.service,
        outbox_relay::run,
    )
}
