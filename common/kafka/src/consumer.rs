//! The consumer loop, the heart of every consumer:
//!
//! ```text
//! receive a batch ─► process: one Postgres transaction with inbox, effect and outbox ─► dead letters, acknowledged
//!        ▲                 │ something is away: wait, still polling, and try the same batch again       │
//!        └─────────────────┴─────────────────────────────── commit the next offsets ◄───────────────────┘
//! ```
//!
//! What it keeps, and how:
//!
//! - *Offsets follow effects.* Offsets are committed here and nowhere else, after [`Processor::process`] returned, so after
//!   the Postgres commit. A crash between the two brings the batch again; the inbox absorbs it.
//! - *A failed batch can't be skipped.* Commits are cumulative, so a later batch would cover the failed one. The loop holds
//!   one batch at a time and leaves it in two ways only: handled, or by returning an error, which ends the process.
//! - *Nothing blocks the partition.* What no retry can mend is dead-lettered, the acknowledgement awaited, and passed by.
//! - *Rebalance-safe.* Work is done inline: when a rebalance callback runs (inside `recv`) there are no effects without a
//!   commit. Records of partitions that were taken away meanwhile are dropped, their new owner reads them again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use service::Backoff;
use service::Component;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::dead_letter::DeadLetters;
use crate::{BatchConfig, KafkaConfig, Record, Rejection, metrics};

