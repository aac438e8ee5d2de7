//! `carillon dlq`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use kafka::letters::{Letter, OpenLetters, Operator, Replayer, record_at};
use kafka::{KafkaConfig, Record, Registry, RegistryConfig};
use schemas::topics;
use serde::Serialize;
use serde_json::json;

use crate::arguments::{Offset, When};
use crate::output::{self, Format, Usage, Verdict, note, printable, say};

/// The most letters that one command works on.
const MOST: u64 = 10_000;
/// How much of a value that cannot be decoded is shown.
const SHOWN_BYTES: usize = 512;

#[derive(Debug, Subcommand)]
pub(crate) enum Dlq {
    /// What is open.
    ///
    /// How many in each dead-letter topic, and why; of one topic, each.
    List {
        /// The dead-letter topic, such as task-events.reminder-scanner.dlq. Without it, all of them.
        topic: Option<String>,
        #[command(flatten)]
        selection: Selection,
    },
    /// One dead letter.
    ///
    /// Why it is one, where it came from, its headers, and its value, decoded if it can be.
    Show {
        /// The dead-letter topic.
        topic: String,
        /// Its place in the topic: PARTITION:OFFSET.
        #[arg(long)]
        offset: Offset,
        /// Writes the value, as it is, to this file.
        #[arg(long)]
        raw: Option<PathBuf>,
    },
    /// Gives dead letters to the group that refused them again.
    ///
    /// To no other group, and once what was wrong is mended. What it has handled already has no second effect.
    Replay {
        /// The dead-letter topic.
        topic: String,
        #[command(flatten)]
        selection: Selection,
        /// Says what it would do, and does nothing.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        by: By,
    },
    /// Notes that dead letters are not to be handled.
    ///
    /// Their bytes stay in the topic until its retention ends.
    Drop {
        /// The dead-letter topic.
        topic: String,
        #[command(flatten)]
        selection: Selection,
        /// Says what it would do, and does nothing.
        #[arg(long, conflicts_with = "yes")]
        dry_run: bool,
        /// That you mean it.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        by: By,
    },
}

/// Which of the open letters.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// Only those with this reason. May be given several times.
    #[arg(long)]
    reason: Vec<String>,
    /// Only those written since then: a time, or how long ago (6h).
    #[arg(long)]
    since: Option<When>,
    /// Only the one at PARTITION:OFFSET of the dead-letter topic. May be given several times.
    #[arg(long)]
    offset: Vec<Offset>,
    /// At most so many, the oldest first.
    #[arg(long, default_value_t = MOST, value_parser = clap::value_parser!(u64).range(1..=MOST))]
    limit: u64,
}

impl Selection {
    fn includes(&self, letter: &Letter) -> bool {
        (self.reason.is_empty() || self.reason.contains(&letter.reason))
            && (self.offset.is_empty() || self.offset.contains(&place(letter)))
            && self
                .since
                .is_none_or(|When(since)| letter.written_at.is_some_and(|at| at >= since))
    }
}

/// The open letters of a topic that are chosen.
async fn select(config: &KafkaConfig, topic: &str, selection: &Selection) -> anyhow::Result<Vec<Letter>> {
    let unreadable = || format!("cannot read {topic}");
    let mut open = OpenLetters::of(config, topic).await.with_context(unreadable)?;
    let mut chosen: Vec<Letter> = Vec::new();
    while let Some(letter) = open.next().await.with_context(unreadable)? {
        if !selection.includes(&letter) {
            continue;
        }
        if chosen.len() as u64 >= selection.limit {
            note(format_args!(
                "There are more than {}: run it again for the rest.",
                selection.limit
            ));
            break;
        }
        chosen.push(letter);
    }
    for offset in &selection.offset {
        if !chosen.iter().any(|letter| place(letter) == *offset) {
            bail!("no open letter that is chosen is at {offset}");
        }
    }
    Ok(chosen)
}

/// Who does it, and why. It is kept beside the letters, and in the audit trail.
#[derive(Debug, Args)]
pub(crate) struct By {
    /// Who does it.
    #[arg(long = "by", env = "CARILLON_OPERATOR", value_name = "NAME")]
    name: Option<String>,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    because: Option<String>,
}

impl By {
    fn operator(self) -> Operator {
        let user = || std::env::var("USER").unwrap_or_else(|_| "unknown".to_owned());
        Operator {
            name: self.name.unwrap_or_else(user),
            because: self.because.unwrap_or_default(),
        }
    }
}

