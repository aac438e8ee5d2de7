//! The whole service against a real Postgres and Kafka, and the mail catcher.

mod catcher;
mod delivery;
mod fixture;
mod outages;
mod tls;
