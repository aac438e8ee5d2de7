//! Which reminders of a task are to ring, and when: policy, without I/O. docs/REMINDERS.md tells it to people.

use std::collections::HashSet;

pub use db::reminders::State;
use schedule::{Due, Tz};
use schemas::{Task, TaskReminder, Timestamp};
use uuid::Uuid;

use crate::rings::{Rings, send_late_within_seconds};

/// A reminder as the scanner holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its identity.
    pub id: Uuid,
    /// What has become of it.
    pub state: State,
    /// When it rings, or was to ring.
    pub rings: Rings,
    /// Which of them is, or was, the next.
    pub ring: i32,
    /// When that is, or was, due.
    pub fire_at: Timestamp,
    /// The latest of its times that rang, was missed, or went by meanwhile.
    pub last_fire_at: Option<Timestamp>,
    /// How late it may ring, in seconds; `None` leaves it to the person's setting.
    pub send_late_within_seconds: Option<i64>,
}

impl Known {
    /// Whether a ring at that time, in a sequence that starts at `first_at`, has had its turn: it rang, was missed, or
    /// went by.
    fn had(&self, first_at: Timestamp, at: Timestamp) -> bool {
        self.last_fire_at.is_some_and(|last| {
            at <= last && (first_at == self.rings.first_at || at == last || self.rings.number(at).is_some())
        })
    }

    /// Whether it waits for exactly that.
    fn is(&self, next: &Next) -> bool {
        (self.rings, self.ring, self.send_late_within_seconds)
            == (next.rings, next.ring, next.send_late_within_seconds)
    }

    /// Its end, if it waits to ring.
    fn cancel(&self, reason: &'static str) -> Option<Change> {
        (self.state == State::Armed).then_some(Change::Cancel {
            id: self.id,
            ring: self.ring,
            fire_at: self.fire_at,
            reason,
        })
    }
}

/// A reminder that is to ring, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// Which.
    pub id: Uuid,
    /// All its rings.
    pub rings: Rings,
    /// The number of the next.
    pub ring: i32,
    /// When that is.
    pub fire_at: Timestamp,
    /// How late it may ring, in seconds; `None` leaves it to the person's setting.
    pub send_late_within_seconds: Option<i64>,
    /// Whether it rings then because the person put it off.
    pub snoozed: bool,
}

/// What a change of the task does to one of its reminders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is to ring then.
    Arm(Next),
    /// It rings when it would have rung; what comes after that is another.
    Amend(Next),
    /// It was to ring then and will not.
    Cancel {
        /// Which.
        id: Uuid,
        /// The number of the ring that it waited for.
        ring: i32,
        /// When that would have been.
        fire_at: Timestamp,
        /// Why: `completed`, `deleted`, `dismissed`, `rescheduled` or `removed`.
        reason: &'static str,
    },
}

/// A reminder says something that cannot be computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incomputable(pub String);

/// What follows for the reminders of `task`, changed at `changed_at`, where `known` is what the scanner holds of them.
///
/// A reminder is armed for the first of its rings after the change: "a day before" on a task due in an hour does not ring at
/// once, and of a nag only what is still to come. One that is armed for a time which is still one of its rings stays
/// armed even if that time has passed: then it is late, not unwanted. And a ring that had its turn has no other: a change
/// may be older than the ring and yet arrive after it.
///
/// # Errors
/// When a zone, an offset or another duration cannot be read or is out of bounds, or two reminders have one id. The API
/// refuses all of these, so no other writer should have let them pass.
pub fn plan(task: &Task, changed_at: Timestamp, known: &[Known]) -> Result<Vec<Change>, Incomputable> {
    let over = match (task.deleted_at, task.completed_at) {
        (Some(_), _) => Some("deleted"),
        (None, Some(_)) => Some("completed"),
        (None, None) => None,
    };
    let zone = schedule::parse_zone(&task.timezone).map_err(|error| Incomputable(error.to_string()))?;
    let due = Due::of(task.due_at, task.due_on).map(|due| due.anchor(zone, task.whole_day_minute));
    let mut ids = HashSet::new();
    let mut changes = Vec::new();
    for reminder in &task.reminders {
        if !ids.insert(reminder.id) {
            return Err(Incomputable(format!("two reminders have the id {}", reminder.id)));
        }
        let before = known.iter().find(|k| k.id == reminder.id);
        let unwanted = over.or(reminder.dismissed_at.map(|_| "dismissed"));
        let wanted = if unwanted.is_none() {
            Wanted::of(reminder, due, zone)?
        } else {
            None
        };
        changes.extend(match wanted {
            Some(wanted) => wanted.follow(before, changed_at),
            None => before.and_then(|before| before.cancel(unwanted.unwrap_or("rescheduled"))),
        });
    }
    changes.extend(
        known
            .iter()
            .filter(|k| !ids.contains(&k.id))
            .filter_map(|k| k.cancel(over.unwrap_or("removed"))),
    );
    Ok(changes)
}

/// What the person wants of a reminder of an open task.
struct Wanted {
    id: Uuid,
    rings: Rings,
    send_late_within_seconds: Option<i64>,
    snoozed_until: Option<Timestamp>,
}

impl Wanted {
    fn of(reminder: &TaskReminder, due: Option<Timestamp>, zone: Tz) -> Result<Option<Self>, Incomputable> {
        let send_late_within_seconds = send_late_within_seconds(reminder)?;
        let rings = Rings::of(reminder, due, zone)?;
        Ok(rings.map(|rings| Self {
            id: reminder.id,
            rings,
            send_late_within_seconds,
            snoozed_until: reminder.snoozed_until,
        }))
    }

    fn next(&self, ring: i32, fire_at: Timestamp) -> Next {
        Next {
            id: self.id,
            rings: self.rings,
            ring,
            fire_at,
            send_late_within_seconds: self.send_late_within_seconds,
            snoozed: self.snoozed_until == Some(fire_at),
        }
    }

    fn follow(&self, before: Option<&Known>, changed_at: Timestamp) -> Option<Change> {
        if let Some(before) = before {
            let over = matches!(before.state, State::Fired | State::Missed);
            if over && before.rings == self.rings {
                return None;
            }
            if before.state == State::Armed
                && before.rings.first_at == self.rings.first_at
                && let Some(ring) = self.rings.number(before.fire_at)
            {
                let next = self.next(ring, before.fire_at);
                return (!before.is(&next)).then_some(Change::Amend(next));
            }
        }
        let had = |at| before.is_some_and(|before| before.had(self.rings.first_at, at));
        match self.rings.iter().find(|(_, at)| *at > changed_at && !had(*at)) {
            Some((ring, fire_at)) => Some(Change::Arm(self.next(ring, fire_at))),
            None => before.and_then(|before| before.cancel("rescheduled")),
        }
    }
}

#[cfg(test)]
mod tests;
