use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Health;

/// Runs the tasks of a process as one: all of them, or none. A task that ends before a stop was requested,
/// even with success, stops the process; a consumer that silently lost one of its loops would look healthy
/// and do nothing.
///
/// Tasks are never aborted: one of them may be inside a database transaction. They watch the token and end
/// themselves.
#[derive(Debug)]
#[must_use = "tasks are supervised by `run`"]
pub struct Supervisor {
    shutdown: CancellationToken,
    health: Health,
    shutdown_budget: Duration,
    tasks: JoinSet<anyhow::Result<()>>,
    names: HashMap<Id, String>,
}

impl Supervisor {
    /// A supervisor of no tasks yet. It cancels `shutdown` itself when a task fails; `shutdown_budget` is how
    /// long tasks may take to end from then on.
    pub fn new(shutdown: CancellationToken, health: Health, shutdown_budget: Duration) -> Self {
        Self {
            shutdown,
            health,
            shutdown_budget,
            tasks: JoinSet::new(),
            names: HashMap::new(),
        }
    }

    /// Starts a task at once. It must end soon after the token is cancelled, and not before.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn spawn(
        &mut self,
        name: impl Into<String>,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let id = self.tasks.spawn(task).id();
        self.names.insert(id, name.into());
    }

    /// [`spawn`](Self::spawn), for a task that cannot fail.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn spawn_infallible(
        &mut self,
        name: impl Into<String>,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.spawn(name, async move {
            task.await;
            Ok(())
        });
    }

    /// Waits for the stop, then for the tasks.
    ///
    /// # Errors
    ///
    /// The first failure, with the name of its task: it ended early, returned an error, panicked, or did not
    /// end within the budget. Later failures are logged.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let shutdown = self.shutdown.clone();
        let early = tokio::select! {
            // A task that ended because of the stop must not count as one that ended before it.
            biased;
            () = shutdown.cancelled() => None,
            Some(ended) = self.tasks.join_next_with_id() => Some(ended),
        };
        let mut first_failure = early.map(|ended| {
            let (name, result) = self.outcome(ended);
            match result {
                Ok(()) => anyhow!("task {name} ended before a stop was requested"),
                Err(error) => error,
            }
        });
        if let Some(failure) = &first_failure {
            // The reason is logged where it is handled, which is after the drain: say now why the process
            // goes down.
            tracing::warn!(reason = %failure, "stopping because of a task");
        }
        self.health.stopping();
        self.shutdown.cancel();
        for failure in self.drain().await {
            match first_failure {
                None => first_failure = Some(failure),
                Some(_) => tracing::error!("while stopping: {failure:#}"),
            }
        }
        first_failure.map_or(Ok(()), Err)
    }

    async fn drain(&mut self) -> Vec<anyhow::Error> {
        let deadline = Instant::now() + self.shutdown_budget;
        let mut failures = Vec::new();
        while !self.tasks.is_empty() {
            match tokio::time::timeout_at(deadline, self.tasks.join_next_with_id()).await {
                Ok(Some(ended)) => failures.extend(self.outcome(ended).1.err()),
                Ok(None) => break,
                Err(_) => {
                    let mut names: Vec<_> = self.names.values().map(String::as_str).collect();
                    names.sort_unstable();
                    failures.push(anyhow!(
                        "did not end within {:?}: {}",
                        self.shutdown_budget,
                        names.join(", ")
                    ));
                    // Dropping the set would abort them.
                    self.tasks.detach_all();
                }
            }
        }
        failures
    }

    fn outcome(
        &mut self,
        ended: Result<(Id, anyhow::Result<()>), JoinError>,
    ) -> (String, anyhow::Result<()>) {
        let (id, result) = match ended {
            Ok((id, result)) => (id, result),
            Err(error) => (error.id(), Err(anyhow::Error::new(error))),
        };
        let name = self.names.remove(&id).unwrap_or_default();
        let result = result.with_context(|| format!("task {name} failed"));
        (name, result)
    }
}

#[cfg(test)]
mod tests;
