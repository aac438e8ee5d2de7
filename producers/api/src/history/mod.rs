//! What happened to what is a person's: events as the audit sink wrote them down, which is a moment after they happened.

mod entry;
mod query;
mod trail;

pub use entry::Entry;
pub use query::{Query, QueryParameters, TaskParameter};
pub use trail::{page, task_is_known};
