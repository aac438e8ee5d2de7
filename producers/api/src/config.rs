use std::time::Duration;

use db::DatabaseConfig;
use secrecy::ExposeSecret;
use service::config::{Env, ServiceConfig};

use crate::token::{SigningKey, TokenConfig};

/// Everything that the API is told by its environment.
#[derive(Debug, Clone)]
pub struct Config {
    /// What every service is told.
    pub service: ServiceConfig,
    /// Where accounts, tasks and the outbox are.
    pub database: DatabaseConfig,
    /// How access tokens are made.
    pub tokens: TokenConfig,
    /// `PASSWORD_HASH_CONCURRENCY`: how many password hashes are computed at a time. Each takes 19 MiB and a core.
    pub password_hash_concurrency: usize,
}

impl Config {
    /// Reads the settings above.
    pub fn from_env(env: &mut Env) -> Option<Self> {
        let service = ServiceConfig::from_env(env, 8000);
        let database = DatabaseConfig::from_env(env, "api", 16);
        let tokens = tokens(env);
        let password_hash_concurrency = env.within("PASSWORD_HASH_CONCURRENCY", 2, 1..=64);
        Some(Self {
            service: service?,
            database: database?,
            tokens: tokens?,
            password_hash_concurrency: password_hash_concurrency?,
        })
    }
}

fn tokens(env: &mut Env) -> Option<TokenConfig> {
    let key = env.secret("JWT_PRIVATE_KEY").and_then(|pem| {
        SigningKey::from_pem(pem.expose_secret())
            .map_err(|error| env.reject("JWT_PRIVATE_KEY", error))
            .ok()
    });
    let issuer = env.or("JWT_ISSUER", "carillon".to_owned());
    let audience = env.or("JWT_AUDIENCE", "carillon".to_owned());
    let ttl = env.duration_seconds(
        "JWT_TTL_SECONDS",
        Duration::from_mins(15),
        Duration::from_secs(1)..=Duration::from_hours(24),
    );
    Some(TokenConfig {
        key: key?,
        issuer: issuer?,
        audience: audience?,
        ttl: ttl?,
    })
}

#[cfg(test)]
mod tests {
    use service::config::load_from;

    use super::*;
    use crate::token::tests::RFC_8037_KEY;

    #[test]
    fn the_defaults_need_a_database_and_a_key() {
        let env = Env::from_pairs([
            ("DATABASE_URL", "postgres://api:very-secret@localhost/carillon"),
            ("JWT_PRIVATE_KEY", RFC_8037_KEY),
        ]);
        let config = load_from(env, Config::from_env).unwrap();
        assert_eq!(config.service.http_bind.port(), 8000);
        assert_eq!(config.database.max_connections, 16);
        assert_eq!(config.tokens.ttl, Duration::from_secs(900));
        let shown = format!("{config:?}");
        assert!(
            !shown.contains("very-secret") && !shown.contains("MC4C"),
            "{shown}"
        );
    }

    #[test]
    fn all_problems_are_named_at_once_and_secrets_are_not() {
        let env = Env::from_pairs([
            ("JWT_PRIVATE_KEY", "very-secret"),
            ("JWT_TTL_SECONDS", "0"),
            ("PASSWORD_HASH_CONCURRENCY", "many"),
            ("HTTP_PORT", "http"),
        ]);
        let problems = load_from(env, Config::from_env).unwrap_err();
        let names: Vec<_> = problems
            .lines()
            .iter()
            .filter_map(|line| line.split(' ').next())
            .collect();
        assert_eq!(
            names,
            [
                "HTTP_PORT",
                "DATABASE_URL",
                "JWT_PRIVATE_KEY",
                "JWT_TTL_SECONDS",
                "PASSWORD_HASH_CONCURRENCY"
            ]
        );
        assert!(!problems.to_string().contains("very-secret"));
    }
}
