//! Finding tasks over HTTP, beside pgbench sending the same statements to the same database, as often.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, ensure};
use db::tasks::COLUMNS;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use support::{Database, Topics};

use crate::api::{Person, Wrk, output, register};
use crate::load;
use crate::process::{Service, logs};
use crate::stats::Runs;
use crate::table::{Row, Target, Unit};
use crate::{machine, say};

/// How many people ask. The first has a fiftieth of all tasks.
const PEOPLE: usize = 20;
/// Connections that people ask over.
const CONNECTIONS: usize = 4;
/// How long a connection waits between two questions, on average: what takes a millisecond meets another one seldom, so that
/// it is the time of one that is measured, and not that of a queue.
const PAUSE_MS: u32 = 20;
/// How many a second that makes.
const RATE: usize = CONNECTIONS * 1000 / PAUSE_MS as usize;
/// Seconds that one run takes.
const SECONDS: u32 = 15;
/// Runs of each side, in turns.
const ROUNDS: usize = 3;
/// Tasks of a page.
const PAGE: usize = 50;

/// What is asked for: the path, and the statement that the API sends for it.
struct Question {
    name: &'static str,
    path: &'static str,
    /// pgbench's protocol: the API has plain lists prepared and plans the rest each time.
    protocol: &'static str,
    sql: fn(&Asker<'_>) -> String,
}

/// Who asks.
struct Asker<'a> {
    person: &'a Person,
    has_few: bool,
}

const QUESTIONS: [Question; 3] = [
    Question {
        name: "list page",
        path: "/api/tasks",
        protocol: "prepared",
        sql: |asker| {
            let id = &asker.person.id;
            format!(
                "select {COLUMNS}, due_key from tasks.tasks where user_id = '{id}' and deleted_at is null
                 order by id desc limit {}",
                PAGE + 1
            )
        },
    },
    Question {
        name: "filtered list",
        path: "/api/tasks?status=open&tags=work&sort=due",
        protocol: "extended",
        sql: |asker| {
            let id = &asker.person.id;
            format!(
                "select {COLUMNS}, due_key from tasks.tasks where user_id = '{id}' and deleted_at is null
                     and completed_at is null and tags @> array['work']
                 order by due_key, id limit {}",
                PAGE + 1
            )
        },
    },
    Question {
        name: "full text",
        path: "/api/tasks?q=dentist%20",
        protocol: "extended",
        sql: |asker| {
            let id = &asker.person.id;
            let words = "((search.phrase('dentist')))";
            let tasks = if asker.has_few {
                format!("(select * from tasks.tasks where user_id = '{id}' offset 0) tasks")
            } else {
                "tasks.tasks".to_owned()
            };
            format!(
                "with hits as materialized (
                     select id, (1000 * (sign(ts_rank_cd('{{0,0,0,1}}', search, {words}))
                                         + ts_rank_cd('{{0,0,0.2,1}}', search, {words}, 32)))::int as rank
                     from {tasks} where user_id = '{id}' and deleted_at is null and search @@ {words})
                 select {COLUMNS}, rank
                 from (select id, rank from hits where rank >= 0 order by rank desc, id desc limit {}) best
                      join tasks.tasks using (id)
                 where user_id = '{id}' order by rank desc, id desc",
                PAGE + 1
            )
        },
    },
];

