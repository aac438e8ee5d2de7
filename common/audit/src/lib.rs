#![doc = include_str!("../README.md")]

mod chain;
mod row;
mod verify;

pub use chain::{GENESIS, Hash, Kind, Seal, SealKey, hex};
pub use row::{COLUMNS, LEAF_BYTES, Leaf, leaf, person};
pub use verify::{Anchor, Error, Finding, Range, Report, What, verify};
