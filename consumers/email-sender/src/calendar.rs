//! A task that is due, for the calendar (RFC 5545): attached on request.

use icalendar::{Calendar, CalendarDateTime, Component, DatePerhapsTime, Event, EventLike, Property};
use schemas::Task;

use crate::message::plain_line;

/// Longer titles and descriptions are cut: calendars show little of them.
const MAX_SUMMARY_CHARS: usize = 500;
const MAX_DESCRIPTION_CHARS: usize = 10_000;

/// The content of the file; `None` for a task that is not due. It follows from the task alone, so that a second copy of a mail has
/// the same, and a later one of the same task replaces the entry.
pub fn of(task: &Task, domain: &str) -> Option<String> {
    let starts = match (task.due_at, task.due_on) {
        (Some(at), _) => DatePerhapsTime::DateTime(CalendarDateTime::Utc(at)),
        (None, Some(day)) => DatePerhapsTime::Date(day),
        (None, None) => return None,
    };
    let mut event = Event::new();
    event
        .uid(&format!("{}@{domain}", task.id))
        .timestamp(task.updated_at)
        .sequence(u32::try_from(task.version).unwrap_or(u32::MAX))
        .starts(starts)
        .summary(&plain_line(&task.title, MAX_SUMMARY_CHARS));
    if let Some(description) = &task.description {
        // Line by line: a bare CR would be the end of a line to some programs.
        let lines: Vec<String> = description
            .replace("\r\n", "\n")
            .split(['\r', '\n'])
            .map(|line| plain_line(line, MAX_DESCRIPTION_CHARS))
            .collect();
        event.description(&lines.join("\n"));
    }
    let calendar = Calendar::empty()
        .append_property(Property::new("VERSION", "2.0"))
        .append_property(Property::new("PRODID", "-//Carillon//email-sender//EN"))
        .append_property(Property::new("METHOD", "PUBLISH"))
        .push(event.done())
        .done();
    Some(calendar.to_string())
}
