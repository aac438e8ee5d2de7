//! The independent checker: what the API, the tables, the topics, the mailboxes and people's endpoints say in the end, beside what
//! people were told and nothing else. It shares no code with what it checks but the reading of Avro.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use e2e::Ledger;
use schemas::topics::{NOTIFICATION_EVENTS, TASK_EVENTS, TASK_REMINDERS};
use schemas::{Event, ReminderEventKind};
use serde_json::Value;
use sqlx::PgPool;
use support::{ReadRecord, Topics};
use uuid::Uuid;

use crate::again::AGAIN;
use crate::journal::Journal;
use crate::load::{Fate, Person};
use crate::receiver::Receiver;

/// A reminder that rang, as its event in the topic says.
#[derive(Debug, Clone)]
struct Rang {
    event_id: Uuid,
    reminder_id: Uuid,
    task_id: Uuid,
    fire_at: DateTime<Utc>,
    fired_at: DateTime<Utc>,
}

/// What is to be looked at.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// The database, not by the proxy.
    pub admin: &'a PgPool,
    /// The tables, the audit trail and the mails.
    pub ledger: &'a Ledger,
    /// The topics.
    pub topics: &'a Topics,
    /// What webhooks came.
    pub receiver: &'a Receiver,
    /// How many records came again because we wrote them again.
    pub again: usize,
}

/// Looks at all of it, and notes what is lost, doubled or early.
///
/// # Panics
/// When something cannot be looked at.
pub async fn check(evidence: &Evidence<'_>, people: &mut [Person], journal: &Journal) {
    for wrong in evidence.ledger.wrong().await {
        journal.finding(wrong);
    }
    let rang = topics(evidence, journal).await;
    promises(people, &rang, journal);
    mails(evidence, people, &rang, journal).await;
    webhooks(evidence.receiver, &rang, journal);
    let mut listed = 0;
    for person in people {
        api(evidence, person, journal).await;
        listed += notifications(person, &rang, journal).await;
    }
    if listed != rang.len() {
        journal.finding(format!(
            "{listed} notifications in the pages of {} rings",
            rang.len()
        ));
    }
    lateness(&rang, journal);
}

/// Every event of the outbox is in its topic, nothing else is, each task's versions come in their order, and each firing was
/// announced by one event. Returns what rang.
async fn topics(evidence: &Evidence<'_>, journal: &Journal) -> Vec<Rang> {
    let registry = kafka::Registry::new(&evidence.topics.registry()).unwrap();
    let written: HashSet<Uuid> = sqlx::query_scalar("select event_id from outbox.events")
        .fetch_all(evidence.admin)
        .await
        .unwrap()
        .into_iter()
        .collect();
    let mut seen = HashSet::new();
    let mut versions: HashMap<Uuid, i64> = HashMap::new();
    let (mut copies, mut ours) = (0, 0);
    let mut rang: Vec<Rang> = Vec::new();
    for topic in [TASK_EVENTS, TASK_REMINDERS, NOTIFICATION_EVENTS] {
        for record in evidence.topics.read(topic).await {
            if record.header(AGAIN).is_some() {
                ours += 1;
                continue;
            }
            let event = event(&registry, topic, &record).await;
            let head = event.head();
            if !seen.insert(head.event_id) {
                copies += 1;
                continue;
            }
            if !written.contains(&head.event_id) {
                journal.finding(format!(
                    "{topic} has an event that nobody wrote: {}",
                    head.event_id
                ));
            }
            match event {
                Event::Task(event) => {
                    let last = versions.insert(event.task.id, event.task.version).unwrap_or(0);
                    if event.task.version != last + 1 {
                        journal.finding(format!(
                            "order: version {} of task {} comes after version {last}",
                            event.task.version, event.task.id
                        ));
                    }
                }
                Event::Reminder(event) if event.kind == ReminderEventKind::Fired => rang.push(Rang {
                    event_id: event.event_id,
                    reminder_id: event.reminder.id,
                    task_id: event.task.id,
                    fire_at: event.reminder.fire_at,
                    fired_at: event.reminder.fired_at.unwrap_or_default(),
                }),
                _ => {}
            }
        }
    }
    for lost in written.difference(&seen) {
        journal.finding(format!("lost: event {lost} is in no topic"));
    }
    let mut once = HashSet::new();
    for one in &rang {
        if !once.insert((one.reminder_id, one.fire_at)) {
            journal.finding(format!("doubled: {one:?} rang before"));
        }
        if one.fired_at < one.fire_at {
            journal.finding(format!("early: {one:?}"));
        }
    }
    if ours != evidence.again {
        journal.finding(format!("{ours} records came again, not {}", evidence.again));
    }
    journal.figure("Events in the topics", seen.len());
    journal.figure(
        "Records that the relay published again after it was killed",
        copies,
    );
    journal.figure("Records that were written again as a fault", ours);
    journal.figure("Reminders that rang", rang.len());
    rang
}

