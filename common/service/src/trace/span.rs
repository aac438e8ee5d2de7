//! Work at a place in a trace.

use std::borrow::Cow;
use std::fmt::Display;

use opentelemetry::trace::{
    Link, Span as _, SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
};
use opentelemetry::{Context, KeyValue, Value};

use super::export::tracer;
use super::{Trace, is_on};

pub use opentelemetry::trace::SpanKind as Kind;

/// Work that is under way. It ends when it is dropped.
///
/// What it says of itself goes to a collector, where others than the person's own may read it: ids and numbers, never what
/// somebody wrote, nor an address.
#[derive(Debug)]
pub struct Span {
    trace: Trace,
    /// What is exported of it, if it is.
    recording: Option<opentelemetry_sdk::trace::Span>,
}

impl Span {
    /// Begins work for somebody outside, in the trace that they name or in a new one. It has its place there even when it
    /// is not exported.
    #[must_use]
    pub fn begin(name: impl Display, kind: Kind, parent: Option<Trace>) -> Self {
        let recorded = tracer()
            .filter(|_| parent.is_none_or(|parent| parent.sampled))
            .map(|tracer| record(tracer, &name, kind, parent, &[]));
        recorded.unwrap_or_else(|| Self {
            trace: Trace::below(parent),
            recording: None,
        })
    }

    /// Begins work that goes on with what caused it: in its trace if that is one, in a trace of its own that is linked to
    /// theirs if they are many. `None` when it is not exported; then what follows from the work goes on with its cause.
    #[must_use]
    pub fn following(name: impl Display, kind: Kind, causes: &[Trace]) -> Option<Self> {
        match causes {
            [cause] => {
                let tracer = tracer().filter(|_| cause.sampled)?;
                Some(record(tracer, &name, kind, Some(*cause), &[]))
            }
            _ => Self::over(name, kind, causes),
        }
    }

    /// Begins work on many things at once, in a trace of its own that is linked to theirs. `None` when none of them is
    /// exported.
    #[must_use]
    pub fn over(name: impl Display, kind: Kind, members: &[Trace]) -> Option<Self> {
        if !is_on() {
            return None;
        }
        let links: Vec<Link> = members
            .iter()
            .filter(|member| member.sampled)
            .map(|member| Link::with_context(context(*member)))
            .collect();
        let tracer = tracer().filter(|_| !links.is_empty())?;
        Some(record(tracer, &name, kind, None, &links))
    }

    /// Its place, for what it causes.
    #[must_use]
    pub fn trace(&self) -> Trace {
        self.trace
    }

    /// Says something of the work. Ids and numbers: see [`Span`].
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.recording {
            span.set_attribute(KeyValue::new(name, value));
        }
    }

    /// Links it to work elsewhere.
    pub fn link(&mut self, other: Trace) {
        if let Some(span) = &mut self.recording {
            span.add_link(context(other), Vec::new());
        }
    }

    /// The work failed. `kind` is one of few words, for what went wrong may name somebody.
    pub fn fail(&mut self, kind: impl Into<Cow<'static, str>>) {
        if let Some(span) = &mut self.recording {
            span.set_attribute(KeyValue::new("error.type", kind.into()));
            span.set_status(Status::error(""));
        }
    }
}

fn record(
    tracer: &opentelemetry_sdk::trace::SdkTracer,
    name: &dyn Display,
    kind: Kind,
    parent: Option<Trace>,
    links: &[Link],
) -> Span {
    let mut builder = tracer.span_builder(name.to_string()).with_kind(kind);
    if !links.is_empty() {
        builder = builder.with_links(links.to_vec());
    }
    let around = parent.map_or_else(Context::new, |parent| {
        Context::new().with_remote_span_context(context(parent))
    });
    let span = tracer.build_with_context(builder, &around);
    let made = span.span_context();
    let trace = if made.is_valid() {
        Trace {
            id: u128::from_be_bytes(made.trace_id().to_bytes()),
            span: u64::from_be_bytes(made.span_id().to_bytes()),
            sampled: made.is_sampled(),
        }
    } else {
        // The way out is closed already.
        Trace::below(parent)
    };
    Span {
        trace,
        recording: trace.sampled.then_some(span),
    }
}

/// A place as OpenTelemetry knows it.
fn context(trace: Trace) -> SpanContext {
    let flags = TraceFlags::default().with_sampled(trace.sampled);
    SpanContext::new(
        TraceId::from(trace.id),
        SpanId::from(trace.span),
        flags,
        true,
        TraceState::NONE,
    )
}
