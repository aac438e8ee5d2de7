//! A month of many people: what the real scanner and generator make ring is what the model says, ring by ring.
#![expect(clippy::unwrap_used, reason = "tests")]

mod series;

use std::collections::{BTreeMap, HashMap, VecDeque};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use schemas::{
    Actor, Event, Nag, Priority, ReminderEventKind, Task, TaskEvent, TaskEventKind, TaskReminder, Timestamp,
};
use series::{HEARD, Predicted};
use simulation::{Anchor, Course, Delivery, Model, REPLICAS, Rang, Said, Spec, World, instant};
use support::samples;
use uuid::Uuid;

/// Zones with all kinds of clocks: two halves of the world, half and quarter hours, half an hour of summer, none at all.
const ZONES: [Tz; 40] = [
    Tz::UTC,
    Tz::Europe__Berlin,
    Tz::Europe__London,
    Tz::Europe__Lisbon,
    Tz::Europe__Dublin,
    Tz::Europe__Helsinki,
    Tz::Europe__Moscow,
    Tz::Europe__Istanbul,
    Tz::Europe__Chisinau,
    Tz::America__New_York,
    Tz::America__Chicago,
    Tz::America__Denver,
    Tz::America__Phoenix,
    Tz::America__Los_Angeles,
    Tz::America__Anchorage,
    Tz::America__St_Johns,
    Tz::America__Halifax,
    Tz::America__Havana,
    Tz::America__Sao_Paulo,
    Tz::America__Santiago,
    Tz::America__Asuncion,
    Tz::America__Caracas,
    Tz::America__Mexico_City,
    Tz::Pacific__Honolulu,
    Tz::Pacific__Auckland,
    Tz::Pacific__Chatham,
    Tz::Pacific__Apia,
    Tz::Pacific__Kiritimati,
    Tz::Pacific__Marquesas,
    Tz::Australia__Sydney,
    Tz::Australia__Adelaide,
    Tz::Australia__Lord_Howe,
    Tz::Australia__Eucla,
    Tz::Asia__Kolkata,
    Tz::Asia__Kathmandu,
    Tz::Asia__Tokyo,
    Tz::Asia__Beirut,
    Tz::Asia__Gaza,
    Tz::Africa__Cairo,
    Tz::Africa__Casablanca,
];

/// The night from which on it runs. Clocks in Europe go back on the 30th, those of the United States a week later; and no
/// computer's own clock is there yet, so whoever asks that one gives himself away.
const START: &str = "2050-10-20T00:00:00Z";
const DAYS: i64 = 31;

/// How far instances that pile up are made ahead.
const HORIZON: TimeDelta = TimeDelta::days(5);

struct Person {
    id: Uuid,
    zone: Tz,
    late: i64,
    tasks: Vec<Uuid>,
    series: Vec<Uuid>,
}

/// A task as the person sees it.
struct Held {
    person: usize,
    task: Task,
    specs: HashMap<Uuid, Spec>,
}

/// What goes wrong.
#[derive(Clone, Copy)]
enum Trouble {
    /// The database's clock is set.
    Clock { ahead_hours: i64 },
    /// The scanner is away for minutes or a day and a half: it neither hears nor rings.
    Down,
    /// A consumer is set back to long before: old events, and none of them remembered.
    SetBack,
}

impl Trouble {
    fn name(self) -> &'static str {
        match self {
            Self::Clock { ahead_hours: 1 } => "clock an hour ahead",
            Self::Clock { ahead_hours: -1 } => "clock an hour behind",
            Self::Clock { .. } => "clock put right",
            Self::Down => "down",
            Self::SetBack => "set back",
        }
    }
}

fn troubles(rng: &mut StdRng, start: Timestamp) -> VecDeque<(Timestamp, Trouble)> {
    let kinds = [
        Trouble::Clock { ahead_hours: 1 },
        Trouble::Clock { ahead_hours: 0 },
        Trouble::Clock { ahead_hours: -1 },
        Trouble::Clock { ahead_hours: 0 },
        Trouble::Down,
        Trouble::Down,
        Trouble::SetBack,
    ];
    let mut troubles: Vec<(Timestamp, Trouble)> = (0..5)
        .flat_map(|_| kinds)
        .map(|kind| {
            (
                start + TimeDelta::minutes(rng.random_range(0..DAYS * 24 * 60)),
                kind,
            )
        })
        .collect();
    troubles.sort_by_key(|(at, _)| *at);
    troubles.into()
}

