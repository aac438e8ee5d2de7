//! Postgres: whether it answers, has the migrations and the rights, tells the right time, and whether the outbox flows.

use std::collections::BTreeMap;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use super::{Check, Finding, PATIENCE};
use crate::outbox;
use crate::output::{count, duration};

/// How far the clocks of this machine and of the database may be apart: more than a slow answer makes of it.
const SKEW_SECONDS: f64 = 2.0;
/// An event that waits for longer is stuck: a relay looks every 50 ms.
const STUCK_SECONDS: f64 = 60.0;

/// What each service must be able to do, on which tables. Some have it on a part of the columns.
const RIGHTS: &[(&str, &str, &str)] = &[
    (
        "api",
        "select insert update",
        "accounts.users accounts.sessions accounts.personal_tokens accounts.links tasks.tasks tasks.series tasks.templates",
    ),
    ("api", "insert", "outbox.events delivery.account_mails"),
    ("api", "select insert delete", "api.idempotency_keys"),
    (
        "api",
        "select",
        "reminders.reminders reminders.tasks delivery.deliveries audit.events",
    ),
    (
        "outbox-relay",
        "select",
        "outbox.events outbox.schemas outbox.cursors",
    ),
    ("outbox-relay", "update", "outbox.cursors"),
    (
        "reminder-scanner",
        "select insert update",
        "reminders.tasks reminders.reminders",
    ),
    ("reminder-scanner", "select insert delete", "reminders.inbox"),
    ("reminder-scanner", "insert", "outbox.events"),
    (
        "recurrence-generator",
        "select update",
        "tasks.tasks tasks.series",
    ),
    ("recurrence-generator", "insert", "tasks.tasks outbox.events"),
    ("recurrence-generator", "select insert delete", "recurrence.inbox"),
    ("email-sender", "select insert update", "delivery.deliveries"),
    ("api", "select delete", "delivery.suppressed_addresses"),
    ("email-sender", "select insert", "delivery.suppressed_addresses"),
    ("email-sender", "select insert delete", "delivery.inbox"),
    ("email-sender", "select update", "delivery.account_mails"),
    ("email-sender", "insert", "outbox.events"),
    (
        "webhook-sender",
        "select insert update delete",
        "webhooks.deliveries webhooks.queues",
    ),
    (
        "webhook-sender",
        "select insert delete",
        "webhooks.inbox webhooks.attempts",
    ),
    ("webhook-sender", "select update", "webhooks.endpoints"),
    ("webhook-sender", "select delete", "webhooks.secrets"),
    ("webhook-sender", "insert", "delivery.account_mails"),
    (
        "notification-inbox",
        "select insert delete",
        "notifications.inbox notifications.notifications",
    ),
    ("notification-inbox", "select insert", "delivery.decisions"),
    ("email-sender", "select insert delete", "delivery.decisions"),
    ("email-sender", "select", "tasks.tasks"),
    ("email-sender", "select insert update", "delivery.digests"),
    ("audit-sink", "select insert", "audit.events"),
];

const NEEDS_DATABASE: &str = "the database must be there first";
const NEEDS_MIGRATIONS: &str = "the migrations must be applied first";

pub(super) async fn look(url: &SecretString) -> Vec<Check> {
    let pool = match connect(url).await {
        Ok(pool) => pool,
        Err(finding) => {
            let skipped = |name| Check::skipped(name, NEEDS_DATABASE);
            let mut checks = vec![Check::done("postgres", vec![finding])];
            checks.extend(["clock", "migrations", "rights", "outbox"].map(skipped));
            return checks;
        }
    };
    let mut checks = vec![
        Check::done("postgres", Vec::new()),
        Check::done("clock", answer(clock(&pool).await)),
    ];
    let migrations = answer(migrations_of(&pool).await);
    let whole = migrations.is_empty();
    checks.push(Check::done("migrations", migrations));
    if whole {
        checks.push(Check::done("rights", answer(rights(&pool).await)));
        checks.push(Check::done("outbox", answer(outbox_of(&pool).await)));
    } else {
        checks.extend(["rights", "outbox"].map(|name| Check::skipped(name, NEEDS_MIGRATIONS)));
    }
    checks
}

/// An error on the way is a finding, too.
fn answer(looked: Result<Vec<Finding>, sqlx::Error>) -> Vec<Finding> {
    looked.unwrap_or_else(|error| {
        vec![Finding::new(
            format!("Postgres refuses to tell: {error}"),
            "What cannot be looked at may be wrong.",
            "connect as carillon_operator, or as the owner: DATABASE_URL",
        )]
    })
}

