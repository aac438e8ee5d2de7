#![doc = include_str!("../README.md")]

use std::fmt;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use schemas::Timestamp;
use secrecy::ExposeSecret;
use service::config::Env;
use uuid::Uuid;

/// How long a link that does something with a task is good.
pub const ACTION_TTL: Duration = Duration::from_hours(14 * 24);
/// How long a link that unsubscribes is good: people look for one in old mails.
pub const UNSUBSCRIBE_TTL: Duration = Duration::from_hours(365 * 24);

/// How many characters a token has.
pub const TOKEN_CHARS: usize = SIGNED_BYTES.div_ceil(3) * 4;

/// What a key is used for besides: a signature of ours is none of another use of the same key.
const CONTEXT: &[u8] = b"carillon link 1\0";
const CONTENT_BYTES: usize = 1 + 16 + 16 + 4;
const SIGNED_BYTES: usize = CONTENT_BYTES + 32;
/// The accepted lengths of a key.
const KEY_CHARS: std::ops::RangeInclusive<usize> = 32..=256;
/// The most keys at a time.
const MAX_KEYS: usize = 8;

/// What a link does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Completes a task.
    Complete {
        /// Which.
        task_id: Uuid,
    },
    /// Puts a reminder off.
    Snooze {
        /// Which.
        reminder_id: Uuid,
    },
    /// Ends mails about reminders.
    Unsubscribe,
}

impl Action {
    fn parts(self) -> (u8, Uuid) {
        match self {
            Self::Complete { task_id } => (1, task_id),
            Self::Snooze { reminder_id } => (2, reminder_id),
            Self::Unsubscribe => (3, Uuid::nil()),
        }
    }

    fn from_parts(kind: u8, subject: Uuid) -> Option<Self> {
        match kind {
            1 => Some(Self::Complete { task_id: subject }),
            2 => Some(Self::Snooze { reminder_id: subject }),
            3 => Some(Self::Unsubscribe),
            _ => None,
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Complete { .. } | Self::Snooze { .. } => "l",
            Self::Unsubscribe => "unsubscribe",
        }
    }
}

/// What a link says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// What it does.
    pub action: Action,
    /// Whose it is.
    pub user_id: Uuid,
    /// The last second that it is good, since 1970.
    pub expires_at: u32,
}

impl Link {
    /// A link in a mail about something that happened `at` that time: a second copy of the mail has the same.
    #[must_use]
    pub fn of(action: Action, user_id: Uuid, at: Timestamp) -> Self {
        let ttl = match action {
            Action::Complete { .. } | Action::Snooze { .. } => ACTION_TTL,
            Action::Unsubscribe => UNSUBSCRIBE_TTL,
        };
        let expires_at = at.timestamp().saturating_add_unsigned(ttl.as_secs());
        Self {
            action,
            user_id,
            expires_at: u32::try_from(expires_at.max(0)).unwrap_or(u32::MAX),
        }
    }

    fn content(&self) -> [u8; CONTENT_BYTES] {
        let (kind, subject) = self.action.parts();
        let mut content = [0; CONTENT_BYTES];
        let fields = [
            &[kind][..],
            self.user_id.as_bytes(),
            subject.as_bytes(),
            &self.expires_at.to_be_bytes(),
        ];
        for (place, byte) in content.iter_mut().zip(fields.concat()) {
            *place = byte;
        }
        content
    }

    fn from_content(content: &[u8]) -> Option<Self> {
        let (kind, rest) = content.split_first()?;
        let (user_id, rest) = rest.split_at_checked(16)?;
        let (subject, expires_at) = rest.split_at_checked(16)?;
        Some(Self {
            action: Action::from_parts(*kind, Uuid::from_slice(subject).ok()?)?,
            user_id: Uuid::from_slice(user_id).ok()?,
            expires_at: u32::from_be_bytes(expires_at.try_into().ok()?),
        })
    }
}

/// Why a token opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It is none that one of the keys has signed.
    #[error("the link is not one of ours")]
    Forged,
    /// Its time is over.
    #[error("the link has expired")]
    Expired,
}

/// Why a text holds no keys. It does not quote them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be one key, or up to 8 with spaces between them, each of 32 to 256 characters, such as openssl rand -hex 32 prints"
)]
pub struct KeyProblem;

/// What links are signed with: the first key signs, every one opens.
#[derive(Clone)]
pub struct Keys(Vec<hmac::Key>);

impl Keys {
    /// Reads `LINK_KEY` or `LINK_KEY_FILE`.
    pub fn from_env(env: &mut Env) -> Option<Self> {
        let text = env.secret("LINK_KEY")?;
        Self::parse(text.expose_secret())
            .map_err(|problem| env.reject("LINK_KEY", problem))
            .ok()
    }

    /// The keys in a text.
    ///
    /// # Errors
    /// When there is none, one too many, or one that is too short to be a secret.
    pub fn parse(text: &str) -> Result<Self, KeyProblem> {
        let keys: Vec<&str> = text.split_whitespace().collect();
        let good =
            (1..=MAX_KEYS).contains(&keys.len()) && keys.iter().all(|key| KEY_CHARS.contains(&key.len()));
        if !good {
            return Err(KeyProblem);
        }
        let key = |key: &str| hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
        Ok(Self(keys.into_iter().map(key).collect()))
    }

