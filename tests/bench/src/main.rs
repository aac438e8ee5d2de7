//! Measures every path of Carillon that has to be fast, each beside the bare limit of what it stands on: the same work
//! without our code, in the same run, on the same machine. `scripts/bench` builds and starts what this needs;
//! docs/BENCHMARKS.md says how to read what it prints.

mod api;
mod args;
mod arming;
mod audit;
mod events;
mod fairness;
mod find;
mod idle;
mod load;
mod machine;
mod mail;
mod next;
mod plots;
mod process;
mod producing;
mod recovery;
mod relay;
mod reminders;
mod replay;
mod series;
mod stats;
mod table;
mod tokens;
mod webhooks;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use args::{Args, Part};
use machine::Machine;
use table::Report;

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bench: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = run(&args) => outcome,
            // Returning ends the services that were started: a killed benchmark leaves none behind.
            signal = stopped() => Err(anyhow::anyhow!("stopped by {signal}")),
        }
    });
    // Threads that still read or write a topic are not waited for.
    runtime.shutdown_background();
    match outcome {
        Ok(missed) if missed && args.strict => ExitCode::from(2),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the chosen parts and prints the table. Whether a target was missed.
async fn run(args: &Args) -> anyhow::Result<bool> {
    machine::recycle_wal()
        .await
        .context("PostgreSQL could not be made ready")?;
    let mut report = Report::new(Machine::look().await?, args.quick);
    for part in args.parts() {
        let before = machine::busy().await?;
        say(&format!(
            "{}: {:.0} % of the machine is busy with other things",
            part.name(),
            before * 100.0
        ));
        let rows = match part {
            Part::Api => api::run(args.quick).await,
            Part::Find => find::run(args.quick).await,
            Part::Relay => relay::run(args.quick).await,
            Part::Audit => audit::run(args.quick).await,
            Part::Next => next::run(args.quick),
            Part::Reminders => reminders::run(args.quick).await,
            Part::Series => series::run(args.quick).await,
            Part::Webhooks => webhooks::run(args.quick).await,
            Part::Mail => mail::run(args.quick).await,
            Part::Fairness => fairness::run(args.quick).await,
            Part::Replay => replay::run(args.quick).await,
            Part::Recovery => recovery::run(args.quick).await,
            Part::Idle => idle::run(args.quick).await,
        }
        .with_context(|| format!("{} could not be measured", part.name()))?;
        report.add(part, before, machine::busy().await?, rows);
        // What was written so far is safe if a later part fails.
        if let Some(file) = &args.json {
            report.write_json(file)?;
        }
        if let Some(folder) = &args.plots {
            plots::draw(report.points(), folder)?;
        }
    }
    report.print()?;
    Ok(report.missed())
}

/// Resolves when the process is asked to end.
async fn stopped() -> &'static str {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}

/// What is going on, for people: not part of the result, so not on standard output.
fn say(line: &str) {
    eprintln!("bench: {line}");
}
