//! The whole service against a real Postgres and Kafka, and the mail catcher.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot be set up should fail at once"
)]

mod account_mails;
mod bounces;
mod catcher;
mod delivery;
mod fairness;
mod fixture;
mod outages;
mod pace;
mod postfix;
mod preferences;
mod rendered;
mod retention;
mod tls;
