//! The bodies of requests about accounts, read field by field.

use std::collections::BTreeSet;

use chrono::Timelike;
use schedule::Tz;
use schemas::Timestamp;
use secrecy::SecretString;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::opaque;
use super::personal_tokens::Scope;
use super::user::{Language, MailSettings, Settings, User};
use crate::input::{Fields, Place, Problems, read};
use crate::problem::Problem;
use crate::tasks::input::{LATE, LATE_SECONDS};

/// RFC 5321 section 4.5.3.1.3: the longest path, less its angle brackets.
const MAX_EMAIL_CHARS: usize = 254;
/// RFC 5321 section 4.5.3.1.1.
const MAX_LOCAL_PART_BYTES: usize = 64;
/// RFC 1035 section 2.3.4.
const MAX_DOMAIN_LABEL_BYTES: usize = 63;
const MAX_NAME_CHARS: usize = 100;
const MIN_PASSWORD_CHARS: usize = 8;
const MAX_PASSWORD_CHARS: usize = 128;
/// Longer than any secret that we hand out.
const MAX_SECRET_CHARS: usize = 200;

/// What a person gives to get an account.
#[derive(Debug)]
pub struct Registration {
    email: String,
    name: String,
    timezone: Tz,
    /// The password.
    pub password: SecretString,
}

impl Registration {
    /// Reads a registration.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(body: Map<String, Value>) -> Result<Self, Problem> {
        object(body, |fields| {
            let email = fields.required("email", email);
            let name = fields.required("name", name);
            let timezone = fields.required("timezone", read::zone);
            let password = fields.required("password", new_password);
            Some(Self {
                email: email?,
                name: name?,
                timezone: timezone?,
                password: password?,
            })
        })
    }

    /// The person that it makes.
    pub fn into_user(self, id: Uuid, created_at: Timestamp) -> User {
        let timezone = self.timezone.name().to_owned();
        User {
            id,
            email: self.email,
            email_verified: false,
            name: self.name,
            timezone,
            settings: Settings::default(),
            mail: MailSettings::default(),
            created_at,
            version: 1,
        }
    }
}

/// What a person gives to log in.
#[derive(Debug)]
pub struct Credentials {
    /// The address, in any capitalisation.
    pub email: String,
    /// The password.
    pub password: SecretString,
}

impl Credentials {
    /// Reads credentials. Only what no account can have is refused here; the rest is for the table to say.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn read(body: Map<String, Value>) -> Result<Self, Problem> {
        object(body, |fields| {
            let email = fields.required("email", |place, value| {
                read::nonempty(place, value, MAX_EMAIL_CHARS)
            });
            let password = fields.required("password", password);
            Some(Self {
                email: email?,
                password: password?,
            })
        })
    }
}

/// A refresh token that is to be used or given up.
#[derive(Debug)]
pub struct RefreshToken(pub SecretString);

impl RefreshToken {
    /// Reads it.
    ///
    /// # Errors
    /// Everything that is wrong with the body.
    pub fn read(body: Map<String, Value>) -> Result<Self, Problem> {
        object(body, |fields| fields.required("refresh_token", secret).map(Self))
    }
}

/// The token of a mailed link.
#[derive(Debug)]
pub struct LinkToken(pub SecretString);

impl LinkToken {
    /// Reads it.
    ///
    /// # Errors
    /// Everything that is wrong with the body.
    pub fn read(body: Map<String, Value>) -> Result<Self, Problem> {
        object(body, |fields| fields.required("token", secret).map(Self))
    }
}

/// Whom to mail a link by which the password can be set anew.
#[derive(Debug)]
pub struct ForgotPassword {
    /// The address, in any capitalisation.
    pub email: String,
}

impl ForgotPassword {
    /// Reads it.
    ///
    /// # Errors
    /// Everything that is wrong with the body.
    pub fn read(body: Map<String, Value>) -> Result<Self, Problem> {
        object(body, |fields| {
            fields.required("email", email).map(|email| Self { email })
        })
    }
}

