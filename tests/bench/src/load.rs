//! What happens in the outbox's database: backlogs, commits at a steady pace, transactions that somebody forgot.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use schemas::Encoded;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use support::{Database, stack};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{events, machine};

/// Rows that a backlog is filled with by one statement.
const FILL_ROWS: u64 = 2000;
/// How many connections fill a backlog.
const FILLERS: u64 = 2;
/// How many connections commit at a steady pace: more than it takes, so that a slow commit delays no other.
const COMMITTERS: usize = 8;
/// How long the server may take to notice that a connection is gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// Fills the outbox with so many events.
pub async fn fill(database: &Database, count: u64) -> anyhow::Result<()> {
    let mut fillers = JoinSet::new();
    for filler in 0..FILLERS {
        let pool = database.pool("api");
        fillers.spawn(async move {
            let mut connection = pool.acquire().await?;
            let share = (count * filler / FILLERS)..(count * (filler + 1) / FILLERS);
            let mut next = share.start;
            while next < share.end {
                let end = (next + FILL_ROWS).min(share.end);
                let rows = (next..end)
                    .map(events::created)
                    .collect::<anyhow::Result<Vec<_>>>()?;
                db::outbox::insert(&mut connection, &rows).await?;
                next = end;
            }
            anyhow::Ok(())
        });
    }
    while let Some(filler) = fillers.join_next().await {
        filler??;
    }
    // What autovacuum would do within a minute, but in the middle of the measurement.
    sqlx::query("vacuum (analyze) outbox.events")
        .execute(database.admin())
        .await?;
    machine::settle().await
}

/// A commit of one event.
#[derive(Debug, Clone, Copy)]
pub struct Commit {
    /// When it was to be made.
    pub due: Instant,
    /// When its statement was sent.
    pub sent: Instant,
    /// When the database said that it is committed.
    pub committed: Instant,
}

/// Commits one event every `interval`, each in a transaction of its own, however long the others take.
pub async fn commit_paced(
    database: &Database,
    events: Vec<Encoded>,
    interval: Duration,
) -> anyhow::Result<HashMap<Uuid, Commit>> {
    let pool = database.pool("api");
    let mut connections = Vec::new();
    for _ in 0..COMMITTERS {
        let mut connection = pool.acquire().await?;
        connection.ping().await?;
        connections.push(connection);
    }
    let mut shares: Vec<Vec<(u32, Encoded)>> = vec![Vec::new(); COMMITTERS];
    for ((n, event), share) in (0..).zip(events).zip((0..COMMITTERS).cycle()) {
        if let Some(share) = shares.get_mut(share) {
            share.push((n, event));
        }
    }
    let start = Instant::now() + Duration::from_millis(100);
    let mut committers = JoinSet::new();
    for (mut connection, share) in connections.into_iter().zip(shares) {
        committers.spawn(async move {
            let mut commits = Vec::with_capacity(share.len());
            for (n, event) in share {
                let due = start + interval * n;
                tokio::time::sleep_until(due.into()).await;
                let sent = Instant::now();
                db::outbox::insert(&mut connection, std::slice::from_ref(&event)).await?;
                let commit = Commit {
                    due,
                    sent,
                    committed: Instant::now(),
                };
                commits.push((event.event_id, commit));
            }
            anyhow::Ok(commits)
        });
    }
    let mut all = HashMap::new();
    while let Some(commits) = committers.join_next().await {
        all.extend(commits??);
    }
    Ok(all)
}

/// A transaction that has written an event and does not end: a forgotten psql, a stuck client.
#[derive(Debug)]
pub struct HeldOpen(PgConnection);

impl HeldOpen {
    /// Begins it.
    pub async fn begin(database: &Database) -> anyhow::Result<Self> {
        let mut connection = database.admin().acquire().await?.detach();
        sqlx::query("begin").execute(&mut connection).await?;
        sqlx::query("select pg_current_xact_id()")
            .execute(&mut connection)
            .await?;
        db::outbox::insert(&mut connection, &[events::created(0)?]).await?;
        Ok(Self(connection))
    }

    /// Commits it after all: its event must come, too.
    pub async fn commit(mut self) -> anyhow::Result<()> {
        sqlx::query("commit").execute(&mut self.0).await?;
        self.0.close().await?;
        Ok(())
    }
}

/// Deletes a database that has served its turn: several of a million rows would fill a small disk.
pub async fn discard(database: Database) -> anyhow::Result<()> {
    database.admin().close().await;
    let mut server = PgConnection::connect(&stack("DATABASE_URL")).await?;
    let started = Instant::now();
    loop {
        // The name is one that we made.
        let sql = format!("drop database {}", database.name());
        match sqlx::query(AssertSqlSafe(sql)).execute(&mut server).await {
            Ok(_) => break,
            // object_in_use: the server has not noticed yet that a service was killed.
            Err(sqlx::Error::Database(error))
                if error.code().as_deref() == Some("55006") && started.elapsed() < PATIENCE =>
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(error).context("the database cannot be dropped"),
        }
    }
    server.close().await?;
    Ok(())
}