struct Simulation {
    rng: StdRng,
    world: World,
    model: Model,
    people: Vec<Person>,
    numbers: HashMap<Uuid, usize>,
    tasks: HashMap<Uuid, Held>,
    series: HashMap<Uuid, Course>,
    /// Instances that are to be made: of which series, at which of its occurrences; and when they are due.
    owed: BTreeMap<(Uuid, Timestamp), Timestamp>,
    /// Tasks that are to change, and into what.
    predicted: HashMap<Uuid, Predicted>,
    /// Each with what its reminders were to be then: an edit may change them before the scanner hears of it.
    to_scanner: VecDeque<(TaskEvent, Vec<Spec>)>,
    to_generator: VecDeque<TaskEvent>,
    recent: VecDeque<Event>,
    counts: HashMap<&'static str, u64>,
}

impl Simulation {
    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn chance(&mut self, of_a_thousand: u32) -> bool {
        self.rng.random_range(0..1000) < of_a_thousand
    }

    fn spec(&mut self, now: Timestamp) -> Spec {
        let when = match self.rng.random_range(0..10) {
            0 | 1 => Err(now + TimeDelta::seconds(self.rng.random_range(-3600..10 * 86_400))),
            2 | 3 => Ok((self.rng.random_range(1..4), self.rng.random_range(0..120))),
            _ => Ok((0, *[0, 5, 10, 30, 60, 180, 1440].choose(&mut self.rng).unwrap())),
        };
        self.spec_at(when)
    }

    fn spec_at(&mut self, when: Result<(u64, i64), Timestamp>) -> Spec {
        let nag = self.chance(250).then(|| {
            let every = *[60, 300, 600, 3600, 86_400].choose(&mut self.rng).unwrap();
            (every, self.rng.random_range(1..6))
        });
        let late = if self.chance(400) {
            Some(*[0, 60, 600, 7200, 40 * 86_400].choose(&mut self.rng).unwrap())
        } else {
            None
        };
        Spec { when, nag, late }
    }

    /// Something that a person does at that time.
    async fn act(&mut self, now: Timestamp) {
        let person = self.rng.random_range(0..self.people.len());
        match self.rng.random_range(0..100) {
            0..35 => self.create(person, now).await,
            35..44 => self.create_series(person, now).await,
            44..60 => self.complete(person, now).await,
            60..64 => {
                self.change(person, now, "reopened", |_, task| {
                    task.completed_at.take().map(|_| TaskEventKind::Reopened)
                })
                .await;
            }
            64..68 => {
                let delete = move |_: &mut Self, task: &mut Task| {
                    task.deleted_at
                        .is_none()
                        .then(|| task.deleted_at = Some(now))
                        .map(|()| TaskEventKind::Deleted)
                };
                self.change(person, now, "deleted", delete).await;
            }
            68..70 => {
                self.change(person, now, "restored", |_, task| {
                    task.deleted_at.take().map(|_| TaskEventKind::Restored)
                })
                .await;
            }
            70..80 => self.move_due(person, now).await,
            80..86 => self.snooze(person, now).await,
            86..88 => self.dismiss(person, now).await,
            88..91 => self.set_reminders(person, now).await,
            91..98 => self.edit_series(person, now).await,
            _ => self.travel(person, now).await,
        }
    }

    fn new_task(&mut self, person: usize, now: Timestamp) -> Held {
        let zone = self.people[person].zone;
        let due = now + TimeDelta::seconds(self.rng.random_range(-7200..12 * 86_400));
        let (mut due_at, mut due_on, mut floating) = (None, None, false);
        match self.rng.random_range(0..10) {
            0 | 1 => due_on = Some(due.with_timezone(&zone).date_naive()),
            2 => {}
            kind => {
                due_at = Some(due);
                floating = kind < 5;
            }
        }
        let specs: Vec<(Uuid, Spec)> = (0..self.rng.random_range(1..4))
            .map(|_| (Uuid::now_v7(), self.spec(now)))
            .collect();
        let task = Task {
            priority: *[Priority::Low, Priority::Medium, Priority::Urgent]
                .choose(&mut self.rng)
                .unwrap(),
            due_at,
            due_on,
            timezone: zone.name().to_owned(),
            floating,
            whole_day_minute: self.rng.random_range(0..1440),
            reminders: specs.iter().map(|(id, spec)| asked(*id, spec)).collect(),
            created_at: now,
            updated_at: now,
            ..samples::task()
        };
        Held {
            person,
            task,
            specs: specs.into_iter().collect(),
        }
    }

