//! `carillon deliveries`.

use anyhow::Context;
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use db::deliveries::{Delivery, Filter, STATES, WEBHOOK};
use serde_json::json;
use uuid::Uuid;

use crate::arguments::When;
use crate::database;
use crate::output::{self, Format, Verdict, note, say};

/// The most that one command lists, or tries again.
const MOST: i64 = 10_000;

#[derive(Debug, Subcommand)]
pub(crate) enum Deliveries {
    /// What is to be sent, and what became of it, the newest first.
    List {
        /// Only those in this state.
        #[arg(long, value_parser = PossibleValuesParser::new(STATES))]
        state: Option<String>,
        #[command(flatten)]
        which: Which,
        /// At most so many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=MOST))]
        limit: i64,
    },
    /// Gives those that failed another try, the oldest first. What was sent is never sent again.
    Retry {
        #[command(flatten)]
        which: Which,
        /// At most so many.
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(i64).range(1..=MOST))]
        limit: i64,
        /// Says what it would do, and does nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Which deliveries.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Only this person's.
    #[arg(long)]
    user: Option<Uuid>,
    /// Only those by this channel: email or webhook.
    #[arg(long)]
    channel: Option<String>,
    /// Only those that came to be since then: a time, or how long ago (6h).
    #[arg(long)]
    since: Option<When>,
}

impl Which {
    fn filter(self, state: Option<String>, limit: i64) -> Filter {
        Filter {
            user_id: self.user,
            state,
            channel: self.channel,
            since: self.since.map(|When(since)| since),
            limit,
        }
    }
}

pub(crate) async fn run(command: Deliveries, format: Format) -> anyhow::Result<Verdict> {
    let pool = database::connect().await?;
    match command {
        Deliveries::List { state, which, limit } => {
            let found = db::deliveries::list(&pool, &which.filter(state, limit))
                .await
                .context("cannot read the deliveries")?;
            print(&found, format)?;
            if found.is_empty() && format == Format::Table {
                say("There are none.");
            }
        }
        Deliveries::Retry {
            which,
            limit,
            dry_run,
        } => {
            let filter = which.filter(Some("failed".to_owned()), limit);
            if dry_run {
                let found = db::deliveries::list(&pool, &filter)
                    .await
                    .context("cannot read the deliveries")?;
                print(&found, format)?;
                note(format_args!("It would be another try for {}.", found.len()));
                return Ok(Verdict::Fine);
            }
            let mut tx = pool.begin().await?;
            let mut ids = db::deliveries::retry(&mut tx, &filter)
                .await
                .context("cannot change the deliveries")?;
            if filter.channel.as_deref().is_none_or(|channel| channel == WEBHOOK) {
                let room = limit.saturating_sub(i64::try_from(ids.len())?);
                ids.extend(
                    webhooks::retry(&mut tx, filter.user_id, filter.since, room)
                        .await
                        .context("cannot change the deliveries of webhooks")?,
                );
            }
            tx.commit().await?;
            match format {
                Format::Json => output::json(&json!({"retried": ids}))?,
                Format::Table => say(format_args!("Another try: {}.", ids.len())),
            }
        }
    }
    Ok(Verdict::Fine)
}

fn print(found: &[Delivery], format: Format) -> anyhow::Result<()> {
    output::print(
        format,
        found,
        [
            "id",
            "channel",
            "state",
            "attempts",
            "created",
            "user",
            "last error",
        ],
        |delivery| {
            [
                delivery.id.to_string(),
                delivery.channel.clone(),
                delivery.state.clone(),
                delivery.attempts.to_string(),
                output::time(Some(delivery.created_at)),
                delivery.user_id.to_string(),
                delivery.last_error.clone().unwrap_or_default(),
            ]
        },
    )
}
