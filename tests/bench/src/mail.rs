//! Mail: a backlog through the email sender, beside a client that hands the very same mail to the same server over as many
//! connections, and neither claims nor writes anything, neither a mail nor what became of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use sqlx::types::Json;
use support::{Database, Topics, samples, stack};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::process::Service;
use crate::stats::Runs;
use crate::table::{Row, Target, Unit};
use crate::{load, machine, say};

/// Connections to the server, of both: the sender's default `SMTP_MAX_CONNECTIONS`.
const CONNECTIONS: usize = 8;
/// The metric that tells how far it has come.
const SENT: &str = "notifications_sent_total";
/// Mails of the backlog.
const BACKLOG: u64 = 10_000;
/// People they go to.
const PEOPLE: i64 = 1_000;
/// How often.
const RUNS: usize = 3;

/// Measures it.
pub async fn run(quick: bool) -> anyhow::Result<Vec<Row>> {
    let (count, runs) = if quick { (BACKLOG / 10, 1) } else { (BACKLOG, RUNS) };
    let inbox = Inbox::new()?;
    let (mut ours, mut bare, mut cpu_us) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        inbox.empty().await?;
        let sent = send(count).await?;
        let mail = inbox.newest().await?;
        inbox.empty().await?;
        machine::settle().await?;
        let blasted = blast(count, mail).await?;
        say(&format!("mail: {:.0}/s, bare {blasted:.0}/s", sent.rate));
        ours.push(sent.rate);
        cpu_us.push(sent.cpu_us);
        bare.push(blasted);
    }
    inbox.empty().await?;
    Ok(vec![
        Row::new(
            format!("mails, {CONNECTIONS} connections"),
            Unit::PerSecond,
            Runs::of(ours),
        )
        .bare(Runs::of(bare))
        .target(Target::RatioAtLeast(0.6))
        .details(json!({"mails": count, "sender_cpu_us_per_mail": cpu_us})),
    ])
}

/// How a backlog was sent.
struct Sent {
    rate: f64,
    cpu_us: f64,
}

/// Lets a sender send a backlog.
async fn send(count: u64) -> anyhow::Result<Sent> {
    let (database, topics) = (Database::create().await, Topics::create().await);
    arm(&database, count).await?;
    machine::settle().await?;
    let sender = Service::start("email-sender", &database, &topics)?;
    let (seen, began) = sender.counts(SENT, 1).await?;
    let cpu = sender.cpu()?;
    let (last, ended) = sender.counts(SENT, count).await?;
    let sent = (last - seen) as f64;
    let cpu_us = (sender.cpu()? - cpu).as_secs_f64() * 1e6 / sent;
    sender.stop().await?;
    load::discard(database).await?;
    Ok(Sent {
        rate: sent / (ended - began).as_secs_f64(),
        cpu_us,
    })
}

/// Writes deliveries that are due, to people at fifty domains: one domain never gets all connections.
///
/// # Errors
/// When the database refuses.
pub async fn arm(database: &Database, count: u64) -> anyhow::Result<()> {
    sqlx::query(
        "insert into accounts.users (id, email, name, timezone, created_at)
         select gen_random_uuid(), n || '@' || n % 50 || '.example.org', 'Ada Lovelace', 'Europe/London', now()
         from generate_series(1, $1) n",
    )
    .bind(PEOPLE)
    .execute(database.admin())
    .await?;
    sqlx::query(
        "insert into delivery.deliveries (id, user_id, channel, reminder_id, task_id, fire_at, fired_at, task)
         select gen_random_uuid(), u.id, 'email', gen_random_uuid(), gen_random_uuid(), now(), now(), $2
         from generate_series(1, $1) n join (select id, row_number() over () as place from accounts.users) u
              on u.place = 1 + n % $3",
    )
    .bind(i64::try_from(count)?)
    .bind(Json(samples::task()))
    .bind(PEOPLE)
    .execute(database.admin())
    .await?;
    sqlx::query("vacuum (analyze) delivery.deliveries, accounts.users")
        .execute(database.admin())
        .await?;
    Ok(())
}

/// The mail catcher's other side.
struct Inbox {
    url: String,
    client: reqwest::Client,
}

impl Inbox {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            url: stack("MAIL_INBOX_URL"),
            client: reqwest::Client::builder().no_proxy().build()?,
        })
    }

    async fn empty(&self) -> anyhow::Result<()> {
        let url = format!("{}/api/messages", self.url);
        self.client.delete(url).send().await?.error_for_status()?;
        Ok(())
    }

    /// The bytes of a mail that was sent.
    async fn newest(&self) -> anyhow::Result<Vec<u8>> {
        let url = format!("{}/api/messages?limit=1&bodies=0", self.url);
        let list: Value = self
            .client
            .get(url)
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?;
        let id = list
            .pointer("/0/id")
            .or_else(|| list.pointer("/messages/0/id"))
            .and_then(Value::as_str)
            .context("there is no mail")?;
        let url = format!("{}/api/messages/{id}/raw", self.url);
        let mail = self.client.get(url).send().await?.error_for_status()?;
        Ok(mail.bytes().await?.into())
    }
}

/// Hands over as many copies of it. Returns how many a second.
async fn blast(count: u64, mail: Vec<u8>) -> anyhow::Result<f64> {
    // A dot at the beginning of a line is doubled (RFC 5321 section 4.5.2); a mail of ours ends with CRLF.
    let text = String::from_utf8(mail)?.replace("\r\n.", "\r\n..");
    let text: Arc<str> = format!("{}\r\n.\r\n", text.trim_end()).into();
    let next = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    let began = Instant::now();
    for _ in 0..CONNECTIONS {
        let (text, next) = (Arc::clone(&text), Arc::clone(&next));
        clients.spawn(async move {
            let mut smtp = Dialogue::open().await?;
            while next.fetch_add(1, Ordering::Relaxed) < count {
                smtp.say("MAIL FROM:<carillon@example.org>\r\n", "250").await?;
                smtp.say("RCPT TO:<1@example.org>\r\n", "250").await?;
                smtp.say("DATA\r\n", "354").await?;
                smtp.say(&text, "250").await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

/// A connection to the mail catcher.
struct Dialogue(BufReader<TcpStream>);

impl Dialogue {
    async fn open() -> anyhow::Result<Self> {
        let address = format!("{}:{}", stack("SMTP_HOST"), stack("SMTP_PORT"));
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut dialogue = Self(BufReader::new(stream));
        dialogue.hear("220").await?;
        dialogue.say("EHLO bench.example.org\r\n", "250").await?;
        Ok(dialogue)
    }

    async fn say(&mut self, text: &str, expected: &str) -> anyhow::Result<()> {
        self.0.get_mut().write_all(text.as_bytes()).await?;
        self.hear(expected).await
    }

    async fn hear(&mut self, expected: &str) -> anyhow::Result<()> {
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.0.read_line(&mut line).await?;
            ensure!(read > 0 && line.starts_with(expected), "the server says {line:?}");
            if line.as_bytes().get(expected.len()) != Some(&b'-') {
                return Ok(());
            }
        }
    }
}
