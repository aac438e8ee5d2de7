//! The fields of a recurring task as a client sends them, each checked for itself.

use chrono::{NaiveDate, SubsecRound};
use db::series::{Anchor, InstanceReminder, MAX_DATES, Overlap};
use schedule::{Due, Offset, Rule, Tz};
use schemas::{Priority, Timestamp};
use serde_json::{Map, Value};

use super::rule::FREQUENCIES;
use crate::input::{Field, Fields, Place, Problems, read};
use crate::problem::Problem;
use crate::tasks::input::{self, MAX_REMINDERS, Purpose};

/// Most occurrences of a rule that counts them.
const MAX_COUNT: u64 = 10_000;

/// The fields that a client may set.
#[derive(Debug, Default)]
pub struct RecurringInput {
    /// See `TaskInput`.
    pub title: Field<String>,
    /// See `TaskInput`.
    pub description: Field<Option<String>>,
    /// See `TaskInput`.
    pub priority: Field<Priority>,
    /// See `TaskInput`.
    pub tags: Field<Vec<String>>,
    /// Counted from the due time of each instance.
    pub reminders: Field<Vec<InstanceReminder>>,
    /// Whether the time of an instance follows the person.
    pub floating: Field<bool>,
    /// Where the rule is meant.
    pub timezone: Field<Tz>,
    /// When the first instance is due.
    pub starts_at: Field<Timestamp>,
    /// On which day the first instance is due, where instances are due on a day.
    pub starts_on: Field<NaiveDate>,
    /// The rule in full.
    pub recurrence: Field<Rule>,
    /// The rule in the simple form.
    pub recurrence_type: Field<&'static str>,
    /// Of the simple form.
    pub interval: Field<u16>,
    /// Of the simple form.
    pub count: Field<u32>,
    /// Of the simple form.
    pub ends_at: Field<Timestamp>,
    /// Further occurrences, each once, in their order.
    pub rdates: Field<Vec<Timestamp>>,
    /// What is no occurrence, each once, in their order.
    pub exdates: Field<Vec<Timestamp>>,
    /// What the next occurrence counts from.
    pub anchor: Field<Anchor>,
    /// What happens when one falls due while another is open.
    pub overlap: Field<Overlap>,
}

impl RecurringInput {
    /// Reads a merge patch.
    ///
    /// # Errors
    /// Everything that is wrong with its fields, each for itself.
    pub fn patch(body: Map<String, Value>) -> Result<Self, Problem> {
        let mut problems = Problems::default();
        let patch = Self::read(body, Purpose::Patch, Place::root(&mut problems));
        problems.finish(Some(patch))
    }

    /// Reads the body of a split: the occurrence from which on a merge patch holds, and the patch.
    ///
    /// # Errors
    /// As [`RecurringInput::patch`].
    pub fn split(mut body: Map<String, Value>) -> Result<(Timestamp, Self), Problem> {
        let mut problems = Problems::default();
        let from = body.remove("from").map(|from| ("from".to_owned(), from));
        let mut fields = Fields::new(from.into_iter().collect(), Place::root(&mut problems));
        let from = fields.required("from", read::timestamp);
        fields.finish();
        let patch = Self::read(body, Purpose::Patch, Place::root(&mut problems));
        problems.finish(from.map(|from| (from, patch)))
    }

    /// Reads all fields; what is wrong is written down at their `place`.
    pub fn read(body: Map<String, Value>, purpose: Purpose, place: Place<'_>) -> Self {
        let mut fields = Fields::new(body, place);
        let input = Self {
            title: input::title(&mut fields, purpose),
            description: input::description(&mut fields).map(Some),
            priority: input::priority(&mut fields),
            tags: fields.take("tags", input::tags),
            timezone: fields.take("timezone", read::zone),
            starts_at: fields.not_null("starts_at", read::timestamp),
            starts_on: fields.not_null("starts_on", read::date),
            reminders: fields.take("reminders", reminders),
            floating: fields.take("floating", read::boolean),
            recurrence: fields.not_null("recurrence", input::recurrence),
            recurrence_type: fields.not_null("recurrence_type", |place, value| {
                let from_name = |name: &str| {
                    FREQUENCIES
                        .into_iter()
                        .map(|(name, _)| name)
                        .find(|known| *known == name)
                };
                read::choice(place, value, from_name, "daily, weekly, monthly, yearly")
            }),
            interval: fields.take("interval", |place, value| number(place, value, u16::MAX.into())),
            count: fields.take("count", |place, value| number(place, value, MAX_COUNT)),
            ends_at: fields.take("ends_at", read::timestamp),
            rdates: fields.take("rdates", dates),
            exdates: fields.take("exdates", dates),
            anchor: fields.take("anchor", |place, value| {
                read::choice(place, value, Anchor::from_name, "schedule, completion")
            }),
            overlap: fields.take("overlap", |place, value| {
                read::choice(place, value, Overlap::from_name, "skip, roll_forward, pile_up")
            }),
        };
        match (&input.starts_at, &input.starts_on) {
            (Field::Value(_), Field::Value(_)) => {
                let detail = "cannot stand beside starts_at: instances are due at a time or on a day";
                fields.refuse::<()>("starts_on", detail);
            }
            (Field::Absent, Field::Absent) if purpose == Purpose::Create => {
                fields.refuse::<()>("starts_at", "is required, or else starts_on");
            }
            _ => {}
        }
        input.refuse_two_forms(&mut fields, purpose);
        fields.finish();
        input
    }