/// A mailed link and the password that is set by it.
#[derive(Debug)]
pub struct ResetPassword {
    /// The token of the link.
    pub token: SecretString,
    /// The new password.
    pub password: SecretString,
}

impl ResetPassword {
    /// Reads it.
    ///
    /// # Errors
    /// Everything that is wrong with the body.
    pub fn read(body: Map<String, Value>) -> Result<Self, Problem> {
        object(body, |fields| {
            let token = fields.required("token", secret);
            let password = fields.required("password", new_password);
            Some(Self {
                token: token?,
                password: password?,
            })
        })
    }
}

/// The password there is and the one that is to be.
#[derive(Debug)]
pub struct NewPassword {
    /// The one there is.
    pub old: SecretString,
    /// The one that is to be.
    pub new: SecretString,
}

impl NewPassword {
    /// Reads both.
    ///
    /// # Errors
    /// Everything that is wrong with the body.
    pub fn read(body: Map<String, Value>) -> Result<Self, Problem> {
        object(body, |fields| {
            let old = fields.required("old_password", password);
            let new = fields.required("new_password", new_password);
            Some(Self { old: old?, new: new? })
        })
    }
}

/// The address that is to be the account's.
#[derive(Debug)]
pub struct NewEmail {
    /// The address.
    pub email: String,
    /// The password, again.
    pub password: SecretString,
}

impl NewEmail {
    /// Reads it.
    ///
    /// # Errors
    /// Everything that is wrong with the body.
    pub fn read(body: Map<String, Value>) -> Result<Self, Problem> {
        object(body, |fields| {
            let email = fields.required("email", email);
            let password = fields.required("password", password);
            Some(Self {
                email: email?,
                password: password?,
            })
        })
    }
}

/// The password, again, of someone who wants to be forgotten.
#[derive(Debug)]
pub struct Deletion {
    /// The password.
    pub password: SecretString,
}

impl Deletion {
    /// Reads it.
    ///
    /// # Errors
    /// Everything that is wrong with the body.
    pub fn read(body: Map<String, Value>) -> Result<Self, Problem> {
        object(body, |fields| {
            fields
                .required("password", password)
                .map(|password| Self { password })
        })
    }
}

/// What a person can change of the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// What to call the person.
    pub name: String,
    /// IANA zone.
    pub timezone: String,
    /// What is said of reminders in general.
    pub settings: Settings,
    /// How mails look.
    pub mail: MailSettings,
}

impl Profile {
    /// Whether tasks that follow the person must be rewritten.
    pub fn moves(&self, user: &User) -> bool {
        self.timezone != user.timezone || self.settings.whole_day_minute != user.settings.whole_day_minute
    }
}

/// A merge patch of a [`Profile`].
#[derive(Debug)]
pub struct ProfilePatch {
    name: Option<String>,
    timezone: Option<Tz>,
    whole_day_minute: Option<i32>,
    send_late_within_seconds: Option<i64>,
    language: Option<Language>,
    attach_ics: Option<bool>,
}

impl ProfilePatch {
    /// Reads it.
    ///
    /// # Errors
    /// Everything that is wrong with the body.
    pub fn read(body: Map<String, Value>) -> Result<Self, Problem> {
        object(body, |fields| {
            let name = patched(fields, "name", name);
            let timezone = patched(fields, "timezone", read::zone);
            let whole_day_minute = patched(fields, "whole_day_time", |place, value| {
                let time = read::time(place, value)?;
                if time.second() != 0 {
                    return place.refuse("must be a whole minute, such as 09:00");
                }
                i32::try_from(time.num_seconds_from_midnight() / 60).ok()
            });
            let send_late_within = patched(fields, "send_late_within", |place, value| {
                read::duration(place, value, LATE_SECONDS, LATE)
            });
            let language = patched(fields, "language", |place, value| {
                read::choice(place, value, Language::from_name, Language::NAMES)
            });
            let attach_ics = patched(fields, "attach_ics", read::boolean);
            Some(Self {
                language: language?,
                attach_ics: attach_ics?,
                name: name?,
                timezone: timezone?,
                whole_day_minute: whole_day_minute?,
                send_late_within_seconds: send_late_within?.map(|(_, seconds)| seconds),
            })
        })
    }

