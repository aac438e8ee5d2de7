//! How a person wants to be notified, and the list in the page. What they say is weighed by `common/preferences`; mails are
//! sent by the email sender, and the list is kept by the notification inbox.

mod input;
pub mod store;
pub mod view;

pub use input::{SettingsPatch, read_override, read_until};
