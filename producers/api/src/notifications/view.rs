//! What is said of notifications, and the list, as the API shows them; and the bodies that change them.

use chrono::{DateTime, Utc};
use preferences::{Kind, Override, Settings};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::store::Notification;
use crate::tasks::view::{optional_timestamp, timestamp};

/// How a person wants to be notified.
#[derive(Serialize, ToSchema)]
#[schema(as = NotificationSettings)]
pub struct SettingsView {
    /// Grows by one with every change; the ETag is this number in quotes. 0 as long as nothing was ever said.
    #[schema(minimum = 0)]
    version: i64,
    /// A reminder rang.
    reminder: ModesView,
    /// A reminder was too late to ring.
    reminder_missed: ModesView,
    /// A notification could not be sent on another channel. It is never mailed.
    delivery_failed: ModesView,
    digest: DigestView,
    /// When no mail is sent, each day, in the zone of the account; null: never.
    #[schema(required)]
    quiet_hours: Option<QuietHoursView>,
    /// Whether mail about urgent tasks is sent at once in quiet hours, and where it would wait for a digest.
    urgent_breaks_through: bool,
    /// No mail at all, urgent ones neither; null: mail is sent.
    #[schema(required)]
    pause: Option<PauseView>,
}

/// When each channel is used.
#[derive(Serialize, ToSchema)]
#[schema(as = NotificationModes)]
struct ModesView {
    /// `at_once`, `digest` or `off`.
    #[schema(example = "at_once")]
    email: &'static str,
    /// The list in the page: `at_once` or `off`.
    #[schema(example = "at_once")]
    in_app: &'static str,
}

/// When digests are sent, in the zone of the account.
#[derive(Serialize, ToSchema)]
#[schema(as = NotificationDigest)]
struct DigestView {
    /// `day` or `week`.
    #[schema(example = "day")]
    every: &'static str,
    /// The day of a weekly one.
    #[schema(example = "monday")]
    weekday: &'static str,
    #[schema(example = "08:00")]
    at: String,
}

/// Hours in which nothing is mailed.
#[derive(Serialize, ToSchema)]
#[schema(as = QuietHours)]
struct QuietHoursView {
    #[schema(example = "22:00")]
    from: String,
    /// On the next day, if it is not after `from`.
    #[schema(example = "07:00")]
    to: String,
    /// What becomes of what was held: `at_once`, each is mailed when they end, or `digest`, all in one mail.
    #[schema(example = "at_once")]
    then: &'static str,
}

/// A pause.
#[derive(Serialize, ToSchema)]
#[schema(as = NotificationPause)]
struct PauseView {
    /// Null: until it is taken back.
    #[schema(required)]
    #[serde(serialize_with = "optional_timestamp")]
    until: Option<DateTime<Utc>>,
}

impl SettingsView {
    /// Of settings of that version.
    pub fn of(version: i64, settings: &Settings) -> Self {
        let modes = |kind| {
            let modes = settings.modes(kind);
            ModesView {
                email: modes.email.name(),
                in_app: modes.in_app.name(),
            }
        };
        let time = |time: chrono::NaiveTime| time.format(preferences::hour_minute::FORMAT).to_string();
        Self {
            version,
            reminder: modes(Kind::Reminder),
            reminder_missed: modes(Kind::ReminderMissed),
            delivery_failed: modes(Kind::DeliveryFailed),
            digest: DigestView {
                every: settings.digest.every.name(),
                weekday: settings.digest.weekday.name(),
                at: time(settings.digest.at),
            },
            quiet_hours: settings.quiet_hours.map(|quiet| QuietHoursView {
                from: time(quiet.from),
                to: time(quiet.to),
                then: quiet.then.name(),
            }),
            urgent_breaks_through: settings.urgent_breaks_through,
            pause: settings.pause.map(|pause| PauseView { until: pause.until }),
        }
    }
}

/// What is said of one task.
#[derive(Serialize, ToSchema)]
#[schema(as = TaskNotifications)]
pub struct OverrideView {
    /// `at_once`, `digest` or `off`; null: as the settings say.
    #[schema(required, example = "off")]
    email: Option<&'static str>,
    /// `at_once` or `off`; null: as the settings say.
    #[schema(required, example = "at_once")]
    in_app: Option<&'static str>,
    /// Whether mail about it is sent in quiet hours, too.
    ignore_quiet_hours: bool,
}

impl From<Override> for OverrideView {
    fn from(said: Override) -> Self {
        Self {
            email: said.email.map(preferences::Mode::name),
            in_app: said.in_app.map(preferences::Mode::name),
            ignore_quiet_hours: said.ignore_quiet_hours,
        }
    }
}

