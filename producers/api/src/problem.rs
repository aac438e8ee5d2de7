//! What every refusal looks like: problem details (RFC 9457). The types are listed in the README and never change their
//! meaning; a client decides by `type`, a person reads `detail`, a form looks into `errors`.

use std::borrow::Cow;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use db::Failure;
use serde::Serialize;
use utoipa::ToSchema;

use crate::rate_limit::whole_seconds;

/// What is known of a refusal before its particulars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The body is no JSON.
    MalformedJson,
    /// A query parameter is unknown or wrong.
    InvalidQuery,
    /// A header cannot be read.
    InvalidHeader,
    /// The request carries no access token.
    TokenRequired,
    /// The access token is not one of ours, or has expired.
    InvalidToken,
    /// No account has this address and password.
    WrongCredentials,
    /// The refresh token is none, or its session has ended.
    InvalidRefreshToken,
    /// The account has another password.
    WrongPassword,
    /// The token does not open this.
    InsufficientScope,
    /// The person that another issuer names gets no account.
    IdentityRefused,
    /// There is nothing here for this person.
    NotFound,
    /// The path knows other methods only.
    MethodNotAllowed,
    /// The body did not arrive in time.
    RequestTimeout,
    /// The address has an account.
    EmailTaken,
    /// A request with the same key is under way.
    IdempotencyKeyInUse,
    /// The person has a tag of that name.
    TagExists,
    /// The account has as many tokens as it may.
    TooManyTokens,
    /// The person has as many webhooks as one may.
    TooManyWebhooks,
    /// Nothing is sent to the webhook.
    WebhookDisabled,
    /// The recurring task has ended: nothing comes of it any more.
    RecurringTaskEnded,
    /// The task is completed: none of its reminders rings.
    TaskNotOpen,
    /// `If-Match` names another version.
    StaleVersion,
    /// The body is too large.
    BodyTooLarge,
    /// The path with its query is too long.
    UriTooLong,
    /// The body is not sent as JSON.
    UnsupportedMediaType,
    /// Fields of the body are wrong.
    InvalidFields,
    /// The key was used for another request.
    IdempotencyKeyReused,
    /// The person or the address asks for too much.
    RateLimited,
    /// A mailed link was used before, or is too old.
    InvalidLink,
    /// Passwords are guessed, or mails asked for, too often.
    TooManyAttempts,
    /// A fault of ours.
    Internal,
    /// What we depend on is away.
    Unavailable,
    /// The answer took too long.
    Timeout,
}

impl Kind {
    /// Every kind, in the order of the README.
    #[cfg(test)]
    pub const ALL: [Self; 33] = [
        Self::MalformedJson,
        Self::InvalidQuery,
        Self::InvalidHeader,
        Self::TokenRequired,
        Self::InvalidToken,
        Self::WrongCredentials,
        Self::InvalidRefreshToken,
        Self::WrongPassword,
        Self::InsufficientScope,
        Self::IdentityRefused,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::EmailTaken,
        Self::IdempotencyKeyInUse,
        Self::TagExists,
        Self::TooManyTokens,
        Self::TooManyWebhooks,
        Self::WebhookDisabled,
        Self::RecurringTaskEnded,
        Self::TaskNotOpen,
        Self::StaleVersion,
        Self::BodyTooLarge,
        Self::UriTooLong,
        Self::UnsupportedMediaType,
        Self::InvalidFields,
        Self::IdempotencyKeyReused,
        Self::RateLimited,
        Self::InvalidLink,
        Self::TooManyAttempts,
        Self::Internal,
        Self::Unavailable,
        Self::Timeout,
    ];

