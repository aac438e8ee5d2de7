//! One shard's relay: get the lock, publish until something breaks, start over. Whatever breaks, the rows stay in the
//! outbox and the stored cursor says from where.

use std::sync::Arc;
use std::time::Duration;

use db::DatabaseConfig;
use kafka::{KafkaConfig, Registry};
use service::{Backoff, Component, failpoint};
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::cursor::{self, Cursor};
use crate::publish::{PublishError, Publisher};

/// How often a relay that stands by asks whether the shard is free.
const STANDBY: Duration = Duration::from_millis(250);
/// How many pages may wait for acknowledgements: reading goes on meanwhile.
const PAGES_IN_FLIGHT: usize = 3;
/// How long the acknowledgements of the last pages are waited for at shutdown.
const DRAIN: Duration = Duration::from_secs(5);
/// How often a relay that waits shows that it lives.
const BEAT: Duration = Duration::from_secs(1);

/// The relay of one shard.
pub(crate) struct Shard {
    shard: i16,
    database: DatabaseConfig,
    kafka: KafkaConfig,
    registry: Arc<Registry>,
    auto_register: bool,
    page_rows: i64,
    pace: Duration,
    idle: Duration,
    store_every: Duration,
    component: Component,
}

/// Progress that is acknowledged and not stored.
struct Progress {
    cursor: Cursor,
    published: i64,
    stored_at: Instant,
}

impl Shard {
    pub(crate) fn new(shard: i16, config: &Config, registry: Arc<Registry>, component: Component) -> Self {
        Self {
            shard,
            database: config.database.clone(),
            kafka: config.kafka.clone(),
            registry,
            auto_register: config.auto_register,
            page_rows: config.page_rows,
            pace: config.pace,
            idle: config.idle,
            store_every: config.store_every,
            component,
        }
    }

