#![doc = include_str!("../README.md")]

mod accounts;
mod answer;
mod client_address;
mod config;
mod cursor;
mod extract;
mod find;
mod history;
mod idempotency;
mod input;
mod metrics;
mod middleware;
mod notifications;
mod openapi;
mod page;
mod passwords;
mod problem;
mod query;
mod rate_limit;
pub mod recover;
mod recurring;
mod reminders;
mod routes;
mod tasks;
mod templates;
mod token;
mod webhooks;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ::webhooks::Policy;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header;
use service::{Health, Supervisor, http};
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{Predicate, SizeAbove};
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use tracing::Instrument;

pub use accounts::AccountsConfig;
pub use config::{Config, HttpConfig, Origins};
pub use problem::Problem;
pub use recurring::{Edit, Edited};
pub use token::foreign::Issuer;
pub use token::{Bearer, KeyError, SigningKey, TokenConfig, Tokens};

use accounts::Accounts;
use cursor::Cursors;
use passwords::Passwords;
use problem::Kind;
use rate_limit::Limits;
use routes::mail_links::MailLinks;

/// What handlers share.
#[derive(Debug, Clone)]
struct App {
    pool: PgPool,
    tokens: Arc<Tokens>,
    passwords: Passwords,
    limits: Arc<Limits>,
    cursors: Arc<Cursors>,
    accounts: Arc<Accounts>,
    /// Where webhooks may go.
    webhook_policy: Arc<Policy>,
    /// What opens the links in mails.
    links: Arc<MailLinks>,
    /// How many proxies stand before us, whose word on the client's address is taken.
    trusted_proxies: usize,
}

impl App {
    /// Runs database work to its end, whatever becomes of the request: handlers are dropped when their client hangs up,
    /// and must never be while they hold a connection (see [`db::detached`]).
    async fn database<T, F>(&self, work: impl FnOnce(PgPool) -> F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        // Boxed, because a task's future is moved several times, and those of transactions are large.
        db::detached(Box::pin(service::trace::carried(
            work(self.pool.clone()).in_current_span(),
        )))
        .await
    }
}

/// Serves until `shutdown`.
///
/// # Errors
/// When the port is taken, or a task fails.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listener = http::bind(config.service.http_bind).await?;
    serve(listener, config, shutdown).await
}

/// What [`run`] does, on a listener of the caller's.
///
/// # Errors
/// When the configuration cannot work, or a task fails.
pub async fn serve(listener: TcpListener, config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let health = Health::new();
    let pool = config.database.pool()?;
    let app = App {
        pool: pool.clone(),
        cursors: Arc::new(Cursors::new(&config.tokens.key)?),
        tokens: Arc::new(Tokens::new(config.tokens)?),
        passwords: Passwords::new(config.password_hash_concurrency),
        limits: Arc::new(Limits::new(&config.http)),
        accounts: Arc::new(Accounts::new(&config.accounts)?),
        webhook_policy: Arc::new(config.webhooks),
        links: Arc::new(MailLinks::new(config.links)?),
        trusted_proxies: config.http.trusted_proxies,
    };
    let (accounts, token_ttl) = (Arc::clone(&app.accounts), app.tokens.ttl());
    let router = router(app, health.clone(), &config.http);
    let mut supervisor = Supervisor::new(shutdown.clone(), health.clone(), config.service.shutdown_budget);

    // A probe that waits for a connection and then for its answer is slow, not stuck.
    let slowest_probe =
        config.database.acquire_timeout + config.database.statement_timeout + db::PROBE_INTERVAL;
    let postgres = health.component("postgres", slowest_probe + Duration::from_secs(30));
    supervisor.spawn_infallible(
        "postgres-probe",
        db::probe(pool.clone(), postgres, shutdown.clone()),
    );
    let purge = |pool: PgPool| async move {
        let before = schemas::now() - tasks::KEPT_AFTER_DELETION;
        db::tasks::purge_deleted(&pool, before).await
    };
    supervisor.spawn_infallible(
        "deleted-tasks",
        db::sweep::hourly("deleted tasks", pool.clone(), shutdown.clone(), purge),
    );
    let ttl = config.http.idempotency_key_ttl;
    let forget = move |pool: PgPool| async move { idempotency::sweep(&pool, ttl).await };
    supervisor.spawn_infallible(
        "idempotency-sweep",
        db::sweep::hourly("idempotency keys", pool.clone(), shutdown.clone(), forget),
    );
    let expire = |pool: PgPool| async move { accounts::sweep(&pool).await };
    supervisor.spawn_infallible(
        "expired-accounts",
        db::sweep::hourly(
            "what has expired of accounts",
            pool.clone(),
            shutdown.clone(),
            expire,
        ),
    );
    supervisor.spawn_infallible(
        "revocations",
        accounts::watch_revocations(pool.clone(), Arc::clone(&accounts), token_ttl, shutdown.clone()),
    );
    supervisor.spawn_infallible(
        "reset-requests",
        accounts::answer_reset_requests(pool.clone(), Arc::clone(&accounts), shutdown.clone()),
    );
    supervisor.spawn_infallible(
        "moves",
        accounts::moves::finish(pool.clone(), Arc::clone(&accounts), shutdown.clone()),
    );
    supervisor.spawn_infallible(
        "accounts",
        accounts::keep_house(
            pool.clone(),
            accounts,
            config.accounts.purge_within,
            shutdown.clone(),
        ),
    );
    supervisor.spawn("http", async move {
        // From the stop on `/readyz` says so; whoever sends requests here needs a moment to notice.
        let closing = service::shutdown::delayed(shutdown, config.http.drain);
        http::serve(listener, router, closing).await?;
        // Waits for the database work of clients that have hung up.
        pool.close().await;
        Ok(())
    });
    supervisor.run().await
}

