//! What checking access tokens takes of the CPU time that the API spends on the first page of a list.

use std::borrow::Borrow;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use api::{SigningKey, TokenConfig, Tokens};
use serde_json::json;
use support::stack;

use crate::api::{Person, Wrk};
use crate::process::{self, Service};
use crate::stats::Runs;
use crate::table::{Row, Target, Unit};
use crate::{machine, say};

/// Connections that ask at a time.
const CONNECTIONS: usize = 8;
/// How long tokens are checked in one run: the kernel counts CPU time in hundredths of a second.
const CHECKING: Duration = Duration::from_secs(2);

/// Measures it, in runs of so many seconds.
pub async fn share(api: &Service, people: &[Person], seconds: u32, rounds: usize) -> anyhow::Result<Row> {
    let requests = people.iter().map(|person| (person, "/api/tasks"));
    let wrk = Wrk::getting(api, "list", requests, 0)?;
    wrk.run(CONNECTIONS, 1).await?;
    let (mut shares, mut details) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        machine::settle().await?;
        let cpu = api.cpu()?;
        let run = wrk.run(CONNECTIONS, seconds).await?;
        let request_us = (api.cpu()? - cpu).as_secs_f64() * 1e6 / run.requests;
        let tokens: Vec<String> = people.iter().map(|person| person.token.clone()).collect();
        let (first_us, check_us) =
            tokio::task::spawn_blocking(move || anyhow::Ok((first_us(&tokens)?, again_us(&tokens)?)))
                .await??;
        let share = 100.0 * check_us / request_us;
        say(&format!(
            "api: list, round {round} of {rounds}: {request_us:.0} µs a request, {check_us:.1} µs a token \
             ({first_us:.1} the first time), {share:.1} %"
        ));
        shares.push(share);
        details.push(
            json!({"api_cpu_us_per_request": request_us, "check_us": check_us, "first_check_us": first_us,
                            "requests_per_second": run.rate, "p99_ms": run.p99_ms}),
        );
    }
    let name = "API list, checking the token, of the CPU";
    Ok(Row::new(name, Unit::Percent, Runs::of(shares))
        .target(Target::AtMost(5.0))
        .details(json!({"runs": details})))
}

/// CPU time in microseconds that it takes to check one of the tokens again, as nearly every request of a client makes the
/// API do: by its own code, with its default settings, in this process, which does nothing else meanwhile.
fn again_us(tokens: &[String]) -> anyhow::Result<f64> {
    let checker = checker()?;
    measured(tokens, || Ok(&checker))
}

/// The same of tokens that come for the first time.
fn first_us(tokens: &[String]) -> anyhow::Result<f64> {
    measured(tokens, checker)
}

/// What checks tokens in the API.
fn checker() -> anyhow::Result<Tokens> {
    let pem = std::fs::read_to_string(stack("JWT_PRIVATE_KEY_FILE"))?;
    Ok(Tokens::new(TokenConfig {
        key: SigningKey::from_pem(&pem)?,
        rotation: Some(Duration::from_hours(30 * 24)),
        issuer: "carillon".to_owned(),
        audience: "carillon".to_owned(),
        ttl: Duration::from_mins(15),
    })?)
}

/// Checks all of them over and over, each time by what `checker` gives.
fn measured<T: Borrow<Tokens>>(
    tokens: &[String],
    checker: impl Fn() -> anyhow::Result<T>,
) -> anyhow::Result<f64> {
    let (began, cpu) = (Instant::now(), process::cpu(std::process::id())?);
    let mut checked = 0_u32;
    while began.elapsed() < CHECKING {
        let checker = checker()?;
        for token in tokens {
            let bearer = checker.borrow().verify(token);
            std::hint::black_box(bearer.context("a token of the API is refused")?);
            checked += 1;
        }
    }
    ensure!(checked > 0, "there is no token to check");
    let used = process::cpu(std::process::id())? - cpu;
    Ok(used.as_secs_f64() * 1e6 / f64::from(checked))
}