    async fn create(&mut self, person: usize, now: Timestamp) {
        let held = self.new_task(person, now);
        self.world.insert(self.people[person].id, &held.task, None).await;
        self.keep(held);
        self.count("created");
    }

    fn keep(&mut self, held: Held) {
        self.note(&held.task);
        self.people[held.person].tasks.push(held.task.id);
        self.tasks.insert(held.task.id, held);
    }

    fn any(&mut self, person: usize) -> Option<Uuid> {
        self.people[person].tasks.choose(&mut self.rng).copied()
    }

    /// Changes one of the person's tasks, unless the change is none.
    async fn change(
        &mut self,
        person: usize,
        now: Timestamp,
        what: &'static str,
        change: impl FnOnce(&mut Self, &mut Task) -> Option<TaskEventKind>,
    ) {
        let Some(id) = self.any(person) else { return };
        let mut task = self.tasks[&id].task.clone();
        let Some(kind) = change(self, &mut task) else {
            return;
        };
        self.write(person, kind, task, now).await;
        self.count(what);
    }

    async fn write(&mut self, person: usize, kind: TaskEventKind, mut task: Task, now: Timestamp) {
        task.version += 1;
        task.updated_at = now;
        self.world
            .update(self.people[person].id, kind, std::slice::from_ref(&task))
            .await;
        self.note(&task);
        let held = self.tasks.get_mut(&task.id).unwrap();
        held.task = task;
    }

    async fn complete(&mut self, person: usize, now: Timestamp) {
        let complete = move |_: &mut Self, task: &mut Task| {
            task.is_open()
                .then(|| task.completed_at = Some(now))
                .map(|()| TaskEventKind::Completed)
        };
        self.change(person, now, "completed", complete).await;
    }

    async fn move_due(&mut self, person: usize, now: Timestamp) {
        let due = now + TimeDelta::seconds(self.rng.random_range(-7200..6 * 86_400));
        let cleared = self.chance(150);
        let moved = move |_: &mut Self, task: &mut Task| {
            if task.deleted_at.is_some() {
                return None;
            }
            let zone: Tz = task.timezone.parse().unwrap();
            match (cleared, task.due_on) {
                (true, _) => (task.due_at, task.due_on) = (None, None),
                (_, Some(_)) => task.due_on = Some(due.with_timezone(&zone).date_naive()),
                _ => task.due_at = Some(due),
            }
            // Whose own time moves is neither put off nor dismissed any more.
            for reminder in task.reminders.iter_mut().filter(|r| r.offset.is_some()) {
                (reminder.snoozed_until, reminder.dismissed_at) = (None, None);
            }
            Some(TaskEventKind::Updated)
        };
        self.change(person, now, "moved", moved).await;
    }

    async fn snooze(&mut self, person: usize, now: Timestamp) {
        let until = now + TimeDelta::seconds(self.rng.random_range(60..30_000));
        let snooze = move |simulation: &mut Self, task: &mut Task| {
            if !task.is_open() || task.reminders.is_empty() {
                return None;
            }
            let at = simulation.rng.random_range(0..task.reminders.len());
            task.reminders[at].snoozed_until = Some(until);
            task.reminders[at].dismissed_at = None;
            Some(TaskEventKind::Updated)
        };
        self.change(person, now, "snoozed", snooze).await;
    }

    async fn dismiss(&mut self, person: usize, now: Timestamp) {
        let dismiss = move |simulation: &mut Self, task: &mut Task| {
            if !task.is_open() || task.reminders.is_empty() {
                return None;
            }
            let at = simulation.rng.random_range(0..task.reminders.len());
            task.reminders[at].dismissed_at = Some(now);
            Some(TaskEventKind::Updated)
        };
        self.change(person, now, "dismissed", dismiss).await;
    }