async fn connect(url: &SecretString) -> Result<PgPool, Finding> {
    let options = PgConnectOptions::from_str(url.expose_secret()).map_err(|_| {
        Finding::new(
            "DATABASE_URL is no URL of the form postgres://role:password@host:port/database",
            "Nothing can reach the database by it.",
            "set DATABASE_URL",
        )
    })?;
    let place = format!("{}:{}", options.get_host(), options.get_port());
    let away = |how: String| {
        Finding::new(
            format!("Postgres does not answer at {place}: {how}"),
            "Without it nobody can change a task, and nothing rings.",
            "start Postgres, or mend DATABASE_URL and the network between",
        )
    };
    // One connection, not a pool, which would try for its whole time to connect and tell nothing of why it could not.
    let connecting = timeout(PATIENCE, PgConnection::connect_with(&options)).await;
    let error = match connecting {
        Ok(Ok(connection)) => {
            drop(connection.close().await);
            return Ok(PgPoolOptions::new()
                .max_connections(1)
                .acquire_timeout(PATIENCE)
                .connect_lazy_with(options));
        }
        Ok(Err(error)) => error,
        Err(_) => return Err(away(format!("nothing came within {} s", PATIENCE.as_secs()))),
    };
    let code = error
        .as_database_error()
        .and_then(|error| error.code().map(std::borrow::Cow::into_owned));
    Err(match code.as_deref() {
        Some("28P01" | "28000") => Finding::new(
            format!(
                "Postgres at {place} refuses the role {}: {error}",
                options.get_username()
            ),
            "A service with that role cannot start its work.",
            "give the role its password: <SERVICE>_DATABASE_PASSWORD=… carillon migrate, as the owner; or mend DATABASE_URL",
        ),
        Some("3D000") => Finding::new(
            format!("Postgres at {place} has no such database: {error}"),
            "The services connect to a database that is not there.",
            "create it, then: carillon migrate; or mend DATABASE_URL",
        ),
        _ => away(error.to_string()),
    })
}

async fn clock(pool: &PgPool) -> Result<Vec<Finding>, sqlx::Error> {
    // The first question pays for the connection, which is not to count as skew.
    sqlx::query("select 1").execute(pool).await?;
    let before = Utc::now();
    let theirs: DateTime<Utc> = sqlx::query_scalar("select clock_timestamp()")
        .fetch_one(pool)
        .await?;
    let after = Utc::now();
    let ours = before + (after - before) / 2;
    let skew = (theirs - ours).as_seconds_f64();
    if skew.abs() <= SKEW_SECONDS {
        return Ok(Vec::new());
    }
    let way = if skew > 0.0 { "ahead of" } else { "behind" };
    Ok(vec![Finding::new(
        format!(
            "the database's clock is {} {way} this machine's",
            duration(skew.abs())
        ),
        "Reminders ring by the database's clock: while it is wrong, they ring early or late.",
        "set both clocks by NTP: timedatectl timesync-status",
    )])
}

async fn migrations_of(pool: &PgPool) -> Result<Vec<Finding>, sqlx::Error> {
    const WHY: &str =
        "Services start against what is there, and fail at the first statement that needs more.";
    const MIGRATE: &str = "carillon migrate, with the owner's DATABASE_URL";
    let there: bool = sqlx::query_scalar("select to_regclass('public._sqlx_migrations') is not null")
        .fetch_one(pool)
        .await?;
    if !there {
        return Ok(vec![Finding::new("no migration is applied", WHY, MIGRATE)]);
    }
    let applied: Vec<(i64, bool, Vec<u8>)> =
        sqlx::query_as("select version, success, checksum from public._sqlx_migrations")
            .fetch_all(pool)
            .await?;
    let applied: BTreeMap<i64, (bool, Vec<u8>)> = applied
        .into_iter()
        .map(|(version, success, checksum)| (version, (success, checksum)))
        .collect();
    let mut findings = Vec::new();
    let missing: Vec<String> = migrations::MIGRATOR
        .iter()
        .filter(|migration| !applied.contains_key(&migration.version))
        .map(|migration| format!("{} {}", migration.version, migration.description))
        .collect();
    if !missing.is_empty() {
        let what = format!(
            "missing: {} ({})",
            count(missing.len(), "migration"),
            missing.join(", ")
        );
        findings.push(Finding::new(what, WHY, MIGRATE));
    }
    for migration in migrations::MIGRATOR.iter() {
        match applied.get(&migration.version) {
            Some((false, _)) => findings.push(Finding::new(
                format!("migration {} was begun and not ended", migration.version),
                WHY,
                "see what it left behind, undo that, delete its row from _sqlx_migrations, then: carillon migrate",
            )),
            Some((true, checksum)) if *checksum != *migration.checksum => findings.push(Finding::new(
                format!("migration {} is applied in another wording than this version's", migration.version),
                "The database is not what this version was tested with, and no migration is applied on top of it.",
                "use the version of carillon that belongs to the database, or restore the file",
            )),
            _ => {}
        }
    }
    let newest = migrations::MIGRATOR
        .iter()
        .map(|migration| migration.version)
        .max();
    if let Some((version, _)) = applied.last_key_value()
        && newest < Some(*version)
    {
        findings.push(Finding::new(
            format!("the database has migration {version}, which this version does not know"),
            "This carillon is older than the database: what it says of it may be wrong.",
            "use the version of carillon that was deployed last",
        ));
    }
    Ok(findings)
}

