//! What the next instance of a series looks like. Pure: everything comes from the event and the series.

use db::series::{Series, Unusable};
use schemas::{Task, TaskEvent, Timestamp};

/// The instance after the one that `completed` tells of; `None` when the rule has no further occurrence. Which occurrence
/// that is depends on nothing but the event and the series, never on when the event is handled; `now` only dates the task.
/// What the instance holds is the series': what a person changed about one instance was meant for that one.
///
/// # Errors
/// When the series' rule or zone is unusable.
pub fn next_instance(
    series: &Series,
    completed: &TaskEvent,
    now: Timestamp,
) -> Result<Option<Task>, Unusable> {
    let task = &completed.task;
    let completed_at = task.completed_at.unwrap_or(completed.occurred_at);
    // Completed late: occurrences that went by meanwhile are not made up for. Completed early: the one after this one,
    // not this one again.
    let after = task
        .occurrence
        .map_or(completed_at, |occurrence| occurrence.max(completed_at));
    let next = series.next_after(after)?;
    Ok(next.map(|occurrence| series.instance(occurrence, now)))
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
