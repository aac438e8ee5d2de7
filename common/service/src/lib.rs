//! What every Carillon binary does around its own work: configuration, logs, metrics, probes, signals and an
//! orderly stop. A service's `main.rs` is one call to [`run()`]; its `lib.rs` builds on [`Supervisor`] and
//! [`Health`].
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use service::config::{Env, ServiceConfig};
//! use service::{Health, Supervisor, http};
//! use tokio_util::sync::CancellationToken;
//!
//! #[derive(Debug)]
//! struct Config {
//!     service: ServiceConfig,
//! }
//!
//! impl Config {
//!     fn from_env(env: &mut Env) -> Option<Self> {
//!         let service = ServiceConfig::from_env(env, 8002);
//!         Some(Self { service: service? })
//!     }
//! }
//!
//! async fn scan(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
//!     let health = Health::new();
//!     let listener = http::bind(config.service.http_bind).await?;
//!     let budget = config.service.shutdown_budget;
//!     let mut supervisor = Supervisor::new(shutdown.clone(), health.clone(), budget);
//!     supervisor.spawn("http", http::serve(listener, http::admin_router(health), shutdown));
//!     supervisor.run().await
//! }
//!
//! fn main() -> ExitCode {
//!     service::run("reminder-scanner", Config::from_env, |config| &config.service, scan)
//! }
//! ```

mod backoff;
pub mod config;
pub mod failpoint;
pub mod health;
pub mod healthcheck;
pub mod http;
pub mod metrics;
mod run;
pub mod runtime;
pub mod shutdown;
mod supervisor;
pub mod telemetry;
pub mod trace;

pub use backoff::Backoff;
pub use health::{Component, Health};
pub use run::{EX_CONFIG, run};
pub use supervisor::Supervisor;
