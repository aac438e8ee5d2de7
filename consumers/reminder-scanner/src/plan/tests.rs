use chrono::TimeDelta;
use proptest::prelude::*;
use schemas::{Nag, Priority};

use super::*;
use crate::rings::Repeat;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn task(reminders: Vec<TaskReminder>) -> Task {
    let created_at = at("2026-03-27T08:00:00Z");
    Task {
        id: Uuid::from_u128(1),
        version: 1,
        title: "t".to_owned(),
        description: None,
        priority: Priority::Medium,
        tags: Vec::new(),
        due_at: Some(at("2026-03-29T10:00:00Z")),
        due_on: None,
        timezone: "Europe/Berlin".to_owned(),
        floating: false,
        whole_day_minute: schemas::WHOLE_DAY_MINUTE,
        reminders,
        depends_on: Vec::new(),
        series_id: None,
        occurrence: None,
        recurrence: None,
        created_at,
        updated_at: created_at,
        completed_at: None,
        deleted_at: None,
    }
}

fn relative(id: u128, offset: &str) -> TaskReminder {
    TaskReminder {
        id: Uuid::from_u128(id),
        ..TaskReminder::relative(offset.to_owned())
    }
}

fn absolute(id: u128, instant: Timestamp) -> TaskReminder {
    TaskReminder {
        id: Uuid::from_u128(id),
        ..TaskReminder::absolute(instant)
    }
}

/// One that rings then and every ten minutes after.
fn nagging(id: u128, instant: Timestamp, times: i32) -> TaskReminder {
    TaskReminder {
        nag: Some(Nag {
            every: "PT10M".to_owned(),
            times,
        }),
        ..absolute(id, instant)
    }
}

fn once(first_at: Timestamp) -> Rings {
    Rings {
        first_at,
        repeat: None,
    }
}

fn every_ten_minutes(first_at: Timestamp, times: i32) -> Rings {
    Rings {
        first_at,
        repeat: Some(Repeat {
            every_seconds: 600,
            times,
        }),
    }
}

fn holds(id: u128, state: State, rings: Rings, ring: i32) -> Known {
    let fire_at = rings.at(ring).unwrap();
    Known {
        id: Uuid::from_u128(id),
        state,
        rings,
        ring,
        fire_at,
        last_fire_at: match state {
            State::Fired | State::Missed => Some(fire_at),
            State::Armed | State::Cancelled => (ring > 0).then(|| rings.at(ring - 1).unwrap()),
        },
        send_late_within_seconds: None,
    }
}

fn known(id: u128, state: State, fire_at: Timestamp) -> Known {
    holds(id, state, once(fire_at), 0)
}

fn next(id: u128, rings: Rings, ring: i32) -> Next {
    Next {
        id: Uuid::from_u128(id),
        rings,
        ring,
        fire_at: rings.at(ring).unwrap(),
        send_late_within_seconds: None,
        snoozed: false,
    }
}

fn arm(id: u128, fire_at: Timestamp) -> Change {
    Change::Arm(next(id, once(fire_at), 0))
}

fn cancel(id: u128, fire_at: Timestamp, reason: &'static str) -> Change {
    Change::Cancel {
        id: Uuid::from_u128(id),
        ring: 0,
        fire_at,
        reason,
    }
}

#[test]
fn offsets_of_a_whole_day_task_count_from_its_minute_in_its_zone() {
    let mut task = Task {
        due_at: None,
        due_on: Some("2026-03-29".parse().unwrap()),
        ..task(vec![relative(1, "-PT1H"), relative(2, "-P1D")])
    };
    assert_eq!(
        plan(&task, task.created_at, &[]).unwrap(),
        [
            arm(1, at("2026-03-29T06:00:00Z")),
            arm(2, at("2026-03-28T08:00:00Z"))
        ]
    );
    task.whole_day_minute = 7 * 60 + 30;
    assert_eq!(
        plan(&task, task.created_at, &[]).unwrap(),
        [
            arm(1, at("2026-03-29T04:30:00Z")),
            arm(2, at("2026-03-28T06:30:00Z"))
        ]
    );
}

