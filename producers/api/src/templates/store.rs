//! SQL of `tasks.templates`.

use schemas::Timestamp;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor, Row};
use uuid::Uuid;

use super::{Content, Template};

fn from_row(row: &PgRow) -> Result<Template, sqlx::Error> {
    let Json(content): Json<Content> = row.try_get("content")?;
    Ok(Template {
        id: row.try_get("id")?,
        version: row.try_get("version")?,
        content,
        created_at: row.try_get::<Timestamp, _>("created_at")?,
        updated_at: row.try_get::<Timestamp, _>("updated_at")?,
    })
}

/// Writes a new template.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn insert(tx: &mut PgConnection, user_id: Uuid, template: &Template) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into tasks.templates (user_id, id, version, content, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(user_id)
    .bind(template.id)
    .bind(template.version)
    .bind(Json(&template.content))
    .bind(template.created_at)
    .bind(template.updated_at)
    .execute(tx)
    .await?;
    Ok(())
}

/// The person's template of that id.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn get(db: impl PgExecutor<'_>, user_id: Uuid, id: Uuid) -> Result<Option<Template>, sqlx::Error> {
    let row = sqlx::query(
        "select id, version, content, created_at, updated_at from tasks.templates where user_id = $1 and id = $2",
    )
    .bind(user_id)
    .bind(id)
    .fetch_optional(db)
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// The same, locked until the transaction ends.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn lock(tx: &mut PgConnection, user_id: Uuid, id: Uuid) -> Result<Option<Template>, sqlx::Error> {
    let row = sqlx::query(
        "select id, version, content, created_at, updated_at from tasks.templates
         where user_id = $1 and id = $2 for update",
    )
    .bind(user_id)
    .bind(id)
    .fetch_optional(tx)
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// A page of the person's templates, newest first, those made before `before` only.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn list(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Template>, sqlx::Error> {
    let rows = sqlx::query(
        "select id, version, content, created_at, updated_at from tasks.templates
         where user_id = $1 and id < coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
         order by id desc limit $3",
    )
    .bind(user_id)
    .bind(before)
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.iter().map(from_row).collect()
}

/// Writes a changed template, locked before in the same transaction.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn update(tx: &mut PgConnection, user_id: Uuid, template: &Template) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update tasks.templates set version = $3, content = $4, updated_at = $5 where user_id = $1 and id = $2",
    )
    .bind(user_id)
    .bind(template.id)
    .bind(template.version)
    .bind(Json(&template.content))
    .bind(template.updated_at)
    .execute(tx)
    .await?;
    Ok(())
}

/// Removes a template, locked before in the same transaction. Tasks that were made from it know nothing of it.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn delete(tx: &mut PgConnection, user_id: Uuid, id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("delete from tasks.templates where user_id = $1 and id = $2")
        .bind(user_id)
        .bind(id)
        .execute(tx)
        .await?;
    Ok(())
}
