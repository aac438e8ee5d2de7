//! The tables of what is to be sent: everything that is asked of them and written to them. All times are the database's.
//!
//! Endpoints wait in a line (`webhooks.queues`), whatever they have to send: each turn claims a few deliveries of those at
//! its head, and these go to its end. Whoever changes what is due at an endpoint, or decides by it, holds its row there.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use delivery::{Outcomes, RecordError, Recorded, Verdict, milliseconds, since};
use kafka::trace_of;
use schemas::{Event, all_schemas, short_type};
use service::failpoint;
use service::trace::Trace;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool, Row};
use uuid::Uuid;
use webhooks::{Secret, delivery_id, wake};

use crate::client::{Answer, NoAnswer};
use crate::schedule::MAX_RETRY_AFTER;
use crate::{SendConfig, metrics, payload};

/// The label of metrics.
pub const CHANNEL: &str = "webhook";

/// After so many failures in a row, one request at a time finds out whether an endpoint is well again.
const FAILURES_TO_OPEN: i32 = 5;
/// The pause before it, doubling.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// How soon an endpoint is looked at again whose person has enough under way.
const PERSON_FULL: Duration = Duration::from_millis(200);

/// What an endpoint that is no more answers (RFC 9110 section 15.5.11).
pub const GONE: u16 = 410;

/// A delivery that is ours until the lease ends.
pub type Claim = delivery::Claim<Hook>;

/// What is to be sent.
#[derive(Debug, Clone)]
pub struct Hook {
    pub endpoint_id: Uuid,
    pub body: String,
    /// Where to; `None` when there is nobody to send it to any more.
    pub target: Result<Target, &'static str>,
    /// Counts from 1, from the last time that somebody asked for it.
    pub scheduled_attempt: i32,
    /// What happened when it was sent.
    pub attempt: Option<Attempt>,
}

/// Where a request goes, and what it is signed with.
#[derive(Debug, Clone)]
pub struct Target {
    pub url: String,
    pub secrets: Vec<Secret>,
}

/// A request as the log shows it.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub at: DateTime<Utc>,
    pub url: String,
    pub request_headers: Vec<(&'static str, String)>,
    pub duration: Duration,
    pub answer: Result<Answer, NoAnswer>,
}

impl Attempt {
    /// What was answered, if anything was.
    pub fn status(&self) -> Option<u16> {
        self.answer.as_ref().ok().map(|answer| answer.status)
    }

    /// How long the endpoint asks to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        self.answer.as_ref().ok()?.retry_after
    }
}

/// Writes a delivery for each event and endpoint that wants it, and returns how many are new.
pub async fn insert(tx: &mut PgConnection, events: &[Event]) -> Result<usize, sqlx::Error> {
    let mut people: Vec<Uuid> = events.iter().map(|event| event.head().user_id).collect();
    people.sort_unstable();
    people.dedup();
    let endpoints = sqlx::query_as::<_, (Uuid, Uuid, Vec<String>, DateTime<Utc>)>(
        "select user_id, id, event_types, created_at from webhooks.endpoints where user_id = any($1) and enabled",
    )
    .bind(people)
    .fetch_all(&mut *tx)
    .await?;
    if endpoints.is_empty() {
        return Ok(0);
    }
    let mut of_person: HashMap<Uuid, Vec<_>> = HashMap::new();
    for endpoint in &endpoints {
        of_person.entry(endpoint.0).or_default().push(endpoint);
    }
    let mut rows = Rows::default();
    for event in events {
        let head = event.head();
        let event_type = type_of(event);
        // What happened before somebody asked to be told is none of it.
        let wanting = of_person
            .get(&head.user_id)
            .into_iter()
            .flatten()
            .filter(|(_, _, types, since)| {
                head.occurred_at >= *since && (types.is_empty() || types.iter().any(|t| t == event_type))
            });
        let mut body = None;
        for (user_id, endpoint_id, ..) in wanting {
            let body = body.get_or_insert_with(|| payload::body(event_type, event));
            rows.ids.push(delivery_id(*endpoint_id, head.event_id));
            rows.user_ids.push(*user_id);
            rows.endpoint_ids.push(*endpoint_id);
            rows.event_ids.push(head.event_id);
            rows.event_types.push(event_type);
            rows.occurred_at.push(head.occurred_at);
            rows.bodies.push(body.clone());
            rows.traceparents
                .push(trace_of(head.event_id).map(|trace| trace.to_string()));
        }
    }
    if rows.ids.is_empty() {
        return Ok(0);
    }
    let new: Vec<(Uuid, Uuid)> = sqlx::query_as(
        "insert into webhooks.deliveries (id, user_id, endpoint_id, event_id, event_type, occurred_at, body, traceparent)
         select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::timestamptz[], $7::text[],
                              $8::text[])
         on conflict do nothing
         returning user_id, endpoint_id",
    )
    .bind(rows.ids)
    .bind(rows.user_ids)
    .bind(rows.endpoint_ids)
    .bind(rows.event_ids)
    .bind(rows.event_types)
    .bind(rows.occurred_at)
    .bind(rows.bodies)
    .bind(rows.traceparents)
    .fetch_all(&mut *tx)
    .await?;
    wake(tx, &new).await?;
    Ok(new.len())
}