#[test]
fn a_day_before_keeps_the_wall_clock_over_daylight_saving_and_24_hours_before_do_not() {
    // Berlin goes to summer time on 2026-03-29: 12:00 is 10:00Z that day and was 11:00Z the day before.
    let task = task(vec![relative(1, "-P1D"), relative(2, "-PT24H")]);
    assert_eq!(
        plan(&task, task.created_at, &[]).unwrap(),
        [
            arm(1, at("2026-03-28T11:00:00Z")),
            arm(2, at("2026-03-28T10:00:00Z"))
        ]
    );
}

#[test]
fn a_reminder_whose_time_was_past_when_it_was_set_does_not_ring() {
    let task = task(vec![relative(1, "-P7D")]);
    assert_eq!(plan(&task, task.created_at, &[]).unwrap(), []);
}

#[test]
fn an_armed_reminder_that_fell_due_before_the_change_was_seen_stays_armed() {
    let due = at("2026-03-27T08:00:01Z");
    let task = task(vec![absolute(1, due)]);
    let later = due + TimeDelta::seconds(1);
    assert_eq!(plan(&task, later, &[known(1, State::Armed, due)]).unwrap(), []);
}

#[test]
fn one_that_rang_or_was_missed_does_not_ring_again_for_the_same_time_whether_the_change_was_before_or_after()
{
    let due = at("2026-03-27T08:00:01Z");
    let task = task(vec![absolute(1, due)]);
    for changed_at in [due - TimeDelta::seconds(1), due, due + TimeDelta::seconds(1)] {
        for state in [State::Fired, State::Missed] {
            assert_eq!(plan(&task, changed_at, &[known(1, state, due)]).unwrap(), []);
        }
        // Not even after it was moved and, before that could ring, moved back.
        let moved = Known {
            last_fire_at: Some(due),
            ..known(1, State::Armed, due + TimeDelta::hours(1))
        };
        assert_eq!(
            plan(&task, changed_at, &[moved]).unwrap(),
            [cancel(1, moved.fire_at, "rescheduled")]
        );
    }
}

#[test]
fn two_reminders_under_one_id_are_an_error() {
    let due = at("2026-03-29T09:00:00Z");
    let twins = task(vec![absolute(1, due), relative(1, "-PT1H")]);
    assert!(plan(&twins, twins.created_at, &[]).is_err());
}

#[test]
fn moving_the_due_date_arms_again_and_into_the_past_cancels() {
    let mut task = task(vec![relative(1, "-PT1H")]);
    let old = at("2026-03-29T09:00:00Z");
    task.due_at = Some(at("2026-04-02T10:00:00Z"));
    let new = at("2026-04-02T09:00:00Z");
    for state in [State::Armed, State::Fired, State::Missed, State::Cancelled] {
        assert_eq!(
            plan(&task, task.created_at, &[known(1, state, old)]).unwrap(),
            [arm(1, new)]
        );
    }
    task.due_at = Some(at("2020-01-01T00:00:00Z"));
    assert_eq!(
        plan(&task, task.created_at, &[known(1, State::Armed, old)]).unwrap(),
        [cancel(1, old, "rescheduled")]
    );
}

#[test]
fn completing_deleting_removing_and_dismissing_cancel_and_reopening_arms_again() {
    let due = at("2026-03-29T09:00:00Z");
    let open = task(vec![relative(1, "-PT1H")]);
    let completed = Task {
        completed_at: Some(open.created_at),
        ..open.clone()
    };
    let deleted = Task {
        deleted_at: Some(open.created_at),
        ..completed.clone()
    };
    let removed = Task {
        reminders: Vec::new(),
        ..open.clone()
    };
    let mut dismissed = open.clone();
    dismissed.reminders[0].dismissed_at = Some(open.created_at);
    for (task, reason) in [
        (&completed, "completed"),
        (&deleted, "deleted"),
        (&removed, "removed"),
        (&dismissed, "dismissed"),
    ] {
        assert_eq!(
            plan(task, task.created_at, &[known(1, State::Armed, due)]).unwrap(),
            [cancel(1, due, reason)]
        );
        for state in [State::Fired, State::Missed, State::Cancelled] {
            assert_eq!(plan(task, task.created_at, &[known(1, state, due)]).unwrap(), []);
        }
        assert_eq!(plan(task, task.created_at, &[]).unwrap(), []);
    }
    assert_eq!(
        plan(&open, open.created_at, &[known(1, State::Cancelled, due)]).unwrap(),
        [arm(1, due)]
    );
}

