//! The pages behind the signed links in mails. Opening one only asks, because mail programs and scanners open links too; what the
//! link is for is done by the button. Whoever has the link may do that one thing, logged in or not.

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, FormRejection, PathRejection};
use axum::extract::{Form, Path, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use chrono::{Days, TimeDelta};
use links::{Action, Keys, Link, Unusable};
use minijinja::{Environment, Value, context};
use preferences::{Channel, Kind};
use schedule::{Due, Tz};
use schemas::{Task, Timestamp};
use serde::Deserialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::reminders;
use super::tasks::{Reach, change};
use crate::App;
use crate::accounts::{self, Language, User};
use crate::extract::IfMatch;
use crate::notifications::store;
use crate::problem::{Kind as ProblemKind, Problem};
use crate::tasks::{self, Person};

/// The page loads its style from us, and sends its form to us; a browser refuses it everything else.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
);

const PAGE: &str = "action.html";

/// What opens the links, and the page that they open.
#[derive(Debug)]
pub struct MailLinks {
    keys: Keys,
    pages: Environment<'static>,
}

impl MailLinks {
    /// For links that these keys have signed.
    ///
    /// # Errors
    /// When the page is no template, which compiling it in has not ruled out.
    pub fn new(keys: Keys) -> Result<Self, minijinja::Error> {
        let mut pages = Environment::new();
        pages.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
        pages.add_template(PAGE, include_str!("pages/action.html"))?;
        Ok(Self { keys, pages })
    }

    /// What the token says.
    fn open(&self, token: Result<Path<String>, PathRejection>) -> Result<Link, Unusable> {
        let Path(token) = token.map_err(|_| Unusable::Forged)?;
        self.keys.open(&token, schemas::now())
    }

    /// Whom the token unsubscribes.
    fn open_unsubscribe(&self, token: Result<Path<String>, PathRejection>) -> Result<Uuid, Unusable> {
        let link = self.open(token)?;
        match link.action {
            Action::Unsubscribe => Ok(link.user_id),
            Action::Complete { .. } | Action::Snooze { .. } => Err(Unusable::Forged),
        }
    }

    fn answer(&self, page: Page) -> Result<Response, Problem> {
        let html = self.pages.get_template(PAGE).and_then(|template| {
            template.render(context! {
                language => page.language.as_str(),
                heading => page.heading,
                title => page.title,
                at => page.at,
                buttons => page.buttons.iter().map(Button::value).collect::<Vec<_>>(),
            })
        });
        let headers: [(HeaderName, HeaderValue); 5] = [
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (
                header::X_CONTENT_TYPE_OPTIONS,
                HeaderValue::from_static("nosniff"),
            ),
            (
                HeaderName::from_static("x-robots-tag"),
                HeaderValue::from_static("noindex"),
            ),
        ];
        Ok((page.status, headers, Html(html.map_err(Problem::internal)?)).into_response())
    }
}

/// `/l/{token}` and `/unsubscribe/{token}`
pub fn router() -> Router<App> {
    Router::new()
        .route("/l/{token}", get(ask).post(act))
        .route("/unsubscribe/{token}", get(ask_unsubscribe).post(unsubscribe))
}

/// What a mail program posts to unsubscribe (RFC 8058), as a form or as one in parts. The button of the page posts it too.
const ONE_CLICK: (&str, &str) = ("List-Unsubscribe", "One-Click");
/// A body is that, with what a form in parts has around it.
const MAX_ONE_CLICK_BYTES: usize = 1024;

/// What the form sends.
#[derive(Debug, Deserialize)]
struct Chosen {
    until: Option<Until>,
}

/// Until when a reminder is put off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Until {
    TenMinutes,
    Hour,
    Tomorrow,
}

