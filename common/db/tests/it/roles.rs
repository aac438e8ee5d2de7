//! Each service may do what it must, and is refused what it must not.

use super::*;

/// What a service does, and what it must never be able to.
struct Rights {
    service: &'static str,
    may: &'static [&'static str],
    may_not: &'static [&'static str],
}

const TABLES: [&str; 37] = [
    "api.idempotency_keys",
    "accounts.users",
    "accounts.sessions",
    "accounts.personal_tokens",
    "accounts.identities",
    "accounts.links",
    "accounts.reset_requests",
    "accounts.moves",
    "accounts.notification_settings",
    "tasks.notification_overrides",
    "tasks.tasks",
    "tasks.series",
    "tasks.templates",
    "outbox.events",
    "outbox.schemas",
    "outbox.cursors",
    "reminders.inbox",
    "reminders.tasks",
    "reminders.reminders",
    "recurrence.inbox",
    "delivery.inbox",
    "delivery.deliveries",
    "delivery.account_mails",
    "delivery.decisions",
    "delivery.digests",
    "delivery.suppressed_addresses",
    "notifications.inbox",
    "notifications.notifications",
    "audit.events",
    "webhooks.inbox",
    "webhooks.endpoints",
    "webhooks.secrets",
    "webhooks.deliveries",
    "webhooks.attempts",
    "webhooks.queues",
    "audit.chain",
    "audit.seals",
];

