//! What handlers ask a request for. Every refusal is a [`Problem`], where axum's own extractors answer with plain text.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Map, Value};
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::{IntoParams, PartialSchema};
use uuid::Uuid;

use crate::App;
use crate::accounts::authenticate::{Principal, authenticate};
use crate::accounts::personal_tokens::Scope;
use crate::answer::Answer;
use crate::idempotency::BodyDigest;
use crate::input::{self, read};
use crate::problem::{Kind, Problem};
use crate::token::Bearer;

/// Largest body that is read. The longest task there can be, with every character escaped, is a quarter of it.
pub const MAX_BODY_BYTES: usize = 256 * 1024;

/// How long a body may take to arrive.
const BODY_TIME_LIMIT: Duration = Duration::from_secs(10);

/// A body that is a JSON object.
#[derive(Debug)]
pub struct JsonObject(pub Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for JsonObject {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            let detail = "Send the body as application/json (or application/merge-patch+json), in UTF-8.";
            return Err(Problem::new(Kind::UnsupportedMediaType, detail));
        }
        let too_large = || Problem::new(Kind::BodyTooLarge, "A body may have at most 256 KiB.");
        // What says that it is too large need not arrive first.
        if request.body().size_hint().lower() > MAX_BODY_BYTES as u64 {
            return Err(too_large());
        }
        let digest = request.extensions().get::<BodyDigest>().cloned();
        let body = tokio::time::timeout(BODY_TIME_LIMIT, Bytes::from_request(request, state)).await;
        let body = body
            .map_err(|_| Problem::new(Kind::RequestTimeout, "The body did not arrive within 10 seconds."))?
            .map_err(|rejection| match rejection {
                BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => too_large(),
                _ => Problem::new(Kind::MalformedJson, "The body broke off."),
            })?;
        if let Some(digest) = digest {
            digest.note(&body);
        }
        match input::parse(&body) {
            Ok(Value::Object(members)) => Ok(Self(members)),
            Ok(_) => {
                let mut problems = input::Problems::default();
                problems.add("", "must be an object");
                problems.finish(None)
            }
            Err(error) => Err(Problem::new(Kind::MalformedJson, format!("{error}."))),
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
    else {
        return false;
    };
    let mut parts = content_type.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
    let is_json = media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"));
    is_json
        && parts
            .filter_map(|parameter| parameter.split_once('='))
            .all(|(name, value)| {
                !name.eq_ignore_ascii_case("charset") || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
            })
}

/// The person that the request's token was made for. A personal access token must open what the method does: reading takes
/// `tasks:read`, everything else `tasks:write`.
#[derive(Debug)]
pub struct CurrentUser(pub Bearer);

impl FromRequestParts<App> for CurrentUser {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let principal = principal(parts, app).await?;
        let scope = if parts.method.is_safe() {
            Scope::TasksRead
        } else {
            Scope::TasksWrite
        };
        principal.require(scope)?;
        Ok(Self(principal.bearer))
    }
}

/// The person, logged in: what is about the account itself takes no personal access token.
#[derive(Debug)]
pub struct FullSession(pub Bearer);

impl FromRequestParts<App> for FullSession {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let principal = principal(parts, app).await?;
        principal.require_session()?;
        Ok(Self(principal.bearer))
    }
}

/// Who sends the request; asked once, however often it is wanted.
async fn principal(parts: &mut Parts, app: &App) -> Result<Principal, Problem> {
    if let Some(principal) = parts.extensions.get::<Principal>() {
        return Ok(principal.clone());
    }
    let principal = authenticate(app, &parts.headers).await?;
    app.limits
        .count_user(&parts.extensions, principal.bearer.user_id)?;
    parts.extensions.insert(principal.clone());
    Ok(principal)
}

