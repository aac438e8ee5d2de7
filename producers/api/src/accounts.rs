//! People: what a registration must look like, and the table `accounts.users`.

use chrono::{DateTime, Utc};
use schedule::Tz;
use schemas::Timestamp;
use secrecy::SecretString;
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::{PgExecutor, Row};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::input::{Fields, Place, Problems, read};
use crate::problem::{Kind, Problem};
use crate::tasks::view;

/// RFC 5321 section 4.5.3.1.3: the longest path, less its angle brackets.
const MAX_EMAIL_CHARS: usize = 254;
/// RFC 5321 section 4.5.3.1.1.
const MAX_LOCAL_PART_BYTES: usize = 64;
/// RFC 1035 section 2.3.4.
const MAX_DOMAIN_LABEL_BYTES: usize = 63;
const MAX_NAME_CHARS: usize = 100;
const MIN_PASSWORD_CHARS: usize = 8;
const MAX_PASSWORD_CHARS: usize = 128;

/// A person, without the password.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct User {
    /// Identity of the person.
    pub id: Uuid,
    /// As given, its domain in lower case.
    pub email: String,
    /// What to call the person.
    pub name: String,
    /// IANA zone: the one of new tasks that name none.
    pub timezone: String,
    /// When the account was made.
    #[serde(serialize_with = "view::timestamp")]
    pub created_at: DateTime<Utc>,
}

/// A new account.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a description of what is read field by field")]
pub struct NewAccount {
    #[schema(max_length = 254, format = "email", example = "ada@example.org")]
    email: String,
    #[schema(
        min_length = 8,
        max_length = 128,
        format = "password",
        example = "correct horse"
    )]
    password: String,
    #[schema(min_length = 1, max_length = 100, example = "Ada")]
    name: String,
    /// IANA zone: the one of new tasks that name none.
    #[schema(example = "Europe/London")]
    timezone: String,
}

/// What logging in takes.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a description of what is read field by field")]
pub struct Login {
    #[schema(max_length = 254, example = "ada@example.org")]
    email: String,
    #[schema(max_length = 128, format = "password", example = "correct horse")]
    password: String,
}

/// What a person gives to get an account.
#[derive(Debug)]
pub struct Registration {
    email: String,
    name: String,
    timezone: Tz,
    /// 8 to 128 characters; no other rules, which would only make passwords worse (NIST SP 800-63B section 3.1.1.2).
    pub password: SecretString,
}

impl Registration {
    /// Reads a registration.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(body: Map<String, Value>) -> Result<Self, Problem> {
        let mut problems = Problems::default();
        let mut fields = Fields::new(body, Place::root(&mut problems));
        let email = fields.required("email", email);
        let name = fields.required("name", |place, value| read::line(place, value, MAX_NAME_CHARS));
        let timezone = fields.required("timezone", read::zone);
        let password = fields.required("password", |place, value| {
            let password = read::nonempty(place, value, MAX_PASSWORD_CHARS)?;
            if password.chars().count() < MIN_PASSWORD_CHARS {
                return place.refuse(format!("must have at least {MIN_PASSWORD_CHARS} characters"));
            }
            Some(SecretString::from(password))
        });
        fields.finish();
        let all = email.zip(name).zip(timezone).zip(password);
        problems.finish(all.map(|(((email, name), timezone), password)| Self {
            email,
            name,
            timezone,
            password,
        }))
    }

    /// The person that it makes.
    pub fn into_user(self, id: Uuid, created_at: Timestamp) -> User {
        let timezone = self.timezone.name().to_owned();
        User {
            id,
            email: self.email,
            name: self.name,
            timezone,
            created_at,
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
        let mut problems = Problems::default();
        let mut fields = Fields::new(body, Place::root(&mut problems));
        let email = fields.required("email", |place, value| {
            read::nonempty(place, value, MAX_EMAIL_CHARS)
        });
        let password = fields.required("password", |place, value| {
            read::nonempty(place, value, MAX_PASSWORD_CHARS)
        });
        fields.finish();
        let all = email.zip(password);
        problems.finish(all.map(|(email, password)| Self {
            email,
            password: password.into(),
        }))
    }
}

/// An address that mail can be sent to: one `@`, a local part without white space or quotes, a domain name. Whether it
/// exists, only a mail can tell.
fn email(place: &mut Place<'_>, value: Value) -> Option<String> {
    let text = read::nonempty(place, value, MAX_EMAIL_CHARS)?;
    let parts = text
        .split_once('@')
        .filter(|(local, domain)| is_local_part(local) && is_domain(domain));
    match parts {
        Some((local, domain)) => Some(format!("{local}@{}", domain.to_lowercase())),
        None => place.refuse("must be an email address such as ada@example.org"),
    }
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

/// Writes a new person.
///
/// # Errors
/// [`Kind::EmailTaken`] when the address has an account; otherwise when the database does not answer.
pub async fn insert(db: impl PgExecutor<'_>, user: &User, password_hash: &str) -> Result<(), Problem> {
    let done = sqlx::query(
        "insert into accounts.users (id, email, name, timezone, password_hash, created_at)
         values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(user.id)
    .bind(&user.email)
    .bind(&user.name)
    .bind(&user.timezone)
    .bind(password_hash)
    .bind(user.created_at)
    .execute(db)
    .await;
    match done {
        Ok(_) => Ok(()),
        Err(error) if db::violated_constraint(&error) == Some("users_email_key") => Err(Problem::new(
            Kind::EmailTaken,
            "Log in, or register with another address.",
        )),
        Err(error) => Err(error.into()),
    }
}

/// The person of that address, in any capitalisation, and the hash of the password.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn find_by_email(
    db: impl PgExecutor<'_>,
    email: &str,
) -> Result<Option<(User, String)>, sqlx::Error> {
    let row = sqlx::query(
        "select id, email, name, timezone, created_at, password_hash from accounts.users where lower(email) = lower($1)",
    )
    .bind(email)
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        let user = User {
            id: row.try_get("id")?,
            email: row.try_get("email")?,
            name: row.try_get("name")?,
            timezone: row.try_get("timezone")?,
            created_at: row.try_get("created_at")?,
        };
        Ok((user, row.try_get("password_hash")?))
    })
    .transpose()
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
