//! What a channel gives the loop: functions, and nothing to implement.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use prometheus::IntCounter;
use uuid::Uuid;

use crate::{Claim, Outcome, RecordError, Recorded, Verdict};

/// An async function that the loop calls. What it needs, it holds.
pub type Call<A, R> = Box<dyn Fn(A) -> BoxFuture<'static, R> + Send + Sync>;

/// Makes one.
pub fn call<A, R, F>(f: impl Fn(A) -> F + Send + Sync + 'static) -> Call<A, R>
where
    F: Future<Output = R> + Send + 'static,
{
    Box::new(move |argument| Box::pin(f(argument)))
}

/// Outcomes that go into one transaction, as often as it has to be tried.
pub type Outcomes<M> = Arc<[Outcome<M>]>;

/// What the loop asks a channel for. `M` is what a claim carries.
pub struct Channel<M> {
    /// The label of its metrics.
    pub name: &'static str,
    /// Whether anything may be sent now; asked before anything is claimed. It may take its time to find out.
    pub leave: Call<(), Leave>,
    /// How long until something is due: zero when something is, `None` when nothing is pending.
    pub next_due: Call<(), Result<Option<Duration>, sqlx::Error>>,
    /// Claims what is due, at most so many.
    pub claim: Call<usize, Result<Vec<Claim<M>>, sqlx::Error>>,
    /// Sends one. It does no database work, so it can be cut off. What it learns, it may leave in the claim.
    pub send: Call<Claim<M>, (Claim<M>, Verdict)>,
    /// Writes outcomes and their events down in one transaction, and says which: those of claims that ended meanwhile are
    /// left out.
    pub record: Call<Outcomes<M>, Result<Vec<Recorded>, RecordError>>,
    /// What an outcome is about, with the counter of those of that status.
    pub about: fn(&M, &'static str) -> About,
}

/// Whether a channel may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Not for so long.
    Wait(Duration),
    /// Something has changed: ask again.
    Again,
    /// One, and nothing beside it.
    One,
    /// As many as there are places for.
    All,
}

/// What logs and metrics say of a message.
#[derive(Debug)]
pub struct About {
    /// What it is.
    pub what: &'static str,
    /// The task that it is about.
    pub task_id: Option<Uuid>,
    /// Counts it.
    pub counter: IntCounter,
}