/// Beside these every service is refused everything on every table.
const RIGHTS: [Rights; 9] = [
    Rights {
        service: "api",
        may: &[
            "select * from accounts.users",
            "insert into accounts.users default values",
            "update accounts.users set name = ''",
            "select * from accounts.sessions for update",
            "insert into accounts.sessions default values",
            "update accounts.sessions set expires_at = now()",
            "delete from accounts.sessions",
            "select * from accounts.personal_tokens",
            "insert into accounts.personal_tokens default values",
            "update accounts.personal_tokens set expires_at = now()",
            "delete from accounts.personal_tokens",
            "select * from accounts.identities",
            "insert into accounts.identities default values",
            "select * from accounts.links",
            "insert into accounts.links default values",
            "update accounts.links set expires_at = now()",
            "delete from accounts.links",
            "select * from accounts.reset_requests for update skip locked",
            "insert into accounts.reset_requests default values",
            "update accounts.reset_requests set created_at = now()",
            "delete from accounts.reset_requests",
            "select * from delivery.suppressed_addresses",
            "delete from delivery.suppressed_addresses",
            "insert into delivery.account_mails (id, user_id, kind, link_token, email, expires_at) values (null, null, null, null, null, null)",
            "select * from accounts.moves for update skip locked",
            "insert into accounts.moves default values",
            "update accounts.moves set asked_at = now()",
            "delete from accounts.moves",
            "select * from accounts.notification_settings",
            "insert into accounts.notification_settings default values",
            "update accounts.notification_settings set version = 2",
            "delete from accounts.notification_settings",
            "select * from tasks.notification_overrides",
            "insert into tasks.notification_overrides default values",
            "update tasks.notification_overrides set override = '{}'",
            "delete from tasks.notification_overrides",
            "select * from notifications.notifications",
            "update notifications.notifications set read_at = now()",
            "select * from delivery.decisions",
            "select id, due_at, state, last_error from delivery.digests",
            "select * from reminders.reminders",
            "select * from tasks.tasks for update",
            "insert into tasks.tasks default values",
            "update tasks.tasks set title = ''",
            "delete from tasks.tasks",
            "select * from tasks.series for update",
            "insert into tasks.series default values",
            "update tasks.series set rrule = ''",
            "select * from tasks.templates for update",
            "insert into tasks.templates default values",
            "update tasks.templates set version = 2",
            "delete from tasks.templates",
            "insert into outbox.events default values",
            "select nextval('outbox.events_seq')",
            "select * from api.idempotency_keys",
            "insert into api.idempotency_keys default values",
            "delete from api.idempotency_keys",
            "select event_id, occurred_at, event_type, user_id, task_id, actor, payload from audit.events",
            "select * from webhooks.endpoints for update",
            "insert into webhooks.endpoints default values",
            "update webhooks.endpoints set version = 2",
            "delete from webhooks.endpoints",
            "select * from webhooks.secrets",
            "insert into webhooks.secrets default values",
            "update webhooks.secrets set expires_at = now()",
            "delete from webhooks.secrets",
            "select * from webhooks.deliveries",
            "insert into webhooks.deliveries default values",
            "update webhooks.deliveries set state = 'pending', attempts_before = 1, next_attempt_at = now(), finished_at = null, \
             last_error = null",
            "select * from webhooks.attempts",
            "select * from webhooks.queues",
            "insert into webhooks.queues default values",
            "update webhooks.queues set due_at = now()",
        ],
        may_not: &[
            "select raw from audit.events",
            "select headers from audit.events",
            "select setval('outbox.events_seq', 1)",
            "select outbox.rebase()",
            "select audit.drop_partitions('2000-01-01')",
            "select audit.close_segment('0 s')",
            "select * from audit.seals",
            "select link_token from delivery.account_mails",
            "insert into delivery.account_mails (state) values ('sent')",
            "create table public.mine ()",
            "create schema mine",
            "create role mine",
            "select * from reminders.reminders for update",
            "set role carillon_audit_sink",
            "truncate tasks.tasks",
            "update webhooks.deliveries set body = ''",
            "update webhooks.deliveries set user_id = user_id",
        ],
    },
    Rights {
        service: "outbox-relay",
        may: &[
            "select * from outbox.events",
            "select * from outbox.schemas",
            "select * from outbox.cursors",
            "update outbox.cursors set done_seq = 0",
            "select last_value from outbox.events_seq",
            "truncate outbox.events_0",
            "select outbox.rebase()",
        ],
        may_not: &[
            "select nextval('outbox.events_seq')",
            "truncate outbox.cursors",
            "drop table outbox.events_0",
        ],
    },
    Rights {
        service: "reminder-scanner",
        may: &[
            "select id, send_late_within_seconds from accounts.users",
            "select * from reminders.inbox",
            "insert into reminders.inbox default values",
            "delete from reminders.inbox",
            "select * from reminders.tasks for update",
            "insert into reminders.tasks default values",
            "update reminders.tasks set version = 1",
            "select * from reminders.reminders for update skip locked",
            "insert into reminders.reminders default values",
            "update reminders.reminders set state = 'fired'",
            "insert into outbox.events default values",
            "select nextval('outbox.events_seq')",
        ],
        may_not: &[
            "select email from accounts.users",
            "select outbox.rebase()",
            "truncate reminders.inbox",
        ],
    },
    Rights {
        service: "recurrence-generator",
        may: &[
            "select * from recurrence.inbox",
            "insert into recurrence.inbox default values",
            "delete from recurrence.inbox",
            "select * from tasks.tasks",
            "insert into tasks.tasks default values",
            "select * from tasks.series for update",
            "update tasks.series set version = 2, ended_at = now(), updated_at = now()",
            "update tasks.series set made_through = now(), attend_at = now()",
            "select * from tasks.tasks for update",
            "update tasks.tasks set version = 2, due_at = now(), due_on = now(), due_on_starts_at = now(), occurrence = now(), \
             reminders = '[]', updated_at = now()",
            "insert into outbox.events default values",
            "select nextval('outbox.events_seq')",
        ],
        may_not: &[
            "update tasks.series set rrule = ''",
            "update tasks.series set content = null, paused_at = null",
            "update tasks.series set user_id = user_id",
            "update tasks.series set overlap = 'skip', anchor = 'schedule', exdates = '{}', rdates = '{}'",
            "update tasks.tasks set title = 'x'",
            "update tasks.tasks set completed_at = now(), deleted_at = now()",
            "update tasks.tasks set user_id = user_id, series_id = null",
        ],
    },
    Rights {
        service: "email-sender",
        may: &[
            "select id, email, name, timezone, language, attach_ics, email_verified_at, deleted_at from accounts.users",
            "select * from delivery.suppressed_addresses",
            "insert into delivery.suppressed_addresses default values",
            "select * from delivery.inbox",
            "insert into delivery.inbox default values",
            "delete from delivery.inbox",
            "select * from delivery.deliveries for update skip locked",
            "insert into delivery.deliveries default values",
            "update delivery.deliveries set state = 'sent'",
            "delete from delivery.deliveries",
            "select user_id, settings from accounts.notification_settings",
            "select * from tasks.notification_overrides",
            "select user_id, id, completed_at, deleted_at from tasks.tasks",
            "select * from delivery.decisions",
            "insert into delivery.decisions default values",
            "delete from delivery.decisions",
            "select * from delivery.digests for update skip locked",
            "insert into delivery.digests default values",
            "update delivery.digests set state = 'sent'",
            "delete from delivery.digests",
            "select * from delivery.account_mails for update skip locked",
            "update delivery.account_mails set state = 'sent'",
            "delete from delivery.account_mails",
            "insert into outbox.events default values",
            "select nextval('outbox.events_seq')",
        ],
        may_not: &[
            "select password_hash from accounts.users",
            "select count(*) from accounts.users where password_hash like 'a%'",
            "select created_at from accounts.users",
            "select title from tasks.tasks",
            "update tasks.tasks set completed_at = now()",
            "select accounts.purge(null, 1)",
        ],
    },
    Rights {
        service: "audit-sink",
        may: &[
            "select * from audit.events",
            "insert into audit.events default values",
            "select audit.ensure_partitions(current_date, 2)",
            "select audit.drop_partitions('2000-01-01')",
            "select audit.open_segment()",
            "select audit.close_segment('1 hour')",
            "select * from audit.seals",
            "insert into audit.seals default values",
            "select * from audit.chain",
            "update audit.chain set sealed_segment = 1",
        ],
        may_not: &[
            "update audit.events set payload = null",
            "delete from audit.events",
            "update audit.seals set leaves = null",
            "delete from audit.seals",
            "update audit.chain set open_segment = 1",
            "truncate audit.events",
            "drop table audit.events_default",
            "insert into audit.events_default default values",
            "select nextval('outbox.events_seq')",
        ],
    },
    Rights {
        service: "webhook-sender",
        may: &[
            "select id, deleted_at from accounts.users",
            "select * from webhooks.inbox",
            "insert into webhooks.inbox default values",
            "delete from webhooks.inbox",
            "select * from webhooks.endpoints",
            "update webhooks.endpoints set enabled = false, disabled_reason = 'gone', disabled_at = now(), version = 2, \
             updated_at = now()",
            "select * from webhooks.secrets",
            "delete from webhooks.secrets",
            "select * from webhooks.deliveries for update",
            "insert into webhooks.deliveries default values",
            "update webhooks.deliveries set state = 'sent'",
            "delete from webhooks.deliveries",
            "select * from webhooks.attempts",
            "insert into webhooks.attempts default values",
            "delete from webhooks.attempts",
            "select * from webhooks.queues for update skip locked",
            "insert into webhooks.queues default values",
            "update webhooks.queues set due_at = now()",
            "delete from webhooks.queues",
            "insert into delivery.account_mails (id, user_id, kind, expires_at, detail) values (null, null, null, null, null)",
        ],
        may_not: &[
            "select email from accounts.users",
            "update webhooks.endpoints set url = ''",
            "update webhooks.endpoints set user_id = user_id",
            "insert into delivery.account_mails (link_token) values ('x')",
            "insert into delivery.account_mails (email) values ('eve@example.org')",
            "select detail from delivery.account_mails",
            "select nextval('outbox.events_seq')",
        ],
    },
    Rights {
        service: "notification-inbox",
        may: &[
            "select id, timezone, deleted_at from accounts.users",
            "select user_id, settings from accounts.notification_settings",
            "select * from tasks.notification_overrides",
            "select * from delivery.decisions",
            "insert into delivery.decisions default values",
            "select * from notifications.inbox",
            "insert into notifications.inbox default values",
            "delete from notifications.inbox",
            "select * from notifications.notifications",
            "insert into notifications.notifications default values",
            "delete from notifications.notifications",
        ],
        may_not: &[
            "select email from accounts.users",
            "select title from tasks.tasks",
            "select task from delivery.deliveries",
            "update notifications.notifications set read_at = null",
            "select nextval('outbox.events_seq')",
        ],
    },
    Rights {
        service: migrations::OPERATOR,
        may: &[
            "select version, success, checksum from public._sqlx_migrations",
            "select * from outbox.cursors",
            "select shard, seq, xid, topic, fingerprint, created_at from outbox.events",
            "select * from outbox.schemas",
            "insert into outbox.schemas default values",
            "select id, user_id, channel, state, attempts, last_error, created_at from delivery.deliveries",
            "update delivery.deliveries set state = 'pending', attempts = 0, next_attempt_at = now(), last_error = null, \
             finished_at = null",
            "select id, user_id, endpoint_id, event_type, state, attempts, last_error, created_at from webhooks.deliveries",
            "update webhooks.deliveries set state = 'pending', attempts_before = attempts, next_attempt_at = now(), \
             last_error = null, finished_at = null",
            "select endpoint_id, due_at, open_until from webhooks.queues",
            "insert into webhooks.queues (endpoint_id, user_id, due_at) values (null, null, now())",
            "update webhooks.queues set due_at = now()",
        ],
        may_not: &[
            "select body from webhooks.deliveries",
            "update webhooks.deliveries set body = ''",
            "update webhooks.queues set failures = 0",
            "select url from webhooks.endpoints",
            "select secret from webhooks.secrets",
            "select body from outbox.events",
            "select headers from outbox.events",
            "select user_id from outbox.events",
            "select task from delivery.deliveries",
            "update delivery.deliveries set task = '{}'",
            "update delivery.deliveries set user_id = user_id, channel = channel",
            "delete from public._sqlx_migrations",
        ],
    },
];

