//! The smallest service: probes, metrics, and a task that waits. `tests/process.rs` runs it as a process.

use std::process::ExitCode;
use std::time::Duration;

use secrecy::SecretString;
use service::config::{Env, ServiceConfig};
use service::{Health, Supervisor, http};
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
#[expect(dead_code, reason = "the password is there to see that logs do not tell it")]
struct Config {
    service: ServiceConfig,
    password: SecretString,
    /// Never stop, as a task that hangs would.
    stubborn: bool,
    /// Panic once everything runs.
    panic: bool,
}

impl Config {
    fn from_env(env: &mut Env) -> Option<Self> {
        let service = ServiceConfig::from_env(env, 8099);
        let password = env.secret("PASSWORD");
        let stubborn = env.flag("--stubborn");
        let panic = env.flag("--panic");
        Some(Self {
            service: service?,
            password: password?,
            stubborn,
            panic,
        })
    }
}

async fn idle(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let health = Health::new();
    let component = health.component("idle", Duration::MAX);
    let listener = http::bind(config.service.http_bind).await?;
    let mut supervisor = Supervisor::new(shutdown.clone(), health.clone(), config.service.shutdown_budget);
    supervisor.spawn(
        "http",
        http::serve(listener, http::admin_router(health), shutdown.clone()),
    );
    supervisor.spawn("idle", async move {
        component.ready();
        if config.panic {
            panic!("on purpose");
        }
        shutdown.cancelled().await;
        if config.stubborn {
            std::future::pending::<()>().await;
        }
        Ok(())
    });
    supervisor.run().await
}

fn main() -> ExitCode {
    service::run("idle", Config::from_env, |config| &config.service, idle)
}
