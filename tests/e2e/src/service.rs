//! A service's binary as a child process.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use support::{PATIENCE, eventually, within};

/// A service that runs, or was killed.
#[derive(Debug)]
pub struct Service {
    name: &'static str,
    environment: Vec<(String, String)>,
    port: u16,
    log: PathBuf,
    binary: PathBuf,
    child: Option<Child>,
}

/// Where the binaries of this build are: above the folder of the test's own executable.
///
/// # Panics
/// When the test was moved to the root of the file system.
#[must_use]
pub fn binaries() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().to_owned()
}

/// The binary of a service, or `carillon`.
pub(crate) fn binary(name: &str) -> PathBuf {
    binaries().join(name)
}

/// Sends a process a signal by its name.
///
/// # Panics
/// When it does not exist.
pub fn signal(process: u32, name: &str) {
    let status = Command::new("kill")
        .args(["-s", name, &process.to_string()])
        .status()
        .unwrap();
    assert!(status.success(), "process {process} takes no {name}");
}

impl Service {
    pub(crate) fn new(name: &'static str, mut environment: Vec<(String, String)>, log: PathBuf) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        environment.push(("HTTP_HOST".to_owned(), "127.0.0.1".to_owned()));
        environment.push(("HTTP_PORT".to_owned(), port.to_string()));
        Self {
            name,
            environment,
            port,
            log,
            binary: binary(name),
            child: None,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Where it answers.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where it logs to.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The number of its process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// From its next start on it is the binary in this folder, that of another release. Returns whether there is one.
    pub fn of_release(&mut self, binaries: &Path) -> bool {
        self.binary = binaries.join(self.name);
        self.binary.exists()
    }

    /// Starts the process, which must not run.
    ///
    /// # Panics
    /// When it runs, or its binary is not built.
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// The same with these settings beside its own, this once.
    ///
    /// # Panics
    /// When it runs, or its binary is not built.
    pub fn start_with(&mut self, settings: &[(&str, &str)]) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        let child = Command::new(&self.binary)
            .env_clear()
            .envs(self.environment.iter().cloned())
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}: build the binaries first", self.binary.display()));
        self.child = Some(child);
    }

    /// Waits until it says that it is ready.
    ///
    /// # Panics
    /// When it ends, or does not get ready in time.
    pub async fn ready(&mut self) {
        self.ready_within(PATIENCE).await;
    }

    /// The same, for as long as it takes where everything is slower.
    ///
    /// # Panics
    /// When it ends, or does not get ready in time.
    pub async fn ready_within(&mut self, patience: Duration) {
        let url = format!("{}/readyz", self.url());
        let (name, log) = (self.name, self.log.display().to_string());
        within(
            patience,
            &format!("{name} is ready (its log: {log})"),
            async || {
                if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().unwrap()) {
                    panic!("{name} ended with {status}: see {log}");
                }
                reqwest::get(&url)
                    .await
                    .ok()
                    .filter(|answer| answer.status().is_success())
                    .map(|_| ())
            },
        )
        .await;
    }

    /// Ends it at once, by SIGKILL: nothing of it gets to say goodbye.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Asks it to stop, by SIGTERM, and waits until it has: a consumer leaves its group, which one that is killed does not.
    ///
    /// # Panics
    /// When it does not run, or does not stop in time.
    pub async fn stop(&mut self) {
        self.signal("TERM");
        let mut child = self.child.take().expect("it runs");
        eventually(&format!("{} stops", self.name), async || {
            child.try_wait().unwrap()
        })
        .await;
    }

    /// Sends it a signal by its name: STOP and CONT, which no process notices.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, name: &str) {
        let child = self.child.as_ref().expect("it runs");
        signal(child.id(), name);
    }

    /// How it ended, if it has by itself; it may be started again then.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().unwrap()?;
        self.child = None;
        Some(status)
    }

    /// Whether it runs.
    #[must_use]
    pub fn runs(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| child.try_wait().unwrap().is_none())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}