    /// The profile after it; `None` when it changes nothing.
    pub fn apply(self, user: &User) -> Option<Profile> {
        let before = Profile {
            name: user.name.clone(),
            timezone: user.timezone.clone(),
            settings: user.settings,
            mail: user.mail,
        };
        let Settings {
            whole_day_minute,
            send_late_within_seconds,
        } = before.settings;
        let after = Profile {
            name: self.name.unwrap_or_else(|| before.name.clone()),
            timezone: self
                .timezone
                .map_or_else(|| before.timezone.clone(), |zone| zone.name().to_owned()),
            settings: Settings {
                whole_day_minute: self.whole_day_minute.unwrap_or(whole_day_minute),
                send_late_within_seconds: self.send_late_within_seconds.unwrap_or(send_late_within_seconds),
            },
            mail: MailSettings {
                language: self.language.unwrap_or(before.mail.language),
                attach_ics: self.attach_ics.unwrap_or(before.mail.attach_ics),
            },
        };
        (after != before).then_some(after)
    }
}

/// A field of a patch that has no default to go back to. The outer `None`: it is wrong.
fn patched<T>(
    fields: &mut Fields<'_>,
    field: &str,
    read: impl FnOnce(&mut Place<'_>, Value) -> Option<T>,
) -> Option<Option<T>> {
    use crate::input::Field;
    match fields.take(field, read) {
        Field::Absent => Some(None),
        Field::Null => fields.refuse(field, "must not be null"),
        Field::Invalid => None,
        Field::Value(value) => Some(Some(value)),
    }
}

/// A personal access token that is to be made.
#[derive(Debug)]
pub struct NewToken {
    /// What its owner knows it by.
    pub name: String,
    /// What it opens; at least one.
    pub scopes: BTreeSet<Scope>,
    /// When it ends; never, if absent.
    pub expires_at: Option<Timestamp>,
}

impl NewToken {
    /// Reads it.
    ///
    /// # Errors
    /// Everything that is wrong with the body.
    pub fn read(body: Map<String, Value>, now: Timestamp) -> Result<Self, Problem> {
        object(body, |fields| {
            let name = fields.required("name", name);
            let scopes = fields.required("scopes", |place, value| {
                let scopes = read::items(place, value, Scope::ALL.len(), |place, value| {
                    read::choice(place, value, Scope::from_name, Scope::NAMES)
                })?;
                let count = scopes.len();
                let scopes: BTreeSet<Scope> = scopes.into_iter().collect();
                match scopes.len() {
                    0 => place.refuse("must have at least one item"),
                    distinct if distinct < count => place.refuse("must not name a scope twice"),
                    _ => Some(scopes),
                }
            });
            let expires_at = fields.take("expires_at", |place, value| {
                let at = read::timestamp(place, value)?;
                if at <= now {
                    return place.refuse("must lie in the future");
                }
                Some(at)
            });
            Some(Self {
                name: name?,
                scopes: scopes?,
                expires_at: expires_at.value(),
            })
        })
    }
}

/// Reads an object to its end.
fn object<T>(
    body: Map<String, Value>,
    read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
) -> Result<T, Problem> {
    let mut problems = Problems::default();
    let mut fields = Fields::new(body, Place::root(&mut problems));
    let value = read(&mut fields);
    fields.finish();
    problems.finish(value)
}

fn name(place: &mut Place<'_>, value: Value) -> Option<String> {
    read::line(place, value, MAX_NAME_CHARS)
}

/// A password that somebody may have.
fn password(place: &mut Place<'_>, value: Value) -> Option<SecretString> {
    read::nonempty(place, value, MAX_PASSWORD_CHARS).map(SecretString::from)
}

/// 8 to 128 characters; no other rules, which would only make passwords worse (NIST SP 800-63B section 3.1.1.2).
fn new_password(place: &mut Place<'_>, value: Value) -> Option<SecretString> {
    let password = read::nonempty(place, value, MAX_PASSWORD_CHARS)?;
    if password.chars().count() < MIN_PASSWORD_CHARS {
        return place.refuse(format!("must have at least {MIN_PASSWORD_CHARS} characters"));
    }
    Some(password.into())
}

/// What may be a secret of ours.
fn secret(place: &mut Place<'_>, value: Value) -> Option<SecretString> {
    const { assert!(MAX_SECRET_CHARS > 3 * opaque::CHARS) };
    read::nonempty(place, value, MAX_SECRET_CHARS).map(SecretString::from)
}

/// An address that mail can be sent to: one `@`, a local part without white space or quotes, a domain name. Whether it
/// exists, only a mail can tell.
fn email(place: &mut Place<'_>, value: Value) -> Option<String> {
    let text = read::nonempty(place, value, MAX_EMAIL_CHARS)?;
    match parse_email(&text) {
        Some(email) => Some(email),
        None => place.refuse("must be an email address such as ada@example.org"),
    }
}

/// The address with its domain in lower case, if it is one that we take.
pub fn parse_email(text: &str) -> Option<String> {
    let (local, domain) = text.split_once('@')?;
    let fits = text.chars().count() <= MAX_EMAIL_CHARS;
    (fits && is_local_part(local) && is_domain(domain)).then(|| format!("{local}@{}", domain.to_lowercase()))
}

/// A name that another issuer gives, made fit for us.
pub fn fit_name(text: &str) -> Option<String> {
    let name: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_NAME_CHARS)
        .collect();
    (!name.trim().is_empty()).then_some(name)
}

