//! Events for a handler: decode, one transaction with the inbox, dead letters for what cannot be. A batch may be shared among
//! lanes, each with a handler and a transaction of its own: all events of a person are in the same one, in their order.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::sync::Arc;

use db::inbox::Inbox;
use futures::future::join_all;
use schemas::{DecodeError, Event};
use service::failpoint;
use service::trace::Trace;
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

tokio::task_local! {
    /// Of the events that are being handled.
    static TRACES: HashMap<Uuid, Trace>;
}

/// The trace of an event that is being handled, which what follows from it goes on with.
#[must_use]
pub fn trace_of(event_id: Uuid) -> Option<Trace> {
    TRACES.try_with(|traces| traces.get(&event_id).copied()).ok()?
}

/// A batch of fewer events than that for each lane is not worth a transaction more.
const WORTH_A_LANE: usize = 32;

/// Decodes records and hands the events that are new to a [`Handler`].
#[derive(Debug)]
pub struct Events<H> {
    group: &'static str,
    registry: Arc<Registry>,
    lanes: Vec<Lane<H>>,
}

/// What applies events, one transaction at a time.
#[derive(Debug)]
struct Lane<H> {
    pool: PgPool,
    inbox: Inbox,
    handler: H,
}

/// An event and the index of its record in the batch.
type Indexed = (usize, Event);

/// What became of events: of those that were applied, and of those that were refused.
type Applied = (Vec<(usize, Outcome)>, Vec<Rejection>);

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
            registry,
            lanes: vec![Lane { pool, inbox, handler }],
        }
    }

    /// With another lane beside those there are, for consumers that one session of Postgres holds up. What one lane has
    /// committed stays when another one fails: the batch comes again, and the inbox knows.
    #[must_use]
    pub fn beside(mut self, handler: H) -> Self {
        if let Some(Lane { pool, inbox, .. }) = self.lanes.first() {
            let (pool, inbox) = (pool.clone(), *inbox);
            self.lanes.push(Lane { pool, inbox, handler });
        }
        self
    }

    /// Deals events out to the lanes, by person.
    fn deal(&self, events: Vec<Indexed>) -> Vec<Vec<Indexed>> {
        let count = (events.len() / WORTH_A_LANE).clamp(1, self.lanes.len());
        let mut dealt: Vec<Vec<Indexed>> = (0..count).map(|_| Vec::new()).collect();
        for indexed in events {
            // Whatever the version of the id, its last bits are random.
            let lane = indexed.1.head().user_id.as_u128() % count as u128;
            if let Some(lane) = usize::try_from(lane).ok().and_then(|lane| dealt.get_mut(lane)) {
                lane.push(indexed);
            }
        }
        dealt
    }
}

impl<H: Handler> Lane<H> {
    /// Applies events, all of them in one transaction if none is at fault.
    async fn apply_all(&mut self, events: Vec<Indexed>) -> Result<Applied, ProcessError> {
        match self.apply(&events).await {
            Ok(outcomes) => return Ok((outcomes, Vec::new())),
            Err(Failed::Process(error)) => return Err(error),
            Err(Failed::Event(_)) => {}
        }
        // One of them is at fault and took the others with it: each alone, in order, finds out which.
        let (mut all, mut rejections) = (Vec::with_capacity(events.len()), Vec::new());
        for event in events.chunks(1) {
            match self.apply(event).await {
                Ok(outcomes) => all.extend(outcomes),
                Err(Failed::Process(error)) => return Err(error),
                Err(Failed::Event(message)) => {
                    rejections.extend(event.iter().map(|(index, _)| Rejection {
                        index: *index,
                        stage: "TASK_PUT",
                        reason: "invalid_event",
                        message: message.clone(),
                    }));
                }
            }
        }
        Ok((all, rejections))
    }

    /// Applies the events that are not in the inbox yet, in one transaction. Returns what became of each.
    async fn apply(&mut self, events: &[Indexed]) -> Result<Vec<(usize, Outcome)>, Failed> {
        failpoint!("events: decoded");
        let mut tx = self.pool.begin().await.map_err(failed)?;
        let ids: Vec<Uuid> = events.iter().map(|(_, event)| event.head().event_id).collect();
        let mut unseen: HashSet<Uuid> = self.inbox.claim(&mut tx, &ids).await.map_err(failed)?;
        let mut outcomes = Vec::with_capacity(events.len());
        let mut fresh = Vec::with_capacity(unseen.len());
        for (index, event) in events {
            // `remove`: an event that comes twice in one batch is fresh once.
            if unseen.remove(&event.head().event_id) {
                outcomes.push((*index, Outcome::Handled));
                fresh.push(event.clone());
            } else {
                outcomes.push((*index, Outcome::Duplicate));
            }
        }
        if !fresh.is_empty() {
            self.handler
                .handle(&mut tx, fresh)
                .await
                .map_err(|error| match error {
                    HandleError::Database(error) => failed(error),
                    HandleError::Invalid(why) => Failed::Event(why),
                })?;
        }
        failpoint!("events: applied");
        tx.commit().await.map_err(failed)?;
        failpoint!("events: committed");
        self.handler.committed();
        Ok(outcomes)
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
        for (index, record) in batch.iter().enumerate() {
            match decode(&self.registry, record).await? {
                Ok(event) => events.push((index, event)),
                Err(error) => rejections.push(Rejection {
                    index,
                    stage: "VALUE_CONVERTER",
                    reason: error.reason(),
                    message: with_sources(&error),
                }),
            }
        }
        let traces: HashMap<Uuid, Trace> = events
            .iter()
            .filter_map(|(index, event)| Some((event.head().event_id, batch.get(*index)?.trace()?)))
            .collect();
        let dealt = self.deal(events);
        let lanes = self.lanes.iter_mut().zip(dealt);
        // None is cut off when another one fails: it ends on its own, and its handler hears whether it has committed.
        let applied = TRACES
            .scope(
                traces,
                join_all(lanes.map(|(lane, events)| lane.apply_all(events))),
            )
            .await;
        for lane in applied {
            let (outcomes, refused) = lane?;
            for (index, outcome) in outcomes {
                if let Some(record) = batch.get(index) {
                    count_events(self.group, &record.topic, outcome, 1);
                }
            }
            rejections.extend(refused);
        }
        rejections.sort_by_key(|rejection| rejection.index);
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
