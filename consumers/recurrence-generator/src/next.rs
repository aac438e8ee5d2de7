//! What comes next in a series, and what it looks like. Pure: everything comes from the event, the series and its instances.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use db::series::{Anchor, Series, Unusable};
use schedule::{Due, Tz};
use schemas::{Task, TaskEvent, Timestamp};

/// The next occurrence comes after this instant. It depends on nothing but the event and the series, never on when the
/// event is handled.
#[must_use]
pub fn counts_from(series: &Series, completed: &TaskEvent) -> Timestamp {
    let task = &completed.task;
    let completed_at = task.completed_at.unwrap_or(completed.occurred_at);
    match (series.anchor, task.occurrence) {
        // Completed late: occurrences that went by meanwhile are not made up for. Completed early: the one after this one,
        // not this one again.
        (Anchor::Schedule, Some(occurrence)) => occurrence.max(completed_at),
        _ => completed_at,
    }
}

/// The occurrence after the one that `completed` tells of; `None` when there is no further one. `taken` are occurrences that
/// have an instance already, and whether it is open: what is done or deleted is passed over.
///
/// # Errors
/// When the series' rule or zone is unusable.
pub fn next_occurrence(
    series: &Series,
    completed: &TaskEvent,
    taken: &BTreeMap<Timestamp, bool>,
) -> Result<Option<Timestamp>, Unusable> {
    let timeline = series.timeline()?;
    let mut to_come = timeline.after(counts_from(series, completed));
    let closed = |at: &Timestamp| taken.get(at) == Some(&false);
    to_come.find(|next| !next.as_ref().is_ok_and(closed)).transpose()
}

/// The occurrences that the series has not come to yet up to `until`, at most `most` of them, and the first one after them.
///
/// # Errors
/// When the series' rule or zone is unusable.
pub fn occurrences_ahead(
    series: &Series,
    until: Timestamp,
    most: usize,
) -> Result<(Vec<Timestamp>, Option<Timestamp>), Unusable> {
    let mut ahead = Vec::new();
    if !series.is_active() {
        return Ok((ahead, None));
    }
    let from = series
        .made_through
        .unwrap_or(series.starts_at - TimeDelta::seconds(1));
    for occurrence in series.timeline()?.after(from) {
        let occurrence = occurrence?;
        if occurrence > until || ahead.len() == most {
            return Ok((ahead, Some(occurrence)));
        }
        ahead.push(occurrence);
    }
    Ok((ahead, None))
}

/// An open instance, moved to another occurrence. A due time that a person has put behind that stays; reminders that count
/// from one that moves ring anew.
#[must_use]
pub fn rolled(series: &Series, instance: &Task, occurrence: Timestamp, now: Timestamp) -> Task {
    let mut task = Task {
        version: instance.version + 1,
        occurrence: Some(occurrence),
        updated_at: now.max(instance.updated_at + TimeDelta::microseconds(1)),
        ..instance.clone()
    };
    let zone = schedule::parse_zone(&task.timezone).unwrap_or(Tz::UTC);
    let due = Due::of(task.due_at, task.due_on).map(|due| due.starts_at(zone));
    let put_off = due > Some(occurrence)
        && instance.occurrence.map(|at| series.due(at)) != Some((task.due_at, task.due_on));
    if !put_off {
        (task.due_at, task.due_on) = series.due(occurrence);
        for reminder in task.reminders.iter_mut().filter(|reminder| reminder.at.is_none()) {
            (reminder.snoozed_until, reminder.dismissed_at) = (None, None);
        }
    }
    task
}

#[cfg(test)]
mod tests {
    use db::series::{Content, InstanceReminder};
    use schemas::{Actor, Priority, TaskEventKind, TaskReminder};
    use uuid::Uuid;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn series(rrule: &str, starts_at: &str) -> Series {
        let content = Content {
            title: "Water the plants".to_owned(),
            description: Some("All of *them*".to_owned()),
            priority: Priority::High,
            tags: vec!["home".to_owned(), "green".to_owned()],
            ..Content::default()
        };
        let starts_at = at(starts_at);
        Series::new(
            rrule.to_owned(),
            starts_at,
            "Europe/Berlin".to_owned(),
            content,
            starts_at,
        )
    }

