//! What became of reminders: the reminder scanner writes it down, others read it here. Rows come a moment after the task that
//! they are of, and there is none of a reminder whose time was past when it was set.

use schemas::Timestamp;
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row};
use uuid::Uuid;

/// Where a reminder is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It will ring.
    Armed,
    /// It has rung, and will not again.
    Fired,
    /// It was too late to ring.
    Missed,
    /// It will not ring: its task is done or gone, or the person does not want it.
    Cancelled,
}

impl State {
    /// Every one of them.
    pub const ALL: [Self; 4] = [Self::Armed, Self::Fired, Self::Missed, Self::Cancelled];

    /// As it stands in the database and in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Armed => "armed",
            Self::Fired => "fired",
            Self::Missed => "missed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// What the scanner knows of a reminder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reminder {
    /// Identity of the reminder.
    pub id: Uuid,
    /// The task that it is of.
    pub task_id: Uuid,
    /// Where it is in its life.
    pub state: State,
    /// When it rings next; of one that is not armed, when it would have or has.
    pub fire_at: Timestamp,
    /// Which ring that is: 0 the first, k the k-th repetition.
    pub ring: i32,
    /// When it last rang.
    pub fired_at: Option<Timestamp>,
    /// Why it will not ring, or did not.
    pub reason: Option<String>,
}

macro_rules! columns {
    () => {
        "r.id, r.task_id, r.state, r.fire_at, r.ring, r.fired_at, r.reason"
    };
}

fn from_row(row: &PgRow) -> Result<Reminder, sqlx::Error> {
    let state: &str = row.try_get("state")?;
    Ok(Reminder {
        id: row.try_get("id")?,
        task_id: row.try_get("task_id")?,
        state: State::from_name(state).ok_or_else(|| sqlx::Error::ColumnDecode {
            index: "state".to_owned(),
            source: format!("{state:?} is no state of a reminder").into(),
        })?,
        fire_at: row.try_get("fire_at")?,
        ring: row.try_get("ring")?,
        fired_at: row.try_get("fired_at")?,
        reason: row.try_get("reason")?,
    })
}

/// The person's reminder of that id, if the scanner has seen it, be its task deleted or not.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn get(db: impl PgExecutor<'_>, user_id: Uuid, id: Uuid) -> Result<Option<Reminder>, sqlx::Error> {
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        " from reminders.reminders r where r.user_id = $1 and r.id = $2 limit 1"
    ))
    .bind(user_id)
    .bind(id)
    .fetch_optional(db)
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// A page of the person's reminders in that state, of one task or of all that are not deleted: armed ones soonest first, the
/// others latest first. `after` is the time and the id of the last one of the page before.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn list(
    db: impl PgExecutor<'_>,
    user_id: Uuid,
    state: State,
    task_id: Option<Uuid>,
    after: Option<(Timestamp, Uuid)>,
    limit: i64,
) -> Result<Vec<Reminder>, sqlx::Error> {
    macro_rules! page {
        ($beyond:literal, $order:literal) => {
            concat!(
                "select ",
                columns!(),
                " from reminders.reminders r join tasks.tasks t on t.user_id = r.user_id and t.id = r.task_id
                  where r.user_id = $1 and r.state = $2 and ($3::uuid is null or r.task_id = $3) and t.deleted_at is null
                    and ($4::timestamptz is null or (r.fire_at, r.id) ",
                $beyond,
                " ($4, $5)) order by r.fire_at ",
                $order,
                ", r.id ",
                $order,
                " limit $6"
            )
        };
    }
    let query = match state {
        State::Armed => page!(">", "asc"),
        State::Fired | State::Missed | State::Cancelled => page!("<", "desc"),
    };
    let rows = sqlx::query(query)
        .bind(user_id)
        .bind(state.as_str())
        .bind(task_id)
        .bind(after.map(|(at, _)| at))
        .bind(after.map(|(_, id)| id))
        .bind(limit)
        .fetch_all(db)
        .await?;
    rows.iter().map(from_row).collect()
}