fn place(letter: &Letter) -> Offset {
    Offset {
        partition: letter.place.partition,
        offset: letter.place.offset,
    }
}

pub(crate) async fn run(command: Dlq, format: Format) -> anyhow::Result<Verdict> {
    let config = service::config::load(KafkaConfig::from_env)?;
    match command {
        Dlq::List {
            topic: None,
            selection,
        } => list_topics(&config, &selection, format).await,
        Dlq::List {
            topic: Some(topic),
            selection,
        } => list_letters(&config, &declared(&topic)?, &selection, format).await,
        Dlq::Show { topic, offset, raw } => show(&config, &declared(&topic)?, offset, raw, format).await,
        Dlq::Replay {
            topic,
            selection,
            dry_run,
            by,
        } => replay(&config, &declared(&topic)?, &selection, dry_run, by, format).await,
        Dlq::Drop {
            topic,
            selection,
            dry_run,
            yes,
            by,
        } => drop_letters(&config, &declared(&topic)?, &selection, dry_run, yes, by, format).await,
    }
}

/// The name of a dead-letter topic that there is.
fn declared(topic: &str) -> Result<String, Usage> {
    let names: Vec<String> = topics::dead_letter_topics()
        .into_iter()
        .map(|topic| topic.name)
        .collect();
    if names.iter().any(|name| name == topic) {
        return Ok(topic.to_owned());
    }
    Err(Usage(format!(
        "{topic:?} is no dead-letter topic. There are:\n  {}",
        names.join("\n  ")
    )))
}

#[derive(Debug, Serialize)]
struct TopicRow {
    topic: String,
    group: String,
    open: usize,
    reasons: BTreeMap<String, usize>,
    oldest_at: Option<DateTime<Utc>>,
    newest_at: Option<DateTime<Utc>>,
}

impl TopicRow {
    fn count(&mut self, letter: Letter) {
        self.open += 1;
        if let Some(at) = letter.written_at {
            self.oldest_at = Some(self.oldest_at.map_or(at, |oldest| oldest.min(at)));
            self.newest_at = Some(self.newest_at.map_or(at, |newest| newest.max(at)));
        }
        *self.reasons.entry(letter.reason).or_default() += 1;
    }
}

async fn list_topics(config: &KafkaConfig, selection: &Selection, format: Format) -> anyhow::Result<Verdict> {
    if !selection.offset.is_empty() {
        return Err(Usage("--offset needs the topic that it is an offset of".to_owned()).into());
    }
    let mut rows = Vec::new();
    for topic in topics::dead_letter_topics() {
        let unreadable = || format!("cannot read {}", topic.name);
        let mut row = TopicRow {
            topic: topic.name.clone(),
            group: kafka::letters::group_of(&topic.name).to_owned(),
            open: 0,
            reasons: BTreeMap::new(),
            oldest_at: None,
            newest_at: None,
        };
        let mut open = OpenLetters::of(config, &topic.name)
            .await
            .with_context(unreadable)?;
        while let Some(letter) = open.next().await.with_context(unreadable)? {
            if selection.includes(&letter) {
                row.count(letter);
            }
        }
        rows.push(row);
    }
    output::print(
        format,
        &rows,
        ["topic", "open", "reasons", "oldest", "newest"],
        |row| {
            let reasons: Vec<String> = row
                .reasons
                .iter()
                .map(|(reason, count)| format!("{reason} {count}"))
                .collect();
            [
                row.topic.clone(),
                row.open.to_string(),
                if reasons.is_empty() {
                    "-".to_owned()
                } else {
                    reasons.join(", ")
                },
                output::time(row.oldest_at),
                output::time(row.newest_at),
            ]
        },
    )?;
    Ok(Verdict::Fine)
}

#[derive(Debug, Serialize)]
struct LetterRow {
    topic: String,
    offset: String,
    written_at: Option<DateTime<Utc>>,
    reason: String,
    stage: String,
    message: String,
    source: Option<String>,
    value_bytes: usize,
    refused_again: bool,
    obstacle: Option<&'static str>,
}

