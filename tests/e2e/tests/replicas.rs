//! Three scanners ring for people who say differently how late a reminder may be. Single scanners are killed at random, all
//! three are away for longer than some of the reminders may wait, Kafka goes away and so does Postgres.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use e2e::{Ending, Ledger, Mails, Platform, say, seeded};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

const SCANNERS: usize = 3;
const PEOPLE: usize = 12;
/// How long all scanners are away: what falls due in its first seconds is too late for every policy but the last.
const ALL_AWAY: Duration = Duration::from_secs(105);
/// How long Kafka and Postgres are away, beside what stopping and starting them takes.
const PART_AWAY: Duration = Duration::from_secs(10);

/// How much later than said a reminder may always be: see docs/REMINDERS.md.
const TOLERANCE: TimeDelta = TimeDelta::minutes(1);

/// How late a reminder may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Policy {
    Drop,
    Within30Seconds,
    WithinADay,
}

impl Policy {
    fn duration(self) -> &'static str {
        match self {
            Self::Drop => "PT0S",
            Self::Within30Seconds => "PT30S",
            Self::WithinADay => "P1D",
        }
    }

    /// As late as it may ring.
    fn limit(self) -> TimeDelta {
        TOLERANCE
            + match self {
                Self::Drop => TimeDelta::zero(),
                Self::Within30Seconds => TimeDelta::seconds(30),
                Self::WithinADay => TimeDelta::days(1),
            }
    }
}

/// A reminder that the API said it took.
#[derive(Debug, Clone, Copy)]
struct Asked {
    id: Uuid,
    at: DateTime<Utc>,
    policy: Policy,
    /// Whether the reminder itself says so, or the person's setting.
    its_own: bool,
}

/// Somebody who makes tasks with reminders of all policies until told to stop; and how often the API was away.
async fn person(
    mut client: e2e::Client,
    address: String,
    setting: Policy,
    mut random: StdRng,
    goes_on: Arc<AtomicBool>,
) -> (Vec<Asked>, u64) {
    client = client.register(&address).await;
    // A day is what everybody has at first.
    if setting != Policy::WithinADay {
        let body = json!({"send_late_within": setting.duration()});
        client.call(Method::PATCH, "/api/me", Some(body)).await;
    }
    let mut asked = Vec::new();
    while goes_on.load(Ordering::Relaxed) {
        let own = *[
            None,
            None,
            Some(Policy::Drop),
            Some(Policy::Within30Seconds),
            Some(Policy::WithinADay),
        ]
        .choose(&mut random)
        .unwrap_or(&None);
        let at = Utc::now() + TimeDelta::milliseconds(random.random_range(2000..30_000));
        let at = DateTime::from_timestamp_micros(at.timestamp_micros()).unwrap_or(at);
        let mut reminder = json!({"at": at.to_rfc3339()});
        if let Some(own) = own {
            reminder["send_late_within"] = Value::from(own.duration());
        }
        let task = json!({"title": format!("Task {}", asked.len()), "reminders": [reminder]});
        let created = client.create(task).await;
        asked.extend(created.reminders.iter().map(|id| Asked {
            id: *id,
            at,
            policy: own.unwrap_or(setting),
            its_own: own.is_some(),
        }));
        tokio::time::sleep(Duration::from_millis(random.random_range(100..700))).await;
    }
    (asked, client.refusals())
}

/// Kills single scanners at random and starts them again, for so long. Returns how many.
async fn kill_one_after_the_other(platform: &mut Platform, random: &mut StdRng, during: Duration) -> usize {
    let until = Instant::now() + during;
    let mut kills = 0;
    while Instant::now() < until {
        let which = random.random_range(0..SCANNERS);
        let (alive, gone) = (random.random_range(200..2500), random.random_range(10..1500));
        tokio::time::sleep(Duration::from_millis(alive)).await;
        platform.replicas("reminder-scanner")[which].kill();
        tokio::time::sleep(Duration::from_millis(gone)).await;
        platform.replicas("reminder-scanner")[which].start();
        kills += 1;
    }
    kills
}