async fn rights(pool: &PgPool) -> Result<Vec<Finding>, sqlx::Error> {
    let (mut roles, mut tables, mut rights) = (Vec::new(), Vec::new(), Vec::new());
    for (service, verbs, of) in RIGHTS {
        for table in of.split(' ') {
            for verb in verbs.split(' ') {
                roles.push(migrations::role(service));
                tables.push(table);
                rights.push(verb);
            }
        }
    }
    // By number, since names are only looked up for those who may use their schema.
    let missing: Vec<(String, String, String, bool)> = sqlx::query_as(
        "select n.role, n.tab, n.verb, r.oid is not null
         from unnest($1::text[], $2::text[], $3::text[]) as n (role, tab, verb)
              left join pg_roles r on r.rolname = n.role
              left join (select c.oid, s.oid as schema, s.nspname || '.' || c.relname as name
                         from pg_class c join pg_namespace s on s.oid = c.relnamespace) t on t.name = n.tab
         where not coalesce(
             has_schema_privilege(r.oid, t.schema, 'usage')
             and case when n.verb = 'delete' then has_table_privilege(r.oid, t.oid, n.verb)
                      else has_any_column_privilege(r.oid, t.oid, n.verb) end, false)",
    )
    .bind(roles)
    .bind(tables)
    .bind(rights)
    .fetch_all(pool)
    .await?;
    Ok(missing
        .into_iter()
        .map(|(role, table, verb, there)| {
            let what = if there {
                format!("{role} may not {verb} {table}")
            } else {
                format!("there is no role {role}, so it may not {verb} {table}")
            };
            Finding::new(
                what,
                "The service fails at its first statement there, and its events wait.",
                format!("as the owner, grant it as the migrations do: grep -n {role} migrations/sql/*"),
            )
        })
        .collect())
}

async fn outbox_of(pool: &PgPool) -> Result<Vec<Finding>, sqlx::Error> {
    const WHY: &str = "Events wait in Postgres: nothing is lost, but nothing rings, recurs or is mailed.";
    let mut findings = Vec::new();
    for shard in outbox::shards(pool).await? {
        let waiting = match shard.rows {
            0 => "nothing waits".to_owned(),
            rows => format!(
                "waiting: {}, the oldest for {}",
                count(rows, "event"),
                duration(shard.oldest_seconds)
            ),
        };
        if !shard.relay {
            findings.push(Finding::new(
                format!(
                    "no relay publishes shard {} of the outbox; {waiting}",
                    shard.shard
                ),
                WHY,
                "start outbox-relay, and read its log",
            ));
        } else if shard.oldest_seconds > STUCK_SECONDS {
            findings.push(Finding::new(
                format!(
                    "the relay does not get on with shard {} of the outbox: {waiting}",
                    shard.shard
                ),
                WHY,
                "carillon outbox status; /readyz of outbox-relay says what it waits for",
            ));
        }
    }
    for obstacle in outbox::obstacles(pool).await? {
        findings.push(Finding::new(
            format!(
                "{} {} cannot be published: no schema {} is written down",
                count(obstacle.rows, "event"),
                obstacle.event_type,
                obstacle.fingerprint
            ),
            WHY,
            "carillon outbox retry, of the version that wrote them",
        ));
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_service_is_forgotten() {
        for service in migrations::SERVICES {
            assert!(RIGHTS.iter().any(|(name, ..)| *name == service), "{service}");
        }
    }
}
