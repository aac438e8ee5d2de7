//! Recurring tasks: what a series may be and what may happen to it, decided without a database and carried out by
//! `edit.rs`, all of it without HTTP.

pub mod body;
mod change;
mod edit;
mod input;
mod occurrence;
mod rule;
mod standing;
pub mod view;

pub use change::create;
pub use edit::{Edit, Edited, insert, no_such_series};
pub use input::reminders;
pub use standing::{Occurrence, Standing};
