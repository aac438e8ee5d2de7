//! `carillon why`.

use ::why::{Fate, Story};
use anyhow::bail;
use clap::{Args, ValueEnum};
use serde_json::json;
use uuid::Uuid;

use crate::database;
use crate::output::{self, Format, Verdict, say};

/// Tells what happened to a reminder, or to all of a task, and what will.
#[derive(Debug, Args)]
pub(crate) struct Why {
    /// What the id is of.
    of: Of,
    /// The id of the reminder or the task.
    id: Uuid,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Of {
    Reminder,
    Task,
}

pub(crate) async fn run(arguments: &Why, format: Format) -> anyhow::Result<Verdict> {
    let pool = database::connect().await?;
    let mut connection = pool.acquire().await?;
    let Some(user_id) = ::why::owner_of(&mut connection, arguments.id).await? else {
        bail!("nobody has a {} with the id {}", name(arguments.of), arguments.id);
    };
    let fates = match arguments.of {
        Of::Reminder => ::why::of_reminder(&mut connection, user_id, arguments.id)
            .await?
            .map(|fate| vec![fate]),
        Of::Task => ::why::of_task(&mut connection, user_id, arguments.id)
            .await?
            .map(|(_, fates)| fates),
    };
    let Some(fates) = fates else {
        bail!("nobody has a {} with the id {}", name(arguments.of), arguments.id);
    };
    match format {
        Format::Json => output::json(
            &fates
                .iter()
                .map(|fate| json!({"reminder_id": fate.reminder_id, "task_id": fate.task.id, "why": ::why::tell(fate)}))
                .collect::<Vec<_>>(),
        )?,
        Format::Table if fates.is_empty() => say("The task has no reminders, and never had one that was armed."),
        Format::Table => fates.iter().for_each(print),
    }
    Ok(Verdict::Fine)
}

fn name(of: Of) -> &'static str {
    match of {
        Of::Reminder => "reminder",
        Of::Task => "task",
    }
}

fn print(fate: &Fate) {
    let Story {
        rule,
        happened,
        outlook,
    } = ::why::tell(fate);
    say(format_args!("Reminder {}", fate.reminder_id));
    for line in rule {
        say(format_args!("  {line}"));
    }
    if !happened.is_empty() {
        say("  What happened:");
    }
    for line in happened {
        say(format_args!("  - {}", line.text));
    }
    for line in outlook {
        say(format_args!("  {line}"));
    }
}
