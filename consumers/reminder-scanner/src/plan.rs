//! Which reminders of a task are to ring, and when: policy, without I/O.

use std::collections::HashSet;

use schedule::{Due, Offset, Trigger, Tz};
use schemas::{Task, TaskReminder, Timestamp};
use uuid::Uuid;

/// A reminder as the scanner holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its identity.
    pub id: Uuid,
    /// What has become of it.
    pub state: State,
    /// When it is, or was, due to fire.
    pub fire_at: Timestamp,
}

/// What has become of a reminder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It waits to ring.
    Armed,
    /// It rang.
    Fired,
    /// It will not ring.
    Cancelled,
}

/// What a change of the task does to one of its reminders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is to ring then.
    Arm {
        /// Which.
        id: Uuid,
        /// When.
        fire_at: Timestamp,
    },
    /// It was to ring then and will not.
    Cancel {
        /// Which.
        id: Uuid,
        /// When it would have been.
        fire_at: Timestamp,
        /// Why: `completed`, `deleted`, `rescheduled` or `removed`.
        reason: &'static str,
    },
}

/// A reminder says something that cannot be computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incomputable(pub String);

/// What follows for the reminders of `task`, changed at `changed_at`, where `known` is what the scanner holds of them.
///
/// A reminder is armed if its time is after the change: "a day before" on a task due in an hour does not ring at once. One
/// that is armed for the same time stays armed even if that time has passed: then it is late, not unwanted. And one that
/// rang does not ring again for the same time: a change may be older than the ring and yet arrive after it.
///
/// # Errors
/// When a zone or an offset cannot be read, or two reminders have one id. The API refuses all three, so no other writer
/// should have let them pass.
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
        let wanted = if over.is_none() {
            fire_at(reminder, due, zone)?
        } else {
            None
        };
        match (before, wanted) {
            (Some(before), Some(fire_at))
                if before.state != State::Cancelled && before.fire_at == fire_at => {}
            (_, Some(fire_at)) if fire_at > changed_at => {
                changes.push(Change::Arm {
                    id: reminder.id,
                    fire_at,
                });
            }
            (Some(before), _) if before.state == State::Armed => changes.push(Change::Cancel {
                id: before.id,
                fire_at: before.fire_at,
                reason: over.unwrap_or("rescheduled"),
            }),
            _ => {}
        }
    }
    changes.extend(
        known
            .iter()
            .filter(|k| k.state == State::Armed && !ids.contains(&k.id))
            .map(|k| Change::Cancel {
                id: k.id,
                fire_at: k.fire_at,
                reason: over.unwrap_or("removed"),
            }),
    );
    Ok(changes)
}