/// Everything that can be done to a table, as a statement that needs the right on the whole of it.
fn every_statement() -> Vec<String> {
    TABLES
        .iter()
        .flat_map(|table| {
            // `ctid` cannot be set; the last column of the row type can, and none of these lacks one of these names.
            let column = match *table {
                "accounts.users" => "name",
                "api.idempotency_keys" => "key",
                "accounts.sessions" | "accounts.personal_tokens" | "accounts.links" => "expires_at",
                "accounts.identities" | "accounts.reset_requests" => "created_at",
                "accounts.moves" => "asked_at",
                "accounts.notification_settings" => "version",
                "tasks.notification_overrides" => "override",
                "delivery.decisions" => "decided_at",
                "delivery.suppressed_addresses" => "reason",
                "notifications.notifications" => "detail",
                "tasks.tasks" => "title",
                "tasks.series" => "rrule",
                "outbox.events" => "topic",
                "outbox.schemas" => "topic",
                "outbox.cursors" => "done_seq",
                "reminders.tasks" | "tasks.templates" | "webhooks.endpoints" => "version",
                "reminders.reminders"
                | "delivery.deliveries"
                | "delivery.digests"
                | "delivery.account_mails" => "state",
                "webhooks.secrets" => "expires_at",
                "webhooks.deliveries" => "claimed",
                "webhooks.attempts" => "number",
                "webhooks.queues" => "due_at",
                "audit.events" => "topic",
                "audit.chain" => "sealed_segment",
                "audit.seals" => "leaves",
                _ => "processed_at",
            };
            [
                format!("select * from {table}"),
                format!("insert into {table} default values"),
                format!("update {table} set {column} = null"),
                format!("delete from {table}"),
                format!("truncate {table}"),
            ]
        })
        .collect()
}