    /// The token of a link.
    #[must_use]
    pub fn token(&self, link: &Link) -> String {
        let content = link.content();
        let signature = self.0.first().map(|key| hmac::sign(key, &signed(&content)));
        let signature = signature.as_ref().map_or(&[][..], AsRef::as_ref);
        BASE64_URL_SAFE_NO_PAD.encode([&content[..], signature].concat())
    }

    /// Where a link leads, from where people reach the API.
    #[must_use]
    pub fn url(&self, public_url: &str, link: &Link) -> String {
        format!("{public_url}/{}/{}", link.action.folder(), self.token(link))
    }

    /// What a token says, at a time.
    ///
    /// # Errors
    /// When nobody with a key has said so, or it is too late.
    pub fn open(&self, token: &str, now: Timestamp) -> Result<Link, Unusable> {
        if token.len() != TOKEN_CHARS {
            return Err(Unusable::Forged);
        }
        let bytes = BASE64_URL_SAFE_NO_PAD
            .decode(token)
            .map_err(|_| Unusable::Forged)?;
        let (content, signature) = bytes.split_at_checked(CONTENT_BYTES).ok_or(Unusable::Forged)?;
        // Compares in constant time.
        let ours = |key: &hmac::Key| hmac::verify(key, &signed(content), signature).is_ok();
        if !self.0.iter().any(ours) {
            return Err(Unusable::Forged);
        }
        let link = Link::from_content(content).ok_or(Unusable::Forged)?;
        if now.timestamp() > i64::from(link.expires_at) {
            return Err(Unusable::Expired);
        }
        Ok(link)
    }
}

fn signed(content: &[u8]) -> Vec<u8> {
    [CONTEXT, content].concat()
}

// Not derived: they are secrets.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({} …)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OLD: &str = "the-old-key-that-is-long-enough-...";
    const OLD_AND_NEW: &str = "the-new-key-that-is-long-enough-... the-old-key-that-is-long-enough-...";

    fn keys(text: &str) -> Keys {
        Keys::parse(text).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(seconds, 0).unwrap()
    }

    fn links() -> [Link; 3] {
        let (user_id, subject) = (Uuid::from_u128(7), Uuid::from_u128(8));
        [
            Action::Complete { task_id: subject },
            Action::Snooze { reminder_id: subject },
            Action::Unsubscribe,
        ]
        .map(|action| Link::of(action, user_id, at(1_800_000_000)))
    }

    #[test]
    fn what_was_signed_is_what_opens_until_its_last_second() {
        let keys = keys(OLD);
        for link in links() {
            let token = keys.token(&link);
            assert_eq!(token.len(), TOKEN_CHARS);
            let last = i64::from(link.expires_at);
            assert_eq!(keys.open(&token, at(last)), Ok(link));
            assert_eq!(keys.open(&token, at(last + 1)), Err(Unusable::Expired));
        }
        let [complete, snooze, unsubscribe] = links().map(|link| keys.url("https://c.example", &link));
        assert!(complete.starts_with("https://c.example/l/") && snooze.starts_with("https://c.example/l/"));
        assert!(unsubscribe.starts_with("https://c.example/unsubscribe/"));
    }

    #[test]
    fn the_new_key_signs_and_the_old_one_still_opens() {
        let (old, both) = (keys(OLD), keys(OLD_AND_NEW));
        let now = at(1_800_000_000);
        for link in links() {
            assert_eq!(both.open(&old.token(&link), now), Ok(link));
            assert_eq!(old.open(&both.token(&link), now), Err(Unusable::Forged));
        }
    }

    #[test]
    fn a_token_with_any_bit_changed_opens_nothing() {
        let keys = keys(OLD);
        for link in links() {
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(keys.token(&link)).unwrap();
            for bit in 0..bytes.len() * 8 {
                let mut forged = bytes.clone();
                forged[bit / 8] ^= 1 << (bit % 8);
                let token = BASE64_URL_SAFE_NO_PAD.encode(&forged);
                assert_eq!(
                    keys.open(&token, at(1_800_000_000)),
                    Err(Unusable::Forged),
                    "bit {bit}"
                );
            }
        }
    }

    #[test]
    fn keys_that_are_none_are_refused_and_none_is_shown_by_accident() {
        let long = "k".repeat(257);
        let many = vec!["k".repeat(32); 9].join(" ");
        for text in ["", " ", "short", "0123456789012345678901234567890", &long, &many] {
            assert_eq!(Keys::parse(text).unwrap_err(), KeyProblem, "{text:?}");
        }
        assert_eq!(format!("{:?}", keys(OLD_AND_NEW)), "Keys(2 …)");
    }

    proptest! {
        #[test]
        fn no_text_opens_anything(token in "\\PC{0,200}", like in "[A-Za-z0-9_-]{92}") {
            for token in [token, like] {
                prop_assert_eq!(keys(OLD).open(&token, at(0)), Err(Unusable::Forged));
            }
        }
    }
}
