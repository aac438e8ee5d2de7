//! What a person says of notifications.

use chrono::{DateTime, NaiveTime, Utc};
use serde::{Deserialize, Serialize};

/// What a notification is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A reminder rang.
    Reminder,
    /// A reminder was too late to ring.
    ReminderMissed,
    /// A notification could not be sent on another channel.
    DeliveryFailed,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Reminder, Self::ReminderMissed, Self::DeliveryFailed];

    /// Its name in the API and in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reminder => "reminder",
            Self::ReminderMissed => "reminder_missed",
            Self::DeliveryFailed => "delivery_failed",
        }
    }

    /// Whether it can be mailed. That mail fails is not mailed.
    #[must_use]
    pub fn can_be_mailed(self) -> bool {
        self != Self::DeliveryFailed
    }
}

/// A way by which notifications reach a person. Webhooks are none: each says itself what it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// Mail.
    Email,
    /// The list in the page.
    InApp,
}

impl Channel {
    /// Every channel.
    pub const ALL: [Self; 2] = [Self::Email, Self::InApp];

    /// Its name in the API, in tables and in events.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::InApp => "in_app",
        }
    }
}

/// When a channel is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// For each notification.
    AtOnce,
    /// For many in one; of mail only.
    Digest,
    /// Never.
    Off,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::AtOnce, Self::Digest, Self::Off];

    /// Its name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AtOnce => "at_once",
            Self::Digest => "digest",
            Self::Off => "off",
        }
    }
}

/// The modes of the channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modes {
    /// Of mail.
    pub email: Mode,
    /// Of the list in the page.
    pub in_app: Mode,
}

impl Modes {
    /// That of a channel.
    #[must_use]
    pub fn of(self, channel: Channel) -> Mode {
        match channel {
            Channel::Email => self.email,
            Channel::InApp => self.in_app,
        }
    }
}

/// A day of the week, as the API spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl Weekday {
    /// Every day, from Monday.
    pub const ALL: [Self; 7] = [
        Self::Monday,
        Self::Tuesday,
        Self::Wednesday,
        Self::Thursday,
        Self::Friday,
        Self::Saturday,
        Self::Sunday,
    ];

    /// Its name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Monday => "monday",
            Self::Tuesday => "tuesday",
            Self::Wednesday => "wednesday",
            Self::Thursday => "thursday",
            Self::Friday => "friday",
            Self::Saturday => "saturday",
            Self::Sunday => "sunday",
        }
    }

    pub(crate) fn chrono(self) -> chrono::Weekday {
        match self {
            Self::Monday => chrono::Weekday::Mon,
            Self::Tuesday => chrono::Weekday::Tue,
            Self::Wednesday => chrono::Weekday::Wed,
            Self::Thursday => chrono::Weekday::Thu,
            Self::Friday => chrono::Weekday::Fri,
            Self::Saturday => chrono::Weekday::Sat,
            Self::Sunday => chrono::Weekday::Sun,
        }
    }
}

/// How often there is a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Every {
    /// Each day.
    Day,
    /// Each week.
    Week,
}

impl Every {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Day, Self::Week];

    /// Its name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
        }
    }
}

/// When digests are sent, in the person's zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// How often.
    pub every: Every,
    /// The day of a weekly one.
    pub weekday: Weekday,
    /// The time of the day.
    #[serde(with = "hour_minute")]
    pub at: NaiveTime,
}

/// When a person is not to be disturbed, each day, in their zone. Over midnight when `from` is not before `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuietHours {
    /// Their first minute.
    #[serde(with = "hour_minute")]
    pub from: NaiveTime,
    /// The minute at which they end.
    #[serde(with = "hour_minute")]
    pub to: NaiveTime,
    /// What becomes of what was held when they end: each sent for itself, or all in one.
    pub then: Mode,
}

/// Nothing is mailed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Until then; `None`: until the person says otherwise.
    pub until: Option<DateTime<Utc>>,
}

