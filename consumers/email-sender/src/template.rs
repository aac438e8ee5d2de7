//! The text of a mail: templates/, or the operator's own in their place.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use chrono_tz::Tz;
use minijinja::{Environment, UndefinedBehavior, Value, context};
use schemas::{Priority, Task, Timestamp, now};
use uuid::Uuid;

use crate::deliveries::Purpose;
use crate::language::Language;

/// Reminders that are later than this say so.
const WORTH_MENTIONING: Duration = Duration::from_mins(1);

const SUBJECT: &str = "subject.txt";
const TEXT: &str = "reminder.txt";
/// The ending makes values be escaped.
const HTML: &str = "reminder.html";

macro_rules! compiled_in {
    ($($name:literal),+ $(,)?) => {
        [$((
            $name,
            [
                include_str!(concat!("../templates/en/", $name)),
                include_str!(concat!("../templates/de/", $name)),
            ],
        )),+]
    };
}

/// The templates, each in the order of [`Language::ALL`].
const COMPILED_IN: [(&str, [&str; Language::ALL.len()]); 24] = compiled_in![
    "subject.txt",
    "reminder.txt",
    "reminder.html",
    "digest_subject.txt",
    "digest.txt",
    "digest.html",
    "verify_email_subject.txt",
    "verify_email.txt",
    "verify_email.html",
    "reset_password_subject.txt",
    "reset_password.txt",
    "reset_password.html",
    "change_email_subject.txt",
    "change_email.txt",
    "change_email.html",
    "email_changing_subject.txt",
    "email_changing.txt",
    "email_changing.html",
    "address_taken_subject.txt",
    "address_taken.txt",
    "address_taken.html",
    "webhook_disabled_subject.txt",
    "webhook_disabled.txt",
    "webhook_disabled.html",
];

/// What the templates about accounts are about.
#[derive(Debug, Clone, Copy)]
pub struct Account<'a> {
    /// What it is written in.
    pub language: Language,
    /// What the mail is for.
    pub purpose: Purpose,
    /// The recipient's name; empty where it is not to be said.
    pub name: &'a str,
    /// What links begin with.
    pub public_url: &'a str,
    /// The link's secret, where there is a link. It goes behind the #, which browsers keep to themselves.
    pub token: Option<&'a str>,
    /// How long the link is good for.
    pub good_for: Duration,
    /// What a notice is about.
    pub detail: Option<&'a str>,
}

/// What the templates are about.
#[derive(Debug, Clone, Copy)]
pub struct Reminder<'a> {
    /// The task when it rang.
    pub task: &'a Task,
    /// The recipient's name.
    pub name: &'a str,
    /// What it is written in.
    pub language: Language,
    /// The recipient's zone, for a task whose own is unknown.
    pub timezone: &'a str,
    /// How late it is.
    pub late: Duration,
    /// Whether it was too late to ring.
    pub missed: bool,
    /// Until when quiet hours held it.
    pub held_until: Option<Timestamp>,
    /// What can be done by opening a link.
    pub links: &'a Links,
}

/// Where the links of a reminder lead. Each asks before it does anything.
#[derive(Debug, Clone)]
pub struct Links {
    /// Completes the task.
    pub complete: String,
    /// Puts the reminder off.
    pub snooze: String,
    /// Ends these mails.
    pub unsubscribe: String,
}

/// What the templates of digests are about.
#[derive(Debug)]
pub struct Digest<'a> {
    /// What is told of, the oldest first.
    pub lines: Vec<Line>,
    /// How many there are besides.
    pub more: usize,
    /// The recipient's name.
    pub name: &'a str,
    /// What it is written in.
    pub language: Language,
    /// The recipient's zone.
    pub timezone: &'a str,
    /// Where the link leads that ends these mails.
    pub unsubscribe: &'a str,
}

/// A reminder in a digest.
#[derive(Debug)]
pub struct Line {
    /// The task when it rang.
    pub task: Task,
    /// When it was due to ring.
    pub fire_at: Timestamp,
    /// Whether it was too late to.
    pub missed: bool,
}

/// The words of a mail, as they came out of the templates.
#[derive(Debug)]
pub struct Content {
    pub subject: String,
    pub text: String,
    pub html: String,
}

/// The templates, known to work.
#[derive(Debug)]
pub struct Templates {
    environment: Environment<'static>,
}

