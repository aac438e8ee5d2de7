//! Addresses that no mail arrives at.

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::Outcome;

/// Writes down the addresses that were refused for good. That holds whatever has become of the claim.
pub async fn suppress_refused(tx: &mut PgConnection, outcomes: &[Outcome]) -> Result<(), sqlx::Error> {
    let refused: Vec<(Uuid, &str, &str)> = outcomes
        .iter()
        .filter_map(|outcome| {
            let message = &outcome.claim.message;
            let address = &message.recipient.as_ref()?.email;
            Some((
                outcome.claim.user_id,
                address.as_str(),
                message.refused.as_deref()?,
            ))
        })
        .collect();
    if refused.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into delivery.suppressed_addresses (address, user_id, source, reason)
         select lower(address), user_id, 'refusal', left(reason, 500)
         from unnest($1::uuid[], $2::text[], $3::text[]) as refused (user_id, address, reason)
         on conflict do nothing",
    )
    .bind(refused.iter().map(|(user_id, ..)| *user_id).collect::<Vec<_>>())
    .bind(refused.iter().map(|(_, address, _)| *address).collect::<Vec<_>>())
    .bind(refused.iter().map(|(.., reason)| *reason).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// Writes down that the address of an account is dead, as a report about a delivery to it says: one of those `addresses`, and no
/// other. True when that is news.
pub async fn suppress_reported(
    pool: &PgPool,
    delivery: Uuid,
    addresses: &[String],
    reason: &str,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "insert into delivery.suppressed_addresses (address, user_id, source, reason)
         select lower(u.email), u.id, 'report', left($3, 500)
         from accounts.users u
         where u.id = (select user_id from delivery.deliveries where id = $1
                       union all select user_id from delivery.digests where id = $1
                       union all select user_id from delivery.account_mails where id = $1 limit 1)
           and u.deleted_at is null
           and lower(u.email) = any(select lower(address) from unnest($2::text[]) as reported (address))
         on conflict do nothing",
    )
    .bind(delivery)
    .bind(addresses)
    .bind(reason)
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}
