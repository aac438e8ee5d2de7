//! An answer as a whole, before it is sent: it can be kept, and given again.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::idempotency::REPLAYED;
use crate::problem::Problem;

/// What a handler answers when all went well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status, of the 2xx.
    pub status: StatusCode,
    /// What this answer has to say beside what every answer says (`x-request-id` and the like).
    pub headers: HeaderMap,
    /// The body, or nothing.
    pub body: Bytes,
}

impl Answer {
    /// One without a body.
    pub fn empty(status: StatusCode) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    /// One with a JSON body.
    ///
    /// # Errors
    /// When the value cannot be JSON: a bug of this crate.
    pub fn json(status: StatusCode, value: &impl Serialize) -> Result<Self, Problem> {
        let body = serde_json::to_vec(value).map_err(Problem::internal)?;
        let answer = Self::empty(status).with(header::CONTENT_TYPE, "application/json");
        Ok(Self {
            body: body.into(),
            ..answer
        })
    }

    /// Whether it was given before, to the same request.
    pub fn is_replayed(&self) -> bool {
        self.headers.contains_key(REPLAYED)
    }

    /// The same with one more header. Values are ours: what no header can be is left out.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: impl TryInto<HeaderValue>) -> Self {
        if let Ok(value) = value.try_into() {
            self.headers.insert(name, value);
        }
        self
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}