    /// A rule is given in one of two forms.
    fn refuse_two_forms(&self, fields: &mut Fields<'_>, purpose: Purpose) {
        let simple = [
            ("recurrence_type", self.recurrence_type.is_given()),
            ("interval", self.interval.is_given()),
            ("count", self.count.is_given()),
            ("ends_at", self.ends_at.is_given()),
        ];
        if self.recurrence.is_given() {
            for (name, _) in simple.into_iter().filter(|(_, given)| *given) {
                fields.refuse::<()>(name, "cannot stand beside recurrence, which says all of the rule");
            }
        } else if purpose == Purpose::Create && !self.recurrence_type.is_given() {
            fields.refuse::<()>("recurrence_type", "is required, or else recurrence");
        }
    }
}

/// Reads which occurrence is skipped.
///
/// # Errors
/// Everything that is wrong with the body.
pub fn skipped(body: Map<String, Value>) -> Result<Timestamp, Problem> {
    let mut problems = Problems::default();
    let mut fields = Fields::new(body, Place::root(&mut problems));
    let occurrence = fields.required("occurrence", read::timestamp);
    fields.finish();
    problems.finish(occurrence)
}

/// Reads which occurrence is moved, and when it is due then.
///
/// # Errors
/// Everything that is wrong with the body.
pub fn moved(body: Map<String, Value>) -> Result<(Timestamp, Due), Problem> {
    let mut problems = Problems::default();
    let mut fields = Fields::new(body, Place::root(&mut problems));
    let occurrence = fields.required("occurrence", read::timestamp);
    let to = fields.required("to", |place, value| match &value {
        Value::String(text) if !text.contains(['T', 't', ' ']) => read::date(place, value).map(Due::On),
        _ => read::timestamp(place, value).map(Due::At),
    });
    fields.finish();
    problems.finish(occurrence.zip(to))
}

/// Instants of occurrences, to the second.
fn dates(place: &mut Place<'_>, value: Value) -> Option<Vec<Timestamp>> {
    let dates = read::items(place, value, MAX_DATES, read::timestamp)?;
    let mut dates: Vec<_> = dates.into_iter().map(|date| date.trunc_subsecs(0)).collect();
    dates.sort_unstable();
    dates.dedup();
    Some(dates)
}

/// Reminders as they are shown: `[{"offset": "-PT10M"}]`. An instance to come has no instant yet that one could name.
pub fn reminders(place: &mut Place<'_>, value: Value) -> Option<Vec<InstanceReminder>> {
    read::items(place, value, MAX_REMINDERS, |place, value| {
        let mut fields = Fields::new(read::object(place, value)?, place.reborrow());
        let offset = fields.required("offset", |place, value| {
            let text = read::string(place, value)?;
            match Offset::parse(&text) {
                Ok(offset) => Some(offset.to_string()),
                Err(error) => place.refuse(error.to_string()),
            }
        });
        let nag = fields.take("nag", input::nag);
        let send_late_within = fields.take("send_late_within", input::send_late_within);
        fields.finish();
        let wrong = nag.is_invalid() || send_late_within.is_invalid();
        (!wrong).then_some(InstanceReminder {
            offset: offset?,
            nag: nag.value(),
            send_late_within: send_late_within.value(),
        })
    })
}

/// A whole number from 1 to `max`, which fits.
fn number<T: TryFrom<u64>>(place: &mut Place<'_>, value: Value, max: u64) -> Option<T> {
    let number = value.as_u64().filter(|number| (1..=max).contains(number));
    match number.and_then(|number| T::try_from(number).ok()) {
        Some(number) => Some(number),
        None => place.refuse(format!("must be a whole number from 1 to {max}")),
    }
}
