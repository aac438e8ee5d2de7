//! What bodies about accounts look like, for the API's description; `input.rs` reads them.
#![expect(dead_code, reason = "a description of what is read field by field")]

use chrono::{DateTime, Utc};
use utoipa::ToSchema;

use super::user::Language;

/// A new account.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
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
pub struct Login {
    #[schema(min_length = 1, max_length = 254, example = "ada@example.org")]
    email: String,
    #[schema(
        min_length = 1,
        max_length = 128,
        format = "password",
        example = "correct horse"
    )]
    password: String,
}

/// A refresh token.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    #[schema(
        min_length = 1,
        max_length = 200,
        example = "carillon_rt_0000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    )]
    refresh_token: String,
}

/// The password there is and the one that is to be.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    #[schema(
        min_length = 1,
        max_length = 128,
        format = "password",
        example = "correct horse"
    )]
    old_password: String,
    #[schema(
        min_length = 8,
        max_length = 128,
        format = "password",
        example = "battery staple"
    )]
    new_password: String,
}

/// The secret of a mailed link: what stands behind the #.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Verification {
    #[schema(
        min_length = 1,
        max_length = 200,
        example = "0000000000000000000000000000000000000000000"
    )]
    token: String,
}

/// Whom to mail a link.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Forgotten {
    #[schema(max_length = 254, format = "email", example = "ada@example.org")]
    email: String,
}

/// The secret of a mailed link, and the password that is to be.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordReset {
    #[schema(
        min_length = 1,
        max_length = 200,
        example = "0000000000000000000000000000000000000000000"
    )]
    token: String,
    #[schema(
        min_length = 8,
        max_length = 128,
        format = "password",
        example = "battery staple"
    )]
    password: String,
}

/// The address that is to be, and the password, again.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EmailChange {
    #[schema(max_length = 254, format = "email", example = "ada@example.net")]
    email: String,
    #[schema(
        min_length = 1,
        max_length = 128,
        format = "password",
        example = "correct horse"
    )]
    password: String,
}

/// The password, again.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    #[schema(
        min_length = 1,
        max_length = 128,
        format = "password",
        example = "correct horse"
    )]
    password: String,
}

/// A merge patch (RFC 7396) of what a person can change of the account.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountPatch {
    #[schema(
        min_length = 1,
        max_length = 100,
        nullable = false,
        required = false,
        example = "Ada"
    )]
    name: Option<String>,
    /// IANA zone: the one of new tasks that name none, from the next access token on. Open tasks that are due on a whole day
    /// or float follow, and show the same on the wall there.
    #[schema(nullable = false, required = false, example = "Europe/London")]
    timezone: Option<String>,
    /// The time of a whole day from which offsets of reminders count; open tasks follow.
    #[schema(nullable = false, required = false, example = "09:00")]
    whole_day_time: Option<String>,
    /// How late a reminder may still ring that says nothing about it: ISO 8601 duration, at most 366 days; `PT0S` drops late
    /// ones.
    #[schema(nullable = false, required = false, example = "PT24H")]
    send_late_within: Option<String>,
    /// What mails to the person are written in.
    #[schema(nullable = false, required = false, example = "de")]
    language: Option<Language>,
    /// Whether a reminder of a task that is due has it attached for the calendar (RFC 5545).
    #[schema(nullable = false, required = false)]
    attach_ics: Option<bool>,
}

/// A personal access token that is to be made.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPersonalToken {
    /// What its owner knows it by.
    #[schema(min_length = 1, max_length = 100, example = "backup script")]
    name: String,
    /// What it opens, each once. Those of operators are for operators.
    #[schema(min_items = 1, max_items = 4, example = json!(["tasks:read"]))]
    scopes: Vec<ScopeName>,
    /// When it ends; never, if it is absent or null.
    #[schema(example = "2030-01-01T00:00:00Z")]
    expires_at: Option<DateTime<Utc>>,
}

/// What a personal access token opens.
#[derive(ToSchema)]
#[schema(as = Scope)]
pub enum ScopeName {
    #[serde(rename = "tasks:read")]
    TasksRead,
    #[serde(rename = "tasks:write")]
    TasksWrite,
    #[serde(rename = "admin:read")]
    AdminRead,
    #[serde(rename = "admin:write")]
    AdminWrite,
}
