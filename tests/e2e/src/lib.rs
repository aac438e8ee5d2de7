//! The whole platform as processes that can be killed: a database and topics of their own on the real parts of the stack,
//! and every service's real binary. `scripts/test` builds the binaries first.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot be set up should fail at once"
)]

mod client;
mod collector;
mod ledger;
mod platform;
mod secured;
mod service;

pub use client::{Client, Created};
pub use collector::{Collector, Seen};
pub use ledger::{Ending, Ledger, Mailed, Mails};
pub use platform::{Parts, Platform, run_stack};
pub use secured::Secured;
pub use service::{Service, binaries, signal};

/// Every service, in the order of the way an event goes.
pub const SERVICES: [&str; 8] = [
    "api",
    "outbox-relay",
    "reminder-scanner",
    "email-sender",
    "webhook-sender",
    "recurrence-generator",
    "audit-sink",
    "notification-inbox",
];

/// A generator of random choices whose seed is printed, and can be given again by `E2E_SEED`.
///
/// # Panics
/// When `E2E_SEED` is no number.
#[must_use]
pub fn seeded() -> rand::rngs::StdRng {
    use rand::SeedableRng;
    let seed = match std::env::var("E2E_SEED") {
        Ok(seed) => seed.parse().expect("E2E_SEED is a number"),
        Err(_) => rand::random(),
    };
    say(&format!("E2E_SEED={seed}"));
    rand::rngs::StdRng::seed_from_u64(seed)
}

/// A line of the test's story.
#[expect(
    clippy::print_stdout,
    reason = "what a long test does and measures is read by people"
)]
pub fn say(line: &str) {
    println!("{line}");
}
