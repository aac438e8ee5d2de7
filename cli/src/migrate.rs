//! `carillon migrate`.

use std::time::Duration;

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgPoolOptions;

use serde_json::json;

use crate::output::{self, Format, Verdict, say};

struct Config {
    url: SecretString,
    passwords: Vec<(&'static str, SecretString)>,
}

pub(crate) async fn run(format: Format) -> anyhow::Result<Verdict> {
    let config = service::config::load(|env| {
        let url = env.secret("DATABASE_URL");
        let mut passwords = Some(Vec::new());
        for service in migrations::roles() {
            let name = format!("{}_DATABASE_PASSWORD", service.replace('-', "_").to_uppercase());
            match env.optional_secret(&name) {
                Some(Some(password)) => passwords
                    .iter_mut()
                    .for_each(|p| p.push((service, password.clone()))),
                Some(None) => {}
                None => passwords = None,
            }
        }
        Some(Config {
            url: url?,
            passwords: passwords?,
        })
    })?;
    let pool = PgPoolOptions::new()
        .max_connections(2)
        .acquire_timeout(Duration::from_secs(30))
        .connect(config.url.expose_secret())
        .await
        .context("cannot reach the database at DATABASE_URL")?;
    migrations::migrate(&pool).await.context("migrating failed")?;
    let mut connection = pool.acquire().await?;
    for (service, password) in &config.passwords {
        migrations::set_password(&mut connection, service, password.expose_secret())
            .await
            .with_context(|| format!("cannot set the password of {}", migrations::role(service)))?;
    }
    let (applied,): (i64,) = sqlx::query_as("select count(*) from _sqlx_migrations")
        .fetch_one(&pool)
        .await?;
    let set = config.passwords.len();
    match format {
        Format::Json => output::json(&json!({"migrations_applied": applied, "role_passwords_set": set}))?,
        Format::Table => say(format_args!(
            "{applied} migrations are applied, {set} role passwords set"
        )),
    }
    Ok(Verdict::Fine)
}
