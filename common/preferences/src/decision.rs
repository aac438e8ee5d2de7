//! What becomes of one notification.

use chrono::{DateTime, Datelike as _, Days, NaiveDate, Utc};
use schedule::{Tz, resolve_local};
use serde::{Deserialize, Serialize};

use crate::settings::{Channel, Digest, Every, Kind, Mode, Override, QuietHours, Settings};

/// What a channel does with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Sends it.
    Send,
    /// Sends it when that time has come.
    Hold {
        /// That time.
        until: DateTime<Utc>,
    },
    /// Sends it with others when that time has come.
    Digest {
        /// That time.
        at: DateTime<Utc>,
    },
    /// Does not send it.
    Drop,
}

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The settings have it so.
    Settings,
    /// What was said of the task has it so.
    Task,
    /// The person has paused notifications.
    Paused,
    /// It is quiet.
    QuietHours,
    /// It breaks through.
    Urgent,
    /// It cannot be sent that way.
    Impossible,
}

impl Reason {
    /// In words that end a sentence: "not sent, because …".
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Settings => "the notification settings say so",
            Self::Task => "the settings of this task say so",
            Self::Paused => "notifications are paused",
            Self::QuietHours => "these are quiet hours",
            Self::Urgent => "the task is urgent, and urgent ones break through",
            Self::Impossible => "such a notification cannot be sent on this channel",
        }
    }
}

/// What a channel does, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What it does.
    #[serde(flatten)]
    pub action: Action,
    /// Why.
    pub reason: Reason,
}

/// What all channels do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Mail.
    pub email: Verdict,
    /// The list in the page.
    pub in_app: Verdict,
}

impl Decision {
    /// That of a channel.
    #[must_use]
    pub fn of(self, channel: Channel) -> Verdict {
        match channel {
            Channel::Email => self.email,
            Channel::InApp => self.in_app,
        }
    }
}

/// Decides about a notification at `now`. `said` is what was said of its task; `zone` is the person's.
#[must_use]
pub fn decide(
    settings: &Settings,
    said: Option<Override>,
    kind: Kind,
    urgent: bool,
    zone: Tz,
    now: DateTime<Utc>,
) -> Decision {
    let said = said.unwrap_or_default();
    let mode = |channel| match said.of(channel) {
        Some(mode) => (mode, Reason::Task),
        None => (settings.modes(kind).of(channel), Reason::Settings),
    };
    let email = {
        let (mode, reason) = mode(Channel::Email);
        let quiet = settings.quiet_hours.filter(|_| !said.ignore_quiet_hours);
        let quiet = quiet.and_then(|quiet| Some((quiet, end_of(quiet, zone, now)?)));
        let paused = settings
            .pause
            .is_some_and(|pause| pause.until.is_none_or(|until| now < until));
        let breaks_through = urgent && settings.urgent_breaks_through;
        let (action, reason) = match (mode, quiet) {
            _ if !kind.can_be_mailed() => (Action::Drop, Reason::Impossible),
            (Mode::Off, _) => (Action::Drop, reason),
            _ if paused => (Action::Drop, Reason::Paused),
            (Mode::Digest, _) | (_, Some(_)) if breaks_through => (Action::Send, Reason::Urgent),
            (Mode::Digest, _) => {
                let at = next_digest(settings.digest, zone, now);
                (Action::Digest { at }, reason)
            }
            (Mode::AtOnce, Some((quiet, end))) => match quiet.then {
                Mode::Digest => (Action::Digest { at: end }, Reason::QuietHours),
                Mode::AtOnce | Mode::Off => (Action::Hold { until: end }, Reason::QuietHours),
            },
            (Mode::AtOnce, None) => (Action::Send, reason),
        };
        Verdict { action, reason }
    };
    let in_app = {
        let (mode, reason) = mode(Channel::InApp);
        let action = match mode {
            Mode::Off => Action::Drop,
            Mode::AtOnce | Mode::Digest => Action::Send,
        };
        Verdict { action, reason }
    };
    Decision { email, in_app }
}

fn local_date(zone: Tz, at: DateTime<Utc>) -> NaiveDate {
    at.with_timezone(&zone).date_naive()
}

/// When the quiet hours end in which `now` lies. They are compared as instants, so a night in which clocks change is as
/// long as it is.
fn end_of(quiet: QuietHours, zone: Tz, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let today = local_date(zone, now);
    // Those that began yesterday may last into today.
    [today.checked_sub_days(Days::new(1)), Some(today)]
        .into_iter()
        .flatten()
        .find_map(|day| {
            let last = if quiet.from < quiet.to {
                day
            } else {
                day.checked_add_days(Days::new(1))?
            };
            let from = resolve_local(day.and_time(quiet.from), zone);
            let to = resolve_local(last.and_time(quiet.to), zone);
            (from <= now && now < to).then_some(to)
        })
}

