//! What the next instance of a series looks like. Pure: everything comes from the event and the series.

use db::tasks::Series;
use schedule::{Due, Rule, RuleError, Tz, ZoneError, parse_zone};
use schemas::{Task, TaskEvent, TaskReminder, Timestamp};
use uuid::Uuid;

/// Why no next instance can be computed. Trying again gives the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NextError {
    /// The series' rule is none.
    #[error("the rule {rrule:?} of series {series_id} cannot be used: {source}")]
    Rule {
        /// The series.
        series_id: Uuid,
        /// Its rule.
        rrule: String,
        /// What is wrong with it.
        source: RuleError,
    },
    /// The series' zone is none.
    #[error("series {series_id} has no usable time zone: {source}")]
    Zone {
        /// The series.
        series_id: Uuid,
        /// What is wrong with it.
        source: ZoneError,
    },
    /// A reminder would ring outside of the calendar.
    #[error("reminder {reminder_id} cannot be moved along to {next}")]
    Reminder {
        /// The reminder of the completed instance.
        reminder_id: Uuid,
        /// When the next instance is due.
        next: Timestamp,
    },
}

/// The instance after the one that `completed` tells of; `None` when the series has ended. Which occurrence that is
/// depends on nothing but the event and the series, never on when the event is handled; `now` only dates the task.
///
/// # Errors
/// When the series' rule or zone is unusable, or a reminder cannot be moved along.
pub fn next_instance(
    series: &Series,
    completed: &TaskEvent,
    now: Timestamp,
) -> Result<Option<Task>, NextError> {
    let task = &completed.task;
    let Some(occurrence) = task.occurrence else {
        return Ok(None);
    };
    // Completed late: occurrences that went by meanwhile are not made up for. Completed early: the one after this one,
    // not this one again.
    let after = occurrence.max(task.completed_at.unwrap_or(completed.occurred_at));
    let zone = parse_zone(&series.timezone).map_err(|source| NextError::Zone {
        series_id: series.id,
        source,
    })?;
    let Some(next) = next_occurrence(series, zone, after)? else {
        return Ok(None);
    };
    // A whole-day task goes on as one: an occurrence of its series is the start of a day.
    let (due_at, due_on) = match task.due_on {
        Some(_) => (None, Some(next.with_timezone(&zone).date_naive())),
        None => (Some(next), None),
    };
    let anchor = |due_at, due_on| Due::of(due_at, due_on).map(|due| due.anchor(zone));
    let due = anchor(task.due_at, task.due_on).unwrap_or(occurrence);
    let next_due = anchor(due_at, due_on).unwrap_or(next);
    let reminders = task
        .reminders
        .iter()
        .map(|reminder| carry_on(reminder, due, next_due))
        .collect::<Result<_, _>>()?;
    Ok(Some(Task {
        id: Uuid::now_v7(),
        version: 1,
        title: task.title.clone(),
        description: task.description.clone(),
        priority: task.priority,
        tags: task.tags.clone(),
        due_at,
        due_on,
        timezone: task.timezone.clone(),
        reminders,
        // What had to be done before this one has no part in the next.
        depends_on: Vec::new(),
        series_id: Some(series.id),
        occurrence: Some(next),
        // The series', not the completed instance's: it may have changed since that was made.
        recurrence: Some(series.rrule.clone()),
        created_at: now,
        updated_at: now,
        completed_at: None,
        deleted_at: None,
    }))
}

fn next_occurrence(series: &Series, zone: Tz, after: Timestamp) -> Result<Option<Timestamp>, NextError> {
    Rule::parse(&series.rrule)
        .and_then(|rule| rule.next_after(series.starts_at, zone, after))
        .map_err(|source| NextError::Rule {
            series_id: series.id,
            rrule: series.rrule.clone(),
            source,
        })
}

/// The same reminder for the next instance, as far from its due time as it was from `due`. It has an id of its own: the
/// old one may have rung already, and a reminder rings once.
fn carry_on(reminder: &TaskReminder, due: Timestamp, next: Timestamp) -> Result<TaskReminder, NextError> {
    let at = reminder
        .at
        .map(|at| {
            next.checked_add_signed(at - due).ok_or(NextError::Reminder {
                reminder_id: reminder.id,
                next,
            })
        })
        .transpose()?;
    Ok(TaskReminder {
        id: Uuid::now_v7(),
        offset: reminder.offset.clone(),
        at,
    })
}

#[cfg(test)]
mod tests {
    use schemas::{Actor, Priority, TaskEventKind};

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn series(rrule: &str, starts_at: &str) -> Series {
        Series {
            id: Uuid::now_v7(),
            rrule: rrule.to_owned(),
            starts_at: at(starts_at),
            timezone: "Europe/Berlin".to_owned(),
        }
    }

