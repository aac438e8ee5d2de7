//! Recurring tasks: what a series may be and what may happen to it, decided here without a database and without HTTP, and
//! carried out in `routes/recurring_tasks.rs`.

pub mod body;
mod change;
mod input;
mod rule;
pub mod view;

pub use change::{
    Occurrence, carry, create, delete, end, has_occurrence, made, patch, pause, resume, upcoming,
};
pub use input::{RecurringInput, reminders};
