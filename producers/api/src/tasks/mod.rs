//! What a task may be and what may happen to it: decided here without a database and without HTTP, and carried out in
//! `routes/tasks.rs`.

pub mod body;
mod change;
pub mod following;
pub mod input;
pub mod merge;
pub mod view;

pub use change::{
    Change, KEPT_AFTER_DELETION, complete, create, delete, dismiss, patch, reopen, restore, retag, snooze,
    update, with_events,
};
pub use following::Person;
pub use input::{MAX_TAG_CHARS, MAX_TAGS, TaskInput, follows};

#[cfg(test)]
mod tests;