    /// The instance of that occurrence, completed then.
    fn completed(series: &Series, occurrence: &str, completed_at: &str) -> TaskEvent {
        let task = Task {
            id: Uuid::now_v7(),
            version: 7,
            title: "Water the plants".to_owned(),
            description: Some("All of *them*".to_owned()),
            priority: Priority::High,
            tags: vec!["home".to_owned(), "green".to_owned()],
            due_at: Some(at(occurrence)),
            due_on: None,
            timezone: "Europe/Berlin".to_owned(),
            reminders: Vec::new(),
            depends_on: Vec::new(),
            series_id: Some(series.id),
            occurrence: Some(at(occurrence)),
            recurrence: Some(series.rrule.clone()),
            created_at: at("2026-01-01T00:00:00Z"),
            updated_at: at(completed_at),
            completed_at: Some(at(completed_at)),
            deleted_at: None,
        };
        TaskEvent::new(TaskEventKind::Completed, Uuid::now_v7(), Actor::User, task)
    }

    fn next(series: &Series, event: &TaskEvent) -> Option<Task> {
        next_instance(series, event, schemas::now()).unwrap()
    }

    fn next_due(series: &Series, occurrence: &str, completed_at: &str) -> Option<Timestamp> {
        next(series, &completed(series, occurrence, completed_at)).and_then(|task| task.due_at)
    }

    #[test]
    fn the_next_instance_is_a_new_open_task_with_the_same_content() {
        let series = series("FREQ=DAILY", "2026-03-02T08:00:00Z");
        let event = completed(&series, "2026-03-02T08:00:00Z", "2026-03-02T09:30:00Z");
        let now = schemas::now();
        let task = next_instance(&series, &event, now).unwrap().unwrap();
        let expected = Task {
            id: task.id,
            version: 1,
            due_at: Some(at("2026-03-03T08:00:00Z")),
            occurrence: Some(at("2026-03-03T08:00:00Z")),
            created_at: now,
            updated_at: now,
            completed_at: None,
            ..event.task.clone()
        };
        assert_eq!(task, expected);
        assert_ne!(task.id, event.task.id);
    }

    #[test]
    fn a_whole_day_task_goes_on_as_one() {
        let series = series("FREQ=DAILY", "2026-03-27T23:00:00Z");
        let mut event = completed(&series, "2026-03-27T23:00:00Z", "2026-03-28T09:30:00Z");
        event.task.due_at = None;
        event.task.due_on = Some("2026-03-28".parse().unwrap());
        event.task.reminders = vec![TaskReminder {
            id: Uuid::now_v7(),
            offset: None,
            at: Some(at("2026-03-28T07:00:00Z")),
        }];
        let task = next(&series, &event).unwrap();
        // The night to the 29th is an hour short in Berlin.
        assert_eq!(task.occurrence, Some(at("2026-03-28T23:00:00Z")));
        assert_eq!(
            (task.due_at, task.due_on),
            (None, Some("2026-03-29".parse().unwrap()))
        );
        assert_eq!(task.reminders[0].at, Some(at("2026-03-29T06:00:00Z")));
    }

    #[test]
    fn completing_late_passes_over_what_was_missed() {
        let series = series("FREQ=DAILY", "2026-03-02T08:00:00Z");
        assert_eq!(
            next_due(&series, "2026-03-02T08:00:00Z", "2026-03-05T12:00:00Z"),
            Some(at("2026-03-06T08:00:00Z"))
        );
    }

    #[test]
    fn completing_early_brings_the_one_after_this_one() {
        let series = series("FREQ=WEEKLY", "2026-03-02T08:00:00Z");
        assert_eq!(
            next_due(&series, "2026-03-09T08:00:00Z", "2026-03-03T12:00:00Z"),
            Some(at("2026-03-16T08:00:00Z"))
        );
    }

    #[test]
    fn completing_at_the_very_moment_of_an_occurrence_counts_it_as_gone() {
        let series = series("FREQ=DAILY", "2026-03-02T08:00:00Z");
        assert_eq!(
            next_due(&series, "2026-03-02T08:00:00Z", "2026-03-03T08:00:00Z"),
            Some(at("2026-03-04T08:00:00Z"))
        );
    }