#[derive(Default)]
struct Rows {
    ids: Vec<Uuid>,
    user_ids: Vec<Uuid>,
    endpoint_ids: Vec<Uuid>,
    event_ids: Vec<Uuid>,
    event_types: Vec<&'static str>,
    occurred_at: Vec<DateTime<Utc>>,
    bodies: Vec<String>,
    traceparents: Vec<Option<String>>,
}

/// The type of an event as webhooks name it.
fn type_of(event: &Event) -> &'static str {
    let name = event.record_name();
    let schema = all_schemas().iter().find(|schema| schema.name == name);
    schema.map_or(name, |schema| short_type(&schema.event_type))
}

/// How long until an endpoint is to be looked at: zero when one is, `None` when nothing is pending.
pub async fn next_due(pool: PgPool) -> Result<Option<Duration>, sqlx::Error> {
    let seconds: Option<f64> =
        sqlx::query_scalar("select extract(epoch from min(due_at) - now())::float8 from webhooks.queues")
            .fetch_one(&pool)
            .await?;
    Ok(seconds.map(since))
}

/// Claims what is due, at most `limit`: of the endpoints at the head of the line the first of each before the second of
/// any. None gets more under way than it may have, and no person.
pub async fn claim(pool: PgPool, config: SendConfig, limit: usize) -> Result<Vec<Claim>, sqlx::Error> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut tx = pool.begin().await?;
    // A statement of its own: what the next one counts must have been committed by whoever held these rows before.
    let ready: Vec<Uuid> = sqlx::query_scalar(
        "select endpoint_id from webhooks.queues where due_at <= now()
         order by due_at limit $1 for update skip locked",
    )
    .bind(limit)
    .fetch_all(&mut *tx)
    .await?;
    if ready.is_empty() {
        tx.commit().await?;
        return Ok(Vec::new());
    }
    let claimed = Instant::now();
    let rows = sqlx::query(
        "with room as materialized (
             select q.endpoint_id, q.user_id,
                    greatest(0, case when q.failures >= $6 then 1 else $2 end
                        - (select count(*) from webhooks.deliveries d
                           where d.user_id = q.user_id and d.endpoint_id = q.endpoint_id and d.claimed
                             and d.next_attempt_at > now())) as room,
                    $3 - (select count(*) from webhooks.deliveries d
                          where d.user_id = q.user_id and d.claimed and d.next_attempt_at > now()) as room_of_person
             from webhooks.queues q where q.endpoint_id = any($1)
         ), due as materialized (
             select d.id, d.endpoint_id, d.nth, room.room_of_person,
                    row_number() over (partition by room.user_id order by d.nth) as nth_of_person
             from room cross join lateral (
                 -- They are numbered when they are few: numbering reads all that it is given.
                 select first.id, first.endpoint_id, row_number() over (order by first.next_attempt_at) as nth
                 from (select d.id, d.endpoint_id, d.next_attempt_at
                       from webhooks.deliveries d
                       where d.endpoint_id = room.endpoint_id and d.state = 'pending' and d.next_attempt_at <= now()
                       order by d.next_attempt_at limit least(room.room, $4)) first
             ) d
         ), chosen as materialized (
             select id, endpoint_id from due where nth_of_person <= room_of_person order by nth limit $4
         ), claimed as (
             update webhooks.deliveries d
             set next_attempt_at = now() + $5 * interval '1 millisecond', attempts = attempts + 1, claimed = true
             from chosen where d.id = chosen.id
             returning d.id, d.user_id, d.endpoint_id, d.body, d.attempts, d.attempts_before, d.occurred_at,
                       d.traceparent
         ), line as (
             -- To the end of the line with more to do; or until something under way has ended, which wakes it, or the
             -- lease does; or until the next retry.
             update webhooks.queues q set due_at = case
                 when s.taken < s.due and s.full_person then now() + $7 * interval '1 millisecond'
                 when s.taken < s.due then now()
                 when s.due >= s.room then now() + $5 * interval '1 millisecond'
                 else least(case when s.taken > 0 then now() + $5 * interval '1 millisecond' end,
                            (select min(d.next_attempt_at) from webhooks.deliveries d
                             where d.endpoint_id = q.endpoint_id and d.state = 'pending' and d.next_attempt_at > now()))
                 end
             from (
                 select room.endpoint_id, room.room,
                        (select count(*) from due where due.endpoint_id = room.endpoint_id) as due,
                        (select count(*) from chosen where chosen.endpoint_id = room.endpoint_id) as taken,
                        exists (select from due where due.endpoint_id = room.endpoint_id
                                  and due.nth_of_person > due.room_of_person) as full_person
                 from room
             ) s where q.endpoint_id = s.endpoint_id
         )
         select c.*, e.url, coalesce(e.enabled, false) as enabled, u.id is not null as is_user,
                extract(epoch from now() - c.occurred_at)::float8 as age,
                array(select s.secret from webhooks.secrets s
                      where s.user_id = c.user_id and s.endpoint_id = c.endpoint_id
                        and (s.expires_at is null or s.expires_at > now())
                      order by s.expires_at desc nulls first, s.created_at desc) as secrets
         from claimed c
         left join webhooks.endpoints e on e.user_id = c.user_id and e.id = c.endpoint_id
         left join accounts.users u on u.id = c.user_id and u.deleted_at is null",
    )
    .bind(ready)
    .bind(config.in_flight_per_endpoint)
    .bind(config.in_flight_per_person)
    .bind(limit)
    .bind(milliseconds(config.lease))
    .bind(FAILURES_TO_OPEN)
    .bind(milliseconds(PERSON_FULL))
    .fetch_all(&mut *tx)
    .await?;
    tx.commit().await?;
    rows.iter().map(|row| from_row(row, claimed)).collect()
}

