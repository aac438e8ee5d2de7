//! Logs: one line per event on standard output.

mod json;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::{LogFormat, ServiceConfig};
use json::JsonLines;

/// Starts logging for this process, including panics and what libraries send to the `log` crate. Only the
/// first call has an effect, so several services can run in one process, as they do in tests.
pub fn init(config: &ServiceConfig, service: &'static str) {
    let lines = match config.log_format {
        LogFormat::Json => JsonLines::new(service, io::stdout).boxed(),
        LogFormat::Text => fmt::layer().with_ansi(io::stdout().is_terminal()).boxed(),
    };
    let subscriber = Registry::default()
        .with(config.log_filter.to_env_filter())
        .with(lines);
    if subscriber.try_init().is_ok() {
        log_panics();
    }
}

/// A panic is one event like any other failure; the default hook writes several lines that no log store can
/// parse.
fn log_panics() {
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if tracing::enabled!(tracing::Level::ERROR) {
            log_panic(panic);
        } else {
            default_hook(panic);
        }
    }));
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(
        panic.location = panic.location().map(ToString::to_string),
        panic.thread = std::thread::current().name(),
        panic.backtrace = backtrace,
        "panicked: {}",
        panic.payload_as_str().unwrap_or("(no message)"),
    );
}