/// What a statement would need the right for: its verb and its table.
fn right(statement: &str) -> (String, String) {
    let words: Vec<&str> = statement.split([' ', '(']).collect();
    let table = words
        .iter()
        .find(|word| TABLES.contains(word))
        .copied()
        .unwrap_or_default();
    (words[0].to_owned(), table.to_owned())
}

/// Whether the statement is refused for want of a right. What it would change is undone.
async fn refused(connection: &mut PgConnection, statement: &str) -> bool {
    // EXPLAIN checks the rights of a query and runs nothing; what is no query runs, and is rolled back.
    let explainable = ["select * ", "insert ", "update ", "delete "]
        .iter()
        .any(|verb| statement.starts_with(verb));
    let statement = if explainable {
        format!("explain {statement}")
    } else {
        statement.to_owned()
    };
    let mut tx = connection.begin().await.unwrap();
    let outcome = sqlx::query(AssertSqlSafe(statement.clone()))
        .execute(&mut *tx)
        .await;
    tx.rollback().await.unwrap();
    match outcome {
        Ok(_) => false,
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42501") => true,
        Err(error) => panic!("{statement}: {error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_service_may_do_what_it_must_and_nothing_else() {
    let database = Database::create().await;
    for Rights {
        service,
        may,
        may_not,
    } in RIGHTS
    {
        let mut connection = database.config(service).connect().await.unwrap();
        for statement in may {
            assert!(
                !refused(&mut connection, statement).await,
                "{service} must be able to: {statement}"
            );
        }
        for statement in may_not {
            assert!(
                refused(&mut connection, statement).await,
                "{service} must not be able to: {statement}"
            );
        }
        let granted: Vec<_> = may.iter().map(|statement| right(statement)).collect();
        for statement in every_statement() {
            // Rights on some columns do not make one on the table.
            let partly = [
                ("email-sender", "select * from accounts.users"),
                ("email-sender", "select * from tasks.tasks"),
                ("reminder-scanner", "select * from accounts.users"),
                ("api", "select * from audit.events"),
                (migrations::OPERATOR, "select * from outbox.events"),
                (migrations::OPERATOR, "select * from delivery.deliveries"),
                (migrations::OPERATOR, "select * from webhooks.deliveries"),
                (
                    migrations::OPERATOR,
                    "update webhooks.deliveries set claimed = null",
                ),
                (migrations::OPERATOR, "select * from webhooks.queues"),
                ("api", "update notifications.notifications set detail = null"),
            ]
            .contains(&(service, statement.as_str()));
            if partly || !granted.contains(&right(&statement)) {
                assert!(
                    refused(&mut connection, &statement).await,
                    "{service} must not be able to: {statement}"
                );
            }
        }
        connection.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_a_role_for_every_service_and_no_table_that_this_test_forgets() {
    let database = Database::create().await;
    let services: Vec<&str> = RIGHTS.iter().map(|rights| rights.service).collect();
    let mut tables: Vec<String> = sqlx::query_scalar(
        "select schemaname || '.' || tablename from pg_tables
         where schemaname not in ('pg_catalog', 'information_schema', 'public')
           and (schemaname || '.' || tablename)::regclass not in (select inhrelid from pg_inherits)",
    )
    .fetch_all(database.admin())
    .await
    .unwrap();
    tables.sort();
    let mut known = TABLES.to_vec();
    known.sort_unstable();
    assert_eq!(tables, known);
    let roles: Vec<String> =
        sqlx::query_scalar("select distinct grantee from information_schema.role_table_grants where grantee like 'carillon\\_%' and grantee <> current_user")
            .fetch_all(database.admin())
            .await
            .unwrap();
    for role in roles {
        let service = role.trim_start_matches("carillon_").replace('_', "-");
        assert!(
            services.contains(&service.as_str()),
            "{role} has rights that nothing here checks"
        );
    }
}
