//! Liveness and readiness of the process, as its components report them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

/// What a process knows of its own state. Clones share it.
///
/// Two questions with different consequences are kept apart. *Alive*: does every component still make
/// progress? If not, only a restart helps. *Ready*: can the process do its work now? If not, it needs time,
/// or what it depends on does; a restart would make that worse.
#[derive(Debug, Clone, Default)]
pub struct Health {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    stopping: AtomicBool,
    components: Mutex<Vec<Component>>,
}

/// A part of the process that reports its own state. Clones share it.
#[derive(Debug, Clone)]
pub struct Component {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    stale_after: Duration,
    created: Instant,
    /// Milliseconds from `created` to the last progress. An atomic, because loops beat for every message.
    progress_ms: AtomicU64,
    /// Why the component is not ready; `None` when it is.
    waiting_for: Mutex<Option<String>>,
}

impl Health {
    /// A process without components: alive and ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a component, not ready for the reason "starting". It is stuck once it made no progress for longer
    /// than `stale_after`, which must exceed the longest time one step of its loop may take; `Duration::MAX`
    /// is for a component without a loop. A name that is already there gives the component of that name.
    pub fn component(&self, name: impl Into<String>, stale_after: Duration) -> Component {
        let name = name.into();
        let mut components = lock(&self.shared.components);
        if let Some(known) = components.iter().find(|component| component.inner.name == name) {
            return known.clone();
        }
        let component = Component {
            inner: Arc::new(Inner {
                name,
                stale_after,
                created: Instant::now(),
                progress_ms: AtomicU64::new(0),
                waiting_for: Mutex::new(Some("starting".to_owned())),
            }),
        };
        components.push(component.clone());
        component
    }

    /// From now on the process is not ready, whatever its components say.
    pub fn stopping(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
    }

    /// The state of the process and of each component.
    pub fn report(&self) -> Report {
        let components: Vec<_> = lock(&self.shared.components)
            .iter()
            .map(Component::report)
            .collect();
        let all = |state| components.iter().all(|component| component.state == state);
        let alive = !components.iter().any(|component| component.state == State::Stuck);
        let stopping = self.shared.stopping.load(Ordering::Relaxed);
        let ready = !stopping && all(State::Ready);
        let status = match (alive, stopping, ready) {
            (false, _, _) => Status::Stuck,
            (true, true, _) => Status::Stopping,
            (true, false, false) => Status::NotReady,
            (true, false, true) => Status::Ready,
        };
        Report { status, components }
    }
}

impl Component {
    /// The component is alive: call it at every turn of its loop, also while it waits for something it
    /// depends on.
    pub fn progress(&self) {
        let elapsed = u64::try_from(self.inner.created.elapsed().as_millis()).unwrap_or(u64::MAX);
        // `max`, not `store`: of two clones that beat at once the later time counts.
        self.inner.progress_ms.fetch_max(elapsed, Ordering::Relaxed);
    }

    /// The component can do its work. Counts as progress.
    pub fn ready(&self) {
        self.progress();
        *lock(&self.inner.waiting_for) = None;
    }

    /// The component cannot do its work now; `why` is shown to operators. Counts as progress.
    pub fn not_ready(&self, why: impl Into<String>) {
        self.progress();
        *lock(&self.inner.waiting_for) = Some(why.into());
    }

    fn report(&self) -> ComponentReport {
        let last = Duration::from_millis(self.inner.progress_ms.load(Ordering::Relaxed));
        let idle = self.inner.created.elapsed().saturating_sub(last);
        let reason = lock(&self.inner.waiting_for).clone();
        let state = match &reason {
            _ if idle > self.inner.stale_after => State::Stuck,
            Some(_) => State::NotReady,
            None => State::Ready,
        };
        ComponentReport {
            name: self.inner.name.clone(),
            state,
            reason,
            seconds_since_progress: idle.as_secs_f64(),
        }
    }
}

/// What the probes answer, as JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    status: Status,
    components: Vec<ComponentReport>,
}

impl Report {
    /// Whether every component made progress lately. A process that merely waits is alive.
    pub fn is_alive(&self) -> bool {
        self.status != Status::Stuck
    }

    /// Whether the process can do its work and is to be given some.
    pub fn is_ready(&self) -> bool {
        self.status == Status::Ready
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct ComponentReport {
    name: String,
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    seconds_since_progress: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Ready,
    NotReady,
    Stopping,
    Stuck,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ready,
    NotReady,
    Stuck,
}

/// A panic while one of these locks is held leaves a complete value behind, so poisoning carries no news.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