/// A time in which nothing could ring.
#[derive(Debug, Clone, Copy)]
struct Outage {
    from: DateTime<Utc>,
    until: DateTime<Utc>,
}

#[tokio::test(flavor = "multi_thread")]
async fn three_scanners_that_are_killed_ring_each_reminder_once_as_late_as_it_may_be_and_no_later() {
    let mut random = seeded();
    let mut platform = Platform::of(&[
        "api",
        "outbox-relay",
        "reminder-scanner",
        "reminder-scanner",
        "reminder-scanner",
        "email-sender",
        "audit-sink",
    ])
    .await;
    let ledger = Ledger::new(platform.database());
    let run = platform.database().name().replace('_', "-");
    let addresses: Vec<String> = (0..PEOPLE).map(|n| format!("person-{n}@{run}.example")).collect();
    let settings = [Policy::Drop, Policy::Within30Seconds, Policy::WithinADay];
    let goes_on = Arc::new(AtomicBool::new(true));
    let people: Vec<_> = (0..PEOPLE)
        .map(|n| {
            tokio::spawn(person(
                platform.client(),
                addresses[n].clone(),
                settings[n % settings.len()],
                StdRng::seed_from_u64(random.random()),
                Arc::clone(&goes_on),
            ))
        })
        .collect();

    let mut kills = kill_one_after_the_other(&mut platform, &mut random, Duration::from_secs(20)).await;

    for scanner in platform.replicas("reminder-scanner") {
        scanner.kill();
    }
    let from = ledger.now().await;
    tokio::time::sleep(ALL_AWAY).await;
    let back_from = ledger.now().await;
    for scanner in platform.replicas("reminder-scanner") {
        scanner.start();
    }
    for scanner in platform.replicas("reminder-scanner") {
        scanner.ready().await;
    }
    let all_away = Outage {
        from,
        until: ledger.now().await,
    };
    kills += SCANNERS;
    kills += kill_one_after_the_other(&mut platform, &mut random, PART_AWAY).await;

    tokio::task::block_in_place(|| platform.stop_part("kafka"));
    kills += kill_one_after_the_other(&mut platform, &mut random, PART_AWAY).await;
    tokio::task::block_in_place(|| platform.start_part("kafka"));

    let from = ledger.now().await;
    tokio::task::block_in_place(|| platform.stop_part("postgres"));
    kills += kill_one_after_the_other(&mut platform, &mut random, PART_AWAY).await;
    tokio::task::block_in_place(|| platform.start_part("postgres"));
    let postgres_away = Outage {
        from,
        until: ledger.now().await,
    };
    kills += kill_one_after_the_other(&mut platform, &mut random, PART_AWAY).await;

    goes_on.store(false, Ordering::Relaxed);
    let (mut asked, mut refusals) = (Vec::new(), 0);
    for person in people {
        let (theirs, refused) = person.await.unwrap();
        asked.extend(theirs);
        refusals += refused;
    }
    for service in platform.services() {
        service.ready().await;
    }
    let span = |outage: Outage| (outage.until - outage.from).num_seconds();
    say(&format!(
        "{} reminders; {kills} scanners killed; nothing could ring for {} s without a scanner and {} s without Postgres; \
         requests tried again {refusals} times",
        asked.len(),
        span(all_away),
        span(postgres_away),
    ));

    ledger.settled(Duration::from_mins(5)).await;
    ledger.check().await;
    let endings = ledger.endings().await;
    for (id, endings) in &endings {
        assert_eq!(endings.len(), 1, "reminder {id} has one ending: {endings:?}");
        let ending = endings[0];
        assert!(
            ending.decided_at >= ending.fire_at,
            "nothing is early: {ending:?}"
        );
        assert!(
            ending.decided_at < all_away.from || ending.decided_at >= back_from,
            "nothing rings without a scanner: {ending:?}"
        );
    }
    for one in &asked {
        let ending = endings.get(&one.id).map(|endings| endings[0]);
        check_policy(one, ending, &[all_away, postgres_away]);
    }
    check_that_every_policy_was_seen(&asked, &endings);
    let mails = ledger.mails(&addresses).await;
    check_mails(&ledger, &endings, &mails).await;
    let audited = ledger.count("select count(*) from audit.events").await;
    say(&format!(
        "{audited} events in audit, each once; {} duplicate mails",
        mails.duplicates()
    ));
}

