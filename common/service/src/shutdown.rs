//! Signals that ask the process to stop.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit code of a process that a second signal stopped at once: 128 + SIGINT, as shells report it.
pub const EXIT_IMPATIENT: i32 = 130;

/// A token that is cancelled at the first SIGTERM or SIGINT. The second one ends the process at once, with
/// [`EXIT_IMPATIENT`]: whoever sends it no longer wants to wait for an orderly stop.
///
/// # Errors
///
/// When the operating system refuses the signal handlers.
///
/// # Panics
///
/// Outside of a tokio runtime.
pub fn on_signal() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = CancellationToken::new();
    let requested = shutdown.clone();
    tokio::spawn(async move {
        let name = either(&mut terminate, &mut interrupt).await;
        tracing::info!(signal = name, "stop requested");
        requested.cancel();
        let name = either(&mut terminate, &mut interrupt).await;
        tracing::error!(signal = name, "second signal: ending at once");
        std::process::exit(EXIT_IMPATIENT);
    });
    Ok(shutdown)
}

/// A token that is cancelled `delay` after `shutdown` is.
///
/// # Panics
///
/// Outside of a tokio runtime.
pub fn delayed(shutdown: CancellationToken, delay: Duration) -> CancellationToken {
    if delay.is_zero() {
        return shutdown;
    }
    let later = CancellationToken::new();
    let delayed = later.clone();
    tokio::spawn(async move {
        shutdown.cancelled().await;
        tokio::time::sleep(delay).await;
        later.cancel();
    });
    delayed
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
