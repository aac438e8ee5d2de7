//! Configuration from the environment. All values are checked before the first problem is reported, so an
//! operator sees everything that is wrong in one start.
//!
//! ```
//! use service::config::{self, Env};
//!
//! struct Config {
//!     topic: String,
//!     batch: u32,
//! }
//!
//! fn from_env(env: &mut Env) -> Option<Config> {
//!     // Every read comes before the first `?`: an early return would hide the problems after it.
//!     let topic = env.required("TOPIC");
//!     let batch = env.within("BATCH", 100, 1..=1000);
//!     Some(Config { topic: topic?, batch: batch? })
//! }
//!
//! let config = config::load_from(Env::from_pairs([("TOPIC", "task-events")]), from_env)?;
//! assert_eq!((config.topic.as_str(), config.batch), ("task-events", 100));
//! # Ok::<(), config::ConfigProblems>(())
//! ```

mod env;
mod problems;
mod secret;
mod service;
mod traces;

pub use env::Env;
pub use problems::ConfigProblems;
pub use secret::Secret;
pub use service::{LogFilter, LogFormat, ServiceConfig};
pub use traces::{Endpoint, Sampling, TracesConfig};

/// Reads a configuration from the environment of this process.
///
/// # Errors
///
/// Every problem `read` recorded, even where it returned a value.
pub fn load<C>(read: impl FnOnce(&mut Env) -> Option<C>) -> Result<C, ConfigProblems> {
    load_from(Env::from_process(), read)
}

/// Reads a configuration from a given environment: what [`load`] does, for tests.
///
/// # Errors
///
/// Every problem `read` recorded, even where it returned a value.
pub fn load_from<C>(mut env: Env, read: impl FnOnce(&mut Env) -> Option<C>) -> Result<C, ConfigProblems> {
    let config = read(&mut env);
    let mut problems = env.into_problems();
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        Some(_) => Err(problems),
        None => {
            if problems.is_empty() {
                problems.add("configuration", "was refused without a reason, which is a bug");
            }
            Err(problems)
        }
    }
}

#[cfg(test)]
mod tests;