/// Measures it.
pub async fn run(quick: bool) -> anyhow::Result<Vec<Row>> {
    let (seconds, rounds, tasks) = if quick {
        (1, 1, 100_000)
    } else {
        (SECONDS, ROUNDS, 1_000_000)
    };
    let (database, topics) = (Database::create().await, Topics::named("bench-find."));
    let mut api = Service::start("api", &database, &topics)?;
    api.ready().await?;
    let people = register(&api, PEOPLE).await?;
    say(&format!("find: {tasks} tasks are filled in"));
    fill(&database, &people, tasks).await?;
    let mut rows = Vec::new();
    for question in QUESTIONS {
        let requests = people.iter().map(|person| (person, question.path));
        let wrk = Wrk::getting(&api, "find", requests, PAUSE_MS)?;
        let pgbench = Pgbench::new(&database, &question, &people)?;
        wrk.run(CONNECTIONS, 1).await?;
        pgbench.run(1).await?;
        let (mut ours, mut bare, mut details) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            machine::settle().await?;
            let run = wrk.run(CONNECTIONS, seconds).await?;
            let limit = pgbench.run(seconds).await?;
            details.push(json!({"p50_ms": run.p50_ms, "bare_p50_ms": limit.p50_ms}));
            ours.push(run.p99_ms);
            bare.push(limit.p99_ms);
        }
        rows.push(
            Row::new(
                format!("{}, p99", question.name),
                Unit::Milliseconds,
                Runs::of(ours),
            )
            .bare(Runs::of(bare))
            .target(Target::RatioAtMost(2.0))
            .details(json!({"runs": details})),
        );
    }
    rows.push(last_page(&api, &people, tasks, seconds, rounds).await?);
    drop(api);
    load::discard(database).await?;
    Ok(rows)
}

/// The last page of the longest list beside its first.
async fn last_page(
    api: &Service,
    people: &[Person],
    tasks: i64,
    seconds: u32,
    rounds: usize,
) -> anyhow::Result<Row> {
    let person = people.first().context("nobody is registered")?;
    let pages = usize::try_from(tasks)? / 50 / PAGE;
    let path = page(api, person, pages).await?;
    let last = Wrk::getting(
        api,
        "find-last",
        std::iter::once((person, path.as_str())),
        PAUSE_MS,
    )?;
    let first = Wrk::getting(
        api,
        "find-first",
        std::iter::once((person, "/api/tasks")),
        PAUSE_MS,
    )?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        machine::settle().await?;
        ours.push(last.run(CONNECTIONS, seconds).await?.p99_ms);
        bare.push(first.run(CONNECTIONS, seconds).await?.p99_ms);
    }
    let name = format!("list page {pages} beside page 1, p99");
    Ok(Row::new(name, Unit::Milliseconds, Runs::of(ours))
        .bare(Runs::of(bare))
        .target(Target::RatioAtMost(1.5)))
}

/// The path of the `n`th page of somebody's list, which must be a full one.
async fn page(api: &Service, person: &Person, n: usize) -> anyhow::Result<String> {
    let http = reqwest::Client::new();
    let mut path = "/api/tasks".to_owned();
    for page in 1..=n {
        let answer: Value = http
            .get(format!("{}{path}", api.url()))
            .bearer_auth(&person.token)
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?;
        let items = answer.pointer("/items").and_then(Value::as_array);
        ensure!(items.map(Vec::len) == Some(PAGE), "page {page} is not full");
        if page < n {
            let cursor = answer.pointer("/next_cursor").and_then(Value::as_str);
            path = format!("/api/tasks?cursor={}", cursor.context("the list is too short")?);
        }
    }
    Ok(path)
}

