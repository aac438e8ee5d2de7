//! A service's release binary as a child process, with the settings that every installation has to give and no others.

use std::collections::HashMap;
use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use support::{Database, Topics, stack};

use crate::machine::field;
use crate::webhooks;

/// How long a service may take to get ready, to stop, or to make no progress.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is asked what it counts.
const POLL: Duration = Duration::from_millis(50);

/// The kernel counts CPU time in these (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

/// A running service. Dropping it kills it.
#[derive(Debug)]
pub struct Service {
    name: &'static str,
    child: Child,
    started: Instant,
    port: u16,
    log: PathBuf,
    http: reqwest::Client,
}

impl Service {
    /// Starts it against a database and topics of its own.
    pub fn start(name: &'static str, database: &Database, topics: &Topics) -> anyhow::Result<Self> {
        Self::start_with(name, &[], database, topics)
    }

    /// Starts it with arguments.
    pub fn start_with(
        name: &'static str,
        arguments: &[&str],
        database: &Database,
        topics: &Topics,
    ) -> anyhow::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = logs()?.join(format!("{name}-{}.log", database.name()));
        let output = File::options().create(true).append(true).open(&log)?;
        // Built together with this program, into the same folder.
        let binary = std::env::current_exe()?.with_file_name(name);
        let mut command = Command::new(&binary);
        command
            .args(arguments)
            .env_clear()
            .env("HTTP_HOST", "127.0.0.1")
            .env("HTTP_PORT", port.to_string())
            .env("DATABASE_URL", database.url(name))
            .env("KAFKA_BOOTSTRAP_SERVERS", stack("KAFKA_BOOTSTRAP_SERVERS"))
            .env("KAFKA_TOPIC_PREFIX", topics.config().topic_prefix)
            .env("SCHEMA_REGISTRY_URL", stack("SCHEMA_REGISTRY_URL"))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        match name {
            "api" => {
                command
                    .env("JWT_PRIVATE_KEY_FILE", stack("JWT_PRIVATE_KEY_FILE"))
                    .env("LINK_KEY", "a-key-of-benchmarks-for-links-in-mails")
                    .env("RATE_LIMIT_USER_PER_MINUTE", "0")
                    .env("RATE_LIMIT_ADDRESS_PER_MINUTE", "0");
            }
            "email-sender" => {
                command
                    .env("SMTP_HOST", stack("SMTP_HOST"))
                    .env("SMTP_PORT", stack("SMTP_PORT"))
                    .env("SMTP_TLS", stack("SMTP_TLS"))
                    .env("SMTP_FROM_EMAIL", "carillon@example.org")
                    .env("LINK_KEY", "a-key-of-benchmarks-for-links-in-mails");
            }
            "webhook-sender" => {
                command
                    .env("WEBHOOK_ALLOW_HTTP", "true")
                    .env("WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8")
                    .env("WEBHOOK_MAX_IN_FLIGHT", webhooks::IN_FLIGHT.to_string());
            }
            _ => {}
        }
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .build()?;
        let started = Instant::now();
        let child = command.spawn().with_context(|| {
            format!(
                "{} does not start: build the release binaries first",
                binary.display()
            )
        })?;
        Ok(Self {
            name,
            child,
            started,
            port,
            log,
            http,
        })
    }

    /// Waits until it says that it is ready. Returns how long that was from its start.
    pub async fn ready(&mut self) -> anyhow::Result<Duration> {
        let url = format!("{}/readyz", self.url());
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}: see {}", self.name, self.log.display());
            }
            if let Ok(answer) = self.http.get(&url).send().await
                && answer.status().is_success()
            {
                return Ok(self.started.elapsed());
            }
            ensure!(
                self.started.elapsed() < PATIENCE,
                "{} does not get ready: see {}",
                self.name,
                self.log.display()
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Asks it to stop, and waits until it has: a consumer leaves its group, which one that is killed does not.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let status = Command::new("kill").arg(self.child.id().to_string()).status()?;
        ensure!(status.success(), "{} cannot be asked to stop", self.name);
        let asked = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(
                asked.elapsed() < PATIENCE,
                "{} does not stop: see {}",
                self.name,
                self.log.display()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Whether it has done what it was started for, and ended.
    pub fn ended(&mut self) -> anyhow::Result<bool> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(false);
        };
        ensure!(
            status.success(),
            "{} ended with {status}: see {}",
            self.name,
            self.log.display()
        );
        Ok(true)
    }

    /// Where it answers.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it counts.
    pub async fn metrics(&self) -> anyhow::Result<Metrics> {
        let answer = self.http.get(format!("{}/metrics", self.url())).send().await?;
        Ok(Metrics(answer.error_for_status()?.text().await?))
    }

    /// Waits until a metric, summed over its labels, is at least that. Returns how much it was then, and when that was.
    pub async fn counts(&self, metric: &str, at_least: u64) -> anyhow::Result<(u64, Instant)> {
        let (mut seen, mut progress) = (0, Instant::now());
        loop {
            // Until it listens there is nothing to ask.
            if let Ok(metrics) = self.metrics().await {
                let now = metrics.sum(metric) as u64;
                if now >= at_least {
                    return Ok((now, Instant::now()));
                }
                if now > seen {
                    (seen, progress) = (now, Instant::now());
                }
            }
            ensure!(
                progress.elapsed() < PATIENCE,
                "{metric} stands at {seen} of {at_least}"
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Memory that it has in RAM, in MiB.
    pub fn resident_mib(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kib: f64 = field(&status, "VmRSS")
            .and_then(|value| value.split(' ').next())
            .context("no VmRSS")?
            .parse()?;
        Ok(kib / 1024.0)
    }

    /// CPU time that it has used so far.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        cpu(self.child.id())
    }

    /// CPU time that its database sessions have used so far in Postgres, by process: what a service asks of others is
    /// its doing, too.
    pub async fn sessions_cpu(&self, database: &Database) -> anyhow::Result<HashMap<u32, Duration>> {
        let sessions: Vec<i32> = sqlx::query_scalar(
            "select pid from pg_stat_activity where datname = current_database() and application_name = $1",
        )
        .bind(self.name)
        .fetch_all(database.admin())
        .await?;
        sessions
            .into_iter()
            .map(|session| {
                let process = u32::try_from(session)?;
                Ok((process, cpu(process)?))
            })
            .collect()
    }
}

/// CPU time that a process has used so far.
pub fn cpu(process: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name, in parentheses, may hold anything; state is the first field after it, utime and stime the 12th, 13th.
    let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat is malformed")?;
    let ticks: f64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse::<f64>)
        .sum::<Result<_, _>>()?;
    Ok(Duration::from_secs_f64(ticks / TICKS_PER_SECOND))
}