fn router(app: App, health: Health, config: &HttpConfig) -> Router {
    LazyLock::force(&metrics::TASKS_CREATED);
    let limits = app.limits.clone();
    let (routes, api) = routes::all().split_for_parts();
    let routes = routes
        .merge(routes::description::router(&openapi::complete(api)))
        .merge(routes::pages::router())
        .merge(routes::mail_links::router())
        .with_state(app)
        .layer(axum::middleware::from_fn(middleware::not_modified))
        .merge(http::admin_router(health))
        .fallback(async || Problem::new(Kind::NotFound, "There is nothing at this path."))
        .method_not_allowed_fallback(async || {
            Problem::new(
                Kind::MethodNotAllowed,
                "The header Allow names the methods that this path knows.",
            )
        });
    let routes = routes
        .layer(DefaultBodyLimit::max(extract::MAX_BODY_BYTES))
        .layer(axum::middleware::from_fn(middleware::bound_url));
    let worth_it = SizeAbove::new(MIN_COMPRESSED_BYTES).and(middleware::compressible);
    let routes = observed(routes, limits).layer(CompressionLayer::new().compress_when(worth_it));
    match middleware::cors(&config.allowed_origins) {
        Some(cors) => routes.layer(cors),
        None => routes,
    }
}

/// Below this an answer fits into one packet anyway.
const MIN_COMPRESSED_BYTES: u64 = 1024;

/// From the inside outwards: a panic becomes an answer, every request is counted, and every answer is observed.
fn observed(routes: Router, limits: Arc<Limits>) -> Router {
    routes
        .layer(CatchPanicLayer::custom(middleware::after_panic))
        .layer(axum::middleware::from_fn_with_state(limits, rate_limit::enforce))
        .layer(axum::middleware::from_fn(middleware::observe))
        .layer(SetSensitiveRequestHeadersLayer::new([header::AUTHORIZATION]))
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_panics_or_never_answers_is_answered_for() {
        let routes = Router::new()
            .route("/api/panic", get(async || -> () { panic!("the secret") }))
            .route(
                "/detached",
                get(async || db::detached::<()>(async { panic!("the secret") }).await),
            )
            .route("/stuck", get(std::future::pending::<()>));
        let routes = observed(routes, Arc::new(Limits::new(&HttpConfig::default())));
        for (path, status, word) in [
            ("/api/panic", 500, "internal"),
            ("/detached", 500, "internal"),
            ("/stuck", 503, "timeout"),
        ] {
            let request = Request::get(path)
                .header("x-request-id", "r-1")
                .body(Body::empty())
                .unwrap();
            let response = routes.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), status, "{path}");
            let limited = response.headers().contains_key(rate_limit::RATE_LIMIT);
            assert_eq!(limited, path.starts_with("/api/"), "{path}");
            let body = to_bytes(response.into_body(), 10_000).await.unwrap();
            let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(problem["type"], format!("urn:carillon:problem:{word}"));
            assert_eq!(problem["request_id"], "r-1");
            assert!(!problem.to_string().contains("the secret"));
        }
    }
}