fn from_row(row: &PgRow, claimed: Instant) -> Result<Claim, sqlx::Error> {
    let url: Option<String> = row.try_get("url")?;
    let secrets: Vec<Vec<u8>> = row.try_get("secrets")?;
    let (enabled, is_user): (bool, bool) = (row.try_get("enabled")?, row.try_get("is_user")?);
    let target = match url {
        _ if !is_user => Err("there is no such user"),
        None => Err("the webhook was deleted"),
        Some(_) if !enabled => Err("the webhook is disabled"),
        Some(url) => Ok(Target {
            url,
            // The table takes no others.
            secrets: secrets
                .into_iter()
                .filter_map(|bytes| Secret::from_bytes(bytes).ok())
                .collect(),
        }),
    };
    let attempt: i32 = row.try_get("attempts")?;
    let before: i32 = row.try_get("attempts_before")?;
    let traceparent: Option<&str> = row.try_get("traceparent")?;
    Ok(Claim {
        id: row.try_get("id")?,
        user_id: row.try_get("user_id")?,
        attempt,
        age: since(row.try_get("age")?),
        claimed,
        traces: traceparent.and_then(Trace::parse).into_iter().collect(),
        message: Hook {
            endpoint_id: row.try_get("endpoint_id")?,
            body: row.try_get("body")?,
            target,
            scheduled_attempt: attempt - before,
            attempt: None,
        },
    })
}

/// What a batch of outcomes says of an endpoint.
#[derive(Debug, Default, Clone, Copy)]
struct Health {
    user_id: Uuid,
    /// Something was accepted, or else something was not, or nothing was sent.
    well: Option<bool>,
    gone: bool,
    /// How long it asks to be left alone.
    retry_after: Duration,
}