#[test]
fn without_a_due_date_relative_reminders_are_cancelled_and_absolute_ones_stay() {
    let due = at("2026-03-29T09:00:00Z");
    let mut task = task(vec![relative(1, "-PT1H"), absolute(2, due)]);
    task.due_at = None;
    let before = [known(1, State::Armed, due), known(2, State::Armed, due)];
    assert_eq!(
        plan(&task, task.created_at, &before).unwrap(),
        [cancel(1, due, "rescheduled")]
    );
}

#[test]
fn a_zone_or_a_duration_that_cannot_be_read_is_an_error_and_not_a_guess() {
    let due = at("2026-03-29T09:00:00Z");
    let mut nowhere = task(vec![relative(1, "-PT1H")]);
    nowhere.timezone = "Mars/Olympus".to_owned();
    assert!(plan(&nowhere, nowhere.created_at, &[]).is_err());
    let late = TaskReminder {
        send_late_within: Some("-PT1M".to_owned()),
        ..absolute(1, due)
    };
    for reminder in [relative(1, "soon"), nagging(1, due, 101), late] {
        let task = task(vec![reminder]);
        assert!(plan(&task, task.created_at, &[]).is_err(), "{:?}", task.reminders);
    }
}

#[test]
fn a_snoozed_reminder_rings_at_its_new_time_and_says_that_it_was_put_off() {
    let due = at("2026-03-27T08:10:00Z");
    let until = due + TimeDelta::minutes(5);
    let snoozed = task(vec![TaskReminder {
        snoozed_until: Some(until),
        ..absolute(1, due)
    }]);
    let expected = [Change::Arm(Next {
        snoozed: true,
        ..next(1, once(until), 0)
    })];
    // Put off before it rang, after it rang, and after it was missed.
    for state in [State::Armed, State::Fired, State::Missed] {
        assert_eq!(plan(&snoozed, due, &[known(1, state, due)]).unwrap(), expected);
    }
    // It rang then, and another change follows.
    let rang = known(1, State::Fired, until);
    assert_eq!(
        plan(&snoozed, until + TimeDelta::seconds(1), &[rang]).unwrap(),
        []
    );
}

#[test]
fn a_nag_is_armed_for_the_first_of_its_rings_after_the_change() {
    let due = at("2026-03-27T08:00:00Z");
    let task = task(vec![nagging(1, due, 3)]);
    let rings = every_ten_minutes(due, 3);
    for (seconds, ring) in [
        (-1, Some(0)),
        (0, Some(1)),
        (599, Some(1)),
        (600, Some(2)),
        (1799, Some(3)),
        (1800, None),
    ] {
        let expected: Vec<_> = ring
            .map(|ring| Change::Arm(next(1, rings, ring)))
            .into_iter()
            .collect();
        assert_eq!(
            plan(&task, due + TimeDelta::seconds(seconds), &[]).unwrap(),
            expected,
            "{seconds}"
        );
    }
}

#[test]
fn a_nag_goes_on_over_changes_and_after_reopening_only_with_what_is_to_come() {
    let due = at("2026-03-27T08:00:00Z");
    let task = task(vec![nagging(1, due, 5)]);
    let rings = every_ten_minutes(due, 5);
    // Due at 08:20, late: still wanted.
    let waiting = holds(1, State::Armed, rings, 2);
    assert_eq!(plan(&task, due + TimeDelta::minutes(21), &[waiting]).unwrap(), []);
    // Completed before 08:20, reopened at 08:25; and that is heard of in time, or after the last ring.
    let cancelled = holds(1, State::Cancelled, rings, 2);
    assert_eq!(
        plan(&task, due + TimeDelta::minutes(25), &[cancelled]).unwrap(),
        [Change::Arm(next(1, rings, 3))]
    );
    // Reopened at 08:05, before ring 1, which yet rang.
    assert_eq!(
        plan(&task, due + TimeDelta::minutes(5), &[cancelled]).unwrap(),
        [Change::Arm(next(1, rings, 2))]
    );
    // All rang: a change that is older than the last of them brings none back.
    let rang = holds(1, State::Fired, rings, 3);
    assert_eq!(plan(&task, due + TimeDelta::minutes(45), &[rang]).unwrap(), []);
}

