//! What it ran on, and what else was going on there.

use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use sqlx::Connection as _;
use support::stack;

/// How long [`busy`] looks.
const LOOK: Duration = Duration::from_secs(2);

/// What it ran on.
#[derive(Debug, Serialize)]
pub struct Machine {
    at: String,
    commit: String,
    cores: usize,
    cpu: String,
    memory_mib: u64,
    kernel: String,
    postgres: String,
    kafka: String,
    librdkafka: String,
    rustc: String,
}

impl Machine {
    /// Asks around.
    pub async fn look() -> anyhow::Result<Self> {
        let mut server = sqlx::PgConnection::connect(&stack("DATABASE_URL")).await?;
        let postgres: String =
            sqlx::query_scalar("select split_part(current_setting('server_version'), ' ', 1)")
                .fetch_one(&mut server)
                .await?;
        server.close().await?;
        let meminfo = std::fs::read_to_string("/proc/meminfo")?;
        let memory_kib: u64 = field(&meminfo, "MemTotal")
            .and_then(|value| value.split(' ').next()?.parse().ok())
            .unwrap_or(0);
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo")?;
        let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
        Ok(Self {
            at: chrono::Utc::now().format("%Y-%m-%dT%H:%M:%SZ").to_string(),
            commit: first_line("git", &["describe", "--always", "--dirty"]),
            cores: std::thread::available_parallelism()?.get(),
            cpu: field(&cpuinfo, "model name").unwrap_or("unknown").to_owned(),
            memory_mib: memory_kib / 1024,
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
            postgres,
            kafka: kafka_version(),
            librdkafka,
            rustc: first_line("rustc", &["--version"]),
        })
    }

    /// The same in a line.
    pub fn line(&self) -> String {
        format!(
            "{}, commit {}: {} cores ({}), {} MiB, Linux {}, PostgreSQL {}, Kafka {}, librdkafka {}, {}",
            self.at,
            self.commit,
            self.cores,
            self.cpu,
            self.memory_mib,
            self.kernel,
            self.postgres,
            self.kafka,
            self.librdkafka,
            self.rustc
        )
    }
}

/// How much of all cores is in use, from 0 to 1. Asked while nothing of ours works, it is what others do.
pub async fn busy() -> anyhow::Result<f64> {
    // What we did a moment ago is written to the disk first.
    settle().await?;
    let (idle_before, total_before) = ticks()?;
    tokio::time::sleep(LOOK).await;
    let (idle, total) = ticks()?;
    Ok(1.0 - (idle - idle_before) / (total - total_before).max(1.0))
}

/// Writes as much WAL as PostgreSQL keeps, and has it made ready to be used again, as it is in a database that has been in use. In
/// a new one a commit waits, 16 MB after 16 MB, until a file of zeros is made and on the disk: ten milliseconds on a quick
/// disk that does nothing else.
pub async fn recycle_wal() -> anyhow::Result<()> {
    let mut server = sqlx::PgConnection::connect(&stack("DATABASE_URL")).await?;
    sqlx::query(
        "select count(pg_logical_emit_message(false, 'carillon-bench', repeat(' ', 1000000)))
         from generate_series(1, (select setting::int from pg_settings where name = 'max_wal_size'))",
    )
    .execute(&mut server)
    .await?;
    sqlx::query("checkpoint").execute(&mut server).await?;
    server.close().await?;
    Ok(())
}

/// Lets the kernel write out what is dirty, so that what was filled in does not disturb what is measured after it.
pub async fn settle() -> anyhow::Result<()> {
    let status = tokio::task::spawn_blocking(|| Command::new("sync").status()).await??;
    anyhow::ensure!(status.success(), "sync failed");
    Ok(())
}

fn ticks() -> anyhow::Result<(f64, f64)> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    // user nice system idle iowait irq softirq steal; guest times are in user already.
    let ticks: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .take(8)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let idle = ticks.get(3..5).context("/proc/stat is too short")?.iter().sum();
    Ok((idle, ticks.iter().sum()))
}

/// A field of a file like `/proc/meminfo`.
pub fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then_some(value.trim())
    })
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    Command::new(program)
        .args(arguments)
        .output()
        .ok()
        .and_then(|output| {
            let text = String::from_utf8(output.stdout).ok()?;
            text.lines().next().map(str::to_owned)
        })
        .unwrap_or_else(|| "unknown".to_owned())
}

/// The broker does not tell its version; the jars that the stack runs do.
fn kafka_version() -> String {
    let classpath = std::env::var("KAFKA_TOOLS_CLASSPATH").unwrap_or_default();
    std::fs::read_dir(classpath.trim_end_matches('*'))
        .ok()
        .and_then(|folder| {
            folder.filter_map(Result::ok).find_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let version = name.strip_prefix("kafka_2.13-")?.strip_suffix(".jar")?;
                Some(version.to_owned())
            })
        })
        .unwrap_or_else(|| "unknown".to_owned())
}
