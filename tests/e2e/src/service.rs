//! A service's binary as a child process.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use support::eventually;

/// A service that runs, or was killed.
#[derive(Debug)]
pub struct Service {
    name: &'static str,
    environment: Vec<(String, String)>,
    port: u16,
    log: PathBuf,
    child: Option<Child>,
}

/// The binary of a service: it lies above the folder of the test's own executable.
pub(crate) fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join(name)
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

    /// Starts the process, which must not run.
    ///
    /// # Panics
    /// When it runs, or its binary is not built.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        let binary = binary(self.name);
        let child = Command::new(&binary)
            .env_clear()
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}: build the binaries first", binary.display()));
        self.child = Some(child);
    }

    /// Waits until it says that it is ready.
    ///
    /// # Panics
    /// When it ends, or does not get ready in time.
    pub async fn ready(&mut self) {
        let url = format!("{}/readyz", self.url());
        let (name, log) = (self.name, self.log.display().to_string());
        eventually(&format!("{name} is ready (its log: {log})"), async || {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().unwrap()) {
                panic!("{name} ended with {status}: see {log}");
            }
            reqwest::get(&url)
                .await
                .ok()
                .filter(|answer| answer.status().is_success())
                .map(|_| ())
        })
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
