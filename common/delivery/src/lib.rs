#![doc = include_str!("../README.md")]

mod channel;
mod claim;
mod decision;
pub mod metrics;
mod record;
mod retention;
pub mod retry;
mod send;

pub use channel::{About, Call, Channel, Leave, Outcomes, call};
pub use claim::{Claim, Outcome, RecordError, Recorded, Verdict, milliseconds, since, write};
pub use decision::{Occasion, decide, reconsider};
pub use retention::sweep_hourly;
pub use send::{SendLoop, stale_after};
