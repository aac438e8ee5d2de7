//! The whole service against a real Postgres and Kafka, and a real HTTP receiver on loopback.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot be set up should fail at once"
)]

mod answers;
mod events;
mod fairness;
mod fixture;
mod outages;
mod receiver;
mod retention;
