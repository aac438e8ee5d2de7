//! Finding a person's tasks.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::App;
use crate::answer::Answer;
use crate::extract::CurrentUser;
use crate::find::{self, Find};
use crate::page::PageParameters;
use crate::problem::Problem;
use crate::tasks::view::{PriorityName, TaskView};

/// `GET /api/tasks`
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

/// What is read by [`Find::read`].
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "a description of what is read parameter by parameter")]
struct FindParameters {
    /// Words that the title or the description holds, as in a web search: all of them, in whatever form and with or without
    /// accents; `"a phrase"`; `-without this`; `this or that`. The last word may be the beginning of one. If no task holds
    /// them, tasks with similar titles are shown instead, and `similar` is true.
    #[param(min_length = 1, max_length = 500, example = "\"quarterly report\" -draft")]
    q: Option<String>,
    /// Only open or only completed tasks.
    #[param(inline, default = "all")]
    status: Option<StatusFilter>,
    /// Only tasks of this priority, or of one of these; repeat the parameter.
    #[param(max_items = 4)]
    priority: Option<Vec<PriorityName>>,
    /// Only tasks with all of these tags; repeat the parameter.
    #[param(max_items = 20)]
    tags: Option<Vec<String>>,
    /// Only tasks with one of these tags; repeat the parameter.
    #[param(max_items = 20)]
    tags_any: Option<Vec<String>>,
    /// Due today, in the zone of the account; overdue: open, and due before now or on a day before today; at any time; never.
    #[param(inline)]
    due: Option<DueFilter>,
    /// Due before this instant. A whole day is due when it begins in the task's zone.
    due_before: Option<DateTime<Utc>>,
    /// Due at this instant or after.
    due_after: Option<DateTime<Utc>>,
    /// Only tasks of this series.
    series_id: Option<Uuid>,
    /// Updated at this instant or after.
    updated_since: Option<DateTime<Utc>>,
    /// Deleted tasks, which are kept for 30 days, instead of the others.
    #[param(default = false)]
    deleted: Option<bool>,
    /// In which order; a `-` turns it round. The default is `rank`, the best match first, with `q` and `-created` without.
    /// Tasks that are never due come last in both directions.
    #[param(inline)]
    sort: Option<SortName>,
    /// Whether to count all that match, which takes longer the more there are.
    #[param(default = false)]
    total: Option<bool>,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "a description of names that are read elsewhere")]
enum StatusFilter {
    Open,
    Completed,
    All,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "a description of names that are read elsewhere")]
enum DueFilter {
    Today,
    Overdue,
    Any,
    None,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "a description of names that are read elsewhere")]
enum SortName {
    Created,
    #[schema(rename = "-created")]
    CreatedDescending,
    Updated,
    #[schema(rename = "-updated")]
    UpdatedDescending,
    Due,
    #[schema(rename = "-due")]
    DueDescending,
    Priority,
    #[schema(rename = "-priority")]
    PriorityDescending,
    Title,
    #[schema(rename = "-title")]
    TitleDescending,
    Rank,
}

/// A page of tasks.
#[derive(Debug, Serialize, ToSchema)]
struct TaskPage<'a> {
    /// In the order that was asked for.
    items: Vec<TaskView<'a>>,
    /// Where the next page starts; null on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
    /// How many tasks match; there if `total=true`.
    #[schema(nullable = false, minimum = 0)]
    #[serde(skip_serializing_if = "Option::is_none")]
    total_count: Option<i64>,
    /// There, and true, when no task holds the words of `q` and these have titles that are similar to them.
    #[schema(required = false)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    similar: bool,
}

/// Find tasks
///
/// Those that pass all filters, page by page. A page starts right behind the last task of the one before, whatever changes
/// meanwhile: none comes twice, and none that stays as it is is missed. In every order but that of creation, tasks that
/// change while pages are read are left out of later ones.
#[utoipa::path(
    get, path = "/api/tasks", tag = "Tasks", security(("bearer" = ["tasks:read"])),
    params(FindParameters, PageParameters),
    responses((status = 200, description = "A page of tasks", body = TaskPage)),
)]
async fn list(State(app): State<App>, CurrentUser(user): CurrentUser, uri: Uri) -> Result<Answer, Problem> {
    let find = Find::read(&uri, &user, &app.cursors)?;
    let (find, found, open) = app
        .database(async move |pool| {
            let found = find::find(&pool, &find).await?;
            let wanted: Vec<Uuid> = found
                .tasks
                .iter()
                .flat_map(|task| task.depends_on.clone())
                .collect();
            let open = db::tasks::open_among(&pool, user.user_id, &wanted).await?;
            Ok((find, found, open))
        })
        .await?;
    let next_cursor = found
        .next
        .map(|next| find.page.cursor(&app.cursors, &next))
        .transpose()?;
    let page = TaskPage {
        items: found
            .tasks
            .iter()
            .map(|task| TaskView::new(task, &open))
            .collect(),
        next_cursor,
        total_count: found.total,
        similar: found.similar,
    };
    Answer::json(StatusCode::OK, &page)
}