impl Until {
    /// As the form sends it.
    fn name(self) -> &'static str {
        match self {
            Self::TenMinutes => "ten_minutes",
            Self::Hour => "hour",
            Self::Tomorrow => "tomorrow",
        }
    }

    /// The instant. On the full minute, so that pressing the button twice does no more than once. Tomorrow is at the hour of the
    /// person's whole days.
    fn from(self, now: Timestamp, zone: Tz, whole_day_minute: i32) -> Timestamp {
        let seconds = match self {
            Self::TenMinutes => 600,
            Self::Hour => 3600,
            Self::Tomorrow => {
                let tomorrow = now
                    .with_timezone(&zone)
                    .date_naive()
                    .checked_add_days(Days::new(1));
                return tomorrow.map_or(now, |day| Due::On(day).anchor(zone, whole_day_minute));
            }
        };
        let until = now + TimeDelta::seconds(seconds);
        let over = until.timestamp().rem_euclid(60);
        let nanoseconds = i64::from(until.timestamp_subsec_nanos());
        until + TimeDelta::seconds(60 - over) - TimeDelta::nanoseconds(nanoseconds)
    }
}

fn zone(user: &User) -> Tz {
    schedule::parse_zone(&user.timezone).unwrap_or(Tz::UTC)
}

/// What a link is about, as far as it is there.
struct Target {
    link: Link,
    user: User,
    task: Task,
}

/// The page that asks.
async fn ask(
    State(app): State<App>,
    token: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let link = match app.links.open(token) {
        Ok(link) => link,
        Err(unusable) => return app.links.answer(Page::unusable(unusable)),
    };
    let found = app
        .database(async move |pool| target(&mut *pool.acquire().await?, link).await)
        .await?;
    let page = match &found {
        None => Page::gone(Language::default()),
        Some(target) if target.task.completed_at.is_some() => Page::completed(target),
        Some(target) => Page::question(target),
    };
    app.links.answer(page)
}

/// What the button does.
async fn act(
    State(app): State<App>,
    token: Result<Path<String>, PathRejection>,
    form: Result<Form<Chosen>, FormRejection>,
) -> Result<Response, Problem> {
    let link = match app.links.open(token) {
        Ok(link) => link,
        Err(unusable) => return app.links.answer(Page::unusable(unusable)),
    };
    let chosen = form.ok().and_then(|Form(chosen)| chosen.until);
    let page = app
        .transaction(move |tx| {
            Box::pin(async move {
                let Some(target) = target(tx, link).await? else {
                    return Ok(Page::gone(Language::default()));
                };
                match link.action {
                    Action::Complete { task_id } => {
                        let decide = |task: &Task, _: &Person, now| Ok(tasks::complete(task, now));
                        let known = Some(Person::of_token(target.user.timezone.clone()));
                        change(link.user_id, task_id, IfMatch::Any, Reach::Task, known, decide)(tx).await?;
                        Ok(Page::completed(&target))
                    }
                    Action::Snooze { reminder_id } => {
                        let Some(until) = chosen else {
                            return Ok(Page::question(&target).with_status(StatusCode::UNPROCESSABLE_ENTITY));
                        };
                        let now: Timestamp = sqlx::query_scalar("select now()").fetch_one(&mut *tx).await?;
                        let user = &target.user;
                        let until = until.from(now, zone(user), user.settings.whole_day_minute);
                        let decide = move |task: &Task, now| tasks::snooze(task, reminder_id, until, now);
                        let timezone = target.user.timezone.clone();
                        let work =
                            reminders::act(link.user_id, target.task.id, IfMatch::Any, timezone, decide);
                        match work(tx).await {
                            Ok(_) => Ok(Page::snoozed(&target, until)),
                            Err(problem) if problem.kind() == ProblemKind::TaskNotOpen => {
                                Ok(Page::completed(&target).with_status(StatusCode::CONFLICT))
                            }
                            Err(problem) => Err(problem),
                        }
                    }
                    Action::Unsubscribe => Ok(Page::unusable(Unusable::Forged)),
                }
            })
        })
        .await?;
    app.links.answer(page)
}

/// The page that asks whether to unsubscribe.
async fn ask_unsubscribe(
    State(app): State<App>,
    token: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let user_id = match app.links.open_unsubscribe(token) {
        Ok(user_id) => user_id,
        Err(unusable) => return app.links.answer(Page::unusable(unusable)),
    };
    let user = app
        .database(async move |pool| Ok(accounts::find(&pool, user_id).await?))
        .await?;
    let page = match user {
        None => Page::gone(Language::default()),
        Some(user) => Page::ask_unsubscribe(user.mail.language),
    };
    app.links.answer(page)
}

