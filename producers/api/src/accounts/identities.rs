//! Whom another issuer's subject is here. The first token that comes makes the account; after that the pair of issuer and
//! subject is who it is, whatever address the issuer says. An account that is there already is never taken over because of
//! its address: whoever can make an issuer say an address would own it.

use sqlx::{PgExecutor, PgPool, Row};
use uuid::Uuid;

use super::input::{fit_name, parse_email};
use super::user::{self, MailSettings, Settings, User};
use crate::problem::{Kind, Problem};
use crate::token::Bearer;
use crate::token::foreign::Subject;

/// The account of the subject, made if this is its first token.
///
/// # Errors
/// [`Kind::InvalidToken`] when the account is deleted, [`Kind::IdentityRefused`] when none can be made; otherwise when the
/// database does not answer.
pub async fn account(pool: &PgPool, subject: &Subject) -> Result<Bearer, Problem> {
    if let Some(bearer) = find(pool, subject).await? {
        return Ok(bearer);
    }
    match create(pool, subject).await {
        // Another request with the subject's first token may have been faster.
        Err(refused) => find(pool, subject).await?.ok_or(refused),
        made => made,
    }
}

async fn find(db: impl PgExecutor<'_>, subject: &Subject) -> Result<Option<Bearer>, Problem> {
    let row = sqlx::query(
        "select u.id, u.timezone, u.deleted_at is not null as deleted
         from accounts.identities i join accounts.users u on u.id = i.user_id
         where i.issuer = $1 and i.subject = $2",
    )
    .bind(&subject.issuer)
    .bind(&subject.subject)
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    if row.try_get("deleted")? {
        return Err(Problem::no_such_account());
    }
    Ok(Some(Bearer {
        user_id: row.try_get("id")?,
        timezone: row.try_get("timezone")?,
        session: None,
    }))
}

async fn create(pool: &PgPool, subject: &Subject) -> Result<Bearer, Problem> {
    let refused = |detail| Problem::new(Kind::IdentityRefused, detail);
    let email = subject.verified_email.as_deref().and_then(parse_email);
    let email = email.ok_or_else(|| {
        refused(
            "Your first token here must carry the claims email and email_verified: they make your account.",
        )
    })?;
    let name = subject.name.as_deref().and_then(fit_name);
    let zone = subject.timezone.as_deref().map(schedule::parse_zone);
    let user = User {
        id: Uuid::now_v7(),
        name: name.unwrap_or_else(|| email.split('@').next().unwrap_or_default().to_owned()),
        email,
        email_verified: true,
        timezone: zone
            .and_then(Result::ok)
            .map_or("UTC", |zone| zone.name())
            .to_owned(),
        settings: Settings::default(),
        mail: MailSettings::default(),
        created_at: schemas::now(),
        version: 1,
    };
    let mut tx = pool.begin().await?;
    user::insert(&mut *tx, &user, None)
        .await
        .map_err(|problem| match problem.kind() {
            Kind::EmailTaken => refused(
                "Your email address has an account here already, and accounts are not joined by their address: log in with its password.",
            ),
            _ => problem,
        })?;
    sqlx::query("insert into accounts.identities (user_id, issuer, subject) values ($1, $2, $3)")
        .bind(user.id)
        .bind(&subject.issuer)
        .bind(&subject.subject)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(Bearer {
        user_id: user.id,
        timezone: user.timezone,
        session: None,
    })
}
