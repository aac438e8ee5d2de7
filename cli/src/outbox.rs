//! `carillon outbox`.

use anyhow::Context;
use clap::Subcommand;
use serde::Serialize;
use serde_json::json;
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use crate::database;
use crate::output::{self, Format, Verdict, note, say};

#[derive(Debug, Subcommand)]
pub(crate) enum Outbox {
    /// What is committed and not published, and whether a relay is at it.
    ///
    /// Exit code 1 when there is none, or when it cannot get past an event.
    Status,
    /// Mends what keeps a relay from getting past an event, if this version can.
    ///
    /// Writes down the schemas that it knows and the database lacks. The relay tries again by itself, every two seconds, for as
    /// long as it takes: no event is ever given up.
    Retry,
}

/// A shard of the outbox.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Shard {
    pub(crate) shard: i16,
    /// Whether a relay holds it.
    pub(crate) relay: bool,
    pub(crate) rows: i64,
    pub(crate) oldest_seconds: f64,
    topics: Vec<TopicRows>,
}

#[derive(Debug, Clone, Serialize)]
struct TopicRows {
    topic: String,
    rows: i64,
    oldest_seconds: f64,
}

/// An event that no relay can publish, for lack of its schema.
#[derive(Debug, Clone, Serialize, FromRow)]
pub(crate) struct Obstacle {
    shard: i16,
    pub(crate) event_type: String,
    pub(crate) fingerprint: Uuid,
    pub(crate) rows: i64,
}

/// The shards, and what waits in them.
pub(crate) async fn shards(pool: &PgPool) -> Result<Vec<Shard>, sqlx::Error> {
    // A lock's two numbers are its class and its object; 2 marks that there are two.
    let held: Vec<i32> = sqlx::query_scalar(
        "select objid::bigint::integer from pg_locks
         where locktype = 'advisory' and granted and objsubid = 2 and classid = $1::bigint::oid
           and database = (select oid from pg_database where datname = current_database())",
    )
    .bind(i64::from(db::outbox::RELAY_LOCK_CLASS))
    .fetch_all(pool)
    .await?;
    let mut shards: Vec<Shard> = Vec::new();
    for waiting in db::outbox::waiting(pool).await? {
        if shards.last().is_none_or(|last| last.shard != waiting.shard) {
            shards.push(Shard {
                shard: waiting.shard,
                relay: held.contains(&i32::from(waiting.shard)),
                rows: 0,
                oldest_seconds: 0.0,
                topics: Vec::new(),
            });
        }
        if let (Some(shard), Some(topic)) = (shards.last_mut(), waiting.topic) {
            shard.rows += waiting.rows;
            shard.oldest_seconds = shard.oldest_seconds.max(waiting.oldest_seconds);
            shard.topics.push(TopicRows {
                topic,
                rows: waiting.rows,
                oldest_seconds: waiting.oldest_seconds,
            });
        }
    }
    Ok(shards)
}

/// What waits and has a schema that nobody wrote down: a relay gets no further than the first of them.
pub(crate) async fn obstacles(pool: &PgPool) -> Result<Vec<Obstacle>, sqlx::Error> {
    sqlx::query_as(
        "select w.shard, w.event_type, w.fingerprint, count(*) as rows
         from outbox.cursors c,
              lateral (
                  select e.shard, e.event_type, e.fingerprint from outbox.events e
                  where e.shard = c.shard and e.seq > greatest(c.done_seq, c.published_seq)
                    and not pg_visible_in_snapshot(e.xid, c.done)
                  order by seq limit 100000) w
         where w.fingerprint not in (select fingerprint from outbox.schemas)
         group by 1, 2, 3 order by 1, 2, 3",
    )
    .fetch_all(pool)
    .await
}

pub(crate) async fn run(command: Outbox, format: Format) -> anyhow::Result<Verdict> {
    let pool = database::connect().await?;
    match command {
        Outbox::Status => status(&pool, format).await,
        Outbox::Retry => retry(&pool, format).await,
    }
}

async fn status(pool: &PgPool, format: Format) -> anyhow::Result<Verdict> {
    let shards = shards(pool).await.context("cannot read the outbox")?;
    let obstacles = obstacles(pool).await.context("cannot read the outbox")?;
    if format == Format::Json {
        output::json(&json!({"shards": shards, "obstacles": obstacles}))?;
    } else {
        let rows: Vec<[String; 5]> = shards
            .iter()
            .flat_map(|shard| {
                let row = |topic: &str, rows: i64, oldest: f64| {
                    let relay = if shard.relay { "publishes" } else { "none" };
                    let age = if rows == 0 {
                        "-".to_owned()
                    } else {
                        output::duration(oldest)
                    };
                    [
                        shard.shard.to_string(),
                        relay.to_owned(),
                        topic.to_owned(),
                        rows.to_string(),
                        age,
                    ]
                };
                let topics = shard
                    .topics
                    .iter()
                    .map(|t| row(&t.topic, t.rows, t.oldest_seconds));
                let all = row("all", shard.rows, shard.oldest_seconds);
                topics.chain([all]).collect::<Vec<_>>()
            })
            .collect();
        let names = ["SHARD", "RELAY", "TOPIC", "WAITING", "OLDEST"].map(str::to_owned);
        output::table(std::iter::once(names).chain(rows));
        say_obstacles(&obstacles);
    }
    Ok(Verdict::wrong_if(
        !obstacles.is_empty() || shards.iter().any(|shard| !shard.relay),
    ))
}

fn say_obstacles(obstacles: &[Obstacle]) {
    for obstacle in obstacles {
        say(format_args!(
            "{} {} in shard {} cannot be published: no schema with fingerprint {} is in outbox.schemas",
            output::count(obstacle.rows, "event"),
            obstacle.event_type,
            obstacle.shard,
            obstacle.fingerprint
        ));
    }
}

async fn retry(pool: &PgPool, format: Format) -> anyhow::Result<Verdict> {
    let before = obstacles(pool).await.context("cannot read the outbox")?;
    let mut added = Vec::new();
    for schema in schemas::all_schemas() {
        let done = sqlx::query(
            "insert into outbox.schemas (fingerprint, topic, fullname, schema_json) values ($1, $2, $3, $4)
             on conflict (fingerprint) do nothing",
        )
        .bind(schema.fingerprint)
        .bind(schema.topic)
        .bind(&schema.fullname)
        .bind(&schema.json)
        .execute(pool)
        .await
        .context("cannot write down the schemas")?;
        if done.rows_affected() > 0 {
            added.push(schema.fullname.clone());
        }
    }
    let left = obstacles(pool).await.context("cannot read the outbox")?;
    match format {
        Format::Json => output::json(&json!({"obstacles": before, "schemas_added": added, "left": left}))?,
        Format::Table => {
            say(format_args!(
                "Written down that were missing: {}.",
                output::count(added.len(), "schema")
            ));
            say_obstacles(&left);
        }
    }
    if !left.is_empty() {
        note(
            "this version does not know them either: run carillon outbox retry of the version that wrote them",
        );
    }
    Ok(Verdict::wrong_if(!left.is_empty()))
}
