//! `carillon audit`.

use std::path::PathBuf;

use anyhow::{Context, bail};
use api::recover::{self, Recovered};
use audit::{Anchor, Finding, Range, SealKey};
use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use uuid::Uuid;

use crate::database;
use crate::output::{self, Format, Verdict, note, say};

/// So many findings are printed one by one; the others are only counted.
const PRINTED: u64 = 1000;

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Looks whether the audit trail is as it was sealed. Exit code 1, with day and segment, when a row was edited, deleted or
    /// inserted, or a seal. DATABASE_URL is the owner's; AUDIT_SEAL_KEY (or …_FILE) the audit sink's, if it has one.
    Verify(Verify),
    /// Prints what happened to a task or to all that a person has, oldest first. DATABASE_URL is the owner's.
    Show(Show),
    /// Brings a task back that is gone for good, as the trail last saw it, and tells of it by a TaskRestored. Does nothing when
    /// the task is there. DATABASE_URL is the owner's.
    Restore(Restore),
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// What the id is of.
    of: Of,
    /// The id of the task or the person.
    id: Uuid,
    /// At most so many events.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(i64).range(1..=1_000_000))]
    limit: i64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Of {
    Task,
    User,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// Whose task it is.
    #[arg(long)]
    user: Uuid,
    /// Its id.
    #[arg(long)]
    task: Uuid,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The first day whose rows are compared. The chain of seals is always looked at as a whole.
    #[arg(long)]
    from: Option<NaiveDate>,
    /// The last day whose rows are compared.
    #[arg(long)]
    to: Option<NaiveDate>,
    /// A seal that was written down earlier, as NUMBER:HASH. May be given several times.
    #[arg(long)]
    anchor: Vec<Anchor>,
    /// The file of a key that seals were made with before the one of today. May be given several times.
    #[arg(long)]
    old_key_file: Vec<PathBuf>,
}

pub(crate) async fn run(command: &Audit, format: Format) -> anyhow::Result<Verdict> {
    match command {
        Audit::Verify(arguments) => verify(arguments).await,
        Audit::Show(arguments) => show(arguments, format).await,
        Audit::Restore(arguments) => restore(arguments).await,
    }
}

async fn verify(arguments: &Verify) -> anyhow::Result<Verdict> {
    let (url, key) = service::config::load(|env| {
        let url = env.secret("DATABASE_URL");
        let key = SealKey::from_env(env);
        Some((url?, key?))
    })?;
    let mut keys = Vec::from_iter(key);
    for path in &arguments.old_key_file {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        keys.push(SealKey::new(text.trim_end_matches(['\r', '\n']).as_bytes()));
    }
    let range = Range {
        from: arguments.from,
        to: arguments.to,
    };
    let mut printed = 0;
    let print = |finding: Finding| {
        if printed < PRINTED {
            say(finding);
        }
        printed += 1;
    };
    let pool = database::connect_to(&url)
        .await
        .context("cannot reach the database at DATABASE_URL")?;
    let mut connection = pool.acquire().await?;
    let report = audit::verify(&mut connection, &keys, range, &arguments.anchor, print)
        .await
        .context("cannot read the audit trail")?;
    say(format_args!(
        "{} rows are as they were sealed, {} went with the accounts of their people, {} are not sealed yet",
        report.rows, report.erased, report.unsealed
    ));
    if let Some(day) = report.dropped_before {
        say(format_args!(
            "days before {day} were dropped when their retention was over"
        ));
    }
    if report.seals_without_key > 0 && !keys.is_empty() {
        say(format_args!(
            "the first {} of {} seals were made without a key",
            report.seals_without_key, report.seals
        ));
    }
    match (report.head, report.sealed_at) {
        (Some(head), Some(at)) => say(format_args!(
            "{} seals, the newest of {}: write it down elsewhere, and give it to the next run as --anchor\n{head}",
            report.seals,
            at.format("%Y-%m-%dT%H:%M:%SZ")
        )),
        _ => say("there are no seals"),
    }
    if report.findings > 0 {
        note(format_args!(
            "{} places are not as they were sealed",
            report.findings
        ));
    }
    Ok(Verdict::wrong_if(report.findings > 0))
}

#[derive(Debug, Serialize, sqlx::FromRow)]
struct Happened {
    event_id: Uuid,
    occurred_at: DateTime<Utc>,
    event_type: String,
    actor: Option<String>,
    user_id: Option<Uuid>,
    task_id: Option<Uuid>,
    #[serde(skip)]
    version: Option<String>,
    #[serde(skip)]
    title: Option<String>,
    payload: Option<serde_json::Value>,
}

async fn show(arguments: &Show, format: Format) -> anyhow::Result<Verdict> {
    let pool = database::connect().await?;
    let (task, user) = match arguments.of {
        Of::Task => (Some(arguments.id), None),
        Of::User => (None, Some(arguments.id)),
    };
    let rows: Vec<Happened> = sqlx::query_as(
        "select event_id, occurred_at, event_type, actor, user_id, task_id, payload #>> '{task,version}' as version,
                payload #>> '{task,title}' as title, payload
         from audit.events
         where ($1::uuid is null or task_id = $1) and ($2::uuid is null or user_id = $2)
         order by occurred_at, event_id limit $3",
    )
    .bind(task)
    .bind(user)
    .bind(arguments.limit)
    .fetch_all(&pool)
    .await
    .context("cannot read the audit trail")?;
    if rows.is_empty() {
        bail!("the trail has nothing of {}", arguments.id);
    }
    match format {
        Format::Json => output::json(&rows)?,
        Format::Table => output::table(
            std::iter::once(["OCCURRED AT", "TYPE", "BY", "TASK", "VERSION", "TITLE"].map(str::to_owned))
                .chain(rows.iter().map(|row| {
                    [
                        row.occurred_at.to_rfc3339_opts(SecondsFormat::Millis, true),
                        row.event_type.clone(),
                        row.actor.clone().unwrap_or_default(),
                        row.task_id.map(|id| id.to_string()).unwrap_or_default(),
                        row.version.clone().unwrap_or_default(),
                        row.title.clone().unwrap_or_default(),
                    ]
                })),
        ),
    }
    if i64::try_from(rows.len()).is_ok_and(|rows| rows == arguments.limit) {
        note("there may be more: --limit");
    }
    Ok(Verdict::Fine)
}

async fn restore(arguments: &Restore) -> anyhow::Result<Verdict> {
    let mut tx = database::connect().await?.begin().await?;
    let recovered = recover::task(&mut tx, arguments.user, arguments.task)
        .await
        .context("cannot restore the task")?;
    tx.commit().await?;
    match recovered {
        Recovered::Restored(task) => say(format_args!(
            "task {} is back, as version {}",
            task.id, task.version
        )),
        Recovered::ThereAlready(task) => say(format_args!(
            "task {} is there, as version {}: nothing was done",
            task.id, task.version
        )),
        Recovered::NotInTrail => bail!(
            "the trail has nothing of a task {} of {}",
            arguments.task,
            arguments.user
        ),
        Recovered::NoAccount => bail!("{} has no account", arguments.user),
    }
    Ok(Verdict::Fine)
}
