#![doc = include_str!("../README.md")]

use sqlx::{AssertSqlSafe, PgConnection, PgPool};

/// The migrations, embedded.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("./sql");

/// The role that each service connects as: the service's name in snake case behind this.
pub const ROLE_PREFIX: &str = "carillon_";

/// The services that have a role, by the name of their folder.
pub const SERVICES: [&str; 8] = [
    "api",
    "outbox-relay",
    "reminder-scanner",
    "email-sender",
    "recurrence-generator",
    "audit-sink",
    "webhook-sender",
    "notification-inbox",
];

/// Whom the role for operators is named after: it can do what the `carillon` command does beside `migrate` and `why`.
pub const OPERATOR: &str = "operator";

/// All that have a role: the services, and the operator.
pub fn roles() -> impl Iterator<Item = &'static str> {
    SERVICES.into_iter().chain([OPERATOR])
}

/// The role of a service: `carillon_outbox_relay` for `outbox-relay`.
#[must_use]
pub fn role(service: &str) -> String {
    format!("{ROLE_PREFIX}{}", service.replace('-', "_"))
}

/// Migrating failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A migration could not be applied, or an applied one was edited.
    #[error(transparent)]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A statement beside the migrations failed.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

/// Applies what is missing, then writes down the schemas of every event for the relay. Safe to run by many at once:
/// sqlx holds an advisory lock meanwhile, and what follows is idempotent.
///
/// # Errors
/// When the database cannot be reached or refuses a statement.
pub async fn migrate(pool: &PgPool) -> Result<(), Error> {
    MIGRATOR.run(pool).await?;
    for schema in schemas::all_schemas() {
        sqlx::query(
            "insert into outbox.schemas (fingerprint, topic, fullname, schema_json) values ($1, $2, $3, $4)
             on conflict (fingerprint) do nothing",
        )
        .bind(schema.fingerprint)
        .bind(schema.topic)
        .bind(&schema.fullname)
        .bind(&schema.json)
        .execute(pool)
        .await?;
    }
    Ok(())
}

/// Sets the password that a service's role logs in with.
///
/// # Errors
/// When the database refuses: changing a role's password takes `CREATEROLE`.
pub async fn set_password(
    connection: &mut PgConnection,
    service: &str,
    password: &str,
) -> Result<(), sqlx::Error> {
    // ALTER ROLE takes no parameters; the server quotes both for us. The lock: two runs at once would meet in the same
    // catalogue row ("tuple concurrently updated").
    let mut tx = sqlx::Connection::begin(connection).await?;
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('carillon.set_password', 0))")
        .execute(&mut *tx)
        .await?;
    let statement: String =
        sqlx::query_scalar("select format('alter role %I password %L', $1::text, $2::text)")
            .bind(role(service))
            .bind(password)
            .fetch_one(&mut *tx)
            .await?;
    sqlx::query(AssertSqlSafe(statement)).execute(&mut *tx).await?;
    tx.commit().await
}