/// Writes outcomes, the log of their requests, and what they say of the endpoints, in one transaction. Those of claims that
/// ended meanwhile are left out, and so are missing in what is returned.
pub async fn record(
    pool: PgPool,
    disable_after: Duration,
    outcomes: Outcomes<Hook>,
) -> Result<Vec<Recorded>, RecordError> {
    let mut endpoints: BTreeMap<Uuid, Health> = BTreeMap::new();
    for outcome in outcomes.iter() {
        let hook = &outcome.claim.message;
        let health = endpoints.entry(hook.endpoint_id).or_default();
        health.user_id = outcome.claim.user_id;
        if let Some(attempt) = &hook.attempt {
            let accepted = matches!(outcome.verdict, Verdict::Sent { .. });
            health.well = Some(health.well.unwrap_or_default() || accepted);
            health.gone |= attempt.status() == Some(GONE);
            health.retry_after = health.retry_after.max(attempt.retry_after().unwrap_or_default());
        }
    }
    let ids: Vec<Uuid> = endpoints.keys().copied().collect();
    let mut tx = pool.begin().await?;
    // Before anything else: a claim that has begun goes by what was under way until now.
    sqlx::query("select from webhooks.queues where endpoint_id = any($1) order by endpoint_id for update")
        .bind(&ids)
        .execute(&mut *tx)
        .await?;
    let numbered: Vec<_> = outcomes.iter().enumerate().collect();
    let query = delivery::outcome_update!(
        update "webhooks.deliveries",
        set "claimed = false",
        returning "extract(epoch from d.finished_at - d.occurred_at)::float8 as took"
    );
    let written = delivery::write(&mut tx, query, &numbered).await?;
    log(&mut tx, &outcomes).await?;
    let failing = judge(&mut tx, &endpoints, disable_after).await?;
    let gone = endpoints.iter().filter(|(_, health)| health.gone);
    let gone = gone.map(|(id, health)| (health.user_id, *id, "gone"));
    let disabled: Vec<_> = gone.chain(failing).collect();
    disable(&mut tx, &disabled).await?;
    failpoint!("record: written");
    tx.commit().await?;
    written
        .into_iter()
        .map(|(index, row)| {
            let took: Option<f64> = row.try_get("took")?;
            Ok(Recorded {
                index,
                took: took.map(since),
            })
        })
        .collect()
}

/// Writes the requests down.
async fn log(tx: &mut PgConnection, outcomes: &Outcomes<Hook>) -> Result<(), sqlx::Error> {
    let attempts: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| Some((&outcome.claim, outcome.claim.message.attempt.as_ref()?)))
        .collect();
    if attempts.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into webhooks.attempts (user_id, delivery_id, number, at, url, request_headers, status, response_headers,
                                        response_body, duration_ms, error)
         select * from unnest($1::uuid[], $2::uuid[], $3::int4[], $4::timestamptz[], $5::text[], $6::jsonb[], $7::int4[],
                              $8::jsonb[], $9::text[], $10::int8[], $11::text[])
         on conflict do nothing",
    )
    .bind(attempts.iter().map(|(claim, _)| claim.user_id).collect::<Vec<_>>())
    .bind(attempts.iter().map(|(claim, _)| claim.id).collect::<Vec<_>>())
    .bind(attempts.iter().map(|(claim, _)| claim.attempt).collect::<Vec<_>>())
    .bind(attempts.iter().map(|(_, a)| a.at).collect::<Vec<_>>())
    .bind(attempts.iter().map(|(_, a)| a.url.as_str()).collect::<Vec<_>>())
    .bind(attempts.iter().map(|(_, a)| object(&a.request_headers)).collect::<Vec<_>>())
    .bind(attempts.iter().map(|(_, a)| a.status().map(i32::from)).collect::<Vec<_>>())
    .bind(attempts.iter().map(|(_, a)| a.answer.as_ref().ok().map(|answer| object(&answer.headers))).collect::<Vec<_>>())
    .bind(attempts.iter().map(|(_, a)| a.answer.as_ref().ok().map(|answer| answer.body.as_str())).collect::<Vec<_>>())
    .bind(attempts.iter().map(|(_, a)| milliseconds(a.duration)).collect::<Vec<_>>())
    .bind(attempts.iter().map(|(_, a)| a.answer.as_ref().err().map(|none| none.reason.as_str())).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// Headers as the column holds them. Of a name that comes twice the last value counts.
fn object<N: AsRef<str>>(headers: &[(N, String)]) -> Json<BTreeMap<&str, &str>> {
    Json(
        headers
            .iter()
            .map(|(name, value)| (name.as_ref(), value.as_str()))
            .collect(),
    )
}

/// Writes down how endpoints are, and has them looked at again, for something that was under way is not any more. Returns
/// those that have been failing for too long.
async fn judge(
    tx: &mut PgConnection,
    endpoints: &BTreeMap<Uuid, Health>,
    disable_after: Duration,
) -> Result<Vec<(Uuid, Uuid, &'static str)>, sqlx::Error> {
    let failing: Vec<(Uuid, Uuid)> = sqlx::query_as(
        "with judged as (
             -- What was under way together fails together: while nothing is sent anyway, that is no further failure.
             select h.endpoint_id, h.well, h.retry_after_ms, q.failing_since,
                    case h.well when true then 0
                                when false then q.failures + case when q.open_until > now() then 0 else 1 end
                                else q.failures end as failures,
                    case when q.open_until > now() then q.open_until end as open_until
             from unnest($1::uuid[], $2::bool[], $3::int8[]) as h (endpoint_id, well, retry_after_ms)
             join webhooks.queues q on q.endpoint_id = h.endpoint_id
         ), decided as (
             select endpoint_id, failures, coalesce(well = false, false) as failed,
                    case when well then null when not well then coalesce(failing_since, now()) else failing_since end
                        as failing_since,
                    case when well then null when not well then greatest(
                             coalesce(open_until, case when failures >= $4 then
                                 now() + least(power(2, least(failures - $4, 20)), $5) * interval '1 second' end),
                             case when retry_after_ms > 0 then now() + retry_after_ms * interval '1 millisecond' end)
                         else open_until end as open_until
             from judged
         )
         update webhooks.queues q
         set failures = j.failures, failing_since = j.failing_since, open_until = j.open_until,
             due_at = case when j.open_until > now() then j.open_until else least(q.due_at, now()) end
         from decided j where q.endpoint_id = j.endpoint_id
         returning q.user_id, case when j.failed and j.failing_since <= now() - $6 * interval '1 millisecond'
                                   then q.endpoint_id else '00000000-0000-0000-0000-000000000000' end",
    )
    .bind(endpoints.keys().copied().collect::<Vec<_>>())
    .bind(endpoints.values().map(|health| health.well).collect::<Vec<_>>())
    .bind(
        endpoints
            .values()
            .map(|health| milliseconds(health.retry_after.min(MAX_RETRY_AFTER)))
            .collect::<Vec<_>>(),
    )
    .bind(FAILURES_TO_OPEN)
    .bind(LONGEST_PAUSE.as_secs_f64())
    .bind(milliseconds(disable_after))
    .fetch_all(tx)
    .await?;
    Ok(failing
        .into_iter()
        .filter(|(_, id)| !id.is_nil())
        .map(|(user_id, id)| (user_id, id, "failing"))
        .collect())
}

