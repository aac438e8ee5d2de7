//! Places at which a test ends the process, to see what is left behind. Only builds with debug assertions have them: a release
//! build has neither the places nor their names.
//!
//! `FAILPOINT=record: written` ends the process the first time that it comes by there, `record: written#3` the third time:
//! by SIGABRT, at once, so that nothing of it gets to say goodbye.

#[cfg(debug_assertions)]
use std::sync::LazyLock;
#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicU64, Ordering};

/// Where this process is to end, and how often it may come by before.
#[cfg(debug_assertions)]
static END: LazyLock<Option<(String, AtomicU64)>> = LazyLock::new(|| {
    let wanted = std::env::var("FAILPOINT").ok()?;
    let (name, times) = wanted.split_once('#').unwrap_or((&wanted, "1"));
    let times: u64 = times.parse().ok()?;
    Some((name.to_owned(), AtomicU64::new(times.saturating_sub(1))))
});

/// What [`failpoint!`](crate::failpoint!) does.
#[cfg(debug_assertions)]
#[doc(hidden)]
pub fn reached(name: &str) {
    let Some((end, left)) = &*END else { return };
    let passes = |left: u64| left.checked_sub(1);
    if end == name
        && left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, passes)
            .is_err()
    {
        std::process::abort();
    }
}

/// Ends the process here if a test has asked for it by this name; see [`failpoint`](crate::failpoint!).
#[cfg(debug_assertions)]
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        $crate::failpoint::reached($name)
    };
}

/// Nothing.
#[cfg(not(debug_assertions))]
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {};
}