    #[test]
    fn the_wall_clock_stays_where_clocks_change() {
        // 09:00 in Berlin is 08:00 UTC in winter and 07:00 UTC in summer; clocks change on 29 March and 25 October.
        let series = series("FREQ=DAILY", "2026-01-01T08:00:00Z");
        for (occurrence, expected) in [
            ("2026-03-28T08:00:00Z", "2026-03-29T07:00:00Z"),
            ("2026-03-29T07:00:00Z", "2026-03-30T07:00:00Z"),
            ("2026-10-24T07:00:00Z", "2026-10-25T08:00:00Z"),
            ("2026-10-25T08:00:00Z", "2026-10-26T08:00:00Z"),
        ] {
            assert_eq!(
                next_due(&series, occurrence, occurrence),
                Some(at(expected)),
                "{occurrence}"
            );
        }
    }

    #[test]
    fn a_series_ends_with_its_count_and_with_its_until() {
        let counted = series("FREQ=DAILY;COUNT=3", "2026-03-02T08:00:00Z");
        assert_eq!(
            next_due(&counted, "2026-03-03T08:00:00Z", "2026-03-03T09:00:00Z"),
            Some(at("2026-03-04T08:00:00Z"))
        );
        assert_eq!(
            next_due(&counted, "2026-03-04T08:00:00Z", "2026-03-04T09:00:00Z"),
            None
        );
        let until = series("FREQ=DAILY;UNTIL=20260303", "2026-03-02T08:00:00Z");
        assert_eq!(
            next_due(&until, "2026-03-03T08:00:00Z", "2026-03-03T09:00:00Z"),
            None
        );
    }

    #[test]
    fn reminders_keep_their_distance_and_get_ids_of_their_own() {
        let series = series("FREQ=DAILY", "2026-03-02T08:00:00Z");
        let mut event = completed(&series, "2026-03-02T08:00:00Z", "2026-03-02T09:30:00Z");
        event.task.reminders = vec![
            TaskReminder {
                id: Uuid::now_v7(),
                offset: Some("-PT10M".to_owned()),
                at: None,
            },
            TaskReminder {
                id: Uuid::now_v7(),
                offset: None,
                at: Some(at("2026-03-01T20:00:00Z")),
            },
        ];
        let task = next(&series, &event).unwrap();
        let kept: Vec<_> = task
            .reminders
            .iter()
            .map(|r| (r.offset.as_deref(), r.at))
            .collect();
        assert_eq!(
            kept,
            [(Some("-PT10M"), None), (None, Some(at("2026-03-02T20:00:00Z")))]
        );
        for (new, old) in task.reminders.iter().zip(&event.task.reminders) {
            assert_ne!(new.id, old.id);
        }
    }

    #[test]
    fn a_moved_instance_keeps_the_rhythm_and_its_reminders_distance() {
        let series = series("FREQ=WEEKLY", "2026-03-02T08:00:00Z");
        let mut event = completed(&series, "2026-03-02T08:00:00Z", "2026-03-04T12:00:00Z");
        // Put off by two days; the reminder was set an hour before that.
        event.task.due_at = Some(at("2026-03-04T08:00:00Z"));
        event.task.reminders = vec![TaskReminder {
            id: Uuid::now_v7(),
            offset: None,
            at: Some(at("2026-03-04T07:00:00Z")),
        }];
        let task = next(&series, &event).unwrap();
        assert_eq!(task.due_at, Some(at("2026-03-09T08:00:00Z")));
        assert_eq!(task.reminders[0].at, Some(at("2026-03-09T07:00:00Z")));
    }

    #[test]
    fn the_series_rule_of_today_counts() {
        let daily = series("FREQ=DAILY", "2026-03-02T08:00:00Z");
        let event = completed(&daily, "2026-03-02T08:00:00Z", "2026-03-02T09:30:00Z");
        let weekly = Series {
            rrule: "FREQ=WEEKLY".to_owned(),
            ..daily
        };
        let task = next(&weekly, &event).unwrap();
        assert_eq!(task.due_at, Some(at("2026-03-09T08:00:00Z")));
        assert_eq!(task.recurrence.as_deref(), Some("FREQ=WEEKLY"));
    }

    #[test]
    fn what_cannot_be_computed_says_which_series_and_why() {
        let broken = series("FREQ=OFTEN", "2026-03-02T08:00:00Z");
        let event = completed(&broken, "2026-03-02T08:00:00Z", "2026-03-02T09:30:00Z");
        let error = next_instance(&broken, &event, schemas::now())
            .unwrap_err()
            .to_string();
        assert!(error.contains(&broken.id.to_string()), "{error}");
        assert!(error.contains("FREQ=OFTEN"), "{error}");

        let nowhere = Series {
            timezone: "Europe/Atlantis".to_owned(),
            ..series("FREQ=DAILY", "2026-03-02T08:00:00Z")
        };
        let error = next_instance(&nowhere, &event, schemas::now())
            .unwrap_err()
            .to_string();
        assert!(error.contains("Europe/Atlantis"), "{error}");
    }
}