#[test]
fn another_nag_keeps_the_ring_that_waits_where_it_is_one_of_its_own_and_goes_on_behind_those_that_rang() {
    let due = at("2026-03-27T08:00:00Z");
    let longer = task(vec![nagging(1, due, 7)]);
    let waiting = holds(1, State::Armed, every_ten_minutes(due, 3), 2);
    assert_eq!(
        plan(&longer, due + TimeDelta::minutes(11), &[waiting]).unwrap(),
        [Change::Amend(next(1, every_ten_minutes(due, 7), 2))]
    );
    // It had rung for the last time: now it has rings again.
    let rang = holds(1, State::Fired, every_ten_minutes(due, 1), 1);
    assert_eq!(
        plan(&longer, due + TimeDelta::minutes(11), &[rang]).unwrap(),
        [Change::Arm(next(1, every_ten_minutes(due, 7), 2))]
    );
    let mut slower = task(vec![nagging(1, due, 7)]);
    slower.reminders[0].nag.as_mut().unwrap().every = "PT15M".to_owned();
    let rings = Rings {
        first_at: due,
        repeat: Some(Repeat {
            every_seconds: 900,
            times: 7,
        }),
    };
    // Asked for at 08:09, heard of after 08:10 rang.
    assert_eq!(
        plan(&slower, due + TimeDelta::minutes(9), &[waiting]).unwrap(),
        [Change::Arm(next(1, rings, 1))]
    );
    // No nag any more: what it waited for is none of its rings.
    let quiet = task(vec![absolute(1, due)]);
    assert_eq!(
        plan(&quiet, due + TimeDelta::minutes(11), &[waiting]).unwrap(),
        [Change::Cancel {
            id: Uuid::from_u128(1),
            ring: 2,
            fire_at: waiting.fire_at,
            reason: "rescheduled"
        }]
    );
    // The first ring waits, whatever is to follow it.
    assert_eq!(
        plan(
            &slower,
            due - TimeDelta::minutes(1),
            &[known(1, State::Armed, due)]
        )
        .unwrap(),
        [Change::Amend(next(1, rings, 0))]
    );
}

#[test]
fn how_late_it_may_ring_is_written_down_without_telling_anybody() {
    let due = at("2026-03-29T09:00:00Z");
    let task = task(vec![TaskReminder {
        send_late_within: Some("PT2H".to_owned()),
        ..absolute(1, due)
    }]);
    let amended = Next {
        send_late_within_seconds: Some(7200),
        ..next(1, once(due), 0)
    };
    assert_eq!(
        plan(&task, task.created_at, &[known(1, State::Armed, due)]).unwrap(),
        [Change::Amend(amended)]
    );
    assert_eq!(
        plan(&task, task.created_at, &[known(1, State::Fired, due)]).unwrap(),
        []
    );
}

const STATES: [State; 4] = [State::Armed, State::Fired, State::Missed, State::Cancelled];

/// What a person asks of one reminder, in seconds from an origin.
#[derive(Debug, Clone)]
struct Ask {
    at: i64,
    nag: Option<(i64, i32)>,
    snoozed: Option<i64>,
    dismissed: bool,
    late: Option<u32>,
}

impl Ask {
    fn any() -> impl Strategy<Value = Self> {
        (
            -4000_i64..4000,
            prop::option::of((60_i64..1200, 1_i32..6)),
            prop::option::weighted(0.2, -4000_i64..4000),
            prop::bool::weighted(0.1),
            prop::option::weighted(0.2, 0_u32..9000),
        )
            .prop_map(|(at, nag, snoozed, dismissed, late)| Self {
                at,
                nag,
                snoozed,
                dismissed,
                late,
            })
    }

    /// The reminder, whose times are told from those of other asks by their microseconds.
    fn reminder(&self, id: u128, n: i64, origin: Timestamp) -> TaskReminder {
        let instant = |seconds| origin + TimeDelta::seconds(seconds) + TimeDelta::microseconds(n);
        TaskReminder {
            nag: self.nag.map(|(every, times)| Nag {
                every: format!("PT{every}S"),
                times,
            }),
            send_late_within: self.late.map(|late| format!("PT{late}S")),
            snoozed_until: self.snoozed.map(instant),
            dismissed_at: self.dismissed.then_some(origin),
            ..absolute(id, instant(self.at))
        }
    }
}

