//! The API on a real port, against a real Postgres, as the role that it has in production.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot be set up should fail at once"
)]

mod account_mails;
mod accounts;
mod bad_input;
mod changes;
mod conventions;
mod faults;
mod fields;
mod find;
mod foreign_issuers;
mod history;
mod http;
mod idempotency;
mod isolation;
mod mail_links;
mod me;
mod moves;
mod notifications;
mod occurrences;
mod outbox;
mod paging;
mod personal_tokens;
mod rate_limit;
mod recurring_tasks;
mod reminders;
mod search;
mod server;
mod sessions;
mod tags;
mod tasks;
mod templates;
mod throttle;
mod volume;
mod walkthrough;
mod webhooks;
mod wire;
