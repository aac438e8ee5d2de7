//! The table of mails about accounts, which the API fills.

use std::time::{Duration, Instant};

use delivery::{milliseconds, since};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row};

use super::claim::{from_row, trace};
use super::{AccountMail, Claim, Outcome, Purpose, What};

/// Claims what is due, longest due first.
pub async fn claim(pool: &PgPool, lease: Duration, limit: usize) -> Result<Vec<Claim>, sqlx::Error> {
    let claimed = Instant::now();
    let rows = sqlx::query(
        "with due as (
             select id from delivery.account_mails
             where state = 'pending' and next_attempt_at <= now() and kind = any($3)
             order by next_attempt_at limit $1
             for update skip locked
         ), claimed as (
             update delivery.account_mails m
             set next_attempt_at = now() + $2 * interval '1 millisecond', attempts = attempts + 1
             from due where m.id = due.id
             returning m.id, m.user_id, m.kind, m.link_token, m.attempts, m.created_at, m.expires_at,
                       m.email as address, m.detail, m.traceparent
         )
         select c.*, case when u.id is not null then coalesce(c.address, u.email) end as email, u.name, u.timezone, u.language, u.attach_ics,
                s.reason as suppressed, u.email_verified_at is not null and coalesce(c.address = u.email, true) as verified,
                extract(epoch from c.expires_at - now())::float8 as good_for,
                extract(epoch from now() - c.created_at)::float8 as age
         from claimed c left join accounts.users u on u.id = c.user_id and u.deleted_at is null
         left join delivery.suppressed_addresses s on s.address = lower(coalesce(c.address, u.email))",
    )
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .bind(milliseconds(lease))
    .bind(Purpose::names())
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            let kind: &str = row.try_get("kind")?;
            let good_for = since(row.try_get("good_for")?);
            let token: Option<String> = row.try_get("link_token")?;
            let purpose = Purpose::ALL.into_iter().find(|purpose| purpose.name() == kind);
            let mail = AccountMail {
                purpose: purpose.ok_or_else(|| sqlx::Error::ColumnDecode {
                    index: "kind".to_owned(),
                    source: format!("{kind:?} is no purpose").into(),
                })?,
                token: token.filter(|_| !good_for.is_zero()),
                good_for,
                detail: row.try_get("detail")?,
            };
            let traces = trace(row)?.into_iter().collect();
            from_row(row, What::Account(mail), traces, claimed)
        })
        .collect()
}

/// Writes outcomes of mails about accounts.
pub async fn write(
    tx: &mut PgConnection,
    outcomes: &[(usize, &Outcome)],
) -> Result<Vec<(usize, PgRow)>, sqlx::Error> {
    // The link, and an address that may be another person's, are nobody's business once the mail is out, or will not go out.
    let query = delivery::outcome_update!(
        update "delivery.account_mails",
        set "message_id = coalesce(o.message_id, d.message_id),
             link_token = case when o.state = 'pending' then d.link_token end,
             email = case when o.state = 'pending' then d.email end,
             detail = case when o.state = 'pending' then d.detail end",
        returning
    );
    delivery::write(tx, query, outcomes).await
}
