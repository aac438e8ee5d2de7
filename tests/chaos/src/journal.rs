//! What happened, by the second.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A fault as it came.
#[derive(Debug, Clone)]
pub struct Struck {
    /// In which course it stands.
    pub lane: &'static str,
    /// Its kind.
    pub kind: &'static str,
    /// What it was.
    pub text: String,
    /// When, since the run began.
    pub from: Duration,
    /// When it was over.
    pub until: Duration,
}

/// How far things had come at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// When, since the run began.
    pub at: Duration,
    /// Requests that the API had answered.
    pub answers: u64,
    /// Mails that had come; nothing while the mail server was away.
    pub mails: Option<u64>,
    /// Webhooks that had come.
    pub webhooks: u64,
}

/// All of it, for the report: written by everybody who does something.
#[derive(Debug, Clone)]
pub struct Journal {
    began: Instant,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    struck: Vec<Struck>,
    samples: Vec<Sample>,
    findings: Vec<String>,
    figures: Vec<(String, String)>,
}

impl Journal {
    /// An empty one, from now on.
    #[must_use]
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            inner: Arc::default(),
        }
    }

    /// How long it has been kept.
    #[must_use]
    pub fn at(&self) -> Duration {
        self.began.elapsed()
    }

    /// Notes a fault that is over.
    pub fn struck(&self, struck: Struck) {
        self.inner().struck.push(struck);
    }

    /// Notes how far things have come.
    pub fn sample(&self, sample: Sample) {
        self.inner().samples.push(sample);
    }

    /// Notes that something is not as it must be.
    pub fn finding(&self, text: String) {
        e2e::say(&format!("FOUND {text}"));
        self.inner().findings.push(text);
    }

    /// Notes a figure of the report.
    pub fn figure(&self, what: &str, value: impl std::fmt::Display) {
        e2e::say(&format!("{what}: {value}"));
        self.inner().figures.push((what.to_owned(), value.to_string()));
    }

    /// The faults.
    #[must_use]
    pub fn faults(&self) -> Vec<Struck> {
        self.inner().struck.clone()
    }

    /// The samples.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        self.inner().samples.clone()
    }

    /// What is not as it must be.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        self.inner().findings.clone()
    }

    /// The figures.
    #[must_use]
    pub fn figures(&self) -> Vec<(String, String)> {
        self.inner().figures.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self::new()
    }
}