/// A notification in the page.
#[derive(Serialize, ToSchema)]
#[schema(as = Notification)]
pub struct NotificationView<'a> {
    id: Uuid,
    /// `reminder`: it rang; `reminder_missed`: it was too late to; `delivery_failed`: a notification could not be sent.
    #[schema(example = "reminder")]
    kind: &'a str,
    reminder_id: Uuid,
    task_id: Uuid,
    /// The task's title as it was then.
    #[schema(example = "Water the plants")]
    title: &'a str,
    /// When the reminder was due.
    #[serde(serialize_with = "timestamp")]
    fire_at: DateTime<Utc>,
    /// Why it could not be sent.
    #[schema(required)]
    detail: Option<&'a str>,
    /// When it happened.
    #[serde(serialize_with = "timestamp")]
    at: DateTime<Utc>,
    #[schema(required)]
    #[serde(serialize_with = "optional_timestamp")]
    read_at: Option<DateTime<Utc>>,
}

impl<'a> From<&'a Notification> for NotificationView<'a> {
    fn from(notification: &'a Notification) -> Self {
        Self {
            id: notification.id,
            kind: &notification.kind,
            reminder_id: notification.reminder_id,
            task_id: notification.task_id,
            title: &notification.title,
            fire_at: notification.fire_at,
            detail: notification.detail.as_deref(),
            at: notification.at,
            read_at: notification.read_at,
        }
    }
}

/// How many notifications are unread.
#[derive(Serialize, ToSchema)]
#[schema(as = UnreadNotifications)]
pub struct UnreadView {
    /// At most 1,000, which stands for that many or more.
    #[schema(minimum = 0, maximum = 1000)]
    pub unread: i64,
}

/// How many notifications were marked as read.
#[derive(Serialize, ToSchema)]
#[schema(as = ReadNotifications)]
pub struct ReadView {
    pub read: u64,
}

/// A merge patch (RFC 7396) of the settings: what is absent stays, null stands for the default, objects are merged.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a description of what is read field by field")]
pub struct NotificationSettingsPatch {
    reminder: Option<NotificationModesPatch>,
    reminder_missed: Option<NotificationModesPatch>,
    delivery_failed: Option<InAppModePatch>,
    digest: Option<DigestPatch>,
    quiet_hours: Option<QuietHoursPatch>,
    urgent_breaks_through: Option<bool>,
    pause: Option<PausePatch>,
}

/// When each channel is used.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a description of what is read field by field")]
struct NotificationModesPatch {
    #[schema(value_type = Option<EmailMode>)]
    email: Option<String>,
    #[schema(value_type = Option<InAppMode>)]
    in_app: Option<String>,
}

/// When the list in the page is used for what is never mailed.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a description of what is read field by field")]
struct InAppModePatch {
    #[schema(value_type = Option<InAppMode>)]
    in_app: Option<String>,
}

/// When digests are sent.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a description of what is read field by field")]
struct DigestPatch {
    #[schema(value_type = Option<DigestEvery>)]
    every: Option<String>,
    #[schema(value_type = Option<DigestWeekday>)]
    weekday: Option<String>,
    /// To the minute.
    #[schema(example = "08:00", pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    at: Option<String>,
}

/// Quiet hours. The two times are required where there are none yet, and must differ.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a description of what is read field by field")]
struct QuietHoursPatch {
    #[schema(example = "22:00", pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    from: String,
    #[schema(example = "07:00", pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    to: String,
    #[schema(value_type = Option<HeldMode>)]
    then: Option<String>,
}

/// A pause.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a description of what is read field by field")]
struct PausePatch {
    /// Absent or null: until it is taken back.
    until: Option<DateTime<Utc>>,
}

/// What is said of one task; what is absent or null is as the settings say.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a description of what is read field by field")]
pub struct NewTaskNotifications {
    #[schema(value_type = Option<EmailMode>)]
    email: Option<String>,
    #[schema(value_type = Option<InAppMode>)]
    in_app: Option<String>,
    /// False where it is absent.
    ignore_quiet_hours: Option<bool>,
}

/// Which notifications are marked as read.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a description of what is read field by field")]
pub struct NotificationsToRead {
    /// Those of that time and before; all, where it is absent.
    #[schema(example = "2026-01-01T00:00:00Z")]
    until: Option<DateTime<Utc>>,
}

macro_rules! words {
    ($($(#[$about:meta])* $name:ident: $($word:ident)+;)+) => {
        $($(#[$about])*
        #[derive(ToSchema)]
        #[serde(rename_all = "snake_case")]
        #[expect(dead_code, reason = "a description of what is read field by field")]
        enum $name { $($word),+ })+
    };
}

words! {
    /// When mail is used.
    EmailMode: AtOnce Digest Off;
    /// When the list in the page is used.
    InAppMode: AtOnce Off;
    /// What becomes of what was held.
    HeldMode: AtOnce Digest;
    /// How often there is a digest.
    DigestEvery: Day Week;
    /// The day of a weekly digest.
    DigestWeekday: Monday Tuesday Wednesday Thursday Friday Saturday Sunday;
}
