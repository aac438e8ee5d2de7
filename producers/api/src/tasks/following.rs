//! What follows a person to another zone: a task that is due on a whole day, and one whose time floats. Such a task keeps
//! what the clock on the wall shows; one of a zone keeps its instant. Pure: `accounts/moves.rs` carries it out.

use std::collections::HashSet;

use db::series::Series;
use schedule::{Due, Offset, Trigger, Tz, resolve_local};
use schemas::{Task, TaskReminder, Timestamp};
use uuid::Uuid;

use super::change::{Change, update};

/// What of a person decides about when their tasks are due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// IANA zone.
    pub timezone: String,
    /// The minute of a whole day from which offsets of reminders count.
    pub whole_day_minute: i32,
}

impl Person {
    /// As far as an access token knows: good for what does not follow the person.
    pub fn of_token(timezone: String) -> Self {
        Self {
            timezone,
            whole_day_minute: schemas::WHOLE_DAY_MINUTE,
        }
    }
}

/// The place of an instance: its series, and its occurrence in it.
pub type Place = (Uuid, Timestamp);

/// Takes open tasks along that follow; those that are where the person is are left out. Two instances of a series have two
/// occurrences, whatever the zones: one whose new place is among `taken`, or was just given to another, keeps its own.
pub fn follow_all(tasks: &[Task], person: &Person, mut taken: HashSet<Place>, now: Timestamp) -> Vec<Change> {
    let mut changes = Vec::with_capacity(tasks.len());
    for task in tasks {
        if let Some(change) = follow(task, person, &taken, now) {
            taken.extend(change.task.series_id.zip(change.task.occurrence));
            changes.push(change);
        }
    }
    changes
}

/// Takes an open task that follows to where the person is; `None` when it is there. It does not move to a place that is taken.
pub fn follow(current: &Task, person: &Person, taken: &HashSet<Place>, now: Timestamp) -> Option<Change> {
    if current.due_on.is_none() && !current.floating {
        return None;
    }
    let mut task = Task {
        due_at: current
            .due_at
            .map(|at| same_clock(at, &current.timezone, &person.timezone)),
        occurrence: match new_place(current, person) {
            Some(place) if !taken.contains(&place) => Some(place.1),
            _ => current.occurrence,
        },
        timezone: person.timezone.clone(),
        whole_day_minute: person.whole_day_minute,
        ..current.clone()
    };
    ring_anew(current, &mut task);
    update(current, task, now)
}

/// Where an instance stands in its series once both have followed, unless another stands there.
pub fn new_place(task: &Task, person: &Person) -> Option<Place> {
    let occurrence = same_clock(task.occurrence?, &task.timezone, &person.timezone);
    Some((task.series_id?, occurrence))
}

/// A series that has followed, with every time that it holds. Its instances are carried for themselves.
pub fn follow_series(current: &Series, person: &Person, now: Timestamp) -> Series {
    let same_clock = |at| same_clock(at, &current.timezone, &person.timezone);
    let mut series = Series {
        version: current.version + 1,
        starts_at: same_clock(current.starts_at),
        rdates: current.rdates.iter().copied().map(same_clock).collect(),
        exdates: current.exdates.iter().copied().map(same_clock).collect(),
        made_through: current.made_through.map(same_clock),
        timezone: person.timezone.clone(),
        updated_at: now.max(current.updated_at + chrono::TimeDelta::microseconds(1)),
        ..current.clone()
    };
    series.content.whole_day_minute = person.whole_day_minute;
    series
}

/// The instant at which clocks in the zone `to` show what those of `from` show at `at`. Where no clock ever shows that, the
/// one after the gap.
fn same_clock(at: Timestamp, from: &str, to: &str) -> Timestamp {
    let zone = |name| schedule::parse_zone(name).unwrap_or(Tz::UTC);
    if from == to {
        return at;
    }
    resolve_local(at.with_timezone(&zone(from)).naive_local(), zone(to))
}

/// Forgets of each reminder that it was put off or dismissed, if its own time is another than it was before.
pub fn ring_anew(before: &Task, after: &mut Task) {
    let own_time = |task: &Task, reminder: &TaskReminder| {
        let zone = schedule::parse_zone(&task.timezone).unwrap_or(Tz::UTC);
        let anchor = Due::of(task.due_at, task.due_on).map(|due| due.anchor(zone, task.whole_day_minute));
        trigger(reminder)?.fire_at(anchor, zone)
    };
    let mut reminders = std::mem::take(&mut after.reminders);
    for reminder in &mut reminders {
        let known = before.reminders.iter().find(|known| known.id == reminder.id);
        if known.is_some_and(|known| own_time(before, known) != own_time(after, reminder)) {
            (reminder.snoozed_until, reminder.dismissed_at) = (None, None);
        }
    }
    after.reminders = reminders;
}

/// When a reminder is to ring, as the person said it.
pub fn trigger(reminder: &TaskReminder) -> Option<Trigger> {
    match (&reminder.offset, reminder.at) {
        (Some(offset), None) => Offset::parse(offset).ok().map(Trigger::Offset),
        (None, Some(at)) => Some(Trigger::At(at)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use db::series::Content;

    use super::*;

    #[test]
    fn a_series_follows_with_every_time_that_it_holds() {
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let start = at("2027-02-01T08:00:00Z");
        let series = Series {
            rdates: vec![at("2027-02-03T08:00:00Z")],
            exdates: vec![at("2027-02-04T08:00:00Z")],
            made_through: Some(at("2027-02-02T08:00:00Z")),
            ..Series::new(
                "FREQ=DAILY".to_owned(),
                start,
                "Europe/Berlin".to_owned(),
                Content::default(),
                start,
            )
        };
        let person = Person {
            timezone: "Asia/Tokyo".to_owned(),
            whole_day_minute: 480,
        };
        let followed = follow_series(&series, &person, start);
        // Nine o'clock there is eight hours earlier.
        assert_eq!(followed.starts_at, at("2027-02-01T00:00:00Z"));
        assert_eq!(followed.rdates, [at("2027-02-03T00:00:00Z")]);
        assert_eq!(followed.exdates, [at("2027-02-04T00:00:00Z")]);
        assert_eq!(followed.made_through, Some(at("2027-02-02T00:00:00Z")));
        assert_eq!(followed.version, series.version + 1);
    }
}
