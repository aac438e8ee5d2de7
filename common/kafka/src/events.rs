//! Events for a handler: decode, one transaction with the inbox, dead letters for what cannot be.

use std::collections::HashSet;
use std::error::Error;
use std::sync::Arc;

use db::inbox::Inbox;
use schemas::{DecodeError, Event};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::{Outcome, ProcessError, Processor, Record, Registry, RegistryError, Rejection, count_events};

/// Why a handler could not apply events.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// The database said no; what that means is for [`db::classify`] to say.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// An event asks for what cannot be. It will be dead-lettered, alone.
    #[error("{0}")]
    Invalid(String),
}

/// What a consumer does with events.
pub trait Handler: Send {
    /// Applies events that were never applied before, in order, inside a transaction that also holds their inbox rows.
    /// Everything it does must go through `tx`: on an error all of it is undone and the events come again, some of them
    /// perhaps alone.
    fn handle(
        &mut self,
        tx: &mut PgConnection,
        events: Vec<Event>,
    ) -> impl Future<Output = Result<(), HandleError>> + Send;

    /// Called when the transaction of the last [`Handler::handle`] is committed.
    fn committed(&mut self) {}
}

/// Decodes records and hands the events that are new to a [`Handler`].
#[derive(Debug)]
pub struct Events<H> {
    group: &'static str,
    pool: PgPool,
    registry: Arc<Registry>,
    inbox: Inbox,
    handler: H,
}

/// Why a transaction came to nothing.
enum Failed {
    /// An event in it is at fault.
    Event(String),
    /// Something is away, or we are wrong.
    Process(ProcessError),
}

impl<H: Handler> Events<H> {
    /// Events for `handler`, remembered in `inbox`.
    pub fn new(group: &'static str, pool: PgPool, registry: Arc<Registry>, inbox: Inbox, handler: H) -> Self {
        Self {
            group,
            pool,
            registry,
            inbox,
            handler,
        }
    }

    /// Applies the events that are not in the inbox yet, in one transaction. Returns what became of each.
    async fn apply(&mut self, events: &[Event]) -> Result<Vec<Outcome>, Failed> {
        let mut tx = self.pool.begin().await.map_err(failed)?;
        let ids: Vec<Uuid> = events.iter().map(|event| event.head().event_id).collect();
        let mut fresh: HashSet<Uuid> = self.inbox.claim(&mut tx, &ids).await.map_err(failed)?;
        // `remove`: an event that comes twice in one batch is fresh once.
        let outcomes: Vec<Outcome> = ids
            .iter()
            .map(|id| {
                if fresh.remove(id) {
                    Outcome::Handled
                } else {
                    Outcome::Duplicate
                }
            })
            .collect();
        let fresh: Vec<Event> = events
            .iter()
            .zip(&outcomes)
            .filter(|(_, outcome)| **outcome == Outcome::Handled)
            .map(|(event, _)| event.clone())
            .collect();
        if !fresh.is_empty() {
            self.handler
                .handle(&mut tx, fresh)
                .await
                .map_err(|error| match error {
                    HandleError::Database(error) => failed(error),
                    HandleError::Invalid(why) => Failed::Event(why),
                })?;
        }
        tx.commit().await.map_err(failed)?;
        self.handler.committed();
        Ok(outcomes)
    }

    /// Counts what became of the records of those indexes.
    fn count(&self, batch: &[Record], indexes: &[usize], outcomes: &[Outcome]) {
        for (index, outcome) in indexes.iter().zip(outcomes) {
            if let Some(record) = batch.get(*index) {
                count_events(self.group, &record.topic, *outcome, 1);
            }
        }
    }
}

fn failed(error: sqlx::Error) -> Failed {
    match db::classify(&error) {
        db::Failure::Data => Failed::Event(error.to_string()),
        failure if failure.is_retryable() => Failed::Process(ProcessError::Away {
            what: "Postgres",
            source: Box::new(error),
        }),
        _ => Failed::Process(ProcessError::Fatal(Box::new(error))),
    }
}

/// Reads one record. The outer error is the registry's being away, the inner one is the record's fault.
async fn decode(registry: &Registry, record: &Record) -> Result<Result<Event, DecodeError>, ProcessError> {
    let (id, body) = match schemas::unframe(record.value.as_deref()) {
        Ok(parts) => parts,
        Err(error) => return Ok(Err(error)),
    };
    let schema = match registry.schema(id).await {
        Ok(schema) => schema,
        Err(RegistryError::Unusable(error)) => return Ok(Err(error)),
        Err(error) => {
            return Err(ProcessError::Away {
                what: "the schema registry",
                source: Box::new(error),
            });
        }
    };
    Ok(schemas::decode(&record.topic, &schema, body))
}

impl<H: Handler> Processor for Events<H> {
    async fn process(&mut self, batch: &[Record]) -> Result<Vec<Rejection>, ProcessError> {
        let mut rejections = Vec::new();
        let mut events = Vec::with_capacity(batch.len());
        let mut indexes = Vec::with_capacity(batch.len());
        for (index, record) in batch.iter().enumerate() {
            match decode(&self.registry, record).await? {
                Ok(event) => {
                    events.push(event);
                    indexes.push(index);
                }
                Err(error) => rejections.push(Rejection {
                    index,
                    stage: "VALUE_CONVERTER",
                    reason: error.reason(),
                    message: with_sources(&error),
                }),
            }
        }
        match self.apply(&events).await {
            Ok(outcomes) => self.count(batch, &indexes, &outcomes),
            Err(Failed::Process(error)) => return Err(error),
            // One of them is at fault and took the others with it: each alone, in order, finds out which.
            Err(Failed::Event(_)) => {
                for (event, index) in events.chunks(1).zip(indexes) {
                    match self.apply(event).await {
                        Ok(outcomes) => self.count(batch, &[index], &outcomes),
                        Err(Failed::Process(error)) => return Err(error),
                        Err(Failed::Event(message)) => {
                            rejections.push(Rejection {
                                index,
                                stage: "TASK_PUT",
                                reason: "invalid_event",
                                message,
                            });
                        }
                    }
                }
            }
        }
        Ok(rejections)
    }
}

/// The error and what caused it, in one line.
fn with_sources(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    message
}
