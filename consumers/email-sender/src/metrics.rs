//! What operators can see.

use std::sync::LazyLock;

use delivery::metrics::STATUSES;
use prometheus::IntCounterVec;
use service::metrics;

use crate::deliveries::{CHANNEL, Purpose};

/// Mails about accounts, by what they are about and what became of them.
pub static ACCOUNT_MAILS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counter_vec(
        "account_mails_total",
        "Mails about accounts by outcome: sent, failed, suppressed; and attempts that will be retried.",
        &["kind", "status"],
    )
});

/// Exposes zeros from the start: alerts compare with them.
pub fn touch() {
    delivery::metrics::touch(CHANNEL);
    for status in STATUSES {
        for purpose in Purpose::ALL {
            ACCOUNT_MAILS.with_label_values(&[purpose.name(), status]);
        }
    }
}
