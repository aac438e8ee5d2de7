//! A fresh, migrated database for each test: a copy of a template that is migrated once.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use uuid::Uuid;

use crate::stack;

/// The Argon2id hash of a password that nobody knows: one of zeros.
const NOBODY_KNOWS: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c2FsdCBvZiBubyBvbmUuLg$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A database of one test's own.
#[derive(Debug, Clone)]
pub struct Database {
    name: String,
    admin: PgPool,
}

impl Database {
    /// Makes it.
    ///
    /// # Panics
    /// When the stack's Postgres does not answer.
    pub async fn create() -> Self {
        let template = template().await;
        Self::copied(&template).await
    }

    /// Makes one with nothing in it, for the migrations of another release.
    ///
    /// # Panics
    /// When the stack's Postgres does not answer.
    pub async fn empty() -> Self {
        // What PostgreSQL keeps for it: as good as new.
        Self::copied("template0").await
    }

    async fn copied(template: &str) -> Self {
        let name = format!("test_{}_{}", std::process::id(), Uuid::new_v4().simple());
        let mut server = PgConnection::connect(&stack("DATABASE_URL"))
            .await
            .expect("Postgres answers");
        // CREATE DATABASE wants nobody else connected to the template, and another test may be copying it right now.
        sqlx::query("select pg_advisory_lock(hashtextextended('test template', 0))")
            .execute(&mut server)
            .await
            .unwrap();
        drop_those_of_ended_processes(&mut server).await;
        sqlx::query(AssertSqlSafe(format!(
            "create database {name} template {template}"
        )))
        .execute(&mut server)
        .await
        .unwrap();
        server.close().await.unwrap();
        let admin = pool(&admin_url(&name));
        Self { name, admin }
    }

    /// The URL to connect by as the role of a service, named like its folder, or of the operator.
    #[must_use]
    pub fn url(&self, service: &str) -> String {
        let (host, port) = (stack("POSTGRES_HOST"), stack("POSTGRES_PORT"));
        self.url_at(&format!("{host}:{port}"), service)
    }

    /// The same by way of another address, a host and a port: that of a proxy.
    #[must_use]
    pub fn url_at(&self, address: &str, service: &str) -> String {
        let password = password(service);
        format!(
            "postgres://{}:{password}@{address}/{}",
            migrations::role(service),
            self.name
        )
    }

    /// The URL to connect by as the owner.
    #[must_use]
    pub fn owner_url(&self) -> String {
        admin_url(&self.name)
    }

    /// How a service would be configured to reach it.
    #[must_use]
    pub fn config(&self, service: &'static str) -> db::DatabaseConfig {
        db::DatabaseConfig {
            url: self.url(service).into(),
            max_connections: 8,
            statement_timeout: Duration::from_secs(30),
            acquire_timeout: Duration::from_secs(10),
            application_name: service,
        }
    }

    /// A pool of the role of a service.
    #[must_use]
    pub fn pool(&self, service: &str) -> PgPool {
        pool(&self.url(service))
    }

    /// A pool of the owner, who may look into everything.
    #[must_use]
    pub fn admin(&self) -> &PgPool {
        &self.admin
    }

    /// Its name on the server.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A user with this address, in Europe/Berlin.
    ///
    /// # Panics
    /// When the database does not answer.
    pub async fn user(&self, email: &str) -> Uuid {
        let id = Uuid::now_v7();
        sqlx::query(
            "insert into accounts.users (id, email, name, timezone, password_hash, created_at)
             values ($1, $2, 'Ada Lovelace', 'Europe/Berlin', $3, now())",
        )
        .bind(id)
        .bind(email)
        .bind(NOBODY_KNOWS)
        .execute(&self.admin)
        .await
        .unwrap();
        id
    }
}

/// The password of a role. The operator is no service of the stack and has none there; here it has the API's.
fn password(role: &str) -> String {
    let service = if role == migrations::OPERATOR { "api" } else { role };
    stack(&format!(
        "{}_DATABASE_PASSWORD",
        service.replace('-', "_").to_uppercase()
    ))
}

fn pool(url: &str) -> PgPool {
    PgPoolOptions::new()
        .max_connections(8)
        .acquire_timeout(Duration::from_secs(30))
        .connect_lazy(url)
        .unwrap()
}

fn admin_url(database: &str) -> String {
    let url = stack("DATABASE_URL");
    let (server, _) = url.rsplit_once('/').expect("DATABASE_URL names a database");
    format!("{server}/{database}")
}

/// A test that is killed cannot clean up, and one that fails is to be looked into: databases stay until the process that
/// made them is gone, and the next one to start drops them.
async fn drop_those_of_ended_processes(server: &mut PgConnection) {
    static ONCE: AtomicBool = AtomicBool::new(false);
    if ONCE.swap(true, Ordering::Relaxed) {
        return;
    }
    let names: Vec<String> =
        sqlx::query_scalar("select datname from pg_database where datname ~ '^test_[0-9]+_[0-9a-f]{32}$'")
            .fetch_all(&mut *server)
            .await
            .unwrap();
    for name in names {
        let process = name.split('_').nth(1).unwrap_or_default();
        if !Path::new("/proc").join(process).exists() {
            // Whoever is at it right now, an autovacuum worker of PostgreSQL's or another process that drops it, is not ours to
            // send away: then the next one to start drops it.
            let dropped = sqlx::query(AssertSqlSafe(format!(
                "drop database if exists {name} with (force)"
            )));
            drop(dropped.execute(&mut *server).await);
        }
    }
}

/// The template's name, after making it if this version of the migrations has none yet.
async fn template() -> String {
    let version = migrations::MIGRATOR
        .iter()
        .flat_map(|migration| migration.checksum.iter())
        .chain(
            schemas::all_schemas()
                .iter()
                .flat_map(|schema| schema.fingerprint.as_bytes()),
        )
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        });
    let name = format!("template_{version:016x}");
    let mut server = PgConnection::connect(&stack("DATABASE_URL"))
        .await
        .expect("Postgres answers");
    sqlx::query("select pg_advisory_lock(hashtextextended('test template', 0))")
        .execute(&mut server)
        .await
        .unwrap();
    let there: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(&name)
        .fetch_one(&mut server)
        .await
        .unwrap();
    if !there {
        let draft = format!("draft_{}", Uuid::new_v4().simple());
        sqlx::query(AssertSqlSafe(format!("create database {draft}")))
            .execute(&mut server)
            .await
            .unwrap();
        let admin = pool(&admin_url(&draft));
        migrations::migrate(&admin).await.expect("the migrations apply");
        for role in migrations::roles() {
            migrations::set_password(&mut admin.acquire().await.unwrap(), role, &password(role))
                .await
                .unwrap();
        }
        admin.close().await;
        // Renamed when it is whole: a test run that was stopped in the middle leaves no half template behind.
        sqlx::query(AssertSqlSafe(format!("alter database {draft} rename to {name}")))
            .execute(&mut server)
            .await
            .unwrap();
    }
    server.close().await.unwrap();
    name
}
