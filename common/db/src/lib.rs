#![doc = include_str!("../README.md")]

pub mod deliveries;
mod error;
pub mod inbox;
pub mod outbox;
mod patience;
mod pool;
pub mod reminders;
pub mod series;
pub mod sweep;
pub mod tasks;

pub use error::{Failure, classify, violated_constraint};
pub use patience::Patience;
pub use pool::{DatabaseConfig, PROBE_INTERVAL, detached, probe};
