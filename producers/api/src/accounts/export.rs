//! Everything that is kept of a person, as one JSON document, written page by page: no export is too large for memory, and
//! a client that reads slowly holds no connection of the database.

use std::collections::VecDeque;

use axum::body::{Body, Bytes};
use futures::stream;
use serde::Serialize;
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::user::User;
use crate::App;
use crate::problem::Problem;
use crate::tasks::view::TaskView;

/// Rows that are read at a time.
const PAGE: i64 = 500;

/// What comes after the tasks: the name of a list, and the query of one page of it. Parameters are the owner, the id that
/// the page before ended with, and how many; columns the id and the row as JSON.
const LISTS: [(&str, &str); 10] = [
    (
        "series",
        "select id, to_jsonb(s) - 'user_id' as row from tasks.series s
         where user_id = $1 and id > $2 order by id limit $3",
    ),
    (
        "templates",
        "select id, to_jsonb(t) - 'user_id' as row from tasks.templates t
         where user_id = $1 and id > $2 order by id limit $3",
    ),
    (
        "reminders",
        "select id, to_jsonb(r) - 'user_id' as row from reminders.reminders r
         where user_id = $1 and id > $2 order by id limit $3",
    ),
    (
        "webhooks",
        "select id, to_jsonb(w) - 'user_id' as row from webhooks.endpoints w
         where user_id = $1 and id > $2 order by id limit $3",
    ),
    (
        "notification_settings",
        "select user_id as id, settings as row from accounts.notification_settings
         where user_id = $1 and user_id > $2 limit $3",
    ),
    (
        "notification_overrides",
        "select coalesce(task_id, series_id) as id, to_jsonb(o) - 'user_id' as row from tasks.notification_overrides o
         where user_id = $1 and coalesce(task_id, series_id) > $2 order by 1 limit $3",
    ),
    (
        "notifications",
        "select id, to_jsonb(n) - 'user_id' as row from notifications.notifications n
         where user_id = $1 and id > $2 order by id limit $3",
    ),
    (
        "suppressed_addresses",
        "select user_id as id, to_jsonb(s) - 'user_id' as row from delivery.suppressed_addresses s
         where user_id = $1 and user_id > $2 limit $3",
    ),
    (
        "personal_tokens",
        "select id, to_jsonb(t) - 'user_id' - 'token_hash' as row from accounts.personal_tokens t
         where user_id = $1 and id > $2 order by id limit $3",
    ),
    (
        "sessions",
        "select id, to_jsonb(s) - 'user_id' - 'family_hash' - 'secret_hash' as row from accounts.sessions s
         where user_id = $1 and id > $2 order by id limit $3",
    ),
];

/// What is still to be written.
enum Step {
    /// What comes before the first list.
    Head,
    /// Tasks behind that one.
    Tasks(Uuid),
    /// Rows of a list behind that one.
    List(usize, Uuid),
    /// The end of the document.
    Foot,
}

/// The document. A failure in the middle breaks the answer off, so that nobody takes a part for the whole.
pub fn document(app: App, user: User) -> Body {
    let steps = VecDeque::from([Step::Head]);
    Body::from_stream(stream::try_unfold(steps, move |mut steps| {
        let (app, user) = (app.clone(), user.clone());
        async move {
            let Some(step) = steps.pop_front() else {
                return Ok::<_, ExportFailed>(None);
            };
            let done = app
                .database(async move |pool| write(&pool, &user, step).await)
                .await;
            let (text, next) = done.map_err(|problem| {
                tracing::warn!(cause = ?problem.cause(), "an export broke off");
                ExportFailed
            })?;
            steps.extend(next);
            Ok(Some((Bytes::from(text), steps)))
        }
    }))
}

/// What the connection ends with; the log has the cause.
#[derive(Debug, thiserror::Error)]
#[error("the export broke off")]
struct ExportFailed;

async fn write(pool: &PgPool, user: &User, step: Step) -> Result<(String, Option<Step>), Problem> {
    match step {
        Step::Head => {
            let Json(identities): Json<Value> = sqlx::query_scalar(
                "select coalesce(jsonb_agg(to_jsonb(i) - 'user_id'), '[]') from accounts.identities i where user_id = $1",
            )
            .bind(user.id)
            .fetch_one(pool)
            .await?;
            let (account, identities) = (json(user)?, json(&identities)?);
            let head = format!("{{\"account\":{account},\"identities\":{identities},\"tasks\":[");
            Ok((head, Some(Step::Tasks(Uuid::nil()))))
        }
        Step::Tasks(after) => {
            let tasks = db::tasks::all(pool, user.id, after, PAGE).await?;
            let wanted: Vec<Uuid> = tasks.iter().flat_map(|task| task.depends_on.clone()).collect();
            let open = db::tasks::open_among(pool, user.id, &wanted).await?;
            let rows = tasks
                .iter()
                .map(|task| json(&TaskView::new(task, &open)))
                .collect::<Result<Vec<_>, _>>()?;
            let text = items(&rows, after.is_nil());
            Ok(match tasks.last() {
                Some(last) => (text, Some(Step::Tasks(last.id))),
                None => (format!("]{}", opening(0)), Some(next_list(0))),
            })
        }
        Step::List(list, after) => {
            let query = LISTS.get(list).map_or("", |(_, query)| query);
            let found = sqlx::query(query)
                .bind(user.id)
                .bind(after)
                .bind(PAGE)
                .fetch_all(pool)
                .await?;
            let mut rows = Vec::with_capacity(found.len());
            let mut last = None;
            for row in &found {
                last = Some(row.try_get("id")?);
                let Json(value): Json<Value> = row.try_get("row")?;
                rows.push(json(&value)?);
            }
            let text = items(&rows, after.is_nil());
            Ok(match last {
                Some(last) => (text, Some(Step::List(list, last))),
                None => (format!("]{}", opening(list + 1)), Some(next_list(list + 1))),
            })
        }
        Step::Foot => {
            let now = schemas::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
            Ok((format!(",\"exported_at\":\"{now}\"}}"), None))
        }
    }
}

fn next_list(list: usize) -> Step {
    if list < LISTS.len() {
        Step::List(list, Uuid::nil())
    } else {
        Step::Foot
    }
}

/// How a list begins, if there is one of that number.
fn opening(list: usize) -> String {
    LISTS
        .get(list)
        .map_or_else(String::new, |(name, _)| format!(",\"{name}\":["))
}

/// Items of a list, after those that were written before.
fn items(rows: &[String], first: bool) -> String {
    let separator = if first || rows.is_empty() { "" } else { "," };
    format!("{separator}{}", rows.join(","))
}

fn json(value: &impl Serialize) -> Result<String, Problem> {
    serde_json::to_string(value).map_err(Problem::internal)
}
