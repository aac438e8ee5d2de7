//! Recurring tasks: what a series may be and what may happen to it, decided here without a database and without HTTP, and
//! carried out in `routes/recurring_tasks.rs`.

pub mod body;
mod change;
mod input;
mod occurrence;
mod rule;
mod standing;
pub mod view;

pub use change::{create, delete, end, patch, pause, resume};
pub use input::{RecurringInput, moved, reminders, skipped};
pub use occurrence::{move_to, skip, split};
pub use standing::{Decision, Occurrence, Standing, just_before};
