//! What is to ring. It computes with wall clocks by itself and keeps its own books: nothing of `schedule`, of the scanner or
//! of the generator is in here.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{Days, LocalResult, NaiveDateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use schemas::Timestamp;
use uuid::Uuid;

/// How late a ring may always be, whatever the policy: no machine is exact.
const TOLERANCE: TimeDelta = TimeDelta::minutes(1);

/// When a reminder is to ring, as a person says it.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Before the due time: days on the calendar, then minutes; or at an instant.
    pub when: Result<(u64, i64), Timestamp>,
    /// So many seconds from ring to ring, so often.
    pub nag: Option<(i64, i32)>,
    /// How late it may be, in seconds; `None` for the person's setting.
    pub late: Option<i64>,
}

/// One ring that had its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rang {
    /// The reminder.
    pub id: Uuid,
    /// When it was due.
    pub fire_at: Timestamp,
    /// Which ring.
    pub ring: i32,
    /// Whether it was too late.
    pub missed: bool,
}

/// A task as far as reminders go.
#[derive(Debug, Clone)]
pub struct Said {
    /// The version that says it.
    pub version: i64,
    /// When that was said.
    pub at: Timestamp,
    /// Whether anything may ring.
    pub open: bool,
    /// From which instant offsets count.
    pub anchor: Option<Anchor>,
    /// Its reminders: what is asked, until when it is put off, whether it is dismissed.
    pub reminders: Vec<(Uuid, Spec, Option<Timestamp>, bool)>,
}

/// A time on a wall.
#[derive(Debug, Clone, Copy)]
pub struct Anchor {
    /// The instant it is.
    pub at: Timestamp,
    /// Whose wall.
    pub zone: Tz,
}

#[derive(Debug)]
struct Book {
    /// All rings as they were last said.
    rings: Vec<Timestamp>,
    /// Which of them it waits for.
    waits: Option<Timestamp>,
    /// Times that had their turn: they rang, were missed, or went by.
    turned: BTreeSet<Timestamp>,
    late: TimeDelta,
}

/// The books of every reminder.
#[derive(Debug, Default)]
pub struct Model {
    books: HashMap<Uuid, Book>,
    of_task: HashMap<Uuid, (i64, BTreeSet<Uuid>)>,
    /// Who waits for when.
    queue: BTreeMap<Timestamp, BTreeSet<Uuid>>,
}

impl Model {
    /// The scanner was told that.
    pub fn told(&mut self, task: Uuid, said: &Said, person_late: i64) {
        let (version, held) = self.of_task.entry(task).or_default();
        if said.version <= *version {
            return;
        }
        *version = said.version;
        let gone: Vec<Uuid> = held
            .iter()
            .copied()
            .filter(|id| said.reminders.iter().all(|(there, ..)| there != id))
            .collect();
        held.extend(said.reminders.iter().map(|(id, ..)| *id));
        for id in gone {
            self.wait(id, None);
        }
        for (id, spec, snoozed, dismissed) in &said.reminders {
            let rings = if said.open && !dismissed {
                rings(spec, said.anchor, *snoozed)
            } else {
                Vec::new()
            };
            let late = TimeDelta::seconds(spec.late.unwrap_or(person_late));
            self.follow(*id, rings, late, said.at);
        }
    }

    fn follow(&mut self, id: Uuid, rings: Vec<Timestamp>, late: TimeDelta, said_at: Timestamp) {
        let Some(first) = rings.first().copied() else {
            if self.books.contains_key(&id) {
                self.wait(id, None);
            }
            return;
        };
        let book = self.books.entry(id).or_insert_with(|| Book {
            rings: Vec::new(),
            waits: None,
            turned: BTreeSet::new(),
            late,
        });
        book.late = late;
        let same = book.rings.first() == Some(&first);
        let was = std::mem::replace(&mut book.rings, rings);
        // Late is not unwanted: what still is one of its rings stays.
        if book.waits.is_some_and(|at| same && book.rings.contains(&at)) {
            return;
        }
        // It is through with just these.
        let through = was.last().is_some_and(|last| book.turned.contains(last));
        if through && was == book.rings {
            return;
        }
        let next = book
            .rings
            .iter()
            .copied()
            .find(|at| *at > said_at && !book.turned.contains(at));
        self.wait(id, next);
    }

    fn wait(&mut self, id: Uuid, at: Option<Timestamp>) {
        let Some(book) = self.books.get_mut(&id) else {
            return;
        };
        if let Some(before) = book.waits.take()
            && let Some(waiting) = self.queue.get_mut(&before)
        {
            waiting.remove(&id);
            if waiting.is_empty() {
                self.queue.remove(&before);
            }
        }
        book.waits = at;
        if let Some(at) = at {
            self.queue.entry(at).or_default().insert(id);
        }
    }

    /// When the next ring is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.queue.keys().next().copied()
    }

    /// The scanner has all the time it needs while the database's clock says that.
    pub fn scan(&mut self, now: Timestamp) -> Vec<Rang> {
        let mut rang = Vec::new();
        while let Some((&fire_at, ids)) = self.queue.range(..=now).next() {
            let ids = ids.clone();
            for id in ids {
                let Some(book) = self.books.get_mut(&id) else {
                    continue;
                };
                let ring = book.rings.iter().position(|at| *at == fire_at).unwrap();
                let missed = now - fire_at > book.late + TOLERANCE;
                rang.push(Rang {
                    id,
                    fire_at,
                    ring: i32::try_from(ring).unwrap(),
                    missed,
                });
                let passed: Vec<Timestamp> = book.rings.iter().copied().filter(|at| *at <= now).collect();
                book.turned.extend(passed);
                let next = book.rings.iter().copied().find(|at| *at > now);
                self.wait(id, next);
            }
        }
        rang
    }
}

/// When a reminder rings first that nobody puts off.
#[must_use]
pub fn own_time(spec: &Spec, anchor: Option<Anchor>) -> Option<Timestamp> {
    match spec.when {
        Err(at) => Some(at),
        Ok((days, minutes)) => anchor.map(|Anchor { at, zone }| {
            let moved = if days == 0 {
                at
            } else {
                instant(at.with_timezone(&zone).naive_local() - Days::new(days), zone)
            };
            moved - TimeDelta::minutes(minutes)
        }),
    }
}

fn rings(spec: &Spec, anchor: Option<Anchor>, snoozed: Option<Timestamp>) -> Vec<Timestamp> {
    let Some(first) = snoozed.or(own_time(spec, anchor)) else {
        return Vec::new();
    };
    let (every, times) = spec.nag.unwrap_or((0, 0));
    (0..=times)
        .map(|k| first + TimeDelta::seconds(every * i64::from(k)))
        .collect()
}

/// What a clock on a wall means: the first of two, and where there is none what it would have been had the clocks not been
/// put forward.
#[must_use]
pub fn instant(wall: NaiveDateTime, zone: Tz) -> Timestamp {
    match zone.from_local_datetime(&wall) {
        LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => at.with_timezone(&Utc),
        LocalResult::None => {
            // Gaps of these zones are of an hour at most.
            let before = wall - TimeDelta::hours(3);
            let at = zone.from_local_datetime(&before).earliest().unwrap();
            at.with_timezone(&Utc) + TimeDelta::hours(3)
        }
    }
}