async fn event(registry: &kafka::Registry, topic: &str, record: &ReadRecord) -> Event {
    let (id, body) = schemas::unframe(record.value.as_deref()).expect("a framed record");
    let schema = registry.schema(id).await.expect("the registry answers");
    schemas::decode(topic, &schema, body).expect("an event")
}

/// What the people were promised by the answers they got.
fn promises(people: &[Person], rang: &[Rang], journal: &Journal) {
    let mut by_task: HashMap<Uuid, Vec<&Rang>> = HashMap::new();
    for one in rang {
        by_task.entry(one.task_id).or_default().push(one);
    }
    let mut made = 0;
    for kept in people.iter().flat_map(|person| &person.kept) {
        made += 1;
        let rang = by_task.get(&kept.id).map(Vec::as_slice).unwrap_or_default();
        match kept.fate {
            Fate::Rings(at) => {
                if rang.is_empty() {
                    journal.finding(format!("lost: {kept:?} never rang"));
                }
                if rang.len() > 1 {
                    journal.finding(format!("doubled: {kept:?} rang {} times", rang.len()));
                }
                for one in rang.iter().filter(|one| one.fire_at != at) {
                    journal.finding(format!("{kept:?} rang for another time: {one:?}"));
                }
            }
            Fate::Unknown if rang.len() > 1 => {
                journal.finding(format!("doubled: {kept:?} rang {} times", rang.len()));
            }
            Fate::Unknown => {}
            Fate::Completed | Fate::Deleted | Fate::Recurs { .. } => {
                if !rang.is_empty() {
                    journal.finding(format!("{kept:?} rang, and must not: {rang:?}"));
                }
            }
        }
    }
    journal.figure("Tasks that the API said it made", made);
}

/// Every ring reached its person's mailbox, and not before its time.
async fn mails(evidence: &Evidence<'_>, people: &[Person], rang: &[Rang], journal: &Journal) {
    let addresses: Vec<String> = people.iter().map(|person| person.address.clone()).collect();
    let mails = evidence.ledger.mails(&addresses).await;
    let sent = evidence.ledger.mailed().await;
    let mut known = HashSet::new();
    for mail in &sent {
        known.insert(mail.message_id.as_str());
        match mails.received_at.get(&mail.message_id) {
            None => journal.finding(format!("lost: {mail:?} was recorded and never came")),
            Some(at) if *at < mail.fire_at => journal.finding(format!("early: {mail:?} came at {at}")),
            Some(_) => {}
        }
    }
    let mailed: HashSet<_> = sent.iter().map(|mail| (mail.reminder_id, mail.fire_at)).collect();
    for one in rang {
        if !mailed.contains(&(one.reminder_id, one.fire_at)) {
            journal.finding(format!("lost: {one:?} was never mailed"));
        }
    }
    if mailed.len() != rang.len() || sent.len() != rang.len() {
        journal.finding(format!("{} mails of {} rings", sent.len(), rang.len()));
    }
    for id in mails
        .by_message_id
        .keys()
        .filter(|id| !known.contains(id.as_str()))
    {
        journal.finding(format!("mail {id:?} is of no delivery"));
    }
    journal.figure("Mails, each Message-ID once", mails.by_message_id.len());
    journal.figure(
        "Mails that came a second time, under the same Message-ID",
        mails.duplicates(),
    );
}