impl Templates {
    /// Takes each template from its language's folder in `folder` if it is there, and renders samples of each, so that a mistake in
    /// one is found at start and not by a reminder.
    pub fn load(folder: Option<&Path>) -> anyhow::Result<Self> {
        let mut environment = Environment::new();
        // A misspelt variable is an error, not a gap in the mail.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        if let Some(folder) = folder {
            only_known(folder)?;
        }
        for (name, compiled_in) in COMPILED_IN {
            for (language, compiled_in) in Language::ALL.into_iter().zip(compiled_in) {
                let name = in_folder(language, name);
                let source = match folder.map(|folder| folder.join(&name)) {
                    Some(path) if path.exists() => std::fs::read_to_string(&path)
                        .with_context(|| format!("the template {} cannot be read", path.display()))?,
                    _ => compiled_in.to_owned(),
                };
                environment
                    .add_template_owned(name.clone(), source)
                    .with_context(|| format!("the template {name} is not valid"))?;
            }
        }
        let templates = Self { environment };
        for language in Language::ALL {
            templates
                .try_all(language)
                .with_context(|| format!("the templates of {} cannot be rendered", language.code()))?;
        }
        Ok(templates)
    }

    /// Renders samples of everything.
    fn try_all(&self, language: Language) -> Result<(), minijinja::Error> {
        let link = || "http://localhost/l/token".to_owned();
        let links = Links {
            complete: link(),
            snooze: link(),
            unsubscribe: link(),
        };
        for task in samples() {
            for (missed, held_until) in [(false, None), (true, None), (false, Some(now()))] {
                self.render(Reminder {
                    task: &task,
                    name: "Ada",
                    language,
                    timezone: "UTC",
                    late: Duration::from_hours(3),
                    missed,
                    held_until,
                    links: &links,
                })?;
            }
        }
        for more in [0, 1] {
            let lines = samples().map(|task| Line {
                task,
                fire_at: now(),
                missed: more > 0,
            });
            self.render_digest(&Digest {
                lines: lines.into(),
                more,
                name: "Ada",
                language,
                timezone: "UTC",
                unsubscribe: &links.unsubscribe,
            })?;
        }
        for purpose in Purpose::ALL {
            for name in ["Ada", ""] {
                self.render_account(Account {
                    language,
                    purpose,
                    name,
                    public_url: "http://localhost",
                    token: purpose.has_link().then_some("token"),
                    good_for: Duration::from_hours(1),
                    detail: Some("detail"),
                })?;
            }
        }
        Ok(())
    }

    /// The words for a reminder.
    pub fn render(&self, reminder: Reminder<'_>) -> Result<Content, minijinja::Error> {
        let (task, language) = (reminder.task, reminder.language);
        // What quiet hours held says so, and what was missed did not ring.
        let late = reminder.late > WORTH_MENTIONING && reminder.held_until.is_none() && !reminder.missed;
        let variables = context! {
            title => &task.title,
            description => &task.description,
            priority => language.priority(task.priority),
            tags => &task.tags,
            due => due_in_words(language, task, reminder.timezone),
            missed => reminder.missed,
            late => late.then(|| language.span(reminder.late)),
            held_until => reminder.held_until.map(|until| language.instant(until, zone(reminder.timezone, ""))),
            name => reminder.name,
            task_id => task.id.to_string(),
            complete_link => &reminder.links.complete,
            snooze_link => &reminder.links.snooze,
            unsubscribe_link => &reminder.links.unsubscribe,
        };
        self.content(language, [SUBJECT, TEXT, HTML], &variables)
    }

    /// The words for a digest.
    pub fn render_digest(&self, digest: &Digest<'_>) -> Result<Content, minijinja::Error> {
        let language = digest.language;
        let items = digest.lines.iter().map(|line| {
            context! {
                title => &line.task.title,
                priority => language.priority(line.task.priority),
                due => due_in_words(language, &line.task, digest.timezone),
                rang => language.instant(line.fire_at, zone(digest.timezone, "")),
                missed => line.missed,
                task_id => line.task.id.to_string(),
            }
        });
        let variables = context! {
            items => items.collect::<Vec<_>>(),
            count => digest.lines.len() + digest.more,
            more => digest.more,
            name => digest.name,
            unsubscribe_link => digest.unsubscribe,
        };
        self.content(
            language,
            ["digest_subject.txt", "digest.txt", "digest.html"],
            &variables,
        )
    }

    /// The words for a mail about the account.
    pub fn render_account(&self, account: Account<'_>) -> Result<Content, minijinja::Error> {
        let name = account.purpose.name();
        let page = name.replace('_', "-");
        let variables = context! {
            name => Some(account.name).filter(|name| !name.is_empty()),
            link => account.token.map(|token| format!("{}/{page}#{token}", account.public_url)),
            good_for => account.language.span(account.good_for),
            detail => account.detail,
        };
        let names = ["_subject.txt", ".txt", ".html"].map(|ending| format!("{name}{ending}"));
        self.content(account.language, [&names[0], &names[1], &names[2]], &variables)
    }

    fn content(
        &self,
        language: Language,
        [subject, text, html]: [&str; 3],
        variables: &Value,
    ) -> Result<Content, minijinja::Error> {
        let render = |name: &str| {
            self.environment
                .get_template(&in_folder(language, name))?
                .render(variables)
        };
        Ok(Content {
            subject: render(subject)?,
            text: render(text)?,
            html: render(html)?,
        })
    }
}