/// All that a person says of notifications.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Of reminders that ring.
    pub reminder: Modes,
    /// Of reminders that were too late to ring.
    pub reminder_missed: Modes,
    /// Of notifications that could not be sent.
    pub delivery_failed: Modes,
    /// When digests are sent.
    pub digest: Digest,
    /// When nothing is, if ever.
    pub quiet_hours: Option<QuietHours>,
    /// Whether what is about an urgent task is sent at once, though it is quiet or would wait for a digest.
    pub urgent_breaks_through: bool,
    /// That nothing is mailed for now.
    pub pause: Option<Pause>,
}

impl Default for Settings {
    fn default() -> Self {
        let only_in_app = Modes {
            email: Mode::Off,
            in_app: Mode::AtOnce,
        };
        Self {
            reminder: Modes {
                email: Mode::AtOnce,
                in_app: Mode::AtOnce,
            },
            reminder_missed: only_in_app,
            delivery_failed: only_in_app,
            digest: Digest {
                every: Every::Day,
                weekday: Weekday::Monday,
                at: NaiveTime::from_hms_opt(8, 0, 0).unwrap_or_default(),
            },
            quiet_hours: None,
            urgent_breaks_through: true,
            pause: None,
        }
    }
}

impl Settings {
    /// The modes of a kind.
    #[must_use]
    pub fn modes(&self, kind: Kind) -> Modes {
        match kind {
            Kind::Reminder => self.reminder,
            Kind::ReminderMissed => self.reminder_missed,
            Kind::DeliveryFailed => self.delivery_failed,
        }
    }

    /// The same, to be changed.
    pub fn modes_mut(&mut self, kind: Kind) -> &mut Modes {
        match kind {
            Kind::Reminder => &mut self.reminder,
            Kind::ReminderMissed => &mut self.reminder_missed,
            Kind::DeliveryFailed => &mut self.delivery_failed,
        }
    }
}

/// What a person says of the notifications about one task, or one recurring task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Override {
    /// Mail, other than the settings say.
    pub email: Option<Mode>,
    /// The list in the page, other than the settings say.
    pub in_app: Option<Mode>,
    /// It may come in quiet hours.
    pub ignore_quiet_hours: bool,
}

impl Override {
    pub(crate) fn of(self, channel: Channel) -> Option<Mode> {
        match channel {
            Channel::Email => self.email,
            Channel::InApp => self.in_app,
        }
    }
}

/// Times of the day as `HH:MM`, for serde.
pub mod hour_minute {
    use chrono::NaiveTime;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    /// How they are written.
    pub const FORMAT: &str = "%H:%M";

    /// Writes one.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(time: &NaiveTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&time.format(FORMAT))
    }

    /// Reads one.
    ///
    /// # Errors
    /// When it is written otherwise.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NaiveTime, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        NaiveTime::parse_from_str(&text, FORMAT).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_read_back_as_they_were_written_and_what_is_not_there_is_the_default() {
        let settings = Settings {
            quiet_hours: Some(QuietHours {
                from: NaiveTime::from_hms_opt(22, 0, 0).unwrap(),
                to: NaiveTime::from_hms_opt(7, 30, 0).unwrap(),
                then: Mode::Digest,
            }),
            pause: Some(Pause { until: None }),
            ..Settings::default()
        };
        let text = serde_json::to_string(&settings).unwrap();
        assert!(
            text.contains(r#""from":"22:00","to":"07:30","then":"digest""#),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings);
        assert_eq!(
            serde_json::from_str::<Settings>("{}").unwrap(),
            Settings::default()
        );
        // Written by a later version.
        let newer = r#"{"urgent_breaks_through":false,"sound":"bell"}"#;
        assert!(
            !serde_json::from_str::<Settings>(newer)
                .unwrap()
                .urgent_breaks_through
        );
    }
}