    pub(crate) async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let mut failures = 0_u32;
        while !shutdown.is_cancelled() {
            let started = Instant::now();
            let Err(error) = self.session(&shutdown).await else {
                break;
            };
            if started.elapsed() > Duration::from_secs(10) {
                backoff.reset();
                failures = 0;
            }
            self.component.progress();
            self.component.not_ready(error.to_string());
            if failures.is_multiple_of(30) {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(
                    outbox.shard = self.shard,
                    failures,
                    error,
                    "publishing stopped; starting over"
                );
            }
            failures += 1;
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = sleep(backoff.next_delay()) => {}
            }
        }
        Ok(())
    }

    /// One session: as long as the connection lives and nothing is refused. Ends well only at shutdown.
    async fn session(&self, shutdown: &CancellationToken) -> Result<(), PublishError> {
        let mut connection = self.database.connect().await?;
        cursor::prepare(&mut connection).await?;
        while !cursor::try_lock(&mut connection, self.shard).await? {
            self.component.progress();
            self.component.ready(); // to take over
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = sleep(STANDBY) => {}
            }
        }
        tracing::info!(outbox.shard = self.shard, "publishing this shard");
        let outcome = self.publish(&mut connection, shutdown).await;
        // The lock goes with the connection. Close it in order if it still works; if not, the server finds out.
        if outcome.is_ok() {
            connection.close().await?;
        }
        outcome
    }

    fn publisher(&self) -> Result<Publisher, PublishError> {
        let registry = Arc::clone(&self.registry);
        Ok(Publisher::new(&self.kafka, registry, self.auto_register)?)
    }

    async fn publish(
        &self,
        connection: &mut PgConnection,
        shutdown: &CancellationToken,
    ) -> Result<(), PublishError> {
        let mut cursor = cursor::load(connection, self.shard).await?;
        // Declared after the connection and so dropped before it: nothing is sent without the lock.
        let mut publisher = self.publisher()?;
        let mut login_checked = Instant::now();
        let mut progress = Progress {
            cursor: cursor.clone(),
            published: 0,
            stored_at: Instant::now(),
        };
        let mut idle = self.pace;
        while !shutdown.is_cancelled() {
            self.component.progress();
            let looked_at = Instant::now();
            if login_checked.elapsed() >= BEAT {
                login_checked = looked_at;
                if publisher.login_has_changed() {
                    tracing::info!(
                        outbox.shard = self.shard,
                        "KAFKA_SASL_PASSWORD has changed: connecting anew"
                    );
                    // In order: what is under way first.
                    self.settle(connection, &mut publisher, &mut progress, 0, shutdown)
                        .await?;
                    publisher = self.publisher()?;
                }
            }
            if !cursor.is_open() {
                cursor.open(cursor::peek(connection).await?);
            }
            let mut read = 0;
            if cursor.is_open() {
                let rows = cursor.page(connection, self.page_rows).await?;
                read = rows.len();
                publisher.learn_schemas(connection, &rows).await?;
                cursor.advance(&rows, self.page_rows);
                if !rows.is_empty() {
                    failpoint!("relay: read");
                    publisher.enqueue(rows, cursor.clone()).await?;
                    failpoint!("relay: enqueued");
                }
            }
            // A full page: there is more to read, so only make room. Else there is time to see the acknowledgements.
            let full = i64::try_from(read).is_ok_and(|read| read == self.page_rows);
            let keep = if full { PAGES_IN_FLIGHT } else { 0 };
            self.settle(connection, &mut publisher, &mut progress, keep, shutdown)
                .await?;
            if publisher.pages_in_flight() == 0 {
                // Past windows that held nothing of ours, too.
                progress.cursor.clone_from(&cursor);
            }
            self.store(connection, &mut progress, self.store_every).await?;
            self.component.ready();
            if !full {
                idle = if read > 0 {
                    self.pace
                } else {
                    (idle * 2).min(self.idle)
                };
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    // From one look to the next, not from the last acknowledgement: waiting for those is pause enough.
                    () = sleep_until(looked_at + idle) => {}
                }
            }
        }
        let enough = CancellationToken::new();
        let timer = tokio::spawn({
            let enough = enough.clone();
            async move {
                sleep(DRAIN).await;
                enough.cancel();
            }
        });
        self.settle(connection, &mut publisher, &mut progress, 0, &enough)
            .await?;
        timer.abort();
        self.store(connection, &mut progress, Duration::ZERO).await
    }

    /// Awaits acknowledgements until at most `keep` pages are under way. However long the broker is away: the producer
    /// tries by itself, and in order.
    async fn settle(
        &self,
        connection: &mut PgConnection,
        publisher: &mut Publisher,
        progress: &mut Progress,
        keep: usize,
        stop: &CancellationToken,
    ) -> Result<(), PublishError> {
        let waiting_since = Instant::now();
        while publisher.pages_in_flight() > keep {
            tokio::select! {
                biased;
                settled = publisher.acknowledged() => if let Some((after, count)) = settled? {
                    failpoint!("relay: acknowledged");
                    progress.cursor = after;
                    progress.published += count;
                },
                () = stop.cancelled() => return Ok(()),
                () = sleep(BEAT) => {
                    // Without the connection the lock is gone, another relay may be at work, and we must stop sending.
                    connection.ping().await?;
                    if publisher.login_has_changed() {
                        return Err(PublishError::Login);
                    }
                    self.component.progress();
                    let waited = waiting_since.elapsed().as_secs();
                    self.component.not_ready(format!("Kafka has acknowledged nothing for {waited} s"));
                }
            }
        }
        Ok(())
    }

    /// Stores what is acknowledged, at most every `interval`: each store leaves a dead row, which lives as long as any
    /// transaction that is older.
    async fn store(
        &self,
        connection: &mut PgConnection,
        progress: &mut Progress,
        interval: Duration,
    ) -> Result<(), PublishError> {
        if progress.published > 0 && progress.stored_at.elapsed() >= interval {
            progress.cursor.store(connection, progress.published).await?;
            failpoint!("relay: stored");
            progress.published = 0;
            progress.stored_at = Instant::now();
        }
        Ok(())
    }
}
