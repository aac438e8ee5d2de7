//! What a claim is of: a reminder, a digest or a mail about the account, and whom it goes to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use delivery::since;
use schemas::Timestamp;
use service::trace::Trace;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::aside::Place;
use super::digests::Collection;
use crate::language::Language;

/// A delivery that is ours until the lease ends.
pub type Claim = delivery::Claim<Message>;
/// What became of it.
pub type Outcome = delivery::Outcome<Message>;

/// What is to be mailed.
#[derive(Debug, Clone)]
pub struct Message {
    pub what: What,
    /// Whom to write to; `None` when there is no such user.
    pub recipient: Option<Recipient>,
    /// Why it need not be sent any more.
    pub moot: Option<&'static str>,
    /// Its place among those that were set aside.
    pub place: Option<Arc<Place>>,
    /// What the mail server said when it refused the address for good, once it has.
    pub refused: Option<String>,
}

/// What is to be written.
#[derive(Debug, Clone)]
pub enum What {
    /// That a reminder rang.
    Reminder(Rung),
    /// Many of that.
    Digest(Collection),
    /// Something about the account.
    Account(AccountMail),
}

impl What {
    /// Whether the person has just asked for this mail, to this address, and waits for it. Such a one goes also to an address that
    /// mail did not arrive at: it may again, and there is no other way to show it.
    pub fn is_asked_for(&self) -> bool {
        match self {
            Self::Reminder(_) | Self::Digest(_) => false,
            Self::Account(mail) => mail.purpose.has_link(),
        }
    }
}

/// A reminder that rang.
#[derive(Debug, Clone)]
pub struct Rung {
    pub reminder_id: Uuid,
    pub task_id: Uuid,
    pub fire_at: Timestamp,
    pub fired_at: Timestamp,
    /// The task when it rang.
    pub task: serde_json::Value,
    /// How long ago it was due, when it was claimed.
    pub late: Duration,
    /// Whether it was too late to ring.
    pub missed: bool,
    /// Until when quiet hours held the mail.
    pub held_until: Option<Timestamp>,
}

/// A mail about the account: a notice, or a link that is good once.
#[derive(Clone)]
pub struct AccountMail {
    pub purpose: Purpose,
    /// The secret in the link; `None` when it has expired, or there is none.
    pub token: Option<String>,
    /// How long it is good for, when it was claimed.
    pub good_for: Duration,
    /// What a notice is about, in words.
    pub detail: Option<String>,
}

impl AccountMail {
    /// Whether it is a link that nobody can use any more.
    pub fn has_expired(&self) -> bool {
        self.purpose.has_link() && self.token.is_none()
    }
}

// Not derived: the token is a secret.
impl std::fmt::Debug for AccountMail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccountMail")
            .field("purpose", &self.purpose)
            .finish_non_exhaustive()
    }
}

/// What a mail about the account is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Showing that the address is one's own.
    VerifyEmail,
    /// Setting a forgotten password.
    ResetPassword,
    /// Giving the account this address. It goes to that one.
    ChangeEmail,
    /// Saying so to the address that the account still has.
    EmailChanging,
    /// Saying to an address that it cannot be given to another account, for it has one.
    AddressTaken,
    /// Saying that nothing is sent to a webhook any more.
    WebhookDisabled,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::VerifyEmail,
        Self::ResetPassword,
        Self::ChangeEmail,
        Self::EmailChanging,
        Self::AddressTaken,
        Self::WebhookDisabled,
    ];

    /// The columns `kind` of those that this version knows. It leaves others to a newer one.
    pub fn names() -> Vec<&'static str> {
        Self::ALL.iter().map(|purpose| purpose.name()).collect()
    }

    /// The column `kind`, and the names of templates.
    pub fn name(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::ResetPassword => "reset_password",
            Self::ChangeEmail => "change_email",
            Self::EmailChanging => "email_changing",
            Self::AddressTaken => "address_taken",
            Self::WebhookDisabled => "webhook_disabled",
        }
    }

    /// Whether the mail is good for nothing without its link.
    pub fn has_link(self) -> bool {
        match self {
            Self::VerifyEmail | Self::ResetPassword | Self::ChangeEmail => true,
            Self::EmailChanging | Self::AddressTaken | Self::WebhookDisabled => false,
        }
    }
}

/// Who gets the mail.
#[derive(Debug, Clone)]
pub struct Recipient {
    pub email: String,
    pub name: String,
    pub timezone: String,
    /// Whether the person has shown that the address is the own one.
    pub verified: bool,
    /// What the person wants to be written to in.
    pub language: Language,
    /// Whether the person wants what is due for the calendar.
    pub attach_ics: bool,
    /// Why mail does not arrive at the address.
    pub suppressed: Option<String>,
}

/// Whom a claim `c` of a notification goes to: what [`from_row`] reads of it.
macro_rules! recipient_columns {
    () => {
        "u.email, u.name, u.timezone, u.language, u.attach_ics, s.reason as suppressed,
         u.email_verified_at is not null as verified"
    };
}
pub(crate) use recipient_columns;

/// Where these columns come from.
macro_rules! claimed_with_recipient {
    () => {
        "claimed c left join accounts.users u on u.id = c.user_id and u.deleted_at is null
         left join delivery.suppressed_addresses s on s.address = lower(u.email)"
    };
}
pub(crate) use claimed_with_recipient;

/// The trace of a delivery.
pub fn trace(row: &PgRow) -> Result<Option<Trace>, sqlx::Error> {
    let parent: Option<&str> = row.try_get("traceparent")?;
    Ok(parent.and_then(Trace::parse))
}

/// What the claims of all tables have in common.
pub fn from_row(row: &PgRow, what: What, traces: Vec<Trace>, claimed: Instant) -> Result<Claim, sqlx::Error> {
    let email: Option<String> = row.try_get("email")?;
    let recipient = match email {
        Some(email) => Some(Recipient {
            email,
            name: row.try_get("name")?,
            timezone: row.try_get("timezone")?,
            verified: row.try_get("verified")?,
            language: Language::of(row.try_get("language")?),
            attach_ics: row.try_get("attach_ics")?,
            suppressed: row.try_get("suppressed")?,
        }),
        None => None,
    };
    Ok(Claim {
        id: row.try_get("id")?,
        user_id: row.try_get("user_id")?,
        attempt: row.try_get("attempts")?,
        age: since(row.try_get("age")?),
        claimed,
        traces,
        message: Message {
            what,
            recipient,
            moot: None,
            place: None,
            refused: None,
        },
    })
}
