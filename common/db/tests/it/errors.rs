//! What real errors of a real server mean, and work that outlives its caller.

use std::time::Duration;

use db::DatabaseConfig;
use secrecy::ExposeSecret;
use tokio::sync::oneshot;

use super::*;

async fn error(pool: &PgPool, statement: &str) -> sqlx::Error {
    sqlx::query(AssertSqlSafe(statement.to_owned()))
        .execute(pool)
        .await
        .unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_values_are_to_blame_for_is_data_and_what_we_are_to_blame_for_is_a_bug() {
    let database = Database::create().await;
    let id = database.user("ada@example.org").await;
    let again = format!(
        "insert into accounts.users (id, email, name, timezone, password_hash, created_at)
         values ('{}', 'ADA@example.org', 'Ada', 'UTC', '-', now())",
        Uuid::now_v7()
    );
    let error = error(database.admin(), &again).await;
    assert_eq!(classify(&error), Failure::Data);
    assert_eq!(db::violated_constraint(&error), Some("users_email_key"));
    let nul = sqlx::query("update accounts.users set name = $1 where id = $2")
        .bind("A\0da")
        .bind(id)
        .execute(database.admin())
        .await
        .unwrap_err();
    assert_eq!(classify(&nul), Failure::Data, "{nul}");
    let nul_in_json = sqlx::query("select $1::jsonb")
        .bind(r#"{"a":"\u0000"}"#)
        .execute(database.admin())
        .await;
    assert_eq!(classify(&nul_in_json.unwrap_err()), Failure::Data);
    for (statement, expected) in [
        ("select 1/0", Failure::Data),
        ("select 'x'::bigint", Failure::Data),
        (
            "insert into tasks.series values (gen_random_uuid(), gen_random_uuid(), '', now(), '', now())",
            Failure::Data,
        ),
        ("update accounts.users set name = null", Failure::Data),
        ("select * from accounts.nobody", Failure::Bug),
        ("selec 1", Failure::Bug),
    ] {
        let error = super::errors::error(database.admin(), statement).await;
        assert_eq!(classify(&error), expected, "{statement}: {error}");
        assert!(!classify(&error).is_retryable());
    }
    let denied = super::errors::error(&database.pool("email-sender"), "select * from tasks.tasks").await;
    assert_eq!(classify(&denied), Failure::Bug, "{denied}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_takes_too_long_and_a_lock_that_is_not_given_are_saturation() {
    let database = Database::create().await;
    let config = DatabaseConfig {
        statement_timeout: Duration::from_millis(200),
        ..database.config("api")
    };
    let pool = config.pool().unwrap();
    let error = error(&pool, "select pg_sleep(60)").await;
    assert_eq!(classify(&error), Failure::Saturation, "{error}");
    // The connection is as good as before.
    sqlx::query("select 1").execute(&pool).await.unwrap();

    let id = database.user("ada@example.org").await;
    let mut holder = database.admin().begin().await.unwrap();
    sqlx::query("select from accounts.users where id = $1 for update")
        .bind(id)
        .execute(&mut *holder)
        .await
        .unwrap();
    let mut waiter = database.admin().begin().await.unwrap();
    sqlx::query("set local lock_timeout = '50ms'")
        .execute(&mut *waiter)
        .await
        .unwrap();
    let error = sqlx::query("select from accounts.users where id = $1 for update")
        .bind(id)
        .execute(&mut *waiter)
        .await
        .unwrap_err();
    assert_eq!(classify(&error), Failure::Saturation, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_ended_and_a_deadlock_are_transient() {
    let database = Database::create().await;
    let config = database.config("api");
    let mut victim = config.connect().await.unwrap();
    // Only a superuser sees and ends what belongs to another role.
    let same_role = database.pool("api");
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(&mut victim)
        .await
        .unwrap();
    let sleeping = tokio::spawn(async move {
        let error = sqlx::query("select pg_sleep(60)")
            .execute(&mut victim)
            .await
            .unwrap_err();
        // And what a caller finds who did not notice.
        (
            error,
            sqlx::query("select 1").execute(&mut victim).await.unwrap_err(),
        )
    });
    eventually("it sleeps", async || {
        let state: Option<String> =
            sqlx::query_scalar("select wait_event from pg_stat_activity where pid = $1")
                .bind(pid)
                .fetch_one(&same_role)
                .await
                .unwrap();
        (state.as_deref() == Some("PgSleep")).then_some(())
    })
    .await;
    sqlx::query("select pg_terminate_backend($1)")
        .bind(pid)
        .execute(&same_role)
        .await
        .unwrap();
    let (during, after) = sleeping.await.unwrap();
    assert_eq!(classify(&during), Failure::Transient, "{during}");
    assert_eq!(classify(&after), Failure::Transient, "{after}");

    let users = [
        database.user("ada@example.org").await,
        database.user("bob@example.org").await,
    ];
    let lock = "select from accounts.users where id = $1 for update";
    let mut first = database.admin().begin().await.unwrap();
    let mut second = database.admin().begin().await.unwrap();
    sqlx::query(lock)
        .bind(users[0])
        .execute(&mut *first)
        .await
        .unwrap();
    sqlx::query(lock)
        .bind(users[1])
        .execute(&mut *second)
        .await
        .unwrap();
    let outcomes = tokio::join!(sqlx::query(lock).bind(users[1]).execute(&mut *first), async {
        let outcome = sqlx::query(lock).bind(users[0]).execute(&mut *second).await;
        second.rollback().await.unwrap();
        outcome
    });
    let error = match outcomes {
        (Err(error), _) | (_, Err(error)) => error,
        outcomes => panic!("no deadlock: {outcomes:?}"),
    };
    assert_eq!(classify(&error), Failure::Transient, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_and_a_pool_that_is_used_up_are_worth_another_try() {
    let database = Database::create().await;
    let config = database.config("api");
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let gone = config
        .url
        .current()
        .expose_secret()
        .replace(&support::stack("POSTGRES_PORT"), &port.to_string());
    let gone = DatabaseConfig {
        url: gone.into(),
        acquire_timeout: Duration::from_millis(200),
        ..config.clone()
    };
    let error = gone.connect().await.unwrap_err();
    assert_eq!(classify(&error), Failure::Transient, "{error}");
    let error = super::errors::error(&gone.pool().unwrap(), "select 1").await;
    assert!(classify(&error).is_retryable(), "{error}");

    let small = DatabaseConfig {
        max_connections: 1,
        acquire_timeout: Duration::from_secs(2),
        ..config.clone()
    };
    let pool = small.pool().unwrap();
    let _all = pool.acquire().await.unwrap();
    assert_eq!(classify(&pool.acquire().await.unwrap_err()), Failure::Saturation);

    let url = config
        .url
        .current()
        .expose_secret()
        .replacen("carillon_api:", "carillon_api:not-", 1);
    let locked_out = DatabaseConfig {
        url: url.into(),
        ..config
    };
    let error = locked_out.connect().await.unwrap_err();
    assert_eq!(classify(&error), Failure::Bug, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_set_up_as_the_configuration_says() {
    let database = Database::create().await;
    let config = database.config("reminder-scanner");
    let mut connection = config.connect().await.unwrap();
    for (setting, expected) in [
        ("statement_timeout", "30s"),
        ("idle_in_transaction_session_timeout", "1min"),
        ("timezone", "UTC"),
        ("application_name", "reminder-scanner"),
    ] {
        let value: String = sqlx::query_scalar("select current_setting($1)")
            .bind(setting)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(value, expected, "{setting}");
    }
    connection.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn detached_work_is_done_though_its_caller_is_dropped() {
    let database = Database::create().await;
    let (started, has_started) = oneshot::channel();
    let (go_on, may_go_on) = oneshot::channel::<()>();
    let admin = database.admin().clone();
    let caller = tokio::spawn(db::detached(async move {
        let mut tx = admin.begin().await.unwrap();
        sqlx::query("create table public.done ()")
            .execute(&mut *tx)
            .await
            .unwrap();
        started.send(()).unwrap();
        may_go_on.await.unwrap();
        tx.commit().await.unwrap();
    }));
    has_started.await.unwrap();
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    go_on.send(()).unwrap();
    eventually("the work is done", async || {
        let done: bool = sqlx::query_scalar("select to_regclass('public.done') is not null")
            .fetch_one(database.admin())
            .await
            .unwrap();
        done.then_some(())
    })
    .await;
    assert_eq!(db::detached(async { 42 }).await, 42);
    let panicked = tokio::spawn(db::detached(async { panic!("on purpose") })).await;
    assert!(panicked.unwrap_err().is_panic());
}