/// Disables endpoints, and has their people told by mail.
async fn disable(tx: &mut PgConnection, endpoints: &[(Uuid, Uuid, &'static str)]) -> Result<(), sqlx::Error> {
    if endpoints.is_empty() {
        return Ok(());
    }
    let disabled: Vec<(Uuid, Uuid, String, String, String)> = sqlx::query_as(
        "update webhooks.endpoints e
         set enabled = false, disabled_reason = d.reason, disabled_at = now(), version = version + 1,
             updated_at = greatest(now(), e.updated_at + interval '1 microsecond')
         from (select distinct on (id) * from unnest($1::uuid[], $2::uuid[], $3::text[]) as d (user_id, id, reason)) d
         where e.user_id = d.user_id and e.id = d.id and e.enabled
         returning e.user_id, e.id, e.description, e.url, d.reason",
    )
    .bind(endpoints.iter().map(|(user_id, ..)| *user_id).collect::<Vec<_>>())
    .bind(endpoints.iter().map(|(_, id, _)| *id).collect::<Vec<_>>())
    .bind(endpoints.iter().map(|(.., reason)| *reason).collect::<Vec<_>>())
    .fetch_all(&mut *tx)
    .await?;
    for (user_id, id, description, url, reason) in disabled {
        // The URL itself may hold a secret.
        let host = url.split('/').nth(2).unwrap_or_default();
        let detail = if description.is_empty() {
            host.to_owned()
        } else {
            format!("{description} ({host})")
        };
        sqlx::query(
            "insert into delivery.account_mails (id, user_id, kind, expires_at, detail)
             values ($1, $2, 'webhook_disabled', now() + interval '30 days', left($3, 300))",
        )
        .bind(Uuid::now_v7())
        .bind(user_id)
        .bind(detail)
        .execute(&mut *tx)
        .await?;
        tracing::info!(webhook.id = %id, reason, "a webhook was disabled");
        metrics::DISABLED.with_label_values(&[reason.as_str()]).inc();
    }
    Ok(())
}
