#![doc = include_str!("../README.md")]
#![expect(
    clippy::unwrap_used,
    reason = "a simulation that cannot go on should fail at once"
)]

mod model;
mod world;

pub use model::{Anchor, Model, Rang, Said, Spec, instant, next_occurrence};
pub use world::{Delivery, REPLICAS, World};
