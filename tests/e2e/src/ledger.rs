//! The independent checker: what the tables, the audit trail and the received mail say afterwards.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgPool;
use support::{Database, stack};
use uuid::Uuid;

/// What is under way, and must come to its end.
const UNSETTLED: [(&str, &str); 7] = [
    (
        "tasks whose last change the scanner has not seen",
        "select count(*) from tasks.tasks t where not exists (
             select from reminders.tasks s where s.task_id = t.id and s.version = t.version)",
    ),
    (
        "reminders to fire",
        "select count(*) from reminders.reminders where state = 'armed' and fire_at < now() + interval '1 hour'",
    ),
    (
        "firings without a delivery",
        "select (select count(*) from reminders.reminders where state = 'fired') - (select count(*) from delivery.deliveries)",
    ),
    ("deliveries to send", "select count(*) from delivery.deliveries where state in ('pending', 'aside')"),
    ("webhooks to send", "select count(*) from webhooks.deliveries where state = 'pending'"),
    (
        "completed instances without a next one",
        "select count(*) from tasks.tasks t where series_id is not null and completed_at is not null and not exists (
             select from tasks.tasks n where n.series_id = t.series_id and n.occurrence > t.occurrence)",
    ),
    (
        "events that the audit trail does not have",
        "select count(*) from outbox.events o
         where not exists (select from audit.events a where a.event_id = o.event_id)",
    ),
];

/// Looks into everything, as the owner.
#[derive(Debug)]
pub struct Ledger {
    pool: PgPool,
}

/// The mails that people received.
#[derive(Debug, Default)]
pub struct Mails {
    /// How often each Message-ID came.
    pub by_message_id: HashMap<String, u64>,
    /// What each of them says.
    pub texts: HashMap<String, String>,
    /// When the first copy of each came.
    pub received_at: HashMap<String, DateTime<Utc>>,
}

/// How it ended that a reminder was due, by the database's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// When it was due.
    pub fire_at: DateTime<Utc>,
    /// When the scanner decided about it.
    pub decided_at: DateTime<Utc>,
    /// Whether it was too late to ring.
    pub missed: bool,
}

/// The mail of a reminder.
#[derive(Debug, Clone)]
pub struct Mailed {
    /// Which reminder.
    pub reminder_id: Uuid,
    /// As the mail says it.
    pub message_id: String,
    /// When the reminder was due.
    pub fire_at: DateTime<Utc>,
    /// When the sender wrote down that it was sent.
    pub finished_at: DateTime<Utc>,
}

impl Mails {
    /// Mails that came again: the server had taken one, and its answer was lost.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.by_message_id.values().map(|count| count - 1).sum()
    }
}

impl Ledger {
    /// A checker of that platform's database.
    #[must_use]
    pub fn new(database: &Database) -> Self {
        Self {
            pool: database.admin().clone(),
        }
    }