/// The task's zone, or else the person's, or else UTC: a task from a newer zone database must still ring.
fn zone(task: &str, person: &str) -> Tz {
    task.parse().or_else(|_| person.parse()).unwrap_or(Tz::UTC)
}

/// When a task is due, in its zone.
fn due_in_words(language: Language, task: &Task, person: &str) -> Option<String> {
    task.due_at
        .map(|at| language.instant(at, zone(&task.timezone, person)))
        .or_else(|| task.due_on.map(|day| language.day(day)))
}

fn in_folder(language: Language, name: &str) -> String {
    format!("{}/{name}", language.code())
}

/// A file that nothing reads would be a change that never shows.
fn only_known(folder: &Path) -> anyhow::Result<()> {
    let names = |folder: &Path| -> anyhow::Result<Vec<String>> {
        let entries =
            std::fs::read_dir(folder).with_context(|| format!("SMTP_TEMPLATE_DIR {}", folder.display()))?;
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .filter(|name| !name.as_ref().is_ok_and(|name| name.starts_with('.')))
            .collect()
    };
    for language in names(folder)? {
        ensure!(
            Language::ALL.iter().any(|known| known.code() == language),
            "SMTP_TEMPLATE_DIR has {language}, which is no language: templates are in the folders en and de"
        );
        for name in names(&folder.join(&language))? {
            ensure!(
                COMPILED_IN.iter().any(|(known, _)| *known == name),
                "SMTP_TEMPLATE_DIR has {language}/{name}, which is no template"
            );
        }
    }
    Ok(())
}

