//! Task events arm, re-arm and cancel reminders.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kafka::{HandleError, Handler};
use schemas::{Encoded, Event, Head, Reminder, ReminderEvent, ReminderEventKind, Task, TaskEvent, Timestamp};
use service::trace::Trace;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::alarm::Alarm;
use crate::metrics;
use crate::plan::{Change, plan};
use crate::reminders::{self, Arm, Cancel};

/// The handler. A default one arms without waking anybody.
#[derive(Debug, Default)]
pub struct Arming {
    alarm: Arc<Alarm>,
    /// The earliest time that the open transaction arms something for.
    earliest: Option<Timestamp>,
}

impl Arming {
    pub(crate) fn new(alarm: Arc<Alarm>) -> Self {
        Self {
            alarm,
            earliest: None,
        }
    }
}

impl Handler for Arming {
    async fn handle(&mut self, tx: &mut PgConnection, events: Vec<Event>) -> Result<(), HandleError> {
        self.earliest = None;
        let mut events: Vec<TaskEvent> = events
            .into_iter()
            .filter_map(|event| match event {
                Event::Task(event) => Some(event),
                Event::Reminder(_) | Event::Notification(_) => None,
            })
            .collect();
        // Round by round, each task once a round: whether a reminder is late or was already past when it was set depends
        // on when it was set, so no event of a task may be left out for a later one.
        while !events.is_empty() {
            let mut seen = HashSet::new();
            let (round, rest) = events.into_iter().partition(|event| seen.insert(event.task.id));
            self.apply(tx, round).await?;
            events = rest;
        }
        Ok(())
    }

    fn committed(&mut self) {
        if let Some(earliest) = self.earliest.take() {
            self.alarm.armed(earliest);
        }
    }
}

impl Arming {
    /// Applies events of as many different tasks.
    async fn apply(&mut self, tx: &mut PgConnection, events: Vec<TaskEvent>) -> Result<(), HandleError> {
        let user_ids: Vec<Uuid> = events.iter().map(|event| event.user_id).collect();
        let tasks: Vec<_> = events.iter().map(|event| &event.task).collect();
        let newer = reminders::keep_newest(tx, &user_ids, &tasks).await?;
        let events: Vec<&TaskEvent> = events
            .iter()
            .filter(|event| newer.contains_key(&event.task.id))
            .collect();
        // Of a task that is new there is nothing to look up.
        let (user_ids, tasks): (Vec<Uuid>, Vec<&Task>) = events
            .iter()
            .filter(|event| newer.get(&event.task.id) == Some(&true))
            .map(|event| (event.user_id, &event.task))
            .unzip();
        let mut known = HashMap::new();
        if !tasks.is_empty() {
            known = reminders::lock(tx, &user_ids, &tasks).await?;
        }
        if !known.is_empty() {
            reminders::rank(tx, &user_ids, &tasks).await?;
        }

        let (mut arms, mut cancels) = (Vec::new(), Vec::new());
        let mut said = Vec::new();
        let mut scheduled = 0;
        for event in events {
            let (task, trace) = (&event.task, kafka::trace_of(event.event_id));
            let known = known.get(&task.id).map_or(&[][..], Vec::as_slice);
            let changes =
                plan(task, event.occurred_at, known).map_err(|error| HandleError::Invalid(error.0))?;
            for change in changes {
                if let Some((kind, reminder)) = told(&change) {
                    let head = Head::new(event.user_id, event.actor, event.occurred_at);
                    said.push((ReminderEvent::new(kind, head, reminder, task.clone()), trace));
                }
                match change {
                    Change::Cancel { id, reason, .. } => cancels.push(Cancel {
                        user_id: event.user_id,
                        task_id: task.id,
                        id,
                        reason,
                    }),
                    Change::Arm(next) | Change::Amend(next) => {
                        if matches!(change, Change::Arm(_)) {
                            scheduled += 1;
                            let earliest = self.earliest.unwrap_or(next.fire_at);
                            self.earliest = Some(earliest.min(next.fire_at));
                        }
                        arms.push(Arm {
                            user_id: event.user_id,
                            task_id: task.id,
                            next,
                            priority: task.priority,
                            changed_at: event.occurred_at,
                            trace,
                        });
                    }
                }
            }
        }
        // While PostgreSQL writes the rows.
        let encoding = tokio::task::spawn_blocking(move || encode(said));
        reminders::arm(tx, &arms).await?;
        reminders::cancel(tx, &cancels).await?;
        let news = encoding
            .await
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        db::outbox::insert(tx, &news).await?;
        metrics::CANCELLED.inc_by(cancels.len() as u64);
        metrics::SCHEDULED.inc_by(scheduled);
        Ok(())
    }
}

fn encode(said: Vec<(ReminderEvent, Option<Trace>)>) -> Result<Vec<Encoded>, HandleError> {
    said.into_iter()
        .map(|(event, trace)| {
            let mut event = Event::from(event)
                .encode("reminder-scanner")
                .map_err(|error| HandleError::Invalid(error.to_string()))?;
            event.headers.extend(trace.map(|trace| trace.header()));
            Ok(event)
        })
        .collect()
}

/// What others hear of a change: nothing when the next ring stays where it was.
fn told(change: &Change) -> Option<(ReminderEventKind, Reminder)> {
    match *change {
        Change::Arm(next) => {
            let kind = if next.snoozed {
                ReminderEventKind::Snoozed
            } else {
                ReminderEventKind::Scheduled
            };
            let reminder = Reminder {
                id: next.id,
                fire_at: next.fire_at,
                ring: next.ring,
                fired_at: None,
                snoozed_until: next.snoozed.then_some(next.fire_at),
                reason: None,
            };
            Some((kind, reminder))
        }
        Change::Amend(_) => None,
        Change::Cancel {
            id,
            ring,
            fire_at,
            reason,
        } => {
            let reminder = Reminder {
                id,
                fire_at,
                ring,
                fired_at: None,
                snoozed_until: None,
                reason: Some(reason.to_owned()),
            };
            Some((ReminderEventKind::Cancelled, reminder))
        }
    }
}
