//! The metrics of this service.

use std::sync::LazyLock;

use delivery::metrics::NOTIFICATIONS;
use preferences::Channel;
use prometheus::IntCounter;

/// Rows that were listed.
pub static LISTED: LazyLock<IntCounter> =
    LazyLock::new(|| NOTIFICATIONS.with_label_values(&[Channel::InApp.name(), "sent"]));

/// Makes them be there from the start.
pub fn touch() {
    LazyLock::force(&LISTED);
}