/// When the next digest is sent, later than `now`.
fn next_digest(digest: Digest, zone: Tz, now: DateTime<Utc>) -> DateTime<Utc> {
    let today = local_date(zone, now);
    // A day more than a week: today's time may be over, and clocks may change. A day that a zone skips has no time of its
    // own, but one after it: that is later than now, too.
    (0..=8)
        .filter_map(|days| today.checked_add_days(Days::new(days)))
        .filter(|day| digest.every == Every::Day || day.weekday() == digest.weekday.chrono())
        .map(|day| resolve_local(day.and_time(digest.at), zone))
        .find(|at| *at > now)
        .unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use chrono::{NaiveTime, TimeDelta};
    use proptest::prelude::*;

    use super::*;
    use crate::settings::{Modes, Pause, Weekday};

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn time(text: &str) -> NaiveTime {
        text.parse().unwrap()
    }

    fn nights(then: Mode) -> Settings {
        Settings {
            quiet_hours: Some(QuietHours {
                from: time("22:00:00"),
                to: time("07:00:00"),
                then,
            }),
            ..Settings::default()
        }
    }

    fn email(settings: &Settings, said: Option<Override>, urgent: bool, now: &str) -> (Action, Reason) {
        let decision = decide(
            settings,
            said,
            Kind::Reminder,
            urgent,
            Tz::Europe__Berlin,
            at(now),
        );
        (decision.email.action, decision.email.reason)
    }

    const BY_DAY: &str = "2026-07-01T10:00:00Z";
    const BY_NIGHT: &str = "2026-07-01T22:00:00Z"; // Midnight in Berlin.

    #[test]
    fn who_says_nothing_is_mailed_what_rings_and_listed_everything() {
        let settings = Settings::default();
        for (kind, mailed) in [
            (Kind::Reminder, Action::Send),
            (Kind::ReminderMissed, Action::Drop),
            (Kind::DeliveryFailed, Action::Drop),
        ] {
            let decision = decide(&settings, None, kind, false, Tz::UTC, at(BY_DAY));
            assert_eq!(decision.email.action, mailed, "{kind:?}");
            assert_eq!(decision.in_app.action, Action::Send, "{kind:?}");
        }
    }

    #[test]
    fn quiet_hours_hold_mail_until_they_end_in_the_persons_zone() {
        let held = Action::Hold {
            until: at("2026-07-02T05:00:00Z"),
        };
        assert_eq!(
            email(&nights(Mode::AtOnce), None, false, BY_NIGHT),
            (held, Reason::QuietHours)
        );
        // To the microsecond: from the first minute on, and not when they have ended.
        for (now, quiet) in [
            ("2026-07-01T19:59:59.999999Z", false),
            ("2026-07-01T20:00:00Z", true),
            ("2026-07-02T04:59:59.999999Z", true),
            ("2026-07-02T05:00:00Z", false),
        ] {
            let action = email(&nights(Mode::AtOnce), None, false, now).0;
            assert_eq!(action == held, quiet, "{now}");
        }
        let collected = Action::Digest {
            at: at("2026-07-02T05:00:00Z"),
        };
        assert_eq!(
            email(&nights(Mode::Digest), None, false, BY_NIGHT),
            (collected, Reason::QuietHours)
        );
        let decision = decide(
            &nights(Mode::AtOnce),
            None,
            Kind::Reminder,
            false,
            Tz::Europe__Berlin,
            at(BY_NIGHT),
        );
        assert_eq!(decision.in_app.action, Action::Send);
    }

    #[test]
    fn a_night_in_which_clocks_change_ends_at_its_hour_on_the_wall() {
        // 28 March 2027: clocks go from 02:00 to 03:00.
        let held = email(&nights(Mode::AtOnce), None, false, "2027-03-27T23:30:00Z").0;
        assert_eq!(
            held,
            Action::Hold {
                until: at("2027-03-28T05:00:00Z")
            }
        );
        // Quiet hours that lie in the hour that is skipped come after it.
        let skipped = Settings {
            quiet_hours: Some(QuietHours {
                from: time("02:00:00"),
                to: time("02:30:00"),
                then: Mode::AtOnce,
            }),
            ..Settings::default()
        };
        assert_eq!(
            email(&skipped, None, false, "2027-03-28T01:10:00Z").0,
            Action::Hold {
                until: at("2027-03-28T01:30:00Z")
            }
        );
    }

    #[test]
    fn what_is_urgent_breaks_through_quiet_hours_and_digests_and_not_through_a_pause() {
        let (send, urgent) = (Action::Send, Reason::Urgent);
        assert_eq!(email(&nights(Mode::AtOnce), None, true, BY_NIGHT), (send, urgent));
        let mut settings = nights(Mode::AtOnce);
        settings.reminder.email = Mode::Digest;
        assert_eq!(email(&settings, None, true, BY_DAY), (send, urgent));
        settings.urgent_breaks_through = false;
        assert_ne!(email(&settings, None, true, BY_DAY).0, send);
        settings.urgent_breaks_through = true;
        settings.pause = Some(Pause { until: None });
        assert_eq!(
            email(&settings, None, true, BY_DAY),
            (Action::Drop, Reason::Paused)
        );
    }

    #[test]
    fn a_pause_ends_by_itself() {
        let settings = Settings {
            pause: Some(Pause {
                until: Some(at(BY_DAY)),
            }),
            ..Settings::default()
        };
        let before = "2026-07-01T09:59:59.999999Z";
        assert_eq!(
            email(&settings, None, false, before),
            (Action::Drop, Reason::Paused)
        );
        assert_eq!(
            email(&settings, None, false, BY_DAY),
            (Action::Send, Reason::Settings)
        );
    }

    #[test]
    fn what_was_said_of_the_task_goes_before_the_settings() {
        let said = |email| {
            Some(Override {
                email,
                ..Override::default()
            })
        };
        let mut settings = nights(Mode::AtOnce);
        assert_eq!(
            email(&settings, said(Some(Mode::Off)), true, BY_DAY),
            (Action::Drop, Reason::Task)
        );
        settings.reminder.email = Mode::Off;
        assert_eq!(
            email(&settings, said(Some(Mode::AtOnce)), false, BY_DAY),
            (Action::Send, Reason::Task)
        );
        assert_eq!(
            email(&settings, said(None), false, BY_DAY),
            (Action::Drop, Reason::Settings)
        );
        let loud = Some(Override {
            ignore_quiet_hours: true,
            ..Override::default()
        });
        assert_eq!(
            email(&nights(Mode::AtOnce), loud, false, BY_NIGHT),
            (Action::Send, Reason::Settings)
        );
    }

    #[test]
    fn a_digest_comes_at_its_hour_in_the_persons_zone_and_a_weekly_one_on_its_day() {
        let digest = |every, now| {
            let digest = Digest {
                every,
                weekday: Weekday::Monday,
                at: time("08:00:00"),
            };
            next_digest(digest, Tz::Europe__Berlin, at(now)).to_rfc3339()
        };
        assert_eq!(
            digest(Every::Day, "2026-07-01T05:59:59Z"),
            "2026-07-01T06:00:00+00:00"
        );
        assert_eq!(
            digest(Every::Day, "2026-07-01T06:00:00Z"),
            "2026-07-02T06:00:00+00:00"
        );
        // A Wednesday; and a Monday after eight.
        assert_eq!(
            digest(Every::Week, "2026-07-01T05:59:59Z"),
            "2026-07-06T06:00:00+00:00"
        );
        assert_eq!(
            digest(Every::Week, "2026-07-06T06:00:00Z"),
            "2026-07-13T06:00:00+00:00"
        );
    }

    proptest! {
        #[test]
        fn nothing_is_held_for_more_than_a_day_or_collected_for_more_than_a_week(
            from in 0u32..1440, to in 0u32..1440, digest_at in 0u32..1440, weekly: bool, mode in 0usize..3, then in 0usize..2,
            zone in prop::sample::select(vec![Tz::UTC, Tz::Europe__Berlin, Tz::Australia__Lord_Howe, Tz::Pacific__Apia, Tz::America__Sao_Paulo]),
            seconds in 1_262_304_000i64..1_893_456_000,
        ) {
            prop_assume!(from != to);
            let minute = |m: u32| NaiveTime::from_num_seconds_from_midnight_opt(m * 60, 0).unwrap();
            let settings = Settings {
                reminder: Modes { email: Mode::ALL[mode], in_app: Mode::AtOnce },
                quiet_hours: Some(QuietHours { from: minute(from), to: minute(to), then: Mode::ALL[then] }),
                digest: Digest {
                    every: if weekly { Every::Week } else { Every::Day },
                    weekday: Weekday::Thursday,
                    at: minute(digest_at),
                },
                ..Settings::default()
            };
            let now = DateTime::from_timestamp(seconds, 0).unwrap();
            let decision = decide(&settings, None, Kind::Reminder, false, zone, now);
            match decision.email.action {
                Action::Hold { until } => {
                    prop_assert!(until > now && until - now <= TimeDelta::hours(26));
                }
                Action::Digest { at } => {
                    prop_assert!(at > now && at - now <= TimeDelta::days(8) + TimeDelta::hours(26));
                    if decision.email.reason == Reason::QuietHours {
                        prop_assert!(at - now <= TimeDelta::hours(26));
                    }
                }
                Action::Send => prop_assert_eq!(settings.reminder.email, Mode::AtOnce),
                Action::Drop => prop_assert_eq!(settings.reminder.email, Mode::Off),
            }
        }
    }
}