    /// A number that a query gives.
    ///
    /// # Panics
    /// When the query fails.
    pub async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql)
            .fetch_one(&self.pool)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Waits until everything that is due has come to its end: every change seen, every due reminder fired and mailed,
    /// every next instance made, every event in the audit trail.
    ///
    /// # Panics
    /// When it has not within `patience`.
    pub async fn settled(&self, patience: Duration) {
        let waiting = self.unsettled(patience).await;
        assert!(
            waiting.is_none(),
            "after {patience:?} there are still {waiting:?}"
        );
    }

    /// The same, but tells what has not come to its end within `patience`.
    ///
    /// # Panics
    /// When a query fails.
    pub async fn unsettled(&self, patience: Duration) -> Option<String> {
        let mut waiting = String::new();
        let settled = within_quietly(patience, async || {
            waiting.clear();
            for (what, sql) in UNSETTLED {
                let count = self.count(sql).await;
                if count > 0 {
                    waiting.push_str(&format!("{count} {what}; "));
                }
            }
            waiting.is_empty()
        })
        .await;
        (!settled).then_some(waiting)
    }

    /// Asserts what holds whatever happened meanwhile.
    ///
    /// # Panics
    /// When it does not.
    pub async fn check(&self) {
        let wrong = self.wrong().await;
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    /// What should hold whatever happened meanwhile, and does not, with how often.
    ///
    /// # Panics
    /// When a query fails.
    pub async fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (what, sql) in [
            (
                "events in the audit trail that nobody wrote",
                "select count(*) from audit.events a
                 where not exists (select from outbox.events o where o.event_id = a.event_id)",
            ),
            (
                "events that are more than once in the audit trail",
                "select count(*) from (select from audit.events group by event_id having count(*) > 1) twice",
            ),
            (
                "firings that were announced more than once",
                "select count(*) from (
                     select from audit.events where event_type = 'com.carillon.reminder.fired.v1'
                     group by payload #>> '{reminder,id}', payload #>> '{reminder,fire_at}' having count(*) > 1) twice",
            ),
            (
                "reminders that fired early",
                "select count(*) from audit.events where event_type = 'com.carillon.reminder.fired.v1'
                   and (payload #>> '{reminder,fired_at}')::bigint < (payload #>> '{reminder,fire_at}')::bigint",
            ),
            ("marks without their time", "select count(*) from reminders.reminders where state = 'fired' and fired_at < fire_at"),
            (
                "fired reminders whose event is missing",
                "select count(*) from reminders.reminders r where state = 'fired' and not exists (
                     select from audit.events a where a.event_type = 'com.carillon.reminder.fired.v1'
                       and a.payload #>> '{reminder,id}' = r.id::text)",
            ),
            (
                "occurrences that exist twice",
                "select count(*) from (select from tasks.tasks where series_id is not null
                                       group by series_id, occurrence having count(*) > 1) twice",
            ),
            (
                "tasks whose versions have gaps or doubles in the audit trail",
                "select count(*) from (
                     select from audit.events where topic = 'task-events' and event_type like 'com.carillon.task.%'
                     group by payload #>> '{task,id}'
                     having count(*) <> max((payload #>> '{task,version}')::bigint)) broken",
            ),
            (
                "deliveries that were sent without their receipt, or the other way round",
                "select count(*) from delivery.deliveries d
                 where (d.state = 'sent') <> exists (
                     select from audit.events a where a.event_type = 'com.carillon.notification.sent.v1'
                       and a.payload #>> '{notification,id}' = d.id::text)",
            ),
            ("dead letters", "select count(*) from audit.events where event_type in ('dead_letter', 'undecodable')"),
        ] {
            let count = self.count(sql).await;
            if count > 0 {
                wrong.push(format!("{count} {what}"));
            }
        }
        wrong
    }

    /// How often each reminder has fired.
    ///
    /// # Panics
    /// When the query fails.
    pub async fn firings(&self) -> HashMap<Uuid, i64> {
        sqlx::query_as(
            "select (payload #>> '{reminder,id}')::uuid, count(*) from audit.events
             where event_type = 'com.carillon.reminder.fired.v1' group by 1",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap()
        .into_iter()
        .collect()
    }

    /// How it ended, each time that a reminder was due.
    ///
    /// # Panics
    /// When the query fails.
    pub async fn endings(&self) -> HashMap<Uuid, Vec<Ending>> {
        let micros = |micros: i64| DateTime::from_timestamp_micros(micros).unwrap();
        let rows: Vec<(Uuid, i64, i64, bool)> = sqlx::query_as(
            "select (payload #>> '{reminder,id}')::uuid, (payload #>> '{reminder,fire_at}')::bigint,
                 (payload ->> 'occurred_at')::bigint, event_type = 'com.carillon.reminder.cancelled.v1'
             from audit.events
             where event_type = 'com.carillon.reminder.fired.v1'
                or event_type = 'com.carillon.reminder.cancelled.v1' and payload #>> '{reminder,reason}' = 'missed'",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        let mut endings: HashMap<Uuid, Vec<Ending>> = HashMap::new();
        for (id, fire_at, decided_at, missed) in rows {
            endings.entry(id).or_default().push(Ending {
                fire_at: micros(fire_at),
                decided_at: micros(decided_at),
                missed,
            });
        }
        endings
    }

    /// The mails that were sent.
    ///
    /// # Panics
    /// When the query fails.
    pub async fn mailed(&self) -> Vec<Mailed> {
        let rows: Vec<(Uuid, String, DateTime<Utc>, DateTime<Utc>)> = sqlx::query_as(
            "select reminder_id, message_id, fire_at, finished_at from delivery.deliveries where state = 'sent'",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        rows.into_iter()
            .map(|(reminder_id, message_id, fire_at, finished_at)| Mailed {
                reminder_id,
                message_id,
                fire_at,
                finished_at,
            })
            .collect()
    }

    /// What time it is, as the database has it.
    ///
    /// # Panics
    /// When the query fails.
    pub async fn now(&self) -> DateTime<Utc> {
        sqlx::query_scalar("select now()")
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// How many instances each series has.
    ///
    /// # Panics
    /// When the query fails.
    pub async fn instances(&self) -> HashMap<Uuid, i64> {
        sqlx::query_as("select series_id, count(*) from tasks.tasks where series_id is not null group by 1")
            .fetch_all(&self.pool)
            .await
            .unwrap()
            .into_iter()
            .collect()
    }

    /// The mails to these addresses.
    ///
    /// # Panics
    /// When the mail catcher does not answer.
    pub async fn mails(&self, addresses: &[String]) -> Mails {
        let mut mails = Mails::default();
        for address in addresses {
            let url = format!("{}/api/messages?to={address}", stack("MAIL_INBOX_URL"));
            let messages: Vec<Value> = reqwest::get(url).await.unwrap().json().await.unwrap();
            for message in messages {
                let id = message["message_id"].as_str().unwrap_or_default().to_owned();
                let text = message["text"].as_str().unwrap_or_default().to_owned();
                mails.texts.insert(id.clone(), text);
                // The catcher lists the oldest first.
                if let Some(at) = message["received_at"].as_str().and_then(|at| at.parse().ok()) {
                    mails.received_at.entry(id.clone()).or_insert(at);
                }
                *mails.by_message_id.entry(id).or_default() += 1;
            }
        }
        mails
    }
}

/// Polls until `probe` says yes; whether it did in time.
async fn within_quietly(patience: Duration, mut probe: impl AsyncFnMut() -> bool) -> bool {
    let started = Instant::now();
    while !probe().await {
        if started.elapsed() > patience {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    true
}