/// Fills in tasks: a fiftieth of them the first person's, the others those of ten thousand people.
async fn fill(database: &Database, people: &[Person], tasks: i64) -> anyhow::Result<()> {
    let ids: Vec<&str> = people.iter().map(|person| person.id.as_str()).collect();
    let others = 10_000 - ids.len();
    for sql in [
        format!(
            "create table people as
             select (row_number() over ()) - 1 as n, id
             from unnest('{{{}}}'::uuid[] || array(select gen_random_uuid() from generate_series(1, {others}))) id",
            ids.join(",")
        ),
        "create unique index on people (n)".to_owned(),
        "insert into accounts.users (id, email, name, timezone, password_hash, created_at)
         select id, n || '@example.com', 'Ada', 'Europe/Berlin', '-', now() from people on conflict do nothing"
            .to_owned(),
        format!(
            "insert into tasks.tasks (user_id, id, version, title, description, priority, tags, due_at, timezone, reminders,
                                      created_at, updated_at, completed_at)
             select p.id, overlay(gen_random_uuid()::text placing to_char(i, 'FM00000000') || '-0000-7' from 1 for 15)::uuid,
                    1, (array['Call the dentist about Thursday', 'Water the plants', 'Book a table for six',
                              'Send the quarterly report to accounting', 'Renew the passport before the summer trip',
                              'Pay the electricity bill', 'Review the pull request on retries',
                              'Buy milk, bread and a birthday card'])[1 + i / 50 % 8],
                    case when i / 50 % 2 = 0 then 'Ask for the *earliest* slot, bring the papers from last year, and write '
                         || 'down what they say about invoice ' || i end,
                    (array['low', 'medium', 'high', 'urgent'])[1 + i / 100 % 4],
                    case i / 50 % 3 when 0 then '{{}}' when 1 then array['work'] else array['home', 'errands'] end,
                    case when i / 50 % 8 > 0 then timestamptz '2027-01-01Z' + i * 7919 % 1000000 * interval '1 min' end,
                    'Europe/Berlin', '[]', timestamptz '2026-01-01Z' + i * interval '1 s',
                    timestamptz '2026-01-01Z' + i * interval '1 s',
                    case when i / 50 % 5 < 3 then timestamptz '2026-06-01Z' end
             from generate_series(0, {tasks}::bigint - 1) i
             join people p on p.n = case when i % 50 = 0 then 0 else 1 + i % 9999 end"
        ),
        "vacuum (analyze) tasks.tasks".to_owned(),
    ] {
        // Ids that we were given, and numbers.
        sqlx::query(AssertSqlSafe(sql)).execute(database.admin()).await?;
    }
    machine::settle().await
}

/// pgbench, as the API's role: a script for each person, chosen at random.
struct Pgbench {
    url: String,
    protocol: &'static str,
    scripts: Vec<PathBuf>,
}

struct Latencies {
    p50_ms: f64,
    p99_ms: f64,
}

impl Pgbench {
    fn new(database: &Database, question: &Question, people: &[Person]) -> anyhow::Result<Self> {
        let mut scripts = Vec::new();
        for (n, person) in people.iter().enumerate() {
            let script = logs()?.join(format!("find-{n}.pgbench"));
            let has_few = n > 0;
            let sql = (question.sql)(&Asker { person, has_few });
            std::fs::write(&script, format!("{sql};\n"))?;
            scripts.push(script);
        }
        Ok(Self {
            url: database.url("api"),
            protocol: question.protocol,
            scripts,
        })
    }

    async fn run(&self, seconds: u32) -> anyhow::Result<Latencies> {
        let folder = logs()?.join("find-latencies");
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder)?;
        let program = std::env::var_os("PGBENCH").unwrap_or_else(|| "pgbench".into());
        let mut command = Command::new(program);
        command
            .args(["--no-vacuum", "--jobs=2", "--log"])
            .arg(format!("--log-prefix={}", folder.join("log").display()))
            .arg(format!("--protocol={}", self.protocol))
            .arg(format!("--client={CONNECTIONS}"))
            .arg(format!("--rate={RATE}"))
            .arg(format!("--time={seconds}"));
        for script in &self.scripts {
            command.arg("--file").arg(script);
        }
        command.arg(&self.url);
        let output = output(command).await?;
        ensure!(
            output.contains("number of failed transactions: 0 "),
            "pgbench failed: {output}"
        );
        let mut latencies = crate::stats::Latencies::new()?;
        for file in std::fs::read_dir(&folder)? {
            for line in std::fs::read_to_string(file?.path())?.lines() {
                // With a rate, the time counts from when it was to begin: how late it began is the last column.
                let column = |n| line.split(' ').nth(n).and_then(|us| us.parse::<u64>().ok());
                let (us, late_us) = column(2).zip(column(6)).context("pgbench's log")?;
                latencies.record(std::time::Duration::from_micros(us.saturating_sub(late_us)));
            }
        }
        let summary = latencies.summary();
        ensure!(summary.count > 0, "pgbench did nothing: {output}");
        Ok(Latencies {
            p50_ms: summary.p50_ms,
            p99_ms: summary.p99_ms,
        })
    }
}
