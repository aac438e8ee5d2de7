//! The tokio runtime of every service.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// Most threads that run blocking calls at a time. Every thread that ever ran costs a stack and an allocator
/// arena, and a service is to stay small: the default of 512 would let a stalled disk or DNS server grow it
/// by hundreds of MiB. Calls beyond it wait in a queue.
const MAX_BLOCKING_THREADS: usize = 16;

/// A multi-thread runtime with all drivers on.
///
/// # Errors
///
/// When the operating system refuses threads or the event queue.
pub fn build(worker_threads: usize) -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(worker_threads)
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_name("tokio")
        .enable_all()
        .build()
}
