//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Measures each path beside the bare limit of what it stands on, and prints a table.
#[derive(Debug, Parser)]
#[command(name = "scripts/bench", disable_version_flag = true)]
pub struct Args {
    /// Measure only this; may be given several times.
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// A tenth of the volumes: to try it out, not to quote.
    #[arg(long)]
    pub quick: bool,
    /// Write the same numbers, and more, to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw what depends on something as SVG files into this folder.
    #[arg(long, value_name = "FOLDER")]
    pub plots: Option<PathBuf>,
    /// Fail (exit code 2) when a target is missed.
    #[arg(long)]
    pub strict: bool,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Creating tasks over HTTP.
    Api,
    /// Finding tasks over HTTP, among a million of ten thousand people.
    Find,
    /// From the commit of an event to its acknowledgement by the broker.
    Relay,
    /// Events into the audit trail.
    Audit,
    /// The next occurrence of a rule.
    Next,
    /// How late reminders fire.
    Reminders,
    /// Instances of series, made ahead.
    Series,
    /// Webhooks to people's endpoints.
    Webhooks,
    /// Mails.
    Mail,
    /// Others' reminders, mails and webhooks beside a backlog of one person's.
    Fairness,
    /// The past, handled again.
    Replay,
    /// Services after something they stand on was away.
    Recovery,
    /// What a service takes that has nothing to do, and how soon it is ready.
    Idle,
}

impl Part {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Find => "find",
            Self::Relay => "relay",
            Self::Audit => "audit",
            Self::Next => "next",
            Self::Reminders => "reminders",
            Self::Series => "series",
            Self::Webhooks => "webhooks",
            Self::Mail => "mail",
            Self::Fairness => "fairness",
            Self::Replay => "replay",
            Self::Recovery => "recovery",
            Self::Idle => "idle",
        }
    }
}

impl Args {
    /// The chosen parts, in their order; all of them if none is named.
    pub fn parts(&self) -> impl Iterator<Item = Part> {
        Part::value_variants()
            .iter()
            .copied()
            .filter(|part| self.only.is_empty() || self.only.contains(part))
    }
}
