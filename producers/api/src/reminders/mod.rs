//! Reminders for themselves: what a request to put one off says, and how one is shown. What may happen to them is in
//! `tasks/change.rs`, since they are part of their task.

mod input;
pub mod view;

pub use input::Delay;

/// The states that a list can be of.
pub const STATES: &str = "armed, fired, missed, cancelled";