    /// Replaces a reminder by another, of its own id, and takes one away now and then.
    async fn set_reminders(&mut self, person: usize, now: Timestamp) {
        let Some(id) = self.any(person) else { return };
        let (spec, new) = (self.spec(now), Uuid::now_v7());
        let mut task = self.tasks[&id].task.clone();
        if task.deleted_at.is_some() || task.reminders.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..task.reminders.len());
        if self.chance(300) {
            task.reminders.remove(at);
        } else {
            task.reminders[at] = asked(new, &spec);
            self.tasks.get_mut(&id).unwrap().specs.insert(new, spec);
        }
        self.write(person, TaskEventKind::Updated, task, now).await;
        self.count("reminders set");
    }

    /// The person goes to another zone: what is due on a day or floats goes along, by its clock on the wall.
    async fn travel(&mut self, person: usize, now: Timestamp) {
        let zone = *ZONES.choose(&mut self.rng).unwrap();
        self.people[person].zone = zone;
        let mut changed = Vec::new();
        for id in self.people[person].tasks.clone() {
            let held = &self.tasks[&id];
            let old: Tz = held.task.timezone.parse().unwrap();
            if !held.task.is_open() || !(held.task.floating || held.task.due_on.is_some()) || old == zone {
                continue;
            }
            let mut task = held.task.clone();
            task.due_at = task
                .due_at
                .map(|at| instant(at.with_timezone(&old).naive_local(), zone));
            task.timezone = zone.name().to_owned();
            for reminder in task.reminders.iter_mut().filter(|r| r.offset.is_some()) {
                (reminder.snoozed_until, reminder.dismissed_at) = (None, None);
            }
            task.version += 1;
            task.updated_at = now;
            changed.push(task);
        }
        if changed.is_empty() {
            return;
        }
        self.world
            .update(self.people[person].id, TaskEventKind::Updated, &changed)
            .await;
        for task in changed {
            let held = self.tasks.get_mut(&task.id).unwrap();
            held.task = task;
        }
        self.count("travelled");
    }

    /// Carries events to the consumers, all of them or only some; checks what they say.
    async fn pump(&mut self, now: Timestamp, all: bool) {
        loop {
            self.listen(now, &[]).await;
            if self.to_scanner.is_empty() && self.to_generator.is_empty() {
                return;
            }
            if !all && self.chance(100) {
                return;
            }
            let delivery = match self.rng.random_range(0..20) {
                0 => Delivery::Killed,
                1 => Delivery::Repeated,
                _ => Delivery::Applied,
            };
            let size = self.rng.random_range(1..=500);
            let mut batch: Vec<Event> = Vec::new();
            for (event, specs) in self
                .to_scanner
                .drain(..self.to_scanner.len().min(size))
                .collect::<Vec<_>>()
            {
                self.tell_model(&event, specs);
                batch.push(event.into());
            }
            let replica = self.rng.random_range(0..REPLICAS);
            self.world.arm(replica, &batch, delivery).await;
            self.recent.extend(batch);
            while self.recent.len() > 300 {
                self.recent.pop_front();
            }
            let batch: Vec<TaskEvent> = self
                .to_generator
                .drain(..self.to_generator.len().min(size))
                .collect();
            for event in &batch {
                self.owe(event);
            }
            let batch: Vec<Event> = batch.into_iter().map(Event::from).collect();
            self.world.generate(&batch, delivery).await;
        }
    }

    fn tell_model(&mut self, event: &TaskEvent, specs: Vec<Spec>) {
        let person = self.tasks[&event.task.id].person;
        let task = &event.task;
        let zone: Tz = task.timezone.parse().unwrap();
        let day_at = |day: NaiveDate| {
            let minutes = u32::try_from(task.whole_day_minute).unwrap();
            instant(day.and_hms_opt(minutes / 60, minutes % 60, 0).unwrap(), zone)
        };
        let said = Said {
            version: task.version,
            at: event.occurred_at,
            open: task.is_open(),
            anchor: task
                .due_at
                .or(task.due_on.map(day_at))
                .map(|at| Anchor { at, zone }),
            reminders: task
                .reminders
                .iter()
                .zip(specs)
                .map(|(r, spec)| (r.id, spec, r.snoozed_until, r.dismissed_at.is_some()))
                .collect(),
        };
        self.model.told(task.id, &said, self.people[person].late);
    }

    /// Hears what the services said, and compares what rang with what was to ring.
    async fn listen(&mut self, now: Timestamp, expected: &[Rang]) {
        let mut rang = Vec::new();
        let mut said = self.world.said().await;
        // Two generators side by side make instances in whatever order; a month is to be the same each time.
        said.sort_by_key(|event| match event {
            Event::Task(event) if event.actor == Actor::Recurrence => {
                (event.task.series_id, event.task.occurrence)
            }
            _ => (None, None),
        });
        for event in said {
            match event {
                Event::Task(event) => {
                    // What the person wrote by themselves is known.
                    match self.tasks.get(&event.task.id) {
                        None => self.take_over(&event, now),
                        Some(held) if held.task.version < event.task.version => self.take_along(&event),
                        Some(_) => {}
                    }
                    if HEARD.contains(&event.kind) {
                        self.to_generator.push_back(event.clone());
                    }
                    let specs = &self.tasks[&event.task.id].specs;
                    let specs = event
                        .task
                        .reminders
                        .iter()
                        .map(|r| specs[&r.id].clone())
                        .collect();
                    self.to_scanner.push_back((event, specs));
                }
                Event::Reminder(event) => {
                    let missed = event.reminder.reason.as_deref() == Some("missed");
                    if event.kind == ReminderEventKind::Fired || missed {
                        let at = event.reminder.fired_at.unwrap_or(now);
                        assert_eq!(at, now, "{event:?} did not ring by the database's clock");
                        assert!(event.reminder.fire_at <= now, "{event:?} is early");
                        rang.push(Rang {
                            id: event.reminder.id,
                            fire_at: event.reminder.fire_at,
                            ring: event.reminder.ring,
                            missed,
                        });
                    }
                }
                Event::Notification(_) => panic!("nobody notifies here"),
            }
        }
        let mut expected = expected.to_vec();
        rang.sort_unstable();
        expected.sort_unstable();
        if rang != expected {
            let told: Vec<_> = expected.iter().filter(|one| !rang.contains(one)).collect();
            let made: Vec<_> = rang.iter().filter(|one| !expected.contains(one)).collect();
            panic!("at {now}: to ring and did not {told:#?}, not to ring and did {made:#?}");
        }
        for one in &rang {
            self.count(if one.missed {
                "missed"
            } else if one.ring > 0 {
                "rang again"
            } else {
                "rang"
            });
        }
    }

    /// The scanners look at the clock.
    async fn scan(&mut self, now: Timestamp) {
        let expected = self.model.scan(now);
        let replicas = self.rng.random_range(1..=REPLICAS);
        let limit = *[1, 7, 500].choose(&mut self.rng).unwrap();
        self.world.fire(replicas, limit).await;
        self.listen(now, &expected).await;
    }
}

