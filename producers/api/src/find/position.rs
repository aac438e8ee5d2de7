//! Where a page ends: the place of its last task in the order of the list.

use schemas::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A place in a list. Behind it comes what is later in the order of the list, whatever was inserted, changed or deleted
/// meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// When the first page was read: "today" and "overdue" go on meaning what they meant then, and where the order depends
    /// on what may change, a task that has changed since is left out, since it may have been shown already.
    #[serde(with = "chrono::serde::ts_microseconds")]
    pub read_at: Timestamp,
    /// What the list is sorted by.
    pub key: Key,
    /// Of equals, the order is that of their ids.
    pub id: Uuid,
}

/// What a list is sorted by, of one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Key {
    /// Nothing but the id, whose order is that of creation (UUIDv7).
    Created,
    /// When it was updated, or is due.
    #[serde(with = "chrono::serde::ts_microseconds")]
    At(Timestamp),
    /// It is never due. Such tasks come last, in both directions.
    NeverDue,
    /// The place of its priority, 1 for the lowest.
    Priority(i32),
    /// The beginning of its title.
    Title(String),
    /// How well it matches the words.
    Rank(i32),
    /// Nothing matches the words: how similar its title is to them.
    Similarity(i32),
}
