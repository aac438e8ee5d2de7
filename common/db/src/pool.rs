//! Connections, and how database work is kept from being cut off in the middle.

use std::future::Future;
use std::str::FromStr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use service::Component;
use service::config::{Env, Secret};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;

/// How often [`probe`] asks whether the database answers.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// How often the file of the URL is looked at.
const URL_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How long an idle connection is believed to live without being asked.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// How to reach Postgres.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// `DATABASE_URL`: `postgres://role:password@host:port/database`. In a file it may change, with the password.
    pub url: Secret,
    /// `DATABASE_MAX_CONNECTIONS`: the most connections that this process holds.
    pub max_connections: u32,
    /// `DATABASE_STATEMENT_TIMEOUT_MS`: the server ends a statement that takes longer. It is how we bound database work:
    /// ending it from our side, by dropping a future, would leave a broken connection in the pool (sqlx#4394).
    pub statement_timeout: Duration,
    /// `DATABASE_ACQUIRE_TIMEOUT_MS`: how long to wait for a free connection.
    pub acquire_timeout: Duration,
    /// Shown in `pg_stat_activity`: the name of the service.
    pub application_name: &'static str,
}

impl DatabaseConfig {
    /// Reads the settings above.
    pub fn from_env(env: &mut Env, application_name: &'static str, max_connections: u32) -> Option<Self> {
        let url = env.changing_secret("DATABASE_URL");
        if let Some(url) = &url
            && PgConnectOptions::from_str(url.current().expose_secret()).is_err()
        {
            env.reject(
                "DATABASE_URL",
                "is no URL of the form postgres://role:password@host:port/database",
            );
        }
        let max_connections = env.within("DATABASE_MAX_CONNECTIONS", max_connections, 1..=500);
        let statement_timeout = env.duration_ms(
            "DATABASE_STATEMENT_TIMEOUT_MS",
            Duration::from_secs(30),
            Duration::from_millis(100)..=Duration::from_mins(4),
        );
        let acquire_timeout = env.duration_ms(
            "DATABASE_ACQUIRE_TIMEOUT_MS",
            Duration::from_secs(5),
            Duration::from_millis(10)..=Duration::from_mins(1),
        );
        Some(Self {
            url: url?,
            max_connections: max_connections?,
            statement_timeout: statement_timeout?,
            acquire_timeout: acquire_timeout?,
            application_name,
        })
    }

    fn options(&self, url: &SecretString) -> Result<PgConnectOptions, sqlx::Error> {
        Ok(PgConnectOptions::from_str(url.expose_secret())?
            .application_name(self.application_name)
            .options([
                (
                    "statement_timeout",
                    self.statement_timeout.as_millis().to_string(),
                ),
                // A transaction of ours that went silent must not hold its locks for ever.
                ("idle_in_transaction_session_timeout", "60000".to_owned()),
                ("timezone", "UTC".to_owned()),
                // Each of our statements is short. Compiling one costs more than running it, and the planner asks for it
                // whenever it takes a table that just grew for a large one.
                ("jit", "off".to_owned()),
            ]))
    }

    /// A pool that connects when it is first used: services start while the database is away.
    ///
    /// # Errors
    /// When the URL is malformed.
    pub fn pool(&self) -> Result<PgPool, sqlx::Error> {
        let url = self.url.current();
        let pool = PgPoolOptions::new()
            .max_connections(self.max_connections)
            .acquire_timeout(self.acquire_timeout)
            .idle_timeout(Duration::from_mins(5))
            // sqlx would ask each connection whether it lives before each use: a second round trip for every request. One
            // that was in use a moment ago does; if it has died since, the statement fails as it would anyway.
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for > TRUSTED_FOR {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(self.options(&url)?);
        if self.url.may_change() {
            tokio::spawn(self.clone().keep_current(pool.clone(), url));
        }
        Ok(pool)
    }

    /// Has the pool make new connections with what the file of the URL holds, until it is closed. Those that there are stay.
    async fn keep_current(self, pool: PgPool, mut url: SecretString) {
        let closed = pool.close_event();
        tokio::pin!(closed);
        loop {
            tokio::select! {
                () = &mut closed => return,
                () = tokio::time::sleep(URL_CHECK_INTERVAL) => {}
            }
            if self.url.differs_from(&url) {
                url = self.url.current();
                match self.options(&url) {
                    Ok(options) => {
                        pool.set_connect_options(options);
                        tracing::info!("DATABASE_URL has changed: new connections use it");
                    }
                    // The error would quote parts of it.
                    Err(_) => tracing::warn!(
                        "DATABASE_URL has changed to what is no URL; the one before stays in use"
                    ),
                }
            }
        }
    }

    /// One connection outside any pool, for work that belongs to a session: advisory locks.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        PgConnection::connect_with(&self.options(&self.url.current())?).await
    }
}

/// Runs database work to its end even if the caller is dropped, as an HTTP handler is when its client hangs up: a
/// cancelled `begin` poisons the pooled connection (sqlx#4394).
///
/// # Panics
/// When `work` does: the panic is the caller's.
pub async fn detached<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(work).await {
        Ok(output) => output,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Nobody holds the handle, so only a runtime that is going down cancels the task: wait for that end.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Tells `component` whether the database answers, until `shutdown`.
pub async fn probe(pool: PgPool, component: Component, shutdown: CancellationToken) {
    loop {
        match sqlx::query("select 1").execute(&pool).await {
            Ok(_) => component.ready(),
            Err(error) => component.not_ready(format!("Postgres does not answer: {error}")),
        }
        component.progress();
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PROBE_INTERVAL) => {}
        }
    }
}