/// When a reminder is to ring; `None` for one that is relative to a due time which the task does not have.
fn fire_at(
    reminder: &TaskReminder,
    due: Option<Timestamp>,
    zone: Tz,
) -> Result<Option<Timestamp>, Incomputable> {
    let trigger = match (&reminder.offset, reminder.at) {
        (Some(offset), _) => {
            Trigger::Offset(Offset::parse(offset).map_err(|error| Incomputable(error.to_string()))?)
        }
        (None, Some(at)) => Trigger::At(at),
        (None, None) => return Ok(None),
    };
    Ok(trigger.fire_at(due, zone))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;
    use schemas::Priority;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn task(reminders: Vec<TaskReminder>) -> Task {
        let created_at = at("2026-03-27T08:00:00Z");
        Task {
            id: Uuid::from_u128(1),
            version: 1,
            title: "t".to_owned(),
            description: None,
            priority: Priority::Medium,
            tags: Vec::new(),
            due_at: Some(at("2026-03-29T10:00:00Z")),
            due_on: None,
            timezone: "Europe/Berlin".to_owned(),
            floating: false,
            whole_day_minute: schemas::WHOLE_DAY_MINUTE,
            reminders,
            depends_on: Vec::new(),
            series_id: None,
            occurrence: None,
            recurrence: None,
            created_at,
            updated_at: created_at,
            completed_at: None,
            deleted_at: None,
        }
    }

    #[test]
    fn offsets_of_a_whole_day_task_count_from_nine_in_its_zone() {
        let task = Task {
            due_at: None,
            due_on: Some("2026-03-29".parse().unwrap()),
            ..task(vec![relative(1, "-PT1H"), relative(2, "-P1D")])
        };
        let armed: Vec<_> = plan(&task, task.created_at, &[])
            .unwrap()
            .into_iter()
            .map(|change| match change {
                Change::Arm { fire_at, .. } => fire_at,
                Change::Cancel { .. } => panic!("nothing to cancel"),
            })
            .collect();
        assert_eq!(armed, [at("2026-03-29T06:00:00Z"), at("2026-03-28T08:00:00Z")]);
    }

    fn relative(id: u128, offset: &str) -> TaskReminder {
        TaskReminder {
            id: Uuid::from_u128(id),
            ..TaskReminder::relative(offset.to_owned())
        }
    }

    fn absolute(id: u128, instant: Timestamp) -> TaskReminder {
        TaskReminder {
            id: Uuid::from_u128(id),
            ..TaskReminder::absolute(instant)
        }
    }

    fn known(id: u128, state: State, fire_at: Timestamp) -> Known {
        Known {
            id: Uuid::from_u128(id),
            state,
            fire_at,
        }
    }

    #[test]
    fn a_day_before_keeps_the_wall_clock_over_daylight_saving_and_24_hours_before_do_not() {
        // Berlin goes to summer time on 2026-03-29: 12:00 is 10:00Z that day and was 11:00Z the day before.
        let task = task(vec![relative(1, "-P1D"), relative(2, "-PT24H")]);
        let changes = plan(&task, task.created_at, &[]).unwrap();
        assert_eq!(
            changes,
            [
                Change::Arm {
                    id: Uuid::from_u128(1),
                    fire_at: at("2026-03-28T11:00:00Z")
                },
                Change::Arm {
                    id: Uuid::from_u128(2),
                    fire_at: at("2026-03-28T10:00:00Z")
                },
            ]
        );
    }

    #[test]
    fn a_reminder_whose_time_was_past_when_it_was_set_does_not_ring() {
        let task = task(vec![relative(1, "-P7D")]);
        assert_eq!(plan(&task, task.created_at, &[]).unwrap(), []);
    }

    #[test]
    fn an_armed_reminder_that_fell_due_before_the_change_was_seen_stays_armed() {
        let due = at("2026-03-27T08:00:01Z");
        let task = task(vec![absolute(1, due)]);
        let later = due + TimeDelta::seconds(1);
        assert_eq!(plan(&task, later, &[known(1, State::Armed, due)]).unwrap(), []);
    }

    #[test]
    fn one_that_rang_does_not_ring_again_for_the_same_time_whether_the_change_was_before_or_after() {
        let due = at("2026-03-27T08:00:01Z");
        let task = task(vec![absolute(1, due)]);
        for changed_at in [due - TimeDelta::seconds(1), due, due + TimeDelta::seconds(1)] {
            assert_eq!(
                plan(&task, changed_at, &[known(1, State::Fired, due)]).unwrap(),
                []
            );
        }
    }

    #[test]
    fn two_reminders_under_one_id_are_an_error() {
        let due = at("2026-03-29T09:00:00Z");
        let twins = task(vec![absolute(1, due), relative(1, "-PT1H")]);
        assert!(plan(&twins, twins.created_at, &[]).is_err());
    }

    #[test]
    fn moving_the_due_date_arms_again_and_into_the_past_cancels() {
        let mut task = task(vec![relative(1, "-PT1H")]);
        let old = at("2026-03-29T09:00:00Z");
        task.due_at = Some(at("2026-04-02T10:00:00Z"));
        let new = at("2026-04-02T09:00:00Z");
        for before in [State::Armed, State::Fired, State::Cancelled].map(|state| known(1, state, old)) {
            let changes = plan(&task, task.created_at, &[before]).unwrap();
            assert_eq!(
                changes,
                [Change::Arm {
                    id: Uuid::from_u128(1),
                    fire_at: new
                }]
            );
        }
        task.due_at = Some(at("2020-01-01T00:00:00Z"));
        assert_eq!(
            plan(&task, task.created_at, &[known(1, State::Armed, old)]).unwrap(),
            [Change::Cancel {
                id: Uuid::from_u128(1),
                fire_at: old,
                reason: "rescheduled"
            }]
        );
    }

    #[test]
    fn completing_deleting_and_removing_cancel_and_reopening_arms_again() {
        let due = at("2026-03-29T09:00:00Z");
        let open = task(vec![relative(1, "-PT1H")]);
        let completed = Task {
            completed_at: Some(open.created_at),
            ..open.clone()
        };
        let deleted = Task {
            deleted_at: Some(open.created_at),
            ..completed.clone()
        };
        let removed = Task {
            reminders: Vec::new(),
            ..open.clone()
        };
        for (task, reason) in [
            (&completed, "completed"),
            (&deleted, "deleted"),
            (&removed, "removed"),
        ] {
            assert_eq!(
                plan(task, task.created_at, &[known(1, State::Armed, due)]).unwrap(),
                [Change::Cancel {
                    id: Uuid::from_u128(1),
                    fire_at: due,
                    reason
                }]
            );
            for state in [State::Fired, State::Cancelled] {
                assert_eq!(plan(task, task.created_at, &[known(1, state, due)]).unwrap(), []);
            }
        }
        assert_eq!(
            plan(&open, open.created_at, &[known(1, State::Cancelled, due)]).unwrap(),
            [Change::Arm {
                id: Uuid::from_u128(1),
                fire_at: due
            }]
        );
    }

    #[test]
    fn without_a_due_date_relative_reminders_are_cancelled_and_absolute_ones_stay() {
        let due = at("2026-03-29T09:00:00Z");
        let mut task = task(vec![relative(1, "-PT1H"), absolute(2, due)]);
        task.due_at = None;
        assert_eq!(
            plan(
                &task,
                task.created_at,
                &[known(1, State::Armed, due), known(2, State::Armed, due)]
            )
            .unwrap(),
            [Change::Cancel {
                id: Uuid::from_u128(1),
                fire_at: due,
                reason: "rescheduled"
            }]
        );
    }

    #[test]
    fn a_zone_or_an_offset_that_cannot_be_read_is_an_error_and_not_a_guess() {
        let mut nowhere = task(vec![relative(1, "-PT1H")]);
        nowhere.timezone = "Mars/Olympus".to_owned();
        assert!(plan(&nowhere, nowhere.created_at, &[]).is_err());
        let task = task(vec![relative(1, "soon")]);
        assert!(plan(&task, task.created_at, &[]).is_err());
    }

    proptest! {
        #[test]
        fn planning_again_after_applying_a_plan_changes_nothing(
            offsets in prop::collection::vec(-200_000_i64..200_000, 0..6),
            before in prop::collection::vec((0_usize..3, -200_000_i64..200_000), 0..6),
        ) {
            const STATES: [State; 3] = [State::Armed, State::Fired, State::Cancelled];
            let now = at("2026-03-27T08:00:00Z");
            let reminders = (1..).zip(&offsets).map(|(id, s)| absolute(id, now + TimeDelta::seconds(*s))).collect();
            let mut known: Vec<Known> =
                (1..).zip(&before).map(|(id, (state, s))| known(id, STATES[*state], now + TimeDelta::seconds(*s))).collect();
            let task = task(reminders);
            for change in plan(&task, now, &known).unwrap() {
                let (id, state, fire_at) = match change {
                    Change::Arm { id, fire_at } => (id, State::Armed, fire_at),
                    Change::Cancel { id, fire_at, .. } => (id, State::Cancelled, fire_at),
                };
                prop_assert!(state != State::Armed || fire_at > now, "armed for the past");
                let rang = Known { id, state: State::Fired, fire_at };
                prop_assert!(state != State::Armed || !known.contains(&rang), "armed for a time at which it rang");
                known.retain(|k| k.id != id);
                known.push(Known { id, state, fire_at });
            }
            prop_assert_eq!(plan(&task, now, &known).unwrap(), []);
        }
    }
}