/// Every ring reached its person's endpoint, and not before its time.
fn webhooks(receiver: &Receiver, rang: &[Rang], journal: &Journal) {
    let arrived = receiver.arrived();
    let mut of_event: HashMap<Uuid, DateTime<Utc>> = HashMap::new();
    let (mut again, mut copies) = (0, 0);
    for (id, one) in &arrived {
        copies += one.copies;
        again += one.copies - 1;
        if !one.alike {
            journal.finding(format!("webhook {id} came again and said something else"));
        }
        let event = one.body["data"]["event_id"]
            .as_str()
            .and_then(|id| id.parse().ok());
        match event {
            Some(event) if of_event.insert(event, one.at).is_none() => {}
            Some(event) => journal.finding(format!("doubled: two webhook-ids of event {event}")),
            None => journal.finding(format!("webhook {id} is of no event: {}", one.body)),
        }
    }
    for one in rang {
        match of_event.get(&one.event_id) {
            None => journal.finding(format!("lost: the webhook of {one:?} never came")),
            Some(at) if *at < one.fire_at => {
                journal.finding(format!("early: the webhook of {one:?} came at {at}"));
            }
            Some(_) => {}
        }
    }
    journal.figure("Webhooks, each webhook-id once", arrived.len());
    journal.figure("Webhooks that came again, under the same webhook-id", again);
    journal.figure("Requests that the endpoints took", copies);
}

/// The API shows each person exactly the tasks that it told them of, as they left them.
async fn api(evidence: &Evidence<'_>, person: &mut Person, journal: &Journal) {
    let shown = person.list("tasks").await;
    let by_id: HashMap<Uuid, &Value> = shown
        .iter()
        .filter_map(|task| Some((task["id"].as_str()?.parse().ok()?, task)))
        .collect();
    let mut expected = HashSet::new();
    let mut series = HashSet::new();
    for kept in &person.kept {
        expected.insert(kept.id);
        let task = by_id.get(&kept.id);
        let completed = task.map(|task| task["completed_at"].is_string());
        let as_it_was = match kept.fate {
            Fate::Deleted => task.is_none(),
            Fate::Completed | Fate::Recurs { .. } => completed == Some(true),
            Fate::Rings(_) => completed == Some(false),
            Fate::Unknown => true,
        };
        if !as_it_was || task.is_some_and(|task| task["title"] != kept.title.as_str()) {
            journal.finding(format!("the API shows {kept:?} as {task:?}"));
        }
        if let Fate::Recurs { series: id } = kept.fate {
            series.insert(id);
        }
    }
    let mut successors: HashMap<Uuid, usize> = HashMap::new();
    for (id, task) in by_id.iter().filter(|(id, _)| !expected.contains(id)) {
        let of = task["series_id"].as_str().and_then(|id| id.parse().ok());
        match of.filter(|of| series.contains(of)) {
            Some(of) => *successors.entry(of).or_default() += 1,
            None => journal.finding(format!(
                "doubled: the API shows a task that nobody was told of: {id} {task}"
            )),
        }
    }
    for series in series {
        let count = successors.get(&series).copied().unwrap_or(0);
        if count != 1 {
            journal.finding(format!(
                "series {series} has {count} successors of its completed instance"
            ));
        }
    }
    let rows: i64 = sqlx::query_scalar(
        "select count(*) from tasks.tasks t join accounts.users u on u.id = t.user_id
         where u.email = $1 and t.deleted_at is null",
    )
    .bind(&person.address)
    .fetch_one(evidence.admin)
    .await
    .unwrap();
    if usize::try_from(rows).ok() != Some(shown.len()) {
        journal.finding(format!(
            "{} tasks in the table, {} shown by the API",
            rows,
            shown.len()
        ));
    }
}

/// The list in the page has each ring of the person once. Returns how many it has.
async fn notifications(person: &mut Person, rang: &[Rang], journal: &Journal) -> usize {
    let known: HashSet<Uuid> = rang.iter().map(|one| one.reminder_id).collect();
    let mut listed = person.list("notifications").await;
    listed.retain(|one| one["kind"] == "reminder");
    let mut once = HashSet::new();
    for one in &listed {
        let of: Option<Uuid> = one["reminder_id"].as_str().and_then(|id| id.parse().ok());
        if !of.is_some_and(|of| known.contains(&of) && once.insert(of)) {
            journal.finding(format!("doubled: the page lists {one} again, or it never rang"));
        }
    }
    listed.len()
}

fn lateness(rang: &[Rang], journal: &Journal) {
    let mut late: Vec<f64> = rang
        .iter()
        .map(|one| (one.fired_at - one.fire_at).as_seconds_f64())
        .collect();
    late.sort_by(f64::total_cmp);
    let at = |part: f64| {
        late.get(((late.len() as f64 - 1.0) * part) as usize)
            .copied()
            .unwrap_or(0.0)
    };
    journal.figure(
        "Rings were late by",
        format!(
            "{:.3} s (half of them), {:.1} s (99 of 100), {:.1} s (at most)",
            at(0.5),
            at(0.99),
            at(1.0)
        ),
    );
}
