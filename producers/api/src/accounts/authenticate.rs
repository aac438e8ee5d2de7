//! Who sends a request, by the token in its header: an access token of ours, a personal access token, or one of another
//! issuer.

use std::collections::BTreeSet;

use axum::http::{HeaderMap, header};

use super::identities;
use super::personal_tokens::{self, Scope};
use crate::App;
use crate::problem::{Kind, Problem};
use crate::token::Bearer;

/// Who sends a request, and what the token opens.
#[derive(Debug, Clone)]
pub struct Principal {
    /// The person.
    pub bearer: Bearer,
    /// What a personal access token opens; `None` for a session, which opens everything.
    scopes: Option<BTreeSet<Scope>>,
}

impl Principal {
    /// Refuses a token that does not open this.
    ///
    /// # Errors
    /// [`Kind::InsufficientScope`].
    pub fn require(&self, scope: Scope) -> Result<(), Problem> {
        match &self.scopes {
            Some(scopes) if !scopes.contains(&scope) => Err(Problem::new(
                Kind::InsufficientScope,
                format!("This takes a token with the scope {}.", scope.name()),
            )),
            _ => Ok(()),
        }
    }

    /// Refuses a personal access token, whatever it opens: who has lost one has not lost the account.
    ///
    /// # Errors
    /// [`Kind::InsufficientScope`].
    pub fn require_session(&self) -> Result<(), Problem> {
        match self.scopes {
            Some(_) => Err(Problem::new(
                Kind::InsufficientScope,
                "A personal access token does not open the account itself: log in.",
            )),
            None => Ok(()),
        }
    }
}

/// Who sends a request with these headers.
///
/// # Errors
/// [`Kind::TokenRequired`], [`Kind::InvalidToken`]; [`Kind::IdentityRefused`] for a first token of another issuer; otherwise
/// when the database does not answer.
pub async fn authenticate(app: &App, headers: &HeaderMap) -> Result<Principal, Problem> {
    let Some(header) = headers.get(header::AUTHORIZATION) else {
        let detail = "Send the header Authorization: Bearer, with a token from /api/auth/login.";
        return Err(Problem::new(Kind::TokenRequired, detail));
    };
    let invalid = || {
        let detail = "The token is not one of this service, or it has expired: log in again.";
        Problem::new(Kind::InvalidToken, detail)
    };
    let token = header
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim_start())
        .ok_or_else(invalid)?;
    if token.starts_with(personal_tokens::PREFIX) {
        return personal(app, token.to_owned()).await?.ok_or_else(invalid);
    }
    if let Some(bearer) = app.tokens.verify(token) {
        if app.accounts.revocations.contain(&bearer) {
            return Err(Problem::new(
                Kind::InvalidToken,
                "The session of this token has ended: log in again.",
            ));
        }
        return Ok(Principal { bearer, scopes: None });
    }
    let subject = app.accounts.issuers.verify(token).await.ok_or_else(invalid)?;
    let bearer = app
        .database(async move |pool| identities::account(&pool, &subject).await)
        .await?;
    Ok(Principal { bearer, scopes: None })
}

async fn personal(app: &App, token: String) -> Result<Option<Principal>, Problem> {
    let grant = app
        .database(async move |pool| Ok(personal_tokens::find(&pool, &token).await?))
        .await?;
    Ok(grant.map(|grant| {
        personal_tokens::note_use(&app.pool, &grant);
        Principal {
            bearer: Bearer {
                user_id: grant.user_id,
                timezone: grant.timezone,
                session: None,
            },
            scopes: Some(grant.scopes),
        }
    }))
}