/// As the product writes durations.
fn duration(days: u64, seconds: i64) -> String {
    let mut text = match days {
        0 => "P".to_owned(),
        days => format!("P{days}D"),
    };
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    if seconds > 0 {
        text.push('T');
    }
    if hours > 0 {
        text.push_str(&format!("{hours}H"));
    }
    if minutes > 0 {
        text.push_str(&format!("{minutes}M"));
    }
    if text == "P" { "PT0S".to_owned() } else { text }
}

fn offset(spec: &Spec) -> String {
    match spec.when {
        Ok((0, 0)) => "PT0S".to_owned(),
        Ok((days, minutes)) => format!("-{}", duration(days, minutes * 60)),
        Err(_) => panic!("an instant is no offset"),
    }
}

fn nag(spec: &Spec) -> Option<Nag> {
    spec.nag.map(|(seconds, times)| Nag {
        every: duration(0, seconds),
        times,
    })
}

fn late(spec: &Spec) -> Option<String> {
    spec.late.map(|seconds| duration(0, seconds))
}

/// The reminder as the API writes it down.
fn asked(id: Uuid, spec: &Spec) -> TaskReminder {
    let base = match spec.when {
        Ok(_) => TaskReminder::relative(offset(spec)),
        Err(at) => TaskReminder::absolute(at),
    };
    TaskReminder {
        id,
        nag: nag(spec),
        send_late_within: late(spec),
        ..base
    }
}

fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().ok().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_simulated_month_exactly_what_the_model_says_rings_exactly_when_it_says() {
    let seed: u64 = setting("SIMULATION_SEED", rand::random());
    let people: usize = setting("SIMULATION_PEOPLE", 100);
    let step_ms: i64 = 1000 * setting("SIMULATION_STEP_SECONDS", 2);
    println!("SIMULATION_SEED={seed} SIMULATION_PEOPLE={people}");
    let start: Timestamp = START.parse::<DateTime<Utc>>().unwrap();
    let end = start + TimeDelta::days(DAYS);
    let world = World::create(start).await;
    let mut rng = StdRng::seed_from_u64(seed);
    let mut persons = Vec::new();
    for n in 0..people {
        let late = *[0, 3600, 86_400, 86_400, 20 * 86_400].choose(&mut rng).unwrap();
        let zone = ZONES[n % ZONES.len()];
        persons.push(Person {
            id: world.person(zone, late).await,
            zone,
            late,
            tasks: Vec::new(),
            series: Vec::new(),
        });
    }
    let mut simulation = Simulation {
        rng,
        world,
        model: Model::default(),
        numbers: persons
            .iter()
            .enumerate()
            .map(|(n, person)| (person.id, n))
            .collect(),
        people: persons,
        tasks: HashMap::new(),
        series: HashMap::new(),
        owed: BTreeMap::new(),
        predicted: HashMap::new(),
        to_scanner: VecDeque::new(),
        to_generator: VecDeque::new(),
        recent: VecDeque::new(),
        counts: HashMap::new(),
    };
    // Everybody does something 25 times.
    let month = u64::try_from(TimeDelta::days(DAYS).num_milliseconds()).unwrap();
    let mut actions: Vec<Timestamp> = (0..people * 25)
        .map(|_| {
            let ms = i64::try_from(simulation.rng.random_range(0..month)).unwrap();
            start + TimeDelta::milliseconds(ms)
        })
        .collect();
    actions.sort_unstable();
    let mut actions = VecDeque::from(actions);
    let mut troubles = troubles(&mut simulation.rng, start);
    let (mut now, mut skew, mut down_until) = (start, TimeDelta::zero(), start);
    while now < end {
        // On to whatever comes first, and a moment further.
        let due = simulation
            .model
            .next_due()
            .map(|due| due - skew)
            .filter(|due| *due > now);
        let next = [actions.front().copied(), due, Some(now + TimeDelta::hours(3))]
            .into_iter()
            .flatten()
            .min()
            .unwrap();
        now = next.max(now) + TimeDelta::milliseconds(simulation.rng.random_range(0..step_ms));
        while let Some((_, trouble)) = troubles.pop_front_if(|(at, _)| *at <= now) {
            simulation.count(trouble.name());
            match trouble {
                Trouble::Clock { ahead_hours } => skew = TimeDelta::hours(ahead_hours),
                Trouble::Down => {
                    down_until = now + TimeDelta::minutes(simulation.rng.random_range(2..40 * 60));
                }
                Trouble::SetBack => {
                    simulation.world.forget_handled().await;
                    let again: Vec<Event> = simulation.recent.iter().cloned().collect();
                    simulation.world.arm(0, &again, Delivery::Applied).await;
                }
            }
        }
        let clock = now + skew;
        simulation.world.clock.stand_at(clock).await;
        while actions.front().is_some_and(|at| *at <= now) {
            let at = actions.pop_front().unwrap();
            simulation.act(at).await;
        }
        // While the scanner is down it neither hears nor rings.
        if now >= down_until {
            if simulation.chance(50) {
                simulation.make_ahead(clock).await;
            }
            simulation.pump(clock, false).await;
            simulation.scan(clock).await;
        }
    }
    simulation.pump(now + skew, true).await;
    simulation.scan_at_the_end(end + TimeDelta::days(1)).await;
    let mut counts: Vec<_> = simulation.counts.iter().collect();
    counts.sort_unstable();
    println!("{counts:?}");
    for what in [
        "rang",
        "rang again",
        "missed",
        "made again",
        "made ahead",
        "rolled forward",
        "snoozed",
        "dismissed",
        "travelled",
        "all changed",
        "this and following changed",
        "occurrence skipped",
        "occurrence moved",
        "paused",
        "resumed",
        "ended",
        "edit refused",
    ] {
        assert!(
            simulation.counts.contains_key(what),
            "nothing {what}: it proves too little"
        );
    }
    simulation.compare_series().await;
}

impl Simulation {
    async fn scan_at_the_end(&mut self, now: Timestamp) {
        self.world.clock.stand_at(now).await;
        self.scan(now).await;
    }
}
