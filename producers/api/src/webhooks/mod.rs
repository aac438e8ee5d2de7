//! Webhooks: where a person wants to be told of events, and the log of what was sent there. The webhook sender sends.

mod input;
pub mod store;
pub mod view;
mod webhook;

pub use input::{Replay, Rotation, WebhookInput};
pub use webhook::{MAX_WEBHOOKS, Webhook, create, patch};
