//! Creating tasks over HTTP, beside pgbench doing the same two inserts in the same database; and listing them.

use std::process::Command;

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use sqlx::Row as _;
use support::{Database, Topics};

use crate::load;
use crate::process::{Service, logs};
use crate::stats::Runs;
use crate::table::{Row, Target, Unit};
use crate::{machine, say, tokens};

/// How many people create tasks, at random: few of them twice at the same moment, which their rows' locks would show.
const PEOPLE: usize = 200;
/// How many register at a time: as many passwords as the API hashes at a time.
const REGISTERING: usize = 2;
/// Seconds that one run takes.
const SECONDS: u32 = 6;
/// Runs of each side, in turns.
const ROUNDS: usize = 3;

/// What pgbench does in one transaction, with the list of people put in. The rows are those that the API wrote for the
/// request that wrk sends, with ids of their own and one of the people at random.
const PGBENCH_SCRIPT: &str = r"\set person random(1, :people)
begin;
insert into tasks.tasks (user_id, id, version, title, description, priority, tags, due_at, timezone, reminders, series_id,
                         occurrence, recurrence, created_at, updated_at, completed_at, deleted_at)
values (('{PEOPLE}'::uuid[])[:person], gen_random_uuid(), :version, :title, :description, :priority, :tags, :due_at,
        :timezone, :reminders, null, null, null, :created_at, :created_at, null, null);
insert into outbox.events (event_id, topic, user_id, event_type, fingerprint, body, headers)
values (gen_random_uuid(), :topic, ('{PEOPLE}'::uuid[])[:person], :event_type, :fingerprint, :body, :headers);
commit;
";

/// Measures it.
pub async fn run(quick: bool) -> anyhow::Result<Vec<Row>> {
    let (seconds, rounds) = if quick { (1, 1) } else { (SECONDS, ROUNDS) };
    let (database, topics) = (Database::create().await, Topics::named("bench-api."));
    let mut api = Service::start("api", &database, &topics)?;
    api.ready().await?;
    let people = register(&api, PEOPLE).await?;
    let mut rows = Vec::new();
    for (connections, target) in [(8, Some(Target::RatioAtLeast(0.7))), (32, None)] {
        let name = format!("API create, {connections} connections");
        let row = creating(&api, &people, &database, name, (connections, seconds, rounds)).await?;
        rows.push(match target {
            Some(target) => row.target(target),
            None => row,
        });
    }
    let one = people.get(..1).context("nobody is registered")?;
    fill(&database, one).await?;
    let name = "API create, 32 connections, one list of 20 k".to_owned();
    let row = creating(&api, one, &database, name, (32, seconds, rounds)).await?;
    rows.push(row.target(Target::RatioAtLeast(0.7)));
    rows.push(tokens::share(&api, &people, seconds, rounds).await?);
    drop(api);
    load::discard(database).await?;
    Ok(rows)
}

/// These people create tasks over so many connections, for so many seconds, so many times in turns with pgbench.
async fn creating(
    api: &Service,
    people: &[Person],
    database: &Database,
    name: String,
    (connections, seconds, rounds): (usize, u32, usize),
) -> anyhow::Result<Row> {
    let pgbench = Pgbench::like_the_api(api, people, database).await?;
    let wrk = Wrk::new(api, people)?;
    // Connections are opened, statements prepared, caches filled.
    wrk.run(connections, 1).await?;
    pgbench.run(connections, 1).await?;
    let (mut ours, mut bare, mut details) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        machine::settle().await?;
        let cpu = api.cpu()?;
        let run = wrk.run(connections, seconds).await?;
        let cpu = api.cpu()? - cpu;
        check(api).await?;
        machine::settle().await?;
        let limit = pgbench.run(connections, seconds).await?;
        say(&format!(
            "{name}, round {round} of {rounds}: {:.0}/s, pgbench {limit:.0}/s",
            run.rate
        ));
        ours.push(run.rate);
        bare.push(limit);
        details.push(json!({"p50_ms": run.p50_ms, "p99_ms": run.p99_ms,
                            "api_cpu_us_per_request": cpu.as_secs_f64() * 1e6 / run.requests}));
    }
    Ok(Row::new(name, Unit::PerSecond, Runs::of(ours))
        .bare(Runs::of(bare))
        .details(json!({"runs": details})))
}

