//! What need not be mailed any more: its task is done or gone, or its person wants no such mail, since it was decided to mail it.
//! That is looked at for what has waited: in quiet hours, for a digest, for a server that was away.

use std::collections::HashMap;

use delivery::Occasion;
use preferences::Kind;
use sqlx::{PgPool, Row};
use uuid::Uuid;

/// How long ago the reminder rang, at least, in seconds: what goes at once is not looked at twice.
pub const WAITED_SECONDS: f64 = 60.0;

/// Which of these deliveries are moot, and why.
pub async fn find(pool: &PgPool, ids: &[Uuid]) -> Result<HashMap<Uuid, &'static str>, sqlx::Error> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let mut connection = pool.acquire().await?;
    let rows = sqlx::query(
        "select d.id, d.user_id, d.reminder_id, d.fire_at, d.task_id, d.kind, (d.task ->> 'series_id')::uuid as series_id,
                coalesce(d.task ->> 'priority' = 'urgent', false) as urgent,
                t.deleted_at is not null as is_deleted, t.completed_at is not null as is_completed
         from delivery.deliveries d left join tasks.tasks t on t.user_id = d.user_id and t.id = d.task_id
         where d.id = any($1)",
    )
    .bind(ids)
    .fetch_all(&mut *connection)
    .await?;
    let mut moot = HashMap::new();
    let (mut left, mut occasions) = (Vec::new(), Vec::new());
    for row in rows {
        let id: Uuid = row.try_get("id")?;
        if row.try_get::<bool, _>("is_deleted")? {
            moot.insert(id, "the task is deleted");
        } else if row.try_get::<bool, _>("is_completed")? {
            moot.insert(id, "the task is completed");
        } else {
            left.push(id);
            occasions.push(Occasion {
                user_id: row.try_get("user_id")?,
                reminder_id: row.try_get("reminder_id")?,
                fire_at: row.try_get("fire_at")?,
                task_id: row.try_get("task_id")?,
                series_id: row.try_get("series_id")?,
                kind: kind(row.try_get("kind")?),
                urgent: row.try_get("urgent")?,
            });
        }
    }
    let decisions = delivery::reconsider(&mut connection, &occasions).await?;
    let dropped = left.into_iter().zip(decisions).filter_map(|(id, decision)| {
        let verdict = decision.email;
        (verdict.action == preferences::Action::Drop).then(|| (id, verdict.reason.words()))
    });
    moot.extend(dropped);
    Ok(moot)
}

fn kind(name: &str) -> Kind {
    if name == Kind::ReminderMissed.name() {
        Kind::ReminderMissed
    } else {
        Kind::Reminder
    }
}