/// Unsubscribes, at once: mail programs post this when the person presses their button. Nothing that opens links alone does.
async fn unsubscribe(
    State(app): State<App>,
    token: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let user_id = match app.links.open_unsubscribe(token) {
        Ok(user_id) => user_id,
        Err(unusable) => return app.links.answer(Page::unusable(unusable)),
    };
    let meant = body.is_ok_and(|body| is_one_click(&body));
    let page = app
        .transaction(move |tx| {
            Box::pin(async move {
                let Some(user) = accounts::find(&mut *tx, user_id).await? else {
                    return Ok(Page::gone(Language::default()));
                };
                let language = user.mail.language;
                if !meant {
                    return Ok(Page::ask_unsubscribe(language).with_status(StatusCode::UNPROCESSABLE_ENTITY));
                }
                for kind in Kind::ALL.into_iter().filter(|kind| kind.can_be_mailed()) {
                    store::turn_off(tx, user_id, kind, Channel::Email).await?;
                }
                Ok(Page::plain(
                    StatusCode::OK,
                    language,
                    words(language).unsubscribed,
                ))
            })
        })
        .await?;
    app.links.answer(page)
}

/// Whether a body says what RFC 8058 has mail programs say. That the person may, the link has said.
fn is_one_click(body: &[u8]) -> bool {
    let (name, value) = ONE_CLICK;
    let text = String::from_utf8_lossy(body);
    body.len() <= MAX_ONE_CLICK_BYTES
        && (text.trim() == format!("{name}={value}")
            || (text.contains(&format!("name=\"{name}\"")) && text.lines().any(|line| line.trim() == value)))
}

/// The person and the task of a link, unless one of them is gone.
async fn target(tx: &mut PgConnection, link: Link) -> Result<Option<Target>, Problem> {
    let user_id = link.user_id;
    let Some(user) = accounts::find(&mut *tx, user_id).await? else {
        return Ok(None);
    };
    let task_id = match link.action {
        Action::Complete { task_id } => task_id,
        Action::Snooze { reminder_id } => match reminders::task_of(tx, user_id, reminder_id).await {
            Ok(task_id) => task_id,
            Err(problem) if problem.kind() == ProblemKind::NotFound => return Ok(None),
            Err(problem) => return Err(problem),
        },
        Action::Unsubscribe => return Ok(None),
    };
    let task = db::tasks::get(tx, user_id, task_id).await?;
    Ok(task
        .filter(|task| task.deleted_at.is_none())
        .map(|task| Target { link, user, task }))
}

/// A button.
#[derive(Debug)]
struct Button {
    /// What the form sends.
    sends: Option<(&'static str, &'static str)>,
    label: &'static str,
}

impl Button {
    fn value(&self) -> Value {
        let (name, value) = self.sends.unzip();
        context! { name, value, label => self.label }
    }
}

/// What a page says.
#[derive(Debug)]
struct Page {
    status: StatusCode,
    language: Language,
    heading: &'static str,
    /// The task's, where there is one.
    title: Option<String>,
    /// A time, where one is to be said.
    at: Option<String>,
    buttons: Vec<Button>,
}

impl Page {
    fn plain(status: StatusCode, language: Language, heading: &'static str) -> Self {
        Self {
            status,
            language,
            heading,
            title: None,
            at: None,
            buttons: Vec::new(),
        }
    }

    fn of(target: &Target, heading: fn(&Words) -> &'static str) -> Self {
        let language = target.user.mail.language;
        Self {
            title: Some(target.task.title.clone()),
            ..Self::plain(StatusCode::OK, language, heading(words(language)))
        }
    }

    fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    fn question(target: &Target) -> Self {
        let words = words(target.user.mail.language);
        let button = |until: Until, label| Button {
            sends: Some(("until", until.name())),
            label,
        };
        match target.link.action {
            Action::Snooze { .. } => Self {
                buttons: vec![
                    button(Until::TenMinutes, words.ten_minutes),
                    button(Until::Hour, words.hour),
                    button(Until::Tomorrow, words.tomorrow),
                ],
                ..Self::of(target, |words| words.ask_snooze)
            },
            Action::Complete { .. } | Action::Unsubscribe => Self {
                buttons: vec![Button {
                    sends: None,
                    label: words.complete,
                }],
                ..Self::of(target, |words| words.ask_complete)
            },
        }
    }