/// What the scanner holds after `changes`.
fn apply(known: &mut Vec<Known>, changes: &[Change]) {
    for change in changes {
        match *change {
            Change::Arm(next) | Change::Amend(next) => {
                let before = known
                    .iter()
                    .position(|k| k.id == next.id)
                    .map(|n| known.remove(n));
                known.push(Known {
                    id: next.id,
                    state: State::Armed,
                    rings: next.rings,
                    ring: next.ring,
                    fire_at: next.fire_at,
                    last_fire_at: before.and_then(|k| k.last_fire_at),
                    send_late_within_seconds: next.send_late_within_seconds,
                });
            }
            Change::Cancel { id, .. } => {
                for k in known.iter_mut().filter(|k| k.id == id) {
                    k.state = State::Cancelled;
                }
            }
        }
    }
}

/// What firing does at `now`; see `reminders::ring_due`. The times that rang.
fn fire(known: &mut [Known], now: Timestamp) -> Vec<(Uuid, Timestamp)> {
    let mut rang = Vec::new();
    for k in known
        .iter_mut()
        .filter(|k| k.state == State::Armed && k.fire_at <= now)
    {
        rang.push((k.id, k.fire_at));
        k.last_fire_at = Some(k.fire_at);
        match k.rings.iter().find(|(_, at)| *at > now) {
            Some((ring, fire_at)) => (k.ring, k.fire_at) = (ring, fire_at),
            None => k.state = State::Fired,
        }
    }
    rang
}

proptest! {
    #[test]
    fn planning_again_after_applying_a_plan_changes_nothing(
        asks in prop::collection::vec(Ask::any(), 0..6),
        before in prop::collection::vec((0_usize..4, Ask::any(), 0_i32..6), 0..6),
        over in prop::bool::weighted(0.2),
    ) {
        let now = at("2026-03-27T08:00:00Z");
        let mut known = Vec::new();
        for (id, (state, ask, ring)) in (1_u128..).zip(&before) {
            let rings = Rings::of(&ask.reminder(id, 0, now), None, Tz::UTC).unwrap().unwrap();
            known.push(holds(id, STATES[*state], rings, (*ring).min(rings.repeat.map_or(0, |r| r.times))));
        }
        let mut task = task((1..).zip(&asks).map(|(id, ask)| ask.reminder(id, 0, now)).collect());
        task.completed_at = over.then_some(now);
        let changes = plan(&task, now, &known).unwrap();
        for change in &changes {
            if let Change::Arm(next) = change {
                prop_assert!(next.fire_at > now, "armed for the past");
                prop_assert_eq!(next.rings.at(next.ring), Some(next.fire_at));
                let rang = known.iter().any(|k| k.id == next.id && k.last_fire_at == Some(next.fire_at));
                prop_assert!(!rang, "armed for a time at which it rang");
            }
        }
        apply(&mut known, &changes);
        prop_assert_eq!(plan(&task, now, &known).unwrap(), []);
    }

    /// A person changes one reminder's nag, puts it off, dismisses it and asks for it anew; each change is heard of later
    /// than it was made, and what is due rings before it or after it.
    #[test]
    fn whatever_is_asked_and_however_late_it_is_heard_of_no_ring_is_early_and_none_comes_twice(
        asks in prop::collection::vec((1_i64..900, 0_i64..1800, Ask::any(), any::<bool>()), 1..12),
    ) {
        let origin = at("2026-03-27T08:00:00Z");
        let (mut made, mut heard) = (0, 0);
        let mut known = Vec::new();
        let mut rang = Vec::new();
        let mut reminder = absolute(1, origin);
        for (n, (after, late, ask, nag_only)) in (1_i64..).zip(&asks) {
            made += after;
            heard = heard.max(made + late);
            let (changed_at, now) = (origin + TimeDelta::seconds(made), origin + TimeDelta::seconds(heard));
            reminder = TaskReminder { nag: ask.reminder(1, n, origin).nag, ..if *nag_only { reminder } else { ask.reminder(1, n, origin) } };
            let changes = plan(&task(vec![reminder.clone()]), changed_at, &known).unwrap();
            apply(&mut known, &changes);
            for k in known.iter().filter(|k| k.state == State::Armed) {
                prop_assert!(k.last_fire_at.is_none_or(|last| last != k.fire_at));
            }
            let rung = fire(&mut known, now);
            for ring in &rung {
                prop_assert!(ring.1 <= now, "early");
                prop_assert!(!rang.contains(ring), "{:?} rang twice", ring);
            }
            rang.extend(rung);
        }
    }
}