/// Why a batch could not be processed.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// Something that it needs is away: the loop waits and tries the same batch again.
    #[error("{what} is away")]
    Away {
        /// What is away, for people: "Postgres".
        what: &'static str,
        /// How we know.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A bug or a bad deployment: the loop stops and the process ends, with nothing committed.
    #[error("the batch cannot be processed")]
    Fatal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What a consumer does with a batch.
pub trait Processor: Send {
    /// Makes the effects of the batch durable, each at most once however often the batch comes, and returns the records
    /// that cannot be handled. Whether or not a record was seen before, it is handled when this returns.
    fn process(
        &mut self,
        batch: &[Record],
    ) -> impl Future<Output = Result<Vec<Rejection>, ProcessError>> + Send;
}

/// The loop ended, and not because it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// librdkafka refuses the configuration, or the client is dead (fenced, refused).
    #[error("the Kafka client failed")]
    Kafka(#[from] KafkaError),
    /// The processor gave up.
    #[error(transparent)]
    Process(ProcessError),
}

/// How often an idle loop shows that it lives, and tries commits again that failed.
const TICK: Duration = Duration::from_secs(1);
/// Longer waits than this pause the partitions: pausing throws the fetched records away, so short ones don't (snuba#4774).
const PAUSE_AFTER: Duration = Duration::from_secs(1);

/// A member of a consumer group.
pub struct Consumer {
    group: &'static str,
    prefix: String,
    client: Arc<StreamConsumer<Context>>,
    dead_letters: DeadLetters,
    batch: BatchConfig,
    component: Component,
    /// Records that came while a batch was waiting: partitions assigned in the middle of it.
    held: VecDeque<Record>,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

impl Consumer {
    /// Joins `group` and subscribes to `topics` (names without prefix). Connects in the background.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn new(
        config: &KafkaConfig,
        group: &'static str,
        topics: &[String],
        batch: BatchConfig,
        component: Component,
    ) -> Result<Self, KafkaError> {
        let context = Context::new(group, &config.topic_prefix, component.clone());
        let client: StreamConsumer<Context> = config.consumer(group).create_with_context(context)?;
        let topics: Vec<String> = topics.iter().map(|topic| config.prefixed(topic)).collect();
        client.subscribe(&topics.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(Self {
            group,
            prefix: config.topic_prefix.clone(),
            client: Arc::new(client),
            dead_letters: DeadLetters::new(config, group)?,
            batch,
            component,
            held: VecDeque::new(),
        })
    }

    /// Runs until `shutdown`, or until something is wrong that waiting does not mend.
    ///
    /// # Errors
    /// See [`ConsumerError`]. Nothing of the failed batch is committed.
    pub async fn run(
        mut self,
        mut processor: impl Processor,
        shutdown: CancellationToken,
    ) -> Result<(), ConsumerError> {
        let outcome = self.consume(&mut processor, &shutdown).await;
        self.close().await;
        outcome
    }

    async fn consume(
        &mut self,
        processor: &mut impl Processor,
        shutdown: &CancellationToken,
    ) -> Result<(), ConsumerError> {
        while let Some(batch) = self.next_batch(shutdown).await? {
            let Some(batch) = self.handle(batch, processor, shutdown).await? else {
                break;
            };
            for record in &batch {
                self.context()
                    .handled(&record.topic, record.partition, record.offset, record.timestamp);
            }
            self.commit().await?;
        }
        Ok(())
    }

    fn context(&self) -> &Context {
        self.client.context()
    }

    /// The next records to handle, at least one; `None` on shutdown.
    async fn next_batch(
        &mut self,
        shutdown: &CancellationToken,
    ) -> Result<Option<Vec<Record>>, ConsumerError> {
        let mut batch: Vec<Record> = Vec::new();
        let mut bytes = 0;
        let mut generation = self.context().generation();
        let mut deadline = None;
        loop {
            while batch.len() < self.batch.max_events
                && bytes < self.batch.max_bytes
                && let Some(record) = self.held.pop_front()
            {
                bytes += record.size_bytes();
                batch.push(record);
            }
            if batch.len() >= self.batch.max_events || bytes >= self.batch.max_bytes {
                return Ok(Some(batch));
            }
            if !batch.is_empty() && deadline.is_none() {
                deadline = Some(Instant::now() + self.batch.max_wait);
            }
            let wake = deadline.unwrap_or_else(|| Instant::now() + TICK);
            // `recv` is cancel-safe (rust-rdkafka#490); nothing else in here may be cancelled.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(None),
                received = self.client.recv() => match received {
                    Ok(message) => {
                        let context = self.client.context();
                        self.held.push_back(Record::of(&message, &self.prefix, context.generation()));
                    }
                    Err(error) => self.note(error)?,
                },
                () = sleep_until(wake) => {
                    if !batch.is_empty() {
                        return Ok(Some(batch));
                    }
                    self.component.progress();
                    self.commit().await?;
                }
            }
            // A rebalance may have run inside `recv`.
            if self.context().generation() != generation {
                generation = self.context().generation();
                let context = self.client.context();
                batch.retain(|r| context.owns(&r.topic, r.partition, r.generation));
                self.held
                    .retain(|r| context.owns(&r.topic, r.partition, r.generation));
                bytes = batch.iter().map(Record::size_bytes).sum();
                if batch.is_empty() {
                    deadline = None;
                }
            }
        }
    }

    /// Processes a batch until it is handled, and returns what of it was still ours; `None` on shutdown.
    async fn handle(
        &mut self,
        mut batch: Vec<Record>,
        processor: &mut impl Processor,
        shutdown: &CancellationToken,
    ) -> Result<Option<Vec<Record>>, ConsumerError> {
        let mut retry = Retry::new();
        let rejections = loop {
            self.component.progress();
            match processor.process(&batch).await {
                Ok(rejections) => break rejections,
                Err(error @ ProcessError::Fatal(_)) => return Err(ConsumerError::Process(error)),
                Err(ProcessError::Away { what, source }) => {
                    metrics::RETRIES.with_label_values(&[self.group]).inc();
                    self.component.not_ready(format!("{what} is away"));
                    retry.warn(self.group, what, &*source);
                }
            }
            if self.wait(&mut retry, shutdown).await?.is_none() {
                return Ok(None);
            }
            // Partitions may have gone while we polled: their new owner has these records now.
            let context = self.client.context();
            batch.retain(|r| context.owns(&r.topic, r.partition, r.generation));
            if batch.is_empty() {
                break Vec::new();
            }
        };
        for rejection in &rejections {
            let Some(record) = batch.get(rejection.index) else {
                continue;
            };
            while let Err(error) = self.dead_letters.write(record, rejection).await {
                retry.warn(self.group, "the dead-letter topic", &error);
                if self.wait(&mut retry, shutdown).await?.is_none() {
                    return Ok(None);
                }
            }
            metrics::EVENTS
                .with_label_values(&[self.group, record.topic.as_str(), "dead_letter"])
                .inc();
        }
        if retry.attempts > 0 {
            tracing::info!(
                kafka.group = self.group,
                attempts = retry.attempts,
                "the batch went through"
            );
            self.component.ready();
        }
        if retry.paused {
            self.client.resume(&self.context().partitions())?;
        }
        Ok(Some(batch))
    }

    /// Waits for the next attempt. A long wait polls, or the broker would take the partitions away.
    async fn wait(
        &mut self,
        retry: &mut Retry,
        shutdown: &CancellationToken,
    ) -> Result<Option<()>, ConsumerError> {
        let until = Instant::now() + retry.backoff.next_delay();
        retry.attempts += 1;
        if retry.started.elapsed() > PAUSE_AFTER {
            // Again at each attempt: a rebalance assigns partitions that are not paused.
            self.client.pause(&self.context().partitions())?;
            retry.paused = true;
        }
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(None),
                () = sleep_until(until) => return Ok(Some(())),
                received = self.client.recv(), if retry.paused => match received {
                    Ok(message) => {
                        let context = self.client.context();
                        self.held.push_back(Record::of(&message, &self.prefix, context.generation()));
                    }
                    Err(error) => self.note(error)?,
                },
            }
        }
    }

    /// Most errors that `recv` gives are news of something librdkafka is already trying again.
    fn note(&self, error: KafkaError) -> Result<(), ConsumerError> {
        // After a fatal error (a fenced instance id, refused credentials) the client is dead (librdkafka#2635).
        if let Some((code, reason)) = self.client.client().fatal_error() {
            tracing::error!(kafka.group = self.group, error = %code, "the Kafka client is dead: {reason}");
            return Err(ConsumerError::Kafka(KafkaError::MessageConsumptionFatal(code)));
        }
        match error {
            KafkaError::MessageConsumptionFatal(_) => return Err(ConsumerError::Kafka(error)),
            KafkaError::MessageConsumption(RDKafkaErrorCode::PollExceeded) => {
                tracing::warn!(kafka.group = self.group, "polled too late; rejoining the group");
            }
            error => tracing::debug!(kafka.group = self.group, error = %error, "receiving failed"),
        }
        Ok(())
    }

    /// Commits the next offset of every partition that has moved. A commit that fails is no harm: the effects are in
    /// Postgres, the next commit covers it, and until then a crash only brings records again that the inbox knows.
    async fn commit(&self) -> Result<(), ConsumerError> {
        let Some(offsets) = self.context().uncommitted()? else {
            return Ok(());
        };
        let client = Arc::clone(&self.client);
        // Synchronous, since only that tells whether it worked (rust-rdkafka#856), and off the async threads, since it
        // blocks until the broker answers (rust-rdkafka#448).
        let result =
            tokio::task::spawn_blocking(move || client.commit(&offsets, CommitMode::Sync).map(|()| offsets))
                .await;
        match result {
            Ok(Ok(offsets)) => self.context().committed(&offsets),
            Ok(Err(error)) => {
                metrics::COMMIT_ERRORS.with_label_values(&[self.group]).inc();
                tracing::warn!(kafka.group = self.group, error = %error, "offset commit failed; the next one covers it");
            }
            Err(_) => return Err(ConsumerError::Kafka(KafkaError::Canceled)),
        }
        Ok(())
    }

    /// Leaves the group. Dropping a consumer blocks until the broker knows, or for the session timeout if it is away
    /// (rust-rdkafka#509): off the async threads, and not awaited for ever.
    async fn close(self) {
        let close = tokio::task::spawn_blocking(move || drop(self));
        if tokio::time::timeout(Duration::from_secs(5), close).await.is_err() {
            tracing::warn!("the broker did not confirm that we left the group; it will notice by itself");
        }
    }
}

/// The state of a batch that does not go through.
struct Retry {
    started: Instant,
    attempts: u32,
    paused: bool,
    backoff: Backoff,
}

impl Retry {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            attempts: 0,
            paused: false,
            backoff: Backoff::new(Duration::from_millis(50), Duration::from_secs(2)),
        }
    }

    /// Says it once, then rarely: an outage of an hour is one story, not ten thousand.
    fn warn(&self, group: &str, what: &str, error: &(dyn std::error::Error + 'static)) {
        if self.attempts == 0 || self.attempts.is_multiple_of(30) {
            tracing::warn!(
                kafka.group = group,
                attempts = self.attempts,
                waiting_seconds = self.started.elapsed().as_secs(),
                error,
                "{what} is away; the batch waits"
            );
        }
    }
}