fn is_local_part(local: &str) -> bool {
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || "@\"(),:;<>[]\\".contains(c);
    (1..=MAX_LOCAL_PART_BYTES).contains(&local.len())
        && !local.contains(forbidden)
        && local.split('.').all(|atom| !atom.is_empty())
}

fn is_domain(domain: &str) -> bool {
    let is_label = |label: &str| {
        (1..=MAX_DOMAIN_LABEL_BYTES).contains(&label.len())
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A single label is no public domain; mail to it would stay on this machine or its network.
    domain.contains('.') && domain.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn registration(email: &str) -> Result<Registration, Problem> {
        let Value::Object(body) =
            json!({"email": email, "password": "correct horse", "name": "Ada", "timezone": "Europe/London"})
        else {
            panic!("an object")
        };
        Registration::read(body)
    }

    #[test]
    fn addresses_that_mail_can_reach_are_taken_with_their_domain_in_lower_case() {
        for (given, kept) in [
            ("ada@example.org", "ada@example.org"),
            ("Ada.Lovelace+tasks@EXAMPLE.Org", "Ada.Lovelace+tasks@example.org"),
            ("o'brien_%x@a-b.example", "o'brien_%x@a-b.example"),
            ("jörg@bücher.example", "jörg@bücher.example"),
        ] {
            assert_eq!(registration(given).unwrap().email, kept);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long_local = format!("{}@example.org", "a".repeat(65));
        let long = format!("a@{}.org", "a.".repeat(130));
        for text in [
            "",
            "ada",
            "@example.org",
            "ada@",
            "ada@@example.org",
            "ada@example",
            "a b@example.org",
            "ada@exa mple.org",
            ".ada@example.org",
            "ada.@example.org",
            "a..b@example.org",
            "ada@.example.org",
            "ada@example.org.",
            "ada@-a.org",
            "ada@a_b.org",
            "ada@example.org\n",
            "ada@example.org\0",
            "<ada@example.org>",
            "ada@example.org,bob@example.org",
            "\"ada\"@example.org",
            "ada@[127.0.0.1]",
            &long_local,
            &long,
        ] {
            let problem = registration(text).unwrap_err();
            assert_eq!(problem.flaws().len(), 1, "{text}");
        }
    }
}