/// Makes an extractor of the id in a path. What is no id is the id of nothing, which is refused as whatever stands behind
/// `else` says.
macro_rules! path_id {
    ($(#[$about:meta])* $visibility:vis struct $name:ident else $refusal:path) => {
        $(#[$about])*
        #[derive(Debug, utoipa::IntoParams)]
        #[into_params(names("id"), parameter_in = Path)]
        $visibility struct $name($visibility uuid::Uuid);

        impl<S: Send + Sync> axum::extract::FromRequestParts<S> for $name {
            type Rejection = $crate::problem::Problem;

            async fn from_request_parts(
                parts: &mut axum::http::request::Parts,
                state: &S,
            ) -> Result<Self, Self::Rejection> {
                let id = $crate::extract::id_in_path(parts, state).await;
                id.map(Self).ok_or_else($refusal)
            }
        }
    };
}
pub(crate) use path_id;

path_id! {
    /// The id of a task, from the path.
    pub struct TaskId else Problem::no_such_task
}

/// The id in the path, if it is one; see [`path_id`].
pub async fn id_in_path<S: Send + Sync>(parts: &mut Parts, state: &S) -> Option<Uuid> {
    let text = Path::<String>::from_request_parts(parts, state).await.ok()?;
    read::parse_uuid(&text)
}

/// What `If-Match` asks for (RFC 9110 section 13.1.1).
#[derive(Debug, PartialEq, Eq)]
pub enum IfMatch {
    /// Nothing: there is no such header, or it is `*`, which every task that exists matches.
    Any,
    /// One of these versions.
    Versions(Vec<i64>),
}

impl IfMatch {
    /// Refuses a task of another version than the client has seen.
    ///
    /// # Errors
    /// [`Kind::StaleVersion`].
    pub fn check(&self, version: i64) -> Result<(), Problem> {
        match self {
            Self::Versions(versions) if !versions.contains(&version) => Err(Problem::new(
                Kind::StaleVersion,
                format!("It is at version {version} now: read it again, then decide."),
            )),
            _ => Ok(()),
        }
    }

    fn parse(headers: &HeaderMap) -> Option<Self> {
        let mut versions = Vec::new();
        let mut present = false;
        for value in headers.get_all(header::IF_MATCH) {
            present = true;
            for tag in value.to_str().ok()?.split(',').map(str::trim) {
                if tag == "*" {
                    return Some(Self::Any);
                }
                // If-Match compares strongly, so a weak tag is one that matches nothing.
                let strong = !tag.starts_with("W/");
                let opaque = tag
                    .trim_start_matches("W/")
                    .strip_prefix('"')?
                    .strip_suffix('"')?;
                // What stands behind the version is not changed by changing the task.
                let version = opaque.split('-').next().unwrap_or_default();
                versions.extend(version.parse::<i64>().ok().filter(|_| strong));
            }
        }
        Some(if present {
            Self::Versions(versions)
        } else {
            Self::Any
        })
    }
}

impl IntoParams for IfMatch {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let parameter = ParameterBuilder::new()
            .name("If-Match")
            .parameter_in(ParameterIn::Header)
            .description(Some("Act only if this ETag still is the current one."))
            .schema(Some(String::schema()))
            .example(Some("\"3\"".into()));
        vec![parameter.build()]
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let detail = "If-Match must be * or an ETag in its quotes, such as \"3\".";
        Self::parse(&parts.headers).ok_or_else(|| Problem::new(Kind::InvalidHeader, detail))
    }
}

/// What the client would like (RFC 7240). Of what may be preferred we know `return=minimal`: no body, which for a client
/// that needs none saves both sides the work. Whatever else stands there is passed over, as the RFC asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefer {
    /// The thing as it is now.
    Representation,
    /// Nothing but the headers.
    Minimal,
}

impl Prefer {
    const NAME: HeaderName = HeaderName::from_static("prefer");
    const APPLIED: HeaderName = HeaderName::from_static("preference-applied");

    /// The answer as the client would like it.
    pub fn apply(self, answer: Answer) -> Answer {
        if self == Self::Representation || answer.body.is_empty() {
            return answer;
        }
        let Answer {
            status, mut headers, ..
        } = answer;
        headers.remove(header::CONTENT_TYPE);
        headers.insert(Self::APPLIED, HeaderValue::from_static("return=minimal"));
        let status = if status == StatusCode::OK {
            StatusCode::NO_CONTENT
        } else {
            status
        };
        Answer {
            headers,
            ..Answer::empty(status)
        }
    }

