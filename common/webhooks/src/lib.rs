#![doc = include_str!("../README.md")]

mod address;
mod policy;
mod queue;
mod secret;
mod types;

pub use address::is_public;
pub use policy::{MAX_URL_CHARS, Policy, UrlProblem};
pub use queue::{STATES, delivery_id, retry, wake};
pub use secret::{Secret, SecretProblem, Signature};
pub use types::{TEST, types};
