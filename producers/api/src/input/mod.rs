//! Reading what clients send: JSON without doubles, then field by field, so that one answer names everything that is
//! wrong.

mod fields;
mod json;
pub mod read;

pub use fields::{Field, Fields, Place, Problems};
pub use json::parse;
