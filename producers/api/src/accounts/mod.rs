//! People and what they come in by: passwords, sessions, personal access tokens, tokens of other issuers, mailed links;
//! and how their data leaves again.

pub mod authenticate;
pub mod body;
pub mod deletion;
pub mod export;
mod housekeeping;
pub mod identities;
mod input;
pub mod links;
pub mod moves;
mod opaque;
pub mod personal_tokens;
pub mod reset_requests;
mod revocations;
pub mod sessions;
pub mod throttle;
mod user;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::token::foreign::{Issuer, Issuers};
use revocations::Revocations;
use throttle::Throttle;

pub use housekeeping::{answer_reset_requests, keep_house, sweep, watch_revocations};
pub use input::{
    Credentials, Deletion, ForgotPassword, LinkToken, NewEmail, NewPassword, NewToken, ProfilePatch,
    RefreshToken, Registration, ResetPassword,
};
pub use user::{
    Language, Suppressed, User, change_password, find, find_by_email, insert, password_hash, suppressed,
    update_profile,
};

/// What accounts are told by the environment.
#[derive(Debug, Clone)]
pub struct AccountsConfig {
    /// `REFRESH_TTL_SECONDS`: how long a session lives that is not refreshed.
    pub refresh_ttl: Duration,
    /// `ACCOUNT_PURGE_DAYS`: when the data of a deleted account is gone at the latest.
    pub purge_within: Duration,
    /// `VERIFY_EMAIL_AT_REGISTRATION`: whether a new account is mailed a link to show that the address is its own. It can ask
    /// for one at any time.
    pub verify_at_registration: bool,
    /// `TRUSTED_ISSUERS`: whose tokens are accepted besides ours.
    pub trusted_issuers: Vec<Issuer>,
}

impl Default for AccountsConfig {
    fn default() -> Self {
        Self {
            refresh_ttl: Duration::from_hours(30 * 24),
            purge_within: Duration::from_hours(7 * 24),
            verify_at_registration: false,
            trusted_issuers: Vec::new(),
        }
    }
}

/// What handlers share about accounts.
#[derive(Debug)]
pub struct Accounts {
    /// How long a session lives that is not refreshed.
    pub refresh_ttl: Duration,
    /// Whether a new account is mailed a link.
    pub verify_at_registration: bool,
    /// Whose tokens are accepted besides ours.
    pub issuers: Issuers,
    /// Against guessing.
    pub throttle: Throttle,
    /// Sessions and people whose access tokens are refused although they have not expired.
    pub revocations: Revocations,
    /// Wakes the background work when somebody forgot a password.
    pub forgotten: Arc<Notify>,
    /// Wakes the background work when an account was deleted.
    pub deleted: Arc<Notify>,
    /// Wakes the background work when a person moves and not everything has followed yet.
    pub moved: Arc<Notify>,
}

impl Accounts {
    /// Ready for use.
    ///
    /// # Errors
    /// When the HTTP client that fetches keys cannot be set up.
    pub fn new(config: &AccountsConfig) -> Result<Self, reqwest::Error> {
        Ok(Self {
            refresh_ttl: config.refresh_ttl,
            verify_at_registration: config.verify_at_registration,
            issuers: Issuers::new(&config.trusted_issuers)?,
            throttle: Throttle::default(),
            revocations: Revocations::default(),
            forgotten: Arc::default(),
            deleted: Arc::default(),
            moved: Arc::default(),
        })
    }
}