    fn parse(headers: &HeaderMap) -> Self {
        let values = headers.get_all(Self::NAME).iter();
        let preferences = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        // The first of several counts; parameters behind a semicolon are those of other preferences.
        let wanted = preferences
            .filter_map(|preference| preference.split(';').next()?.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("return"))
            .map(|(_, value)| value.trim().trim_matches('"'));
        match wanted {
            Some("minimal") => Self::Minimal,
            _ => Self::Representation,
        }
    }
}

impl IntoParams for Prefer {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let parameter = ParameterBuilder::new()
            .name("Prefer")
            .parameter_in(ParameterIn::Header)
            .description(Some(
                "`return=minimal` for an answer without a body: 204 instead of 200, and a 201 without the thing made. \
                 Other preferences (RFC 7240) are passed over.",
            ))
            .schema(Some(String::schema()));
        vec![parameter.build()]
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Prefer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(&parts.headers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_known_by_its_media_type() {
        let is_json = |text: &'static str| {
            is_json(&HeaderMap::from_iter([(
                header::CONTENT_TYPE,
                HeaderValue::from_static(text),
            )]))
        };
        for text in [
            "application/json",
            "Application/JSON",
            "application/json; charset=UTF-8",
            "application/merge-patch+json",
            "application/json;charset=\"utf-8\"",
        ] {
            assert!(is_json(text), "{text}");
        }
        for text in [
            "",
            "text/json",
            "text/plain",
            "application/json; charset=latin1",
            "application/jsonx",
            "json",
        ] {
            assert!(!is_json(text), "{text}");
        }
    }

    #[test]
    fn if_match_names_versions() {
        let if_match = |text: &'static str| {
            IfMatch::parse(&HeaderMap::from_iter([(
                header::IF_MATCH,
                HeaderValue::from_static(text),
            )]))
        };
        assert_eq!(IfMatch::parse(&HeaderMap::new()), Some(IfMatch::Any));
        assert_eq!(if_match("*"), Some(IfMatch::Any));
        assert_eq!(if_match("\"3\""), Some(IfMatch::Versions(vec![3])));
        assert_eq!(if_match("\"3\", \"4\""), Some(IfMatch::Versions(vec![3, 4])));
        assert_eq!(if_match("\"3-9f\""), Some(IfMatch::Versions(vec![3])));
        // Tags that we never gave match nothing.
        assert_eq!(if_match("\"-3\""), Some(IfMatch::Versions(vec![])));
        assert_eq!(if_match("W/\"3\""), Some(IfMatch::Versions(vec![])));
        assert_eq!(if_match("\"abc\""), Some(IfMatch::Versions(vec![])));
        for text in ["3", "\"3", "", "\"3\","] {
            assert_eq!(if_match(text), None, "{text}");
        }
        assert!(IfMatch::Versions(vec![3]).check(3).is_ok());
        assert!(IfMatch::Versions(vec![3]).check(4).is_err());
        assert!(IfMatch::Versions(vec![]).check(3).is_err());
    }

    #[test]
    fn a_minimal_answer_is_preferred_by_the_words_of_the_rfc() {
        let prefer = |texts: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for text in texts {
                headers.append(Prefer::NAME, HeaderValue::from_static(text));
            }
            Prefer::parse(&headers)
        };
        for texts in [
            ["return=minimal"].as_slice(),
            &["Return = \"minimal\""],
            &["respond-async, wait=10;x=y, return=minimal; foo=bar"],
            &["handling=lenient", "return=minimal, return=representation"],
        ] {
            assert_eq!(prefer(texts), Prefer::Minimal, "{texts:?}");
        }
        for texts in [
            [].as_slice(),
            &["return=representation, return=minimal"],
            &["return"],
            &["minimal"],
            &["return=tiny"],
            &["wait=10; return=minimal"],
        ] {
            assert_eq!(prefer(texts), Prefer::Representation, "{texts:?}");
        }
    }
}
