//! Traces: where a piece of work belongs, and how that is told to a collector.
//!
//! A [`Trace`] is a place in a trace (W3C Trace Context). It goes from a request into the headers of the events that the
//! request causes, through Kafka and the tables on the way, and so on to the mail; whether or not anything is exported.
//! A [`Span`] is work at such a place. It is exported by OTLP when `OTEL_EXPORTER_OTLP_ENDPOINT` is set and its trace is
//! sampled. docs/adr/0024-traces.md says why it is made so.
//!
//! ```
//! use service::trace::{Kind, Span, Trace};
//!
//! let caller = Trace::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-b7496b7169203331-01");
//! let mut span = Span::begin("POST /api/tasks", Kind::Server, caller);
//! span.set("http.route", "/api/tasks");
//! span.trace().within(|| tracing::info!("this line has trace.id and span.id"));
//! assert_eq!(span.trace().id(), "4bf92f3577b34da6a3ce929d0e0e4736");
//! ```

mod context;
mod export;
mod span;

pub use context::{TRACEPARENT, Trace, carried};
pub use export::is_on;
pub(crate) use export::start;
pub use span::{Kind, Span};
