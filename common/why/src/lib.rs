#![doc = include_str!("../README.md")]

mod facts;
mod story;
mod words;

pub use facts::{Delivery, Fate, Happening, What, of_reminder, of_task, owner_of};
pub use story::{Happened, Story, tell};
