use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::{Env, TracesConfig};
use crate::http;

/// What every binary can be told, whatever its work is.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// `HTTP_HOST` and `HTTP_PORT`: where probes, metrics and the service's own HTTP interface listen. By
    /// default all addresses, and the port of the service.
    pub http_bind: SocketAddr,
    /// `LOG_FORMAT`: `json` (default) or `text`.
    pub log_format: LogFormat,
    /// `RUST_LOG`: which events are logged, `info` by default.
    pub log_filter: LogFilter,
    /// Where traces go, if anywhere.
    pub traces: TracesConfig,
    /// `SHUTDOWN_BUDGET_SECONDS` (default 20): how long tasks may take to end once a stop is requested. Keep
    /// it below the grace period of whatever stops the process (30 s in Kubernetes). Its lower bound leaves
    /// time for [`http::DRAIN_LIMIT`].
    pub shutdown_budget: Duration,
    /// `WORKER_THREADS` (default 2): threads that run tasks. Raise it for a service that has more cores to
    /// itself.
    pub worker_threads: usize,
}

impl ServiceConfig {
    /// Reads the variables named at the fields.
    pub fn from_env(env: &mut Env, default_port: u16) -> Option<Self> {
        let host = env.or("HTTP_HOST", IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let port = env.within("HTTP_PORT", default_port, 0..=u16::MAX);
        let log_format = env.one_of(
            "LOG_FORMAT",
            &[("json", LogFormat::Json), ("text", LogFormat::Text)],
            LogFormat::Json,
        );
        let log_filter = env.or("RUST_LOG", LogFilter::default());
        let traces = TracesConfig::from_env(env);
        let least_budget = http::DRAIN_LIMIT + Duration::from_secs(1);
        let budget = least_budget..=Duration::from_secs(600);
        let shutdown_budget =
            env.duration_seconds("SHUTDOWN_BUDGET_SECONDS", Duration::from_secs(20), budget);
        let worker_threads = env.within("WORKER_THREADS", 2, 1..=64);
        Some(Self {
            http_bind: SocketAddr::new(host?, port?),
            log_format: log_format?,
            log_filter: log_filter?,
            traces: traces?,
            shutdown_budget: shutdown_budget?,
            worker_threads: worker_threads?,
        })
    }

    /// The defaults with a free port of the loopback address, for tests.
    pub fn loopback() -> Self {
        Self {
            http_bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            log_format: LogFormat::Text,
            log_filter: LogFilter::default(),
            traces: TracesConfig::default(),
            shutdown_budget: Duration::from_secs(20),
            worker_threads: 2,
        }
    }
}

/// How a log event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line, for machines.
    Json,
    /// One readable line, for a developer's terminal.
    Text,
}

/// A filter in the syntax of [`EnvFilter`], such as `info,sqlx=warn`, known to be valid.
#[derive(Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    pub(crate) fn to_env_filter(&self) -> EnvFilter {
        // The lossy parser accepts everything the strict one in `from_str` did.
        EnvFilter::new(&self.0)
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for LogFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match EnvFilter::builder().parse(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(why) => Err(format!(
                "{why}; accepted are filters such as info or info,sqlx=warn"
            )),
        }
    }
}
