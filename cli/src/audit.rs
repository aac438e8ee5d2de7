//! `carillon audit`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use audit::{Anchor, Finding, Range, SealKey};
use chrono::NaiveDate;
use clap::{Args, Subcommand};
use secrecy::ExposeSecret;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Postgres, pool::PoolConnection};

use crate::output::{Verdict, note, say};

/// So many findings are printed one by one; the others are only counted.
const PRINTED: u64 = 1000;

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Looks whether the audit trail is as it was sealed. Exit code 1, with day and segment, when a row was edited, deleted or
    /// inserted, or a seal. DATABASE_URL is the owner's; AUDIT_SEAL_KEY (or …_FILE) the audit sink's, if it has one.
    Verify(Verify),
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

pub(crate) async fn run(command: &Audit) -> anyhow::Result<Verdict> {
    match command {
        Audit::Verify(arguments) => verify(arguments).await,
    }
}

async fn connect(url: &secrecy::SecretString) -> anyhow::Result<PoolConnection<Postgres>> {
    PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(Duration::from_secs(30))
        .connect(url.expose_secret())
        .await
        .context("cannot reach the database at DATABASE_URL")?
        .acquire()
        .await
        .context("cannot reach the database at DATABASE_URL")
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
    let mut connection = connect(&url).await?;
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
        note(format_args!("{} places are not as they were sealed", report.findings));
    }
    Ok(Verdict::wrong_if(report.findings > 0))
}