/// One task with everything, one with nothing.
fn samples() -> [Task; 2] {
    let now = now();
    let bare = Task {
        id: Uuid::nil(),
        version: 1,
        title: "Water the plants".to_owned(),
        description: None,
        priority: Priority::Medium,
        tags: Vec::new(),
        due_at: None,
        due_on: None,
        timezone: "Europe/Berlin".to_owned(),
        floating: false,
        whole_day_minute: schemas::WHOLE_DAY_MINUTE,
        reminders: Vec::new(),
        depends_on: Vec::new(),
        series_id: None,
        occurrence: None,
        recurrence: None,
        created_at: now,
        updated_at: now,
        completed_at: None,
        deleted_at: None,
    };
    let full = Task {
        description: Some("The fern needs more.\nThe cactus does not.".to_owned()),
        priority: Priority::High,
        tags: vec!["home".to_owned(), "plants".to_owned()],
        due_at: Some(now),
        ..bare.clone()
    };
    [full, bare]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Task {
        let due = "2026-11-21T17:30:00Z".parse().unwrap();
        Task {
            due_at: Some(due),
            ..samples()[0].clone()
        }
    }

    fn links() -> Links {
        Links {
            complete: "https://c.example/l/done".to_owned(),
            snooze: "https://c.example/l/later".to_owned(),
            unsubscribe: "https://c.example/unsubscribe/x".to_owned(),
        }
    }

    fn render(task: &Task, late: Duration) -> Content {
        render_in(Language::English, task, late)
    }

    fn render_in(language: Language, task: &Task, late: Duration) -> Content {
        let reminder = Reminder {
            task,
            name: "Ada",
            language,
            timezone: "America/New_York",
            late,
            missed: false,
            held_until: None,
            links: &links(),
        };
        Templates::load(None).unwrap().render(reminder).unwrap()
    }

    #[test]
    fn the_plain_text_reads_well() {
        let content = render(&full(), Duration::from_mins(125));
        assert_eq!(content.subject, "Reminder: Water the plants");
        assert_eq!(
            content.text,
            "Hello Ada,\n\nthis is your reminder of:\n\n    Water the plants\n\n\
             Due:      Saturday, 21 November 2026, 18:30 (Europe/Berlin)\nPriority: high\nTags:     home, plants\n\n\
             This reminder comes 2 hours late. We are sorry.\n\nThe fern needs more.\nThe cactus does not.\n\n\
             Done?    https://c.example/l/done\nLater?   https://c.example/l/later\n\n-- \nCarillon\n\
             No more of these mails: https://c.example/unsubscribe/x"
        );
    }

    #[test]
    fn what_a_task_has_not_got_leaves_no_gap() {
        let content = render(&samples()[1], Duration::from_secs(60));
        assert_eq!(
            content.text,
            "Hello Ada,\n\nthis is your reminder of:\n\n    Water the plants\n\nPriority: medium\n\n\
             Done?    https://c.example/l/done\nLater?   https://c.example/l/later\n\n-- \nCarillon\n\
             No more of these mails: https://c.example/unsubscribe/x"
        );
        for word in ["Due", "Tags", " late", "None", "none"] {
            assert!(!content.html.contains(word), "{word}");
        }
    }

    #[test]
    fn the_plain_text_reads_well_in_german() {
        let content = render_in(Language::German, &full(), Duration::from_mins(125));
        assert_eq!(content.subject, "Erinnerung: Water the plants");
        assert_eq!(
            content.text,
            "Guten Tag Ada,\n\ndies ist Ihre Erinnerung an:\n\n    Water the plants\n\n\
             Fällig:    Samstag, 21. November 2026, 18:30 (Europe/Berlin)\nPriorität: hoch\nTags:      home, plants\n\n\
             Diese Erinnerung kommt 2 Stunden zu spät. Das tut uns leid.\n\nThe fern needs more.\nThe cactus does not.\n\n\
             Erledigt?  https://c.example/l/done\nSpäter?    https://c.example/l/later\n\n-- \nCarillon\n\
             Keine solchen Mails mehr: https://c.example/unsubscribe/x"
        );
    }

    #[test]
    fn html_is_escaped_and_plain_text_is_not() {
        let task = Task {
            title: "<b>Tom & \"Jerry\"</b>".to_owned(),
            description: Some("<script>alert(1)</script>".to_owned()),
            tags: vec!["<i>".to_owned()],
            ..full()
        };
        let content = render(&task, Duration::ZERO);
        assert!(content.text.contains("<b>Tom & \"Jerry\"</b>"));
        assert!(
            content
                .html
                .contains("&lt;b&gt;Tom &amp; &quot;Jerry&quot;&lt;&#x2f;b&gt;"),
            "{}",
            content.html
        );
        for tag in ["<script>", "<b>", "<i>"] {
            assert!(!content.html.contains(tag), "{tag}");
        }
    }

    #[test]
    fn a_template_inside_a_value_is_only_text() {
        let task = Task {
            title: "{{ description }}{% include 'x' %}".to_owned(),
            ..full()
        };
        assert_eq!(
            render(&task, Duration::ZERO).subject,
            "Reminder: {{ description }}{% include 'x' %}"
        );
    }

    #[test]
    fn an_unknown_zone_falls_back_to_the_persons_and_then_to_utc() {
        assert_eq!(zone("Europe/Berlin", "Asia/Tokyo"), Tz::Europe__Berlin);
        assert_eq!(zone("Mars/Olympus", "Asia/Tokyo"), Tz::Asia__Tokyo);
        assert_eq!(zone("Mars/Olympus", ""), Tz::UTC);
    }

    #[test]
    fn own_templates_replace_ours_and_their_mistakes_are_found_at_start() {
        let folder = std::env::temp_dir().join(format!("templates-{}", Uuid::new_v4()));
        std::fs::create_dir_all(folder.join("en")).unwrap();
        let subject = folder.join("en").join(SUBJECT);
        std::fs::write(&subject, "Ding: {{ title }}").unwrap();
        let task = full();
        let reminder = Reminder {
            task: &task,
            name: "Ada",
            language: Language::English,
            timezone: "UTC",
            late: Duration::ZERO,
            missed: false,
            held_until: None,
            links: &links(),
        };
        let templates = Templates::load(Some(&folder)).unwrap();
        let content = templates.render(reminder).unwrap();
        assert_eq!(content.subject, "Ding: Water the plants");
        assert!(content.text.starts_with("Hello Ada"));
        for mistake in ["{{ titel }}", "{% if title %}", "{{ title | shout }}"] {
            std::fs::write(&subject, mistake).unwrap();
            assert!(Templates::load(Some(&folder)).is_err(), "{mistake}");
        }
        std::fs::write(&subject, "Ding").unwrap();
        // Nothing would ever read these.
        for stray in ["subject.txt", "en/subjekt.txt"] {
            std::fs::write(folder.join(stray), "Ding").unwrap();
            assert!(Templates::load(Some(&folder)).is_err(), "{stray}");
            std::fs::remove_file(folder.join(stray)).unwrap();
        }
        Templates::load(Some(&folder)).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(Templates::load(Some(&folder)).is_err());
    }
}