    /// Status, the last part of the type, and the title.
    fn face(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::MalformedJson => (
                StatusCode::BAD_REQUEST,
                "malformed-json",
                "The body is not valid JSON",
            ),
            Self::InvalidQuery => (StatusCode::BAD_REQUEST, "invalid-query", "The query is not valid"),
            Self::InvalidHeader => (StatusCode::BAD_REQUEST, "invalid-header", "A header is not valid"),
            Self::TokenRequired => (
                StatusCode::UNAUTHORIZED,
                "token-required",
                "An access token is required",
            ),
            Self::InvalidToken => (
                StatusCode::UNAUTHORIZED,
                "invalid-token",
                "The access token is not valid",
            ),
            Self::WrongCredentials => (
                StatusCode::UNAUTHORIZED,
                "wrong-credentials",
                "The email address or the password is wrong",
            ),
            Self::InvalidRefreshToken => (
                StatusCode::UNAUTHORIZED,
                "invalid-refresh-token",
                "The refresh token is not valid",
            ),
            Self::WrongPassword => (StatusCode::FORBIDDEN, "wrong-password", "The password is wrong"),
            Self::InsufficientScope => (
                StatusCode::FORBIDDEN,
                "insufficient-scope",
                "The access token does not open this",
            ),
            Self::IdentityRefused => (
                StatusCode::FORBIDDEN,
                "identity-refused",
                "There is no account for this identity",
            ),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "Not found"),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "The method is not allowed here",
            ),
            Self::RequestTimeout => (
                StatusCode::REQUEST_TIMEOUT,
                "request-timeout",
                "The request did not arrive in time",
            ),
            Self::EmailTaken => (
                StatusCode::CONFLICT,
                "email-taken",
                "The email address has an account already",
            ),
            Self::IdempotencyKeyInUse => (
                StatusCode::CONFLICT,
                "idempotency-key-in-use",
                "A request with this key is under way",
            ),
            Self::TagExists => (
                StatusCode::CONFLICT,
                "tag-exists",
                "There is a tag of this name already",
            ),
            Self::TooManyTokens => (
                StatusCode::CONFLICT,
                "too-many-tokens",
                "The account has as many tokens as it may",
            ),
            Self::TooManyWebhooks => (
                StatusCode::CONFLICT,
                "too-many-webhooks",
                "The person has as many webhooks as one may",
            ),
            Self::WebhookDisabled => (
                StatusCode::CONFLICT,
                "webhook-disabled",
                "Nothing is sent to the webhook",
            ),
            Self::RecurringTaskEnded => (
                StatusCode::CONFLICT,
                "recurring-task-ended",
                "The recurring task has ended",
            ),
            Self::TaskNotOpen => (StatusCode::CONFLICT, "task-not-open", "The task is not open"),
            Self::StaleVersion => (
                StatusCode::PRECONDITION_FAILED,
                "stale-version",
                "It has changed in the meantime",
            ),
            Self::BodyTooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "body-too-large",
                "The body is too large",
            ),
            Self::UriTooLong => (StatusCode::URI_TOO_LONG, "uri-too-long", "The URL is too long"),
            Self::UnsupportedMediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "The body must be JSON",
            ),
            Self::InvalidFields => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid-fields",
                "Fields of the body are not valid",
            ),
            Self::IdempotencyKeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "The key was used for another request",
            ),
            Self::RateLimited => (
                StatusCode::TOO_MANY_REQUESTS,
                "rate-limited",
                "There were too many requests",
            ),
            Self::InvalidLink => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid-link",
                "The link is not valid",
            ),
            Self::TooManyAttempts => (
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-attempts",
                "Too many attempts",
            ),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "Something went wrong on our side",
            ),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "The service is not available now",
            ),
            Self::Timeout => (
                StatusCode::SERVICE_UNAVAILABLE,
                "timeout",
                "The answer took too long",
            ),
        }
    }
}

/// One thing that is wrong with a request, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Flaw {
    /// Where.
    #[serde(flatten)]
    pub place: FlawPlace,
    /// What is wrong, for a person; it follows the name of the field ("must not be empty").
    #[schema(value_type = String)]
    pub detail: Cow<'static, str>,
}

/// The part of a request that a [`Flaw`] is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FlawPlace {
    /// JSON pointer (RFC 6901) into the body.
    Pointer(String),
    /// Name of a query parameter.
    Parameter(String),
}

/// Problem details (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProblemDetails)]
pub struct ProblemDocument<'a> {
    /// What kind of refusal it is; never changes its meaning.
    #[schema(format = "uri", example = "urn:carillon:problem:invalid-fields")]
    r#type: String,
    title: &'static str,
    status: u16,
    /// What to do about it, for a person.
    detail: &'a str,
    /// Everything that is wrong with the request, where it can be told.
    #[schema(required = false)]
    #[serde(skip_serializing_if = "<[Flaw]>::is_empty")]
    errors: &'a [Flaw],
    /// What the log knows the request by.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

/// A refusal.
#[derive(Debug, Clone)]
pub struct Problem {
    kind: Kind,
    detail: Cow<'static, str>,
    flaws: Vec<Flaw>,
    /// How long to wait, where we know it.
    retry_after: Option<Duration>,
    /// For the log; never shown.
    cause: Option<Arc<dyn Error + Send + Sync>>,
}

/// How long a client should wait before it tries again, where nobody can know.
const RETRY_AFTER_SECONDS: u64 = 2;