    /// The instance of that occurrence, completed then.
    fn completed(series: &Series, occurrence: &str, completed_at: &str) -> TaskEvent {
        let task = Task {
            version: 7,
            updated_at: at(completed_at),
            completed_at: Some(at(completed_at)),
            ..series.instance(at(occurrence), at("2026-01-01T00:00:00Z"))
        };
        TaskEvent::new(TaskEventKind::Completed, Uuid::now_v7(), Actor::User, task)
    }

    fn next(series: &Series, event: &TaskEvent) -> Option<Task> {
        let next = next_occurrence(series, event, &BTreeMap::new()).unwrap();
        next.map(|occurrence| series.instance(occurrence, schemas::now()))
    }

    fn next_due(series: &Series, occurrence: &str, completed_at: &str) -> Option<Timestamp> {
        next(series, &completed(series, occurrence, completed_at)).and_then(|task| task.due_at)
    }

    #[test]
    fn the_next_instance_is_a_new_open_task_with_the_same_content() {
        let series = series("FREQ=DAILY", "2026-03-02T08:00:00Z");
        let event = completed(&series, "2026-03-02T08:00:00Z", "2026-03-02T09:30:00Z");
        let now = schemas::now();
        let occurrence = next_occurrence(&series, &event, &BTreeMap::new()).unwrap();
        let task = series.instance(occurrence.unwrap(), now);
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
        let mut series = series("FREQ=DAILY", "2026-03-27T23:00:00Z");
        series.content.whole_day = true;
        let event = completed(&series, "2026-03-27T23:00:00Z", "2026-03-28T09:30:00Z");
        assert_eq!(event.task.due_on, Some("2026-03-28".parse().unwrap()));
        let task = next(&series, &event).unwrap();
        // The night to the 29th is an hour short in Berlin.
        assert_eq!(task.occurrence, Some(at("2026-03-28T23:00:00Z")));
        assert_eq!(
            (task.due_at, task.due_on),
            (None, Some("2026-03-29".parse().unwrap()))
        );
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
    fn reminders_are_the_series_and_get_ids_of_their_own() {
        let mut series = series("FREQ=DAILY", "2026-03-02T08:00:00Z");
        series.content.reminders = ["-PT10M", "-PT12H"]
            .map(|offset| InstanceReminder::new(offset.to_owned()))
            .to_vec();
        let event = completed(&series, "2026-03-02T08:00:00Z", "2026-03-02T09:30:00Z");
        let task = next(&series, &event).unwrap();
        let offsets: Vec<_> = task
            .reminders
            .iter()
            .map(|r| (r.offset.as_deref(), r.at))
            .collect();
        assert_eq!(offsets, [(Some("-PT10M"), None), (Some("-PT12H"), None)]);
        for (new, old) in task.reminders.iter().zip(&event.task.reminders) {
            assert_ne!(new.id, old.id);
        }
    }

    #[test]
    fn what_was_changed_about_one_instance_stays_with_it() {
        let series = series("FREQ=WEEKLY", "2026-03-02T08:00:00Z");
        let mut event = completed(&series, "2026-03-02T08:00:00Z", "2026-03-04T12:00:00Z");
        // Put off by two days, for once with a reminder, and called by another name.
        event.task.due_at = Some(at("2026-03-04T08:00:00Z"));
        event.task.timezone = "Asia/Tokyo".to_owned();
        event.task.title = "Water the plants of the neighbours".to_owned();
        event.task.tags.clear();
        event.task.reminders = vec![TaskReminder::absolute(at("2026-03-04T07:00:00Z"))];
        let task = next(&series, &event).unwrap();
        let expected = series.instance(at("2026-03-09T08:00:00Z"), task.created_at);
        assert_eq!(
            task,
            Task {
                id: task.id,
                ..expected
            }
        );
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
        let error = next_occurrence(&broken, &event, &BTreeMap::new())
            .unwrap_err()
            .to_string();
        assert!(error.contains(&broken.id.to_string()), "{error}");
        assert!(error.contains("FREQ=OFTEN"), "{error}");

        let nowhere = Series {
            timezone: "Europe/Atlantis".to_owned(),
            ..series("FREQ=DAILY", "2026-03-02T08:00:00Z")
        };
        let error = next_occurrence(&nowhere, &event, &BTreeMap::new())
            .unwrap_err()
            .to_string();
        assert!(error.contains("Europe/Atlantis"), "{error}");
    }
}