/// Gives the person a list of twenty thousand tasks.
async fn fill(database: &Database, people: &[Person]) -> anyhow::Result<()> {
    let person = people.first().context("nobody is registered")?;
    sqlx::query(
        "insert into tasks.tasks (user_id, id, version, title, priority, tags, due_at, timezone, reminders, created_at, updated_at)
         select $1::uuid, gen_random_uuid(), 1, 'Task ' || i, 'medium', '{}', now() + i * interval '1 min', 'UTC', '[]', now(), now()
         from generate_series(1, 20000) i",
    )
    .bind(&person.id)
    .execute(database.admin())
    .await?;
    sqlx::query("vacuum (analyze) tasks.tasks")
        .execute(database.admin())
        .await?;
    Ok(())
}

/// A person with an account.
pub struct Person {
    /// Whose tasks.
    pub id: String,
    /// An access token.
    pub token: String,
}

/// So many people with accounts.
pub async fn register(api: &Service, people: usize) -> anyhow::Result<Vec<Person>> {
    let http = reqwest::Client::new();
    futures::stream::iter(0..people)
        .map(|n| register_one(&http, api, n))
        .buffer_unordered(REGISTERING)
        .try_collect()
        .await
}

async fn register_one(http: &reqwest::Client, api: &Service, n: usize) -> anyhow::Result<Person> {
    let answer: Value = http
        .post(format!("{}/api/auth/register", api.url()))
        .json(
            &json!({"email": format!("ada-{n}@example.org"), "password": "correct horse battery",
                      "name": "Ada Lovelace", "timezone": "Europe/Berlin"}),
        )
        .send()
        .await?
        .error_for_status()?
        .json()
        .await?;
    let text = |pointer: &str| {
        let value = answer.pointer(pointer).and_then(Value::as_str);
        value
            .map(str::to_owned)
            .context("a registration without id or token")
    };
    Ok(Person {
        id: text("/user/id")?,
        token: text("/access_token")?,
    })
}

/// What a page sends when a person has filled in the form.
fn request() -> Value {
    json!({
        "title": "Send the quarterly report to accounting",
        "description": "The numbers of the *third* quarter, with the two corrections that Charles asked for. \
                        The draft is in the shared folder.",
        "priority": "high",
        "tags": ["work", "finance"],
        "due_at": "2099-01-15T17:00:00+01:00",
        "reminders": [{"offset": "-PT15M"}, {"at": "2099-01-14T08:00:00Z"}],
    })
}

/// No request may have got another answer than 201: not one is counted that created nothing.
async fn check(api: &Service) -> anyhow::Result<()> {
    let metrics = api.metrics().await?;
    let of = |labels: &str| labels.contains("path=\"/api/tasks\"") && labels.contains("method=\"POST\"");
    let created = |labels: &str| labels.contains("status=\"201\"");
    let others = metrics.sum_where("http_requests_total", |labels| of(labels) && !created(labels));
    ensure!(others == 0.0, "{others} requests got another answer than 201");
    Ok(())
}

/// wrk: of the HTTP clients at hand the one that takes the least of the CPU that it shares with the API and Postgres.
pub struct Wrk {
    url: String,
    script: std::path::PathBuf,
}

/// What one run of it gave.
pub struct Run {
    /// How many were answered.
    pub requests: f64,
    /// How many a second.
    pub rate: f64,
    /// Half are shorter.
    pub p50_ms: f64,
    /// One in a hundred is longer.
    pub p99_ms: f64,
}

impl Wrk {
    fn new(api: &Service, people: &[Person]) -> anyhow::Result<Self> {
        let body = request();
        let request = |person: &Person| {
            let token = &person.token;
            format!(
                r#"wrk.format("POST", "/api/tasks", {{ ["Authorization"] = "Bearer {token}", ["Content-Type"] = "application/json" }}, [==[{body}]==])"#
            )
        };
        Self::sending(api, "create", people.iter().map(request), 0)
    }