impl Drop for Service {
    fn drop(&mut self) {
        // It can only have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The folder of the services' logs.
pub fn logs() -> anyhow::Result<PathBuf> {
    let folder = std::env::var_os("CARILLON_BENCH_LOGS")
        .map_or_else(|| std::env::temp_dir().join("carillon-bench"), PathBuf::from);
    std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    Ok(folder)
}

/// Metrics in Prometheus' text format.
#[derive(Debug)]
pub struct Metrics(String);

impl Metrics {
    /// The sum over all labels.
    pub fn sum(&self, name: &str) -> f64 {
        self.sum_where(name, |_| true)
    }

    /// The sum over those whose labels, as they stand between the braces, satisfy `wanted`.
    pub fn sum_where(&self, name: &str, wanted: impl Fn(&str) -> bool) -> f64 {
        self.0
            .lines()
            .filter_map(|line| {
                let (series, value) = line.rsplit_once(' ')?;
                let (found, labels) = series.split_once('{').unwrap_or((series, ""));
                (found == name && wanted(labels)).then(|| value.parse::<f64>().ok())?
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_their_labels() {
        let metrics = Metrics(
            "# HELP a_total A.\n# TYPE a_total counter\na_total{k=\"x\"} 2\na_total{k=\"y z\"} 3\na_total_more 9\nb 1.5\n"
                .to_owned(),
        );
        assert_eq!(metrics.sum("a_total"), 5.0);
        assert_eq!(
            metrics.sum_where("a_total", |labels| labels.contains("\"x\"")),
            2.0
        );
        assert_eq!(metrics.sum("b"), 1.5);
        assert_eq!(metrics.sum("c"), 0.0);
    }
}