impl From<&Letter> for LetterRow {
    fn from(letter: &Letter) -> Self {
        Self {
            topic: letter.place.topic.clone(),
            offset: place(letter).to_string(),
            written_at: letter.written_at,
            reason: letter.reason.clone(),
            stage: letter.stage.clone(),
            message: letter.message.clone(),
            source: letter.source.as_ref().map(ToString::to_string),
            value_bytes: letter.value_bytes,
            refused_again: letter.refused_again,
            obstacle: letter.obstacle(),
        }
    }
}

fn print_letters(letters: &[Letter], format: Format) -> anyhow::Result<()> {
    let rows: Vec<LetterRow> = letters.iter().map(LetterRow::from).collect();
    output::print(
        format,
        &rows,
        ["offset", "written", "source", "bytes", "reason", "message"],
        |row| {
            let again = if row.refused_again { " (again)" } else { "" };
            [
                row.offset.clone(),
                output::time(row.written_at),
                row.source.clone().unwrap_or_else(|| "-".to_owned()),
                row.value_bytes.to_string(),
                format!("{}{again}", row.reason),
                row.message.clone(),
            ]
        },
    )
}

async fn list_letters(
    config: &KafkaConfig,
    topic: &str,
    selection: &Selection,
    format: Format,
) -> anyhow::Result<Verdict> {
    let letters = select(config, topic, selection).await?;
    print_letters(&letters, format)?;
    if letters.is_empty() && format == Format::Table {
        say("Nothing is open.");
    }
    Ok(Verdict::Fine)
}

async fn show(
    config: &KafkaConfig,
    topic: &str,
    offset: Offset,
    raw: Option<PathBuf>,
    format: Format,
) -> anyhow::Result<Verdict> {
    let record = record_at(config, topic, offset.partition, offset.offset)
        .await
        .with_context(|| format!("cannot read {topic}"))?;
    let Some(record) = record else {
        bail!("{topic} has no record at {offset}");
    };
    let Some(letter) = Letter::of(&record) else {
        bail!("at {offset} lies no letter: it says what was done about one");
    };
    let is_open = OpenLetters::of(config, topic).await?.is_open(&letter);
    if let Some(file) = raw {
        let value = record.value.as_deref().unwrap_or_default();
        std::fs::write(&file, value).with_context(|| format!("cannot write {}", file.display()))?;
        note(format_args!(
            "{} bytes written to {}",
            value.len(),
            file.display()
        ));
    }
    let decoded = decode(&record).await;
    let headers: Vec<(String, Option<String>)> = record
        .headers
        .iter()
        .map(|(name, value)| {
            let text = value
                .as_ref()
                .map(|value| String::from_utf8_lossy(value).into_owned());
            (name.clone(), text)
        })
        .collect();
    let dump = || hexdump(record.value.as_deref().unwrap_or_default());
    if format == Format::Json {
        output::json(&json!({
            "letter": LetterRow::from(&letter),
            "open": is_open,
            "key": record.key.as_ref().map(|key| String::from_utf8_lossy(key).into_owned()),
            "headers": headers,
            "value": decoded.as_ref().ok(),
            "not_decoded": decoded.as_ref().err(),
            "hexdump": decoded.is_err().then(dump),
        }))?;
        return Ok(Verdict::Fine);
    }
    let source = letter
        .source
        .as_ref()
        .map_or_else(|| "unknown".to_owned(), ToString::to_string);
    let state = if is_open {
        "open"
    } else {
        "done: replayed or dropped"
    };
    output::table(
        [
            ["place", letter.place.to_string().as_str()],
            ["state", state],
            ["written", &output::time(letter.written_at)],
            ["source", &source],
            ["group", &letter.group],
            ["stage", &letter.stage],
            ["reason", &letter.reason],
            ["message", &letter.message],
            ["obstacle", letter.obstacle().unwrap_or("-")],
        ]
        .into_iter()
        .map(|row| row.map(str::to_owned)),
    );
    say("\nheaders");
    output::table(
        headers
            .into_iter()
            .map(|(name, value)| [format!("  {name}"), value.unwrap_or_else(|| "(none)".to_owned())]),
    );
    match decoded {
        Ok(value) => say(format_args!("\nvalue\n{}", serde_json::to_string_pretty(&value)?)),
        Err(why) => say(format_args!(
            "\nvalue, not decoded: {}\n{}",
            printable(&why),
            dump()
        )),
    }
    Ok(Verdict::Fine)
}

