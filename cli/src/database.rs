//! The database, as an operator reaches it.

use std::time::Duration;

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects to the database at DATABASE_URL.
pub(crate) async fn connect() -> anyhow::Result<PgPool> {
    let url = service::config::load(|env| env.secret("DATABASE_URL"))?;
    connect_to(&url)
        .await
        .context("cannot reach the database at DATABASE_URL")
}

/// Connects to a database.
pub(crate) async fn connect_to(url: &SecretString) -> Result<PgPool, sqlx::Error> {
    PgPoolOptions::new()
        .max_connections(2)
        .acquire_timeout(PATIENCE)
        .connect(url.expose_secret())
        .await
}