    fn ask_unsubscribe(language: Language) -> Self {
        let words = words(language);
        Self {
            buttons: vec![Button {
                sends: Some(ONE_CLICK),
                label: words.unsubscribe,
            }],
            ..Self::plain(StatusCode::OK, language, words.ask_unsubscribe)
        }
    }

    fn completed(target: &Target) -> Self {
        Self::of(target, |words| words.completed)
    }

    fn snoozed(target: &Target, until: Timestamp) -> Self {
        let zone = zone(&target.user);
        let at = until.with_timezone(&zone).format("%Y-%m-%d %H:%M");
        Self {
            at: Some(format!("{at} ({})", zone.name())),
            ..Self::of(target, |words| words.snoozed)
        }
    }

    fn gone(language: Language) -> Self {
        Self::plain(StatusCode::NOT_FOUND, language, words(language).gone)
    }

    fn unusable(why: Unusable) -> Self {
        let language = Language::default();
        match why {
            Unusable::Forged => Self::plain(StatusCode::NOT_FOUND, language, words(language).forged),
            Unusable::Expired => Self::plain(StatusCode::GONE, language, words(language).expired),
        }
    }
}

/// What the pages say.
struct Words {
    ask_complete: &'static str,
    complete: &'static str,
    completed: &'static str,
    ask_snooze: &'static str,
    ten_minutes: &'static str,
    hour: &'static str,
    tomorrow: &'static str,
    snoozed: &'static str,
    ask_unsubscribe: &'static str,
    unsubscribe: &'static str,
    unsubscribed: &'static str,
    gone: &'static str,
    forged: &'static str,
    expired: &'static str,
}

fn words(language: Language) -> &'static Words {
    match language {
        Language::English => &ENGLISH,
        Language::German => &GERMAN,
    }
}

static ENGLISH: Words = Words {
    ask_complete: "Is this task done?",
    complete: "Yes, complete it",
    completed: "The task is completed.",
    ask_snooze: "Remind you again later?",
    ten_minutes: "In 10 minutes",
    hour: "In an hour",
    tomorrow: "Tomorrow",
    snoozed: "The reminder rings again.",
    ask_unsubscribe: "No more mails about reminders?",
    unsubscribe: "No more mails",
    unsubscribed: "No more mails about reminders are sent to you. In your settings you can turn them on again.",
    gone: "It is not there any more.",
    forged: "This link is not one of ours. Perhaps a part of it is missing: copy the whole of it.",
    expired: "This link has expired.",
};

static GERMAN: Words = Words {
    ask_complete: "Ist diese Aufgabe erledigt?",
    complete: "Ja, abschließen",
    completed: "Die Aufgabe ist abgeschlossen.",
    ask_snooze: "Später noch einmal erinnern?",
    ten_minutes: "In 10 Minuten",
    hour: "In einer Stunde",
    tomorrow: "Morgen",
    snoozed: "Die Erinnerung kommt wieder.",
    ask_unsubscribe: "Keine Mails über Erinnerungen mehr?",
    unsubscribe: "Keine Mails mehr",
    unsubscribed: "Sie bekommen keine Mails über Erinnerungen mehr. In Ihren Einstellungen können Sie sie wieder einschalten.",
    gone: "Das gibt es nicht mehr.",
    forged: "Dieser Link ist nicht von uns. Vielleicht fehlt ein Stück: kopieren Sie ihn ganz.",
    expired: "Dieser Link ist abgelaufen.",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tomorrow_is_at_the_hour_of_whole_days_where_the_person_is() {
        let now: Timestamp = "2026-11-21T22:30:15.5Z".parse().unwrap();
        let at = |until: Until| until.from(now, Tz::Asia__Tokyo, 9 * 60).to_rfc3339();
        // It is the 22nd there.
        assert_eq!(at(Until::Tomorrow), "2026-11-23T00:00:00+00:00");
        assert_eq!(at(Until::TenMinutes), "2026-11-21T22:41:00+00:00");
        assert_eq!(at(Until::Hour), "2026-11-21T23:31:00+00:00");
    }
}