/// A reminder rang if it was not later than its policy lets it be when its turn came, and was missed otherwise; and its turn
/// came while it could ring, unless there was nobody to ring it.
fn check_policy(one: &Asked, ending: Option<Ending>, outages: &[Outage]) {
    let Some(ending) = ending else {
        panic!("{one:?} was lost");
    };
    assert_eq!(ending.fire_at, one.at, "{one:?}");
    let late = ending.decided_at - ending.fire_at;
    let limit = one.policy.limit();
    assert_eq!(
        ending.missed,
        late > limit,
        "{one:?}: {ending:?}, {} s late",
        late.num_seconds()
    );
    let hindered = |outage: &Outage| one.at <= outage.until && one.at + limit >= outage.from;
    assert!(
        !ending.missed || outages.iter().any(hindered),
        "{one:?} could have rung: {ending:?}"
    );
}

/// How many rang within the minute, rang later than that, and were missed.
#[derive(Debug, Default)]
struct Seen {
    in_time: usize,
    late: usize,
    missed: usize,
}

fn check_that_every_policy_was_seen(asked: &[Asked], endings: &HashMap<Uuid, Vec<Ending>>) {
    let mut seen: BTreeMap<(bool, Policy), Seen> = BTreeMap::new();
    for one in asked {
        let ending = endings[&one.id][0];
        let seen = seen.entry((one.its_own, one.policy)).or_default();
        if ending.missed {
            seen.missed += 1;
        } else if ending.decided_at - ending.fire_at > TOLERANCE {
            seen.late += 1;
        } else {
            seen.in_time += 1;
        }
    }
    for its_own in [false, true] {
        for policy in [Policy::Drop, Policy::Within30Seconds, Policy::WithinADay] {
            let Seen {
                in_time,
                late,
                missed,
            } = seen.remove(&(its_own, policy)).unwrap_or_default();
            let whose = if its_own {
                "the reminder's own"
            } else {
                "the person's"
            };
            say(&format!(
                "{} ({whose}): {in_time} rang within a minute, {late} later, {missed} missed",
                policy.duration()
            ));
            assert!(in_time > 0);
            assert_eq!(
                late > 0,
                policy != Policy::Drop,
                "{policy:?} lets a reminder be late"
            );
            assert_eq!(
                missed > 0,
                policy != Policy::WithinADay,
                "{policy:?} drops what is too late"
            );
        }
    }
}

/// Every ring was mailed, and a mail says how late it comes if that is more than a minute: as late as the reminder rang, or
/// as late as it was when it was sent.
async fn check_mails(ledger: &Ledger, endings: &HashMap<Uuid, Vec<Ending>>, mails: &Mails) {
    let rang = endings.values().filter(|endings| !endings[0].missed).count();
    assert_eq!(mails.by_message_id.len(), rang, "each ring reached its person");
    let mailed = ledger.mailed().await;
    assert_eq!(mailed.len(), rang, "and nothing that was missed");
    let mut said_late = 0;
    for mail in mailed {
        let ending = endings[&mail.reminder_id][0];
        let text = &mails.texts[&mail.message_id];
        let told = minutes_late(text);
        let least = (ending.decided_at - ending.fire_at).num_minutes();
        let most = (mail.finished_at - ending.fire_at).num_minutes();
        assert!(
            (least..=most).contains(&told),
            "the mail of {ending:?} says it is {told} minutes late: {text}"
        );
        said_late += usize::from(told > 0);
    }
    say(&format!(
        "{rang} rings mailed, of which {said_late} say how late they come"
    ));
    assert!(said_late > 0);
}

/// What a mail says of how late it comes; 0 where it says nothing.
fn minutes_late(text: &str) -> i64 {
    let Some((_, rest)) = text.split_once("This reminder comes ") else {
        return 0;
    };
    let minutes = rest.split(' ').next().and_then(|count| count.parse().ok());
    minutes.unwrap_or_else(|| panic!("{text:?} says how late it is"))
}
