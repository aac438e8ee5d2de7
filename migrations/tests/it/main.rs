//! Migrating: by many at once, again, and not past an edited file.
#![expect(clippy::unwrap_used, reason = "tests")]

use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use support::stack;
use uuid::Uuid;

/// An empty database, made by the owner.
struct Empty {
    name: String,
    server: String,
}

impl Empty {
    async fn create() -> Self {
        let url = stack("DATABASE_URL");
        let (server, _) = url.rsplit_once('/').unwrap();
        let name = format!("test_{}", Uuid::new_v4().simple());
        let mut connection = PgConnection::connect(&url).await.unwrap();
        // From the database that never changes: others may be connected to the usual template.
        sqlx::query(AssertSqlSafe(format!(
            "create database {name} template template0"
        )))
        .execute(&mut connection)
        .await
        .unwrap();
        connection.close().await.unwrap();
        Self {
            name,
            server: server.to_owned(),
        }
    }

    fn pool(&self) -> PgPool {
        PgPoolOptions::new()
            .max_connections(2)
            .connect_lazy(&format!("{}/{}", self.server, self.name))
            .unwrap()
    }
}

/// What was applied, and when.
async fn applied(pool: &PgPool) -> Vec<(i64, String, bool)> {
    sqlx::query_as("select version, installed_on::text, success from _sqlx_migrations order by version")
        .fetch_all(pool)
        .await
        .unwrap()
}

async fn schemas_in(pool: &PgPool) -> Vec<(Uuid, String, String, String)> {
    sqlx::query_as(
        "select fingerprint, topic, fullname, schema_json from outbox.schemas order by fingerprint",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_that_migrate_an_empty_database_at_once_all_succeed_and_each_migration_is_applied_once() {
    let database = Empty::create().await;
    let runs: Vec<_> = (0..8)
        .map(|_| {
            let pool = database.pool();
            tokio::spawn(async move { migrations::migrate(&pool).await })
        })
        .collect();
    for run in runs {
        run.await.unwrap().unwrap();
    }
    let pool = database.pool();
    let first = applied(&pool).await;
    let versions: Vec<i64> = migrations::MIGRATOR
        .iter()
        .map(|migration| migration.version)
        .collect();
    assert_eq!(
        first.iter().map(|(version, _, _)| *version).collect::<Vec<_>>(),
        versions
    );
    assert!(first.iter().all(|(_, _, success)| *success));

    // Every schema that an event of this build is written with is there for the relay.
    let written = schemas_in(&pool).await;
    let mut expected: Vec<_> = schemas::all_schemas()
        .iter()
        .map(|s| {
            (
                s.fingerprint,
                s.topic.to_owned(),
                s.fullname.clone(),
                s.json.clone(),
            )
        })
        .collect();
    expected.sort();
    assert_eq!(written, expected);

    migrations::migrate(&pool).await.unwrap();
    assert_eq!(applied(&pool).await, first, "running it again changes nothing");
    assert_eq!(schemas_in(&pool).await, written);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_an_earlier_build_stays_for_the_events_that_were_written_with_it() {
    let database = Empty::create().await;
    let pool = database.pool();
    migrations::migrate(&pool).await.unwrap();
    let earlier = Uuid::new_v4();
    sqlx::query(
        "insert into outbox.schemas values ($1, 'task-events', 'com.carillon.task.TaskCreated', '{}')",
    )
    .bind(earlier)
    .execute(&pool)
    .await
    .unwrap();
    migrations::migrate(&pool).await.unwrap();
    assert!(
        schemas_in(&pool)
            .await
            .iter()
            .any(|(fingerprint, ..)| *fingerprint == earlier)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_was_edited_after_it_was_applied_is_refused() {
    let database = Empty::create().await;
    let pool = database.pool();
    migrations::migrate(&pool).await.unwrap();
    sqlx::query("update _sqlx_migrations set checksum = '\\x00' where version = (select min(version) from _sqlx_migrations)")
        .execute(&pool)
        .await
        .unwrap();
    let error = migrations::migrate(&pool).await.unwrap_err();
    assert!(
        matches!(
            error,
            migrations::Error::Migrate(sqlx::migrate::MigrateError::VersionMismatch(_))
        ),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_has_a_role_that_can_log_in_and_passwords_may_be_set_by_many_at_once() {
    let database = Empty::create().await;
    migrations::migrate(&database.pool()).await.unwrap();
    let runs: Vec<_> = (0..8)
        .map(|_| {
            let pool = database.pool();
            tokio::spawn(async move {
                let mut connection = pool.acquire().await.unwrap();
                for service in migrations::SERVICES {
                    // The one that it has: roles belong to the whole cluster, and other tests log in by it.
                    let variable = format!("{}_DATABASE_PASSWORD", service.replace('-', "_").to_uppercase());
                    migrations::set_password(&mut connection, service, &stack(&variable)).await?;
                }
                Ok::<_, sqlx::Error>(())
            })
        })
        .collect();
    for run in runs {
        run.await.unwrap().unwrap();
    }
    let can_log_in: Vec<String> = sqlx::query_scalar("select rolname from pg_roles where rolcanlogin")
        .fetch_all(&database.pool())
        .await
        .unwrap();
    for service in migrations::SERVICES {
        assert!(can_log_in.contains(&migrations::role(service)), "{service}");
    }
}