    /// Sends GETs of people for paths; a connection waits so long between two of them, on average.
    pub fn getting<'a>(
        api: &Service,
        name: &str,
        requests: impl Iterator<Item = (&'a Person, &'a str)>,
        pause_ms: u32,
    ) -> anyhow::Result<Self> {
        let request = |(person, path): (&Person, &str)| {
            let token = &person.token;
            format!(r#"wrk.format("GET", "{path}", {{ ["Authorization"] = "Bearer {token}" }})"#)
        };
        Self::sending(api, name, requests.map(request), pause_ms)
    }

    fn sending(
        api: &Service,
        name: &str,
        requests: impl Iterator<Item = String>,
        pause_ms: u32,
    ) -> anyhow::Result<Self> {
        let requests: Vec<String> = requests.collect();
        let delay = if pause_ms == 0 {
            String::new()
        } else {
            format!(
                "delay = function()\n  return math.random(0, {})\nend",
                2 * pause_ms
            )
        };
        // Requests are made once, so that each costs wrk a table look-up.
        let script = format!(
            r#"
local requests = {{}}
init = function()
  requests = {{
    {requests}
  }}
end
request = function()
  return requests[math.random(#requests)]
end
{delay}
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("result %d %d %d %f %f\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.timeout + e.status, latency:percentile(50), latency:percentile(99)))
end
"#,
            requests = requests.join(",\n    "),
        );
        let file = logs()?.join(format!("{name}.lua"));
        std::fs::write(&file, script)?;
        Ok(Self {
            url: api.url(),
            script: file,
        })
    }

    /// Sends the requests at random for so long.
    pub async fn run(&self, connections: usize, seconds: u32) -> anyhow::Result<Run> {
        let mut command = Command::new("wrk");
        command
            .arg("--threads=1")
            .arg(format!("--connections={connections}"))
            .arg(format!("--duration={seconds}s"))
            .arg("--timeout=10s")
            .arg("--script")
            .arg(&self.script)
            .arg(&self.url);
        let output = output(command).await?;
        let numbers: Vec<f64> = output
            .lines()
            .find_map(|line| line.strip_prefix("result "))
            .with_context(|| format!("wrk says no result: {output}"))?
            .split(' ')
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        let [requests, duration_us, errors, p50_us, p99_us] = numbers[..] else {
            anyhow::bail!("wrk's result is malformed: {output}");
        };
        ensure!(errors == 0.0, "wrk saw errors: {output}");
        Ok(Run {
            requests,
            rate: requests * 1e6 / duration_us,
            p50_ms: p50_us / 1e3,
            p99_ms: p99_us / 1e3,
        })
    }
}

/// pgbench, as the API's role, with the values of a row that the API wrote.
struct Pgbench {
    url: String,
    script: std::path::PathBuf,
    values: Vec<(&'static str, String)>,
}

impl Pgbench {
    async fn like_the_api(api: &Service, people: &[Person], database: &Database) -> anyhow::Result<Self> {
        let person = people.first().context("nobody is registered")?;
        reqwest::Client::new()
            .post(format!("{}/api/tasks", api.url()))
            .bearer_auth(&person.token)
            .json(&request())
            .send()
            .await?
            .error_for_status()?;
        let row = sqlx::query(
            "select version::text, title, description, priority, tags::text, due_at::text, timezone, reminders::text,
                    t.created_at::text, topic, event_type, fingerprint::text, body::text, headers::text
             from tasks.tasks t, outbox.events where title = 'Send the quarterly report to accounting' limit 1",
        )
        .fetch_one(database.admin())
        .await?;
        let mut values = Vec::new();
        for (index, name) in [
            "version",
            "title",
            "description",
            "priority",
            "tags",
            "due_at",
            "timezone",
            "reminders",
            "created_at",
            "topic",
            "event_type",
            "fingerprint",
            "body",
            "headers",
        ]
        .into_iter()
        .enumerate()
        {
            values.push((name, row.try_get::<String, _>(index)?));
        }
        let users: Vec<&str> = people.iter().map(|person| person.id.as_str()).collect();
        values.push(("people", people.len().to_string()));
        let script = logs()?.join("create.pgbench");
        std::fs::write(&script, PGBENCH_SCRIPT.replace("PEOPLE", &users.join(",")))?;
        Ok(Self {
            url: database.url("api"),
            script,
            values,
        })
    }

    async fn run(&self, connections: usize, seconds: u32) -> anyhow::Result<f64> {
        let program = std::env::var_os("PGBENCH").unwrap_or_else(|| "pgbench".into());
        let mut command = Command::new(program);
        command
            .args(["--no-vacuum", "--protocol=prepared", "--jobs=2"])
            .arg(format!("--client={connections}"))
            .arg(format!("--time={seconds}"))
            .arg("--file")
            .arg(&self.script);
        for (name, value) in &self.values {
            command.arg("--define").arg(format!("{name}={value}"));
        }
        command.arg(&self.url);
        let output = output(command).await?;
        ensure!(
            output.contains("number of failed transactions: 0 "),
            "pgbench failed: {output}"
        );
        output
            .lines()
            .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok())
            .with_context(|| format!("pgbench says no rate: {output}"))
    }
}

/// What a program prints.
pub async fn output(mut command: Command) -> anyhow::Result<String> {
    let name = command.get_program().display().to_string();
    let output = tokio::task::spawn_blocking(move || command.output())
        .await?
        .with_context(|| format!("{name} does not start"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{name} failed: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}
