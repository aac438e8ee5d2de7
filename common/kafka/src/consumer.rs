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

use std::collections::{HashSet, VecDeque};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use service::Backoff;
use service::{Component, failpoint};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::dead_letter::DeadLetters;
use crate::spans::{self, Spans};
use crate::{BatchConfig, KafkaConfig, Login, Outcome, Record, Rejection, metrics};

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
    config: KafkaConfig,
    /// With prefix.
    topics: Vec<String>,
    /// The password that the client was made with, and when it was last compared with that of now.
    login: Login,
    login_checked: Instant,
    client: Arc<StreamConsumer<Context>>,
    dead_letters: Arc<DeadLetters>,
    batch: BatchConfig,
    component: Component,
    /// Records that came while a batch was waiting: partitions assigned in the middle of it.
    held: VecDeque<Record>,
    /// What we have paused and not resumed, ours or not: see [`Consumer::resume`].
    paused: HashSet<(String, i32)>,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

impl Consumer {
    /// Joins `group` and subscribes to `topics` (names without prefix), and to the group's retry topics if it is declared.
    /// Connects in the background.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn new(
        config: &KafkaConfig,
        group: &'static str,
        topics: &[impl AsRef<str>],
        batch: BatchConfig,
        component: Component,
    ) -> Result<Self, KafkaError> {
        // And what is given to this group again.
        let retries = schemas::topics::retries_of(group);
        let topics: Vec<String> = topics
            .iter()
            .map(AsRef::as_ref)
            .chain(retries.iter().map(String::as_str))
            .map(|topic| config.prefixed(topic))
            .collect();
        let login = config.login();
        Ok(Self {
            group,
            prefix: config.topic_prefix.clone(),
            client: join(config, group, &topics, component.clone())?,
            config: config.clone(),
            topics,
            login,
            login_checked: Instant::now(),
            dead_letters: Arc::new(DeadLetters::new(config, group)),
            batch,
            component,
            held: VecDeque::new(),
            paused: HashSet::new(),
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
            failpoint!("consumer: received");
            let Some(batch) = self.handle(batch, processor, shutdown).await? else {
                break;
            };
            for record in &batch {
                self.context().handled(record);
                spans::tell(self.group, record);
            }
            failpoint!("consumer: handled");
            self.commit().await?;
            failpoint!("consumer: offsets committed");
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
        let mut seen = None;
        let mut deadline = None;
        let mut due = false;
        self.renew_login().await?;
        loop {
            // A rebalance runs inside `recv`, even in one that then loses to the timer, and even in one of a batch that
            // waited before this one.
            let generation = self.context().generation();
            if seen != Some(generation) {
                seen = Some(generation);
                let context = self.client.context();
                batch.retain(|record| context.owns(record));
                self.held.retain(|record| context.owns(record));
                bytes = batch.iter().map(Record::size_bytes).sum();
                if batch.is_empty() {
                    deadline = None;
                    due = false;
                }
            }
            while batch.len() < self.batch.max_events
                && bytes < self.batch.max_bytes
                && let Some(record) = self.held.pop_front()
            {
                bytes += record.size_bytes();
                batch.push(record);
            }
            if due || batch.len() >= self.batch.max_events || bytes >= self.batch.max_bytes {
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
                    if deadline.is_some() {
                        due = true;
                    } else {
                        self.component.progress();
                        self.commit().await?;
                        self.renew_login().await?;
                    }
                }
            }
        }
    }

    /// Processes a batch until it is handled, and returns it; `None` on shutdown.
    async fn handle(
        &mut self,
        mut batch: Vec<Record>,
        processor: &mut impl Processor,
        shutdown: &CancellationToken,
    ) -> Result<Option<Vec<Record>>, ConsumerError> {
        let mut spans = Spans::begin(self.group, &mut batch);
        let mut retry = Retry::new();
        let rejections = loop {
            self.component.progress();
            match processor.process(&batch).await {
                Ok(rejections) => break rejections,
                Err(error @ ProcessError::Fatal(_)) => return Err(ConsumerError::Process(error)),
                Err(ProcessError::Away { what, source }) => {
                    metrics::RETRIES.with_label_values(&[self.group]).inc();
                    self.waits_for(what);
                    retry.warn(self.group, what, &*source);
                }
            }
            if self.wait(&mut retry, shutdown).await?.is_none() {
                return Ok(None);
            }
            // Partitions may have gone while we polled: their new owner has these records now.
            let context = self.client.context();
            batch.retain(|record| context.owns(record));
            if batch.is_empty() {
                break Vec::new();
            }
        };
        for rejection in &rejections {
            let Some(record) = batch.get(rejection.index) else {
                continue;
            };
            spans.refused(record, rejection.reason);
            if self
                .bury(record, rejection, &mut retry, shutdown)
                .await?
                .is_none()
            {
                return Ok(None);
            }
        }
        if self.context().set_waiting(false) {
            tracing::info!(
                kafka.group = self.group,
                attempts = retry.attempts,
                "the batch went through"
            );
            self.component.ready();
        }
        self.resume()?;
        spans.handled();
        Ok(Some(batch))
    }

    /// Writes a dead letter, acknowledged, however long its topic is away; `None` on shutdown.
    async fn bury(
        &mut self,
        record: &Record,
        rejection: &Rejection,
        retry: &mut Retry,
        shutdown: &CancellationToken,
    ) -> Result<Option<()>, ConsumerError> {
        const TOPIC: &str = "the dead-letter topic";
        // A record that is not ours any more is not ours to bury.
        while self.context().owns(record) {
            let letters = Arc::clone(&self.dead_letters);
            // The producer tries by itself for as long as it takes: poll and heed the shutdown meanwhile, and don't write a
            // second letter beside the one that is under way.
            let mut writing = pin!(letters.write(record, rejection));
            let mut written = timeout(PAUSE_AFTER, &mut writing).await.ok();
            while written.is_none() {
                self.waits_for(TOPIC);
                retry.warn(self.group, TOPIC, &io::Error::from(io::ErrorKind::TimedOut));
                if letters.login_has_changed() {
                    // The broker lets that producer in no more: begin again with another.
                    self.dead_letters = Arc::new(DeadLetters::new(&self.config, self.group));
                    break;
                }
                tokio::select! {
                    biased;
                    outcome = &mut writing => written = Some(outcome),
                    // Cancel-safe: it does nothing but receive and sleep.
                    waited = self.wait(retry, shutdown) => if waited?.is_none() {
                        return Ok(None);
                    },
                }
            }
            match written {
                None => {}
                Some(Err(error)) => {
                    self.waits_for(TOPIC);
                    retry.warn(self.group, TOPIC, &error);
                    if self.wait(retry, shutdown).await?.is_none() {
                        return Ok(None);
                    }
                }
                Some(Ok(())) => {
                    failpoint!("consumer: letter written");
                    metrics::count_events(self.group, &record.topic, Outcome::DeadLetter, 1);
                    break;
                }
            }
        }
        Ok(Some(()))
    }

    fn waits_for(&self, what: &str) {
        self.context().set_waiting(true);
        self.component.not_ready(format!("{what} is away"));
    }

    /// Waits for the next attempt. A long wait polls, or the broker would take the partitions away.
    async fn wait(
        &mut self,
        retry: &mut Retry,
        shutdown: &CancellationToken,
    ) -> Result<Option<()>, ConsumerError> {
        let until = Instant::now() + retry.backoff.next_delay();
        retry.attempts += 1;
        let polls = retry.started.elapsed() > PAUSE_AFTER;
        let mut paused_in = None;
        loop {
            // Again after a rebalance, which assigns partitions that are not paused.
            let generation = self.context().generation();
            if polls && paused_in != Some(generation) {
                paused_in = Some(generation);
                self.pause()?;
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(None),
                () = sleep_until(until) => return Ok(Some(())),
                received = self.client.recv(), if polls => match received {
                    Ok(message) => {
                        let context = self.client.context();
                        self.held.push_back(Record::of(&message, &self.prefix, context.generation()));
                    }
                    Err(error) => self.note(error)?,
                },
            }
        }
    }

    /// Stops the flow of records, so that polling brings only news of the group.
    fn pause(&mut self) -> Result<(), ConsumerError> {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in self.context().partitions() {
            // What is paused already is left alone: pausing throws fetched records away.
            if self.paused.insert((topic.clone(), partition)) {
                list.add_partition(&topic, partition);
            }
        }
        if list.count() > 0 {
            self.client.pause(&list)?;
        }
        Ok(())
    }

    /// Resumes what was paused, exactly. A partition stays paused when it is revoked and assigned again, so what went and
    /// may come back must be resumed, too, or nobody would ever read it; and one that was not paused may not be resumed,
    /// since it would start over from where it was assigned (snuba#4701).
    fn resume(&mut self) -> Result<(), ConsumerError> {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in self.paused.drain() {
            list.add_partition(&topic, partition);
        }
        if list.count() > 0 {
            self.client.resume(&list)?;
        }
        Ok(())
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

    /// Leaves the group and joins it anew when the password has changed: the broker takes the one that librdkafka has for no
    /// new connection. Nothing is under way now but records that were received and not handled, which come again.
    async fn renew_login(&mut self) -> Result<(), ConsumerError> {
        if self.login_checked.elapsed() < TICK {
            return Ok(());
        }
        self.login_checked = Instant::now();
        if !self.login.has_changed() {
            return Ok(());
        }
        tracing::info!(
            kafka.group = self.group,
            "KAFKA_SASL_PASSWORD has changed: joining the group anew"
        );
        self.commit().await?;
        self.login = self.config.login();
        let client = join(&self.config, self.group, &self.topics, self.component.clone())?;
        leave(std::mem::replace(&mut self.client, client)).await;
        self.dead_letters = Arc::new(DeadLetters::new(&self.config, self.group));
        self.held.clear();
        self.paused.clear();
        Ok(())
    }

    /// Leaves the group. Dropping a consumer blocks until the broker knows, or for the session timeout if it is away
    /// (rust-rdkafka#509): off the async threads, and not awaited for ever.
    async fn close(self) {
        leave(self).await;
    }
}

/// Drops what holds a client.
async fn leave(client: impl Send + 'static) {
    let close = tokio::task::spawn_blocking(move || drop(client));
    if tokio::time::timeout(Duration::from_secs(5), close).await.is_err() {
        tracing::warn!("the broker did not confirm that we left the group; it will notice by itself");
    }
}

/// A client that joins `group` in the background.
fn join(
    config: &KafkaConfig,
    group: &str,
    topics: &[String],
    component: Component,
) -> Result<Arc<StreamConsumer<Context>>, KafkaError> {
    let context = Context::new(group, &config.topic_prefix, component);
    let client: StreamConsumer<Context> = config.consumer(group).create_with_context(context)?;
    client.subscribe(&topics.iter().map(String::as_str).collect::<Vec<_>>())?;
    Ok(Arc::new(client))
}

/// The state of a batch that does not go through.
struct Retry {
    started: Instant,
    attempts: u32,
    backoff: Backoff,
}

impl Retry {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            attempts: 0,
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
