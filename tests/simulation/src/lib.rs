#![doc = include_str!("../README.md")]
#![expect(
    clippy::unwrap_used,
    reason = "a simulation that cannot go on should fail at once"
)]

mod course;
mod model;
mod world;

pub use course::{Changes, Course, Effect, Instance, Overlap, Refused, Rhythm};
pub use model::{Anchor, Model, Rang, Said, Spec, instant, own_time};
pub use world::{Delivery, REPLICAS, World};
