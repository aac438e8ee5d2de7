//! What is done about a notification, decided once: whichever channel comes first decides for all, and writes it down.

use chrono::{DateTime, Utc};
use preferences::{Decision, Kind, Override, Settings};
use schedule::{Tz, parse_zone};
use schemas::{Priority, ReminderEvent, ReminderEventKind};
use serde::de::DeserializeOwned;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

/// A notification to decide about.
#[derive(Debug, Clone, Copy)]
pub struct Occasion {
    /// Whose it is.
    pub user_id: Uuid,
    /// The reminder that it tells of.
    pub reminder_id: Uuid,
    /// When that was due.
    pub fire_at: DateTime<Utc>,
    /// The reminder's task.
    pub task_id: Uuid,
    /// The series that the task is an instance of.
    pub series_id: Option<Uuid>,
    /// What it tells.
    pub kind: Kind,
    /// Whether the task is urgent.
    pub urgent: bool,
}

impl Occasion {
    /// What a reminder's event is the occasion of: that it rang, or that it was too late to.
    #[must_use]
    pub fn of(event: &ReminderEvent) -> Option<Self> {
        let kind = match event.kind {
            ReminderEventKind::Fired => Kind::Reminder,
            ReminderEventKind::Cancelled if event.reminder.reason.as_deref() == Some("missed") => {
                Kind::ReminderMissed
            }
            _ => return None,
        };
        Some(Self {
            user_id: event.user_id,
            reminder_id: event.reminder.id,
            fire_at: event.reminder.fire_at,
            task_id: event.task.id,
            series_id: event.task.series_id,
            kind,
            urgent: event.task.priority == Priority::Urgent,
        })
    }
}

#[derive(FromRow)]
struct Said {
    decision: Option<Json<Decision>>,
    settings: Option<Json<serde_json::Value>>,
    said: Option<Json<serde_json::Value>>,
    timezone: Option<String>,
    now: DateTime<Utc>,
}

impl Said {
    fn decide(self, occasion: &Occasion) -> Decision {
        preferences::decide(
            &readable::<Settings>(self.settings).unwrap_or_default(),
            readable::<Override>(self.said),
            occasion.kind,
            occasion.urgent,
            self.timezone
                .and_then(|zone| parse_zone(&zone).ok())
                .unwrap_or(Tz::UTC),
            self.now,
        )
    }
}

/// The decision about each, in their order, by the settings there are now unless it is made already. It is written down in
/// the caller's transaction.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn decide(tx: &mut PgConnection, occasions: &[Occasion]) -> Result<Vec<Decision>, sqlx::Error> {
    if occasions.is_empty() {
        return Ok(Vec::new());
    }
    let mut new = Vec::new();
    let decisions: Vec<Decision> = look_up(tx, occasions)
        .await?
        .into_iter()
        .zip(occasions)
        .map(|(said, occasion)| match said.decision {
            Some(Json(made)) => made,
            None => {
                let decision = said.decide(occasion);
                new.push((*occasion, decision));
                decision
            }
        })
        .collect();
    let count = new.len();
    if count == 0 || write_down(tx, new).await? == count {
        return Ok(decisions);
    }
    // Another channel made some of them between the two statements. It has committed: ours waited for it.
    let kept = look_up(tx, occasions).await?;
    Ok(kept
        .into_iter()
        .zip(decisions)
        .map(|(said, made)| said.decision.map_or(made, |Json(kept)| kept))
        .collect())
}

/// What would be decided about each by the settings there are now, whatever was decided. Nothing is written down.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn reconsider(db: &mut PgConnection, occasions: &[Occasion]) -> Result<Vec<Decision>, sqlx::Error> {
    if occasions.is_empty() {
        return Ok(Vec::new());
    }
    let said = look_up(db, occasions).await?;
    Ok(said
        .into_iter()
        .zip(occasions)
        .map(|(said, occasion)| said.decide(occasion))
        .collect())
}

/// What this version can read: a later one may have written it.
fn readable<T: DeserializeOwned>(value: Option<Json<serde_json::Value>>) -> Option<T> {
    let Json(value) = value?;
    serde_json::from_value(value)
        .inspect_err(|error| tracing::warn!(%error, "what a person said of notifications cannot be read"))
        .ok()
}

async fn look_up(tx: &mut PgConnection, occasions: &[Occasion]) -> Result<Vec<Said>, sqlx::Error> {
    sqlx::query_as(
        "select d.decision, s.settings, o.override as said, u.timezone, now() as now
         from unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::uuid[], $6::uuid[])
                  with ordinality as a (user_id, reminder_id, fire_at, kind, task_id, series_id, n)
              left join delivery.decisions d using (user_id, reminder_id, fire_at, kind)
              left join accounts.users u on u.id = a.user_id and u.deleted_at is null
              left join accounts.notification_settings s on s.user_id = a.user_id
              left join lateral (
                  select o.override from tasks.notification_overrides o
                  where o.user_id = a.user_id and (o.task_id = a.task_id or o.series_id = a.series_id)
                  order by o.task_id nulls last limit 1) o on true
         order by a.n",
    )
    .bind(occasions.iter().map(|o| o.user_id).collect::<Vec<_>>())
    .bind(occasions.iter().map(|o| o.reminder_id).collect::<Vec<_>>())
    .bind(occasions.iter().map(|o| o.fire_at).collect::<Vec<_>>())
    .bind(occasions.iter().map(|o| o.kind.name()).collect::<Vec<_>>())
    .bind(occasions.iter().map(|o| o.task_id).collect::<Vec<_>>())
    .bind(occasions.iter().map(|o| o.series_id).collect::<Vec<_>>())
    .fetch_all(tx)
    .await
}

/// Returns how many were not there.
async fn write_down(
    tx: &mut PgConnection,
    mut rows: Vec<(Occasion, Decision)>,
) -> Result<usize, sqlx::Error> {
    // In the order of the key, so that two channels that decide about the same ones wait and do not deadlock.
    rows.sort_unstable_by_key(|(o, _)| (o.user_id, o.reminder_id, o.fire_at, o.kind.name()));
    let done = sqlx::query(
        "insert into delivery.decisions (user_id, reminder_id, fire_at, kind, decision)
         select * from unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::jsonb[])
         on conflict do nothing",
    )
    .bind(rows.iter().map(|(o, _)| o.user_id).collect::<Vec<_>>())
    .bind(rows.iter().map(|(o, _)| o.reminder_id).collect::<Vec<_>>())
    .bind(rows.iter().map(|(o, _)| o.fire_at).collect::<Vec<_>>())
    .bind(rows.iter().map(|(o, _)| o.kind.name()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, d)| Json(*d)).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
}
