//! What a client sends about notifications, each field checked for itself.

use chrono::NaiveTime;
use preferences::{Digest, Every, Kind, Mode, Modes, Override, Pause, QuietHours, Settings, Weekday};
use schemas::Timestamp;
use serde_json::{Map, Value};

use crate::input::{Field, Fields, Place, Problems, read};
use crate::problem::Problem;

/// A merge patch of the settings: objects in it are merged, too.
#[derive(Debug)]
pub struct SettingsPatch {
    modes: Vec<(Kind, Field<ModesPatch>)>,
    digest: Field<DigestPatch>,
    quiet_hours: Field<QuietPatch>,
    urgent_breaks_through: Field<bool>,
    pause: Field<Pause>,
}

#[derive(Debug)]
struct ModesPatch {
    email: Field<Mode>,
    in_app: Field<Mode>,
}

#[derive(Debug)]
struct DigestPatch {
    every: Field<Every>,
    weekday: Field<Weekday>,
    at: Field<NaiveTime>,
}

#[derive(Debug)]
struct QuietPatch {
    from: Field<NaiveTime>,
    to: Field<NaiveTime>,
    then: Field<Mode>,
}

impl SettingsPatch {
    /// Reads it.
    ///
    /// # Errors
    /// Everything that is wrong with its fields, each for itself.
    pub fn read(body: Map<String, Value>) -> Result<Self, Problem> {
        let mut problems = Problems::default();
        let mut fields = Fields::new(body, Place::root(&mut problems));
        let patch = Self {
            modes: Kind::ALL
                .into_iter()
                .map(|kind| {
                    let field = fields.take(kind.name(), |place, value| {
                        members(place, value, |fields| ModesPatch {
                            email: fields.take("email", |place, value| email(place, value, kind)),
                            in_app: fields.take("in_app", in_app),
                        })
                    });
                    (kind, field)
                })
                .collect(),
            digest: fields.take("digest", |place, value| {
                members(place, value, |fields| DigestPatch {
                    every: fields.take("every", |place, value| {
                        one_of(place, value, &Every::ALL.map(|e| (e.name(), e)))
                    }),
                    weekday: fields.take("weekday", |place, value| {
                        one_of(place, value, &Weekday::ALL.map(|day| (day.name(), day)))
                    }),
                    at: fields.take("at", read::time),
                })
            }),
            quiet_hours: fields.take("quiet_hours", |place, value| {
                members(place, value, |fields| QuietPatch {
                    from: fields.not_null("from", read::time),
                    to: fields.not_null("to", read::time),
                    then: fields.take("then", |place, value| {
                        let then = [Mode::AtOnce, Mode::Digest].map(|mode| (mode.name(), mode));
                        one_of(place, value, &then)
                    }),
                })
            }),
            urgent_breaks_through: fields.take("urgent_breaks_through", read::boolean),
            pause: fields.take("pause", |place, value| {
                members(place, value, |fields| Pause {
                    until: fields.take("until", read::timestamp).value(),
                })
            }),
        };
        fields.finish();
        problems.finish(Some(patch))
    }

    /// The settings after it.
    ///
    /// # Errors
    /// What is missing in quiet hours that were not there, or makes them empty.
    pub fn apply(self, before: &Settings) -> Result<Settings, Problem> {
        let default = Settings::default();
        let mut problems = Problems::default();
        let mut after = before.clone();
        for (kind, field) in self.modes {
            let (was, usual) = (before.modes(kind), default.modes(kind));
            *after.modes_mut(kind) = field
                .map(|patch| Modes {
                    email: patch.email.merge(was.email, || usual.email),
                    in_app: patch.in_app.merge(was.in_app, || usual.in_app),
                })
                .merge(was, || usual);
        }
        after.digest = self
            .digest
            .map(|patch| Digest {
                every: patch.every.merge(before.digest.every, || default.digest.every),
                weekday: patch
                    .weekday
                    .merge(before.digest.weekday, || default.digest.weekday),
                at: patch.at.merge(before.digest.at, || default.digest.at),
            })
            .merge(before.digest, || default.digest);
        after.quiet_hours = self
            .quiet_hours
            .map(|patch| patch.apply(before.quiet_hours, &mut problems))
            .merge(before.quiet_hours, || None);
        after.urgent_breaks_through = self
            .urgent_breaks_through
            .merge(before.urgent_breaks_through, || default.urgent_breaks_through);
        after.pause = self.pause.map(Some).merge(before.pause, || None);
        problems.finish(Some(after))
    }
}

impl QuietPatch {
    fn apply(self, before: Option<QuietHours>, problems: &mut Problems) -> Option<QuietHours> {
        let mut end = |field: Field<NaiveTime>, name: &str, was: Option<NaiveTime>| {
            let end = field.value().or(was);
            if end.is_none() {
                problems.add(format_args!("/quiet_hours/{name}"), "is required");
            }
            end
        };
        let from = end(self.from, "from", before.map(|quiet| quiet.from));
        let to = end(self.to, "to", before.map(|quiet| quiet.to));
        let (from, to) = (from?, to?);
        if from == to {
            problems.add("/quiet_hours/to", "must not be the time at which they begin");
        }
        let was = before.map_or(Mode::AtOnce, |quiet| quiet.then);
        Some(QuietHours {
            from,
            to,
            then: self.then.merge(was, || Mode::AtOnce),
        })
    }
}

/// Reads what is said of one task.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read_override(body: Map<String, Value>) -> Result<Override, Problem> {
    let mut problems = Problems::default();
    let mut fields = Fields::new(body, Place::root(&mut problems));
    let said = Override {
        email: fields
            .take("email", |place, value| email(place, value, Kind::Reminder))
            .value(),
        in_app: fields.take("in_app", in_app).value(),
        ignore_quiet_hours: fields
            .take("ignore_quiet_hours", read::boolean)
            .value()
            .unwrap_or_default(),
    };
    fields.finish();
    problems.finish(Some(said))
}

/// Reads until when notifications are to be marked as read; `None`: all.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read_until(body: Map<String, Value>) -> Result<Option<Timestamp>, Problem> {
    let mut problems = Problems::default();
    let mut fields = Fields::new(body, Place::root(&mut problems));
    let until = fields.take("until", read::timestamp).value();
    fields.finish();
    problems.finish(Some(until))
}

fn members<T>(place: &mut Place<'_>, value: Value, take: impl FnOnce(&mut Fields<'_>) -> T) -> Option<T> {
    let members = read::object(place, value)?;
    let mut fields = Fields::new(members, place.reborrow());
    let taken = take(&mut fields);
    fields.finish();
    Some(taken)
}

fn email(place: &mut Place<'_>, value: Value, kind: Kind) -> Option<Mode> {
    let mode = one_of(place, value, &Mode::ALL.map(|mode| (mode.name(), mode)))?;
    if mode != Mode::Off && !kind.can_be_mailed() {
        return place.refuse("must be off: that mail fails is not mailed");
    }
    Some(mode)
}

fn in_app(place: &mut Place<'_>, value: Value) -> Option<Mode> {
    one_of(
        place,
        value,
        &[Mode::AtOnce, Mode::Off].map(|mode| (mode.name(), mode)),
    )
}

fn one_of<T: Copy>(place: &mut Place<'_>, value: Value, choices: &[(&'static str, T)]) -> Option<T> {
    let name = read::string(place, value)?;
    let found = choices.iter().find(|(known, _)| *known == name);
    if found.is_none() {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        return place.refuse(format!("must be one of {}", names.join(", ")));
    }
    found.map(|(_, choice)| *choice)
}