/// The value as its schema describes it, or why it cannot be told.
async fn decode(record: &Record) -> Result<serde_json::Value, String> {
    let (id, body) = schemas::unframe(record.value.as_deref()).map_err(|error| error.to_string())?;
    let config = service::config::load(RegistryConfig::from_env)
        .map_err(|problems| format!("no registry to ask for schema {id}: {problems}"))?;
    let registry = Registry::new(&config).map_err(|error| error.to_string())?;
    let schema = registry.schema(id).await.map_err(|error| error.to_string())?;
    schemas::to_json(&schema, body).map_err(|error| match std::error::Error::source(&error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    })
}

/// The first bytes, as `hexdump -C` prints them.
fn hexdump(bytes: &[u8]) -> String {
    let mut lines: Vec<String> = bytes
        .chunks(16)
        .take(SHOWN_BYTES / 16)
        .enumerate()
        .map(|(n, chunk)| {
            let hex: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
            let text: String = chunk
                .iter()
                .map(|byte| {
                    if byte.is_ascii_graphic() || *byte == b' ' {
                        char::from(*byte)
                    } else {
                        '.'
                    }
                })
                .collect();
            format!("{:08x}  {:47}  |{text}|", n * 16, hex.join(" "))
        })
        .collect();
    if bytes.len() > SHOWN_BYTES {
        lines.push(format!(
            "… of {} bytes; --raw FILE writes all of them",
            bytes.len()
        ));
    }
    lines.join("\n")
}

async fn replay(
    config: &KafkaConfig,
    topic: &str,
    selection: &Selection,
    dry_run: bool,
    by: By,
    format: Format,
) -> anyhow::Result<Verdict> {
    let chosen = select(config, topic, selection).await?;
    let (ready, left): (Vec<Letter>, Vec<Letter>) =
        chosen.into_iter().partition(|letter| letter.obstacle().is_none());
    for letter in &left {
        note(format_args!(
            "{} is left: {}",
            place(letter),
            letter.obstacle().unwrap_or_default()
        ));
    }
    let group = kafka::letters::group_of(topic);
    if dry_run {
        print_letters(&ready, format)?;
        note(format_args!(
            "It would be given to {group} again: {}.",
            output::count(ready.len(), "letter")
        ));
        return Ok(Verdict::wrong_if(!left.is_empty()));
    }
    let replayed = Replayer::new(config)?
        .replay(topic, &ready, &by.operator(), |done| {
            if done < ready.len() {
                note(format_args!("{done} of {}", ready.len()));
            }
        })
        .await
        .context("cannot replay all of them; what was given is noted, run it again for the rest")?;
    match format {
        Format::Json => output::json(&json!({"replayed": replayed, "left": left.len()}))?,
        Format::Table => say(format_args!(
            "Given to {group} again: {replayed}. Left: {}.",
            left.len()
        )),
    }
    Ok(Verdict::wrong_if(!left.is_empty()))
}

async fn drop_letters(
    config: &KafkaConfig,
    topic: &str,
    selection: &Selection,
    dry_run: bool,
    yes: bool,
    by: By,
    format: Format,
) -> anyhow::Result<Verdict> {
    let chosen = select(config, topic, selection).await?;
    if dry_run {
        print_letters(&chosen, format)?;
        note(format_args!(
            "It would be dropped: {}.",
            output::count(chosen.len(), "letter")
        ));
        return Ok(Verdict::Fine);
    }
    if !yes {
        return Err(Usage(format!(
            "{} would be dropped and never be handled: say --yes if you mean it, or --dry-run to see which",
            output::count(chosen.len(), "letter")
        ))
        .into());
    }
    let dropped = Replayer::new(config)?
        .drop_letters(topic, &chosen, &by.operator())
        .await
        .context("cannot drop all of them; run it again for the rest")?;
    match format {
        Format::Json => output::json(&json!({"dropped": dropped}))?,
        Format::Table => say(format_args!(
            "Dropped: {dropped}. The bytes stay until the retention ends."
        )),
    }
    Ok(Verdict::Fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hexdump_is_bounded_and_says_so() {
        let dump = hexdump(&[b'A'; 10_000]);
        assert_eq!(dump.lines().count(), SHOWN_BYTES / 16 + 1);
        assert!(dump.starts_with("00000000  41 41"), "{dump}");
        assert!(
            dump.ends_with("of 10000 bytes; --raw FILE writes all of them"),
            "{dump}"
        );
        assert_eq!(
            hexdump(b"\0\x01A b"),
            "00000000  00 01 41 20 62                                   |..A b|"
        );
    }
}
