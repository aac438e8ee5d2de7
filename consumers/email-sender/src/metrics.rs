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

/// Addresses that turned out dead: the server refused them, or a report came back.
pub static BOUNCES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counter_vec(
        "mail_bounces_total",
        "Times that an address was found to take no mail, by how: refusal, report.",
        &["source"],
    )
});

/// Mails that were claimed and not tried, because of the pace of their domain.
pub static PUT_OFF: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counter_vec(
        "mails_put_off_total",
        "Times that a mail was put off untried, by why: the domain puts mail off (paused), or has enough of it (busy).",
        &["why"],
    )
});

/// Exposes zeros from the start: alerts compare with them.
pub fn touch() {
    delivery::metrics::touch(CHANNEL);
    for source in ["refusal", "report"] {
        BOUNCES.with_label_values(&[source]);
    }
    for why in ["paused", "busy"] {
        PUT_OFF.with_label_values(&[why]);
    }
    for status in STATUSES {
        for purpose in Purpose::ALL {
            ACCOUNT_MAILS.with_label_values(&[purpose.name(), status]);
        }
    }
}