impl Problem {
    /// A refusal of that kind; `detail` says what to do about it, in a sentence.
    pub fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            flaws: Vec::new(),
            retry_after: None,
            cause: None,
        }
    }

    /// The same with what is wrong in particular.
    pub fn with_flaws(self, flaws: Vec<Flaw>) -> Self {
        Self { flaws, ..self }
    }

    /// The same with how long to wait before another try.
    pub fn with_retry_after(self, wait: Duration) -> Self {
        Self {
            retry_after: Some(wait),
            ..self
        }
    }

    /// A fault of ours; the cause goes to the log only.
    pub fn internal(cause: impl Error + Send + Sync + 'static) -> Self {
        let detail = "Please try again; if it happens again, tell us the request_id.";
        Self {
            cause: Some(Arc::new(cause)),
            ..Self::new(Kind::Internal, detail)
        }
    }

    /// There is no such task, or it is another person's: nobody can tell which.
    pub fn no_such_task() -> Self {
        Self::new(Kind::NotFound, "There is no task with this id.")
    }

    /// The token is good, but its account is not there (any more).
    pub fn no_such_account() -> Self {
        Self::new(Kind::InvalidToken, "The account of this token does not exist.")
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The status of its answer.
    pub fn status(&self) -> StatusCode {
        self.kind.face().0
    }

    /// What to do about it.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// What is wrong in particular.
    pub fn flaws(&self) -> &[Flaw] {
        &self.flaws
    }

    /// Why, as far as it is for the log.
    pub fn cause(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.cause.as_deref()
    }

    /// The body of the answer.
    pub fn document<'a>(&'a self, request_id: Option<&'a str>) -> ProblemDocument<'a> {
        let (status, slug, title) = self.kind.face();
        ProblemDocument {
            r#type: format!("urn:carillon:problem:{slug}"),
            title,
            status: status.as_u16(),
            detail: &self.detail,
            errors: &self.flaws,
            request_id,
        }
    }

    /// The answer. `request_id` is put into answers that a person may have to ask us about.
    pub fn render(&self, request_id: Option<&str>) -> Response {
        let mut response = (self.status(), axum::Json(self.document(request_id))).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, whole_seconds(wait).into());
        }
        match self.kind {
            // RFC 6750 section 3.1: no error code where no token was sent.
            Kind::TokenRequired | Kind::WrongCredentials | Kind::InvalidRefreshToken => {
                headers.insert(
                    header::WWW_AUTHENTICATE,
                    HeaderValue::from_static(r#"Bearer realm="carillon""#),
                );
            }
            Kind::InvalidToken => {
                headers.insert(
                    header::WWW_AUTHENTICATE,
                    HeaderValue::from_static(r#"Bearer realm="carillon", error="invalid_token""#),
                );
            }
            Kind::InsufficientScope => {
                headers.insert(
                    header::WWW_AUTHENTICATE,
                    HeaderValue::from_static(r#"Bearer realm="carillon", error="insufficient_scope""#),
                );
            }
            Kind::UnsupportedMediaType => {
                headers.insert(
                    header::ACCEPT,
                    HeaderValue::from_static("application/json, application/merge-patch+json"),
                );
            }
            Kind::Unavailable | Kind::Timeout | Kind::IdempotencyKeyInUse if self.retry_after.is_none() => {
                headers.insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS.into());
            }
            _ => {}
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.render(None);
        if response.status().is_server_error() {
            // The middleware knows the request: it logs the cause and puts the request id into the answer.
            response.extensions_mut().insert(self);
        }
        response
    }
}

/// Database errors that are no fault of the values: what is one (a taken address) is told apart where it happens.
impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        // The token is good, but the account is gone: it was made for another database, or from a lost backup.
        if let Some(
            "tasks_user_id_fkey"
            | "series_user_id_fkey"
            | "templates_user_id_fkey"
            | "idempotency_keys_user_id_fkey",
        ) = db::violated_constraint(&error)
        {
            return Self::no_such_account();
        }
        match db::classify(&error) {
            Failure::Transient | Failure::Saturation => Self {
                cause: Some(Arc::new(error)),
                ..Self::new(
                    Kind::Unavailable,
                    "The database does not answer; please try again shortly.",
                )
            },
            // Values are checked before they get there, so values that it refuses are a bug of the checks.
            Failure::Data | Failure::Bug => Self::internal(error),
        }
    }
}

/// A series that was good once and is none for this build.
impl From<db::series::Unusable> for Problem {
    fn from(error: db::series::Unusable) -> Self {
        Self::internal(error)
    }
}

impl From<schemas::EncodeError> for Problem {
    fn from(error: schemas::EncodeError) -> Self {
        Self::internal(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_unique_and_listed_in_the_readme() {
        let readme = include_str!("../README.md");
        let mut slugs: Vec<_> = Kind::ALL.into_iter().map(|kind| kind.face().1).collect();
        for (kind, slug) in Kind::ALL.into_iter().zip(&slugs) {
            let status = kind.face().0.as_u16();
            let row = format!("| `{slug}` | {status} |");
            assert!(
                readme.contains(&row),
                "README.md has no row that starts with: {row}"
            );
        }
        slugs.sort_unstable();
        slugs.dedup();
        assert_eq!(slugs.len(), Kind::ALL.len());
    }

    #[test]
    fn the_cause_of_a_fault_is_never_shown() {
        let problem = Problem::internal(std::io::Error::other("the secret"));
        let response = problem.clone().into_response();
        assert_eq!(response.status(), 500);
        assert!(response.extensions().get::<Problem>().is_some());
        assert!(!format!("{:?}", problem.render(Some("r1"))).contains("the secret"));
    }
}
