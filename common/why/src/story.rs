//! What is known, in sentences. Pure.

use chrono::TimeDelta;
use db::reminders::State;
use preferences::Action;
use schedule::{Due, Trigger, Tz};
use schemas::{Actor, Notification, Reminder, TaskReminder, Timestamp};
use serde::Serialize;

use crate::facts::{Fate, Happening, What};
use crate::words::{duration, offset, plural, span, when};

/// What a reminder's fate is, in sentences.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Story {
    /// From what its time is computed: the rule, what the task says, and the zone.
    pub rule: Vec<String>,
    /// What happened, oldest first.
    pub happened: Vec<Happened>,
    /// How it stands, and what will happen.
    pub outlook: Vec<String>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Happened {
    /// When.
    pub at: Timestamp,
    /// What, with the time in the task's zone.
    pub text: String,
}

/// Tells it.
#[must_use]
pub fn tell(fate: &Fate) -> Story {
    let zone = schedule::parse_zone(&fate.task.timezone).unwrap_or(Tz::UTC);
    let teller = Teller { fate, zone };
    Story {
        rule: teller.rule(),
        happened: teller.happened(),
        outlook: teller.outlook(),
    }
}

struct Teller<'a> {
    fate: &'a Fate,
    zone: Tz,
}

impl Teller<'_> {
    fn when(&self, at: Timestamp) -> String {
        when(at, self.zone)
    }

    /// What the task is due by, as a sentence's end.
    fn due(&self) -> Option<String> {
        let task = &self.fate.task;
        let follows = if task.due_on.is_some() || task.floating {
            ", which follows the person to other zones"
        } else {
            ""
        };
        match Due::of(task.due_at, task.due_on)? {
            Due::At(at) => Some(format!("is due {}{follows}", self.when(at))),
            Due::On(day) => Some(format!(
                "is due on the whole day {} in {}{follows}; reminders count from {:02}:{:02}",
                day.format("%a %-d %b %Y"),
                self.zone.name(),
                task.whole_day_minute / 60,
                task.whole_day_minute % 60,
            )),
        }
    }

    /// The time that the rule gives, snoozing left aside.
    fn computed(&self, asked: &TaskReminder) -> Option<Timestamp> {
        let task = &self.fate.task;
        let trigger = match (&asked.offset, asked.at) {
            (Some(offset), _) => Trigger::Offset(offset.parse().ok()?),
            (None, at) => Trigger::At(at?),
        };
        let anchor =
            Due::of(task.due_at, task.due_on).map(|due| due.anchor(self.zone, task.whole_day_minute));
        trigger.fire_at(anchor, self.zone)
    }

    fn rule(&self) -> Vec<String> {
        let task = &self.fate.task;
        let mut told = Vec::new();
        match self.due() {
            Some(due) => told.push(format!("The task {:?} {due}.", task.title)),
            None => told.push(format!("The task {:?} has no due date.", task.title)),
        }
        if let (Some(rule), Some(occurrence)) = (&task.recurrence, task.occurrence) {
            let words = recurrence::Rule::parse(rule).map_or_else(|_| rule.clone(), |rule| rule.explain());
            told.push(format!(
                "It is the occurrence of {} of a recurring task: {words}.",
                self.when(occurrence)
            ));
        }
        let Some(asked) = self.fate.asked() else {
            told.push("The task does not have this reminder any more.".to_owned());
            return told;
        };
        let place = match &asked.offset {
            Some(text) => {
                let words = offset(text).unwrap_or_else(|| text.clone());
                if words == "at" {
                    "at the due time".to_owned()
                } else {
                    format!("{words} the due time")
                }
            }
            None => "at a time of its own".to_owned(),
        };
        told.push(match self.computed(asked) {
            Some(at) => format!("The reminder is set to ring {place}: {}.", self.when(at)),
            None => {
                format!("The reminder is set to ring {place}, so it has no time as long as there is none.")
            }
        });
        if let Some(nag) = &asked.nag {
            told.push(format!(
                "It repeats every {} until the task is done, at most {}.",
                duration(&nag.every).unwrap_or_else(|| nag.every.clone()),
                plural(nag.times.into(), "time"),
            ));
        }
        if let Some(until) = asked.snoozed_until {
            told.push(format!("It was snoozed: it rings {} instead.", self.when(until)));
        }
        if let Some(at) = asked.dismissed_at {
            told.push(format!("It was dismissed {}.", self.when(at)));
        }
        told.push(self.catch_up(asked));
        told
    }

    fn catch_up(&self, asked: &TaskReminder) -> String {
        let (within, whose) = match &asked.send_late_within {
            Some(text) => (duration(text).unwrap_or_else(|| text.clone()), "its own setting"),
            None => (
                span(TimeDelta::seconds(self.fate.send_late_within_seconds)),
                "the person's setting",
            ),
        };
        let drops = asked
            .send_late_within
            .as_ref()
            .map_or(self.fate.send_late_within_seconds == 0, |text| {
                text.parse() == Ok(schedule::Offset::ZERO)
            });
        if drops {
            format!("If it cannot ring on time it is dropped ({whose}).")
        } else {
            format!("If it cannot ring on time it still rings up to {within} late ({whose}).")
        }
    }

    fn happened(&self) -> Vec<Happened> {
        let mut told: Vec<Happened> = self
            .fate
            .happenings
            .iter()
            .map(|happening| Happened {
                at: happening.at,
                text: self.happening(happening),
            })
            .collect();
        if self.fate.more_before
            && let Some(first) = told.first_mut()
        {
            first.text = format!("(More happened before.) {}", first.text);
        }
        told
    }

    fn happening(&self, Happening { at, actor, what }: &Happening) -> String {
        let by = match actor {
            Actor::User => " by the person",
            Actor::Assistant => " by the person's assistant",
            Actor::Recurrence => " when the instance was made",
            Actor::System => "",
        };
        let at = self.when(*at);
        match what {
            What::Scheduled(reminder) => {
                format!("{at}: armed{by} for {}.", self.when(reminder.fire_at))
            }
            What::Snoozed(reminder) => format!(
                "{at}: snoozed{by} until {}.",
                self.when(reminder.snoozed_until.unwrap_or(reminder.fire_at))
            ),
            What::Fired(reminder) => format!("{at}: {}", self.rang(reminder)),
            What::Cancelled(reminder) => format!("{at}: {}", self.cancelled(reminder)),
            What::Sent(notification) => {
                let tries = match notification.attempts {
                    1 => "at the first try".to_owned(),
                    tries => format!("at try {tries}"),
                };
                format!(
                    "{at}: sent by {} {tries}{}.",
                    notification.channel,
                    self.of_ring(notification)
                )
            }
            What::Failed(notification) => format!(
                "{at}: not sent by {} after {}{}: {}.",
                notification.channel,
                match notification.attempts {
                    1 => "one try".to_owned(),
                    tries => format!("{tries} tries"),
                },
                self.of_ring(notification),
                notification.reason.as_deref().unwrap_or("no reason is known"),
            ),
            What::Suppressed(notification) => format!(
                "{at}: held back from {}{}: {}.",
                notification.channel,
                self.of_ring(notification),
                notification.reason.as_deref().unwrap_or("no reason is known"),
            ),
        }
    }

    /// Which ring a notification is of, where the reminder nags.
    fn of_ring(&self, notification: &Notification) -> String {
        if self.fate.asked().is_some_and(|asked| asked.nag.is_some()) {
            format!(", the ring of {}", self.when(notification.fire_at))
        } else {
            String::new()
        }
    }

    fn rang(&self, reminder: &Reminder) -> String {
        let late = reminder.fired_at.map(|fired_at| fired_at - reminder.fire_at);
        let which = match reminder.ring {
            0 => "rang".to_owned(),
            ring => format!("rang again (repetition {ring})"),
        };
        match late {
            Some(late) => format!("{which}, {} after {}.", span(late), self.when(reminder.fire_at)),
            None => format!("{which}."),
        }
    }

    fn cancelled(&self, reminder: &Reminder) -> String {
        let at = self.when(reminder.fire_at);
        let because = reminder.reason.as_deref().map_or_else(String::new, because);
        if reminder.reason.as_deref() == Some("missed") {
            format!("did not ring at {at}{because}.")
        } else {
            format!("will not ring at {at} after all{because}.")
        }
    }

    fn outlook(&self) -> Vec<String> {
        let fate = self.fate;
        let mut told: Vec<String> = fate
            .deliveries
            .iter()
            .map(|delivery| {
                let trouble = match (&delivery.last_error, delivery.attempts) {
                    // Such as "not tried: …".
                    (Some(error), 0) => format!(" It was {error}."),
                    (Some(error), tries) => format!(
                        " It was tried {}; the last answer was: {error}.",
                        plural(tries.into(), "time")
                    ),
                    (None, _) => String::new(),
                };
                let because = delivery
                    .verdict
                    .map_or_else(String::new, |verdict| match verdict.action {
                        Action::Send | Action::Drop => String::new(),
                        Action::Hold { .. } | Action::Digest { .. } => {
                            format!(", for {}", verdict.reason.words())
                        }
                    });
                let (how, sharp) = if delivery.collected {
                    ("in the digest", "")
                } else {
                    ("by itself", " at the earliest")
                };
                format!(
                    "The ring of {} is still to be sent by {}, {how} at {}{sharp}{because}.{trouble}",
                    self.when(delivery.fire_at),
                    delivery.channel,
                    self.when(delivery.next_attempt_at)
                )
            })
            .collect();
        let unseen = fate.seen_version.is_none_or(|seen| seen < fate.task.version);
        if unseen {
            told.push(format!(
                "The scanner has not seen version {} of the task yet: what follows from it is not decided.",
                fate.task.version
            ));
        }
        told.push(match &fate.standing {
            Some(standing) => self.stands(standing),
            None if unseen => "It is not armed yet.".to_owned(),
            None => self.never_armed(),
        });
        told
    }

    fn stands(&self, standing: &db::reminders::Reminder) -> String {
        let at = self.when(standing.fire_at);
        match standing.state {
            State::Armed if standing.fire_at > self.fate.now => {
                let again = if standing.ring > 0 { " again" } else { "" };
                format!(
                    "It will ring{again} {at}, in {}.",
                    span(standing.fire_at - self.fate.now)
                )
            }
            State::Armed => format!(
                "It was to ring {at} and has not yet: it rings, or is dropped, as soon as the scanner gets to it."
            ),
            State::Fired => {
                let late = standing.fired_at.map_or_else(String::new, |fired_at| {
                    format!(", {} after its time", span(fired_at - standing.fire_at))
                });
                format!("It rang{late}, and will not ring again for {at}.")
            }
            State::Missed => format!(
                "It was to ring {at}, could not, and was too late when it could. It will not ring for that time."
            ),
            State::Cancelled => format!(
                "It will not ring{}.",
                standing.reason.as_deref().map_or_else(String::new, because)
            ),
        }
    }

    /// The scanner knows the task, and has no row of the reminder.
    fn never_armed(&self) -> String {
        let task = &self.fate.task;
        let Some(asked) = self.fate.asked() else {
            return "It was never armed, and will not ring.".to_owned();
        };
        if task.deleted_at.is_some() {
            "It was never armed: the task is deleted.".to_owned()
        } else if task.completed_at.is_some() {
            "It was never armed: the task is completed.".to_owned()
        } else if asked.dismissed_at.is_some() {
            "It was never armed: it is dismissed.".to_owned()
        } else {
            match asked.snoozed_until.or_else(|| self.computed(asked)) {
                Some(at) => format!(
                    "It does not ring: its time, {}, had passed when the task was changed {}.",
                    self.when(at),
                    self.when(task.updated_at)
                ),
                None => "It does not ring: the task has no due date to count from.".to_owned(),
            }
        }
    }
}

/// A reason as the scanner writes it, as the end of a sentence.
fn because(reason: &str) -> String {
    match reason {
        "completed" => ": the task was completed".to_owned(),
        "deleted" => ": the task was deleted".to_owned(),
        "removed" => ": it was removed from the task".to_owned(),
        "rescheduled" => ": its time was moved to one that has passed, or taken away".to_owned(),
        "dismissed" => ": it was dismissed".to_owned(),
        "missed" => ": it could not, and was too late when it could".to_owned(),
        other => format!(": {other}"),
    }
}
