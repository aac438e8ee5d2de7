//! What a collector is told of a batch: one span of the batch, in a trace of its own, linked to the trace of every record in
//! it; and one span of each record, in the record's trace. What follows from a record goes on from there.

use service::trace::{Kind, Span, Trace, is_on};

use crate::Record;

/// The spans of a batch that is being handled. They end when it is, or when it is given up.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    records: Vec<Span>,
    handled: bool,
    /// The batch's own. Dropped after those of its records.
    _batch: Option<Span>,
}

impl Spans {
    /// Begins them, and moves the records to where they are handled.
    pub(crate) fn begin(group: &'static str, batch: &mut [Record]) -> Self {
        if !is_on() {
            return Self::default();
        }
        let traces: Vec<Trace> = batch.iter().filter_map(Record::trace).collect();
        let mut whole = Span::over(format_args!("process batch {group}"), Kind::Consumer, &traces);
        if let Some(whole) = &mut whole {
            whole.set("messaging.system", "kafka");
            whole.set("messaging.operation.type", "process");
            whole.set("messaging.consumer.group.name", group);
            whole.set("messaging.batch.message_count", number(batch.len()));
        }
        let records = batch
            .iter_mut()
            .filter_map(|record| {
                let mut span = event_span(Kind::Consumer, &record.topic, record.trace?, |name| {
                    record.header(name)
                })?;
                span.set("messaging.consumer.group.name", group);
                span.set("messaging.destination.partition.id", record.partition.to_string());
                span.set("messaging.kafka.offset", record.offset);
                if let Some(whole) = &whole {
                    span.link(whole.trace());
                }
                record.trace = Some(span.trace());
                Some(span)
            })
            .collect();
        Self {
            records,
            handled: false,
            _batch: whole,
        }
    }

    /// The batch is handled.
    pub(crate) fn handled(mut self) {
        self.handled = true;
    }

    /// A record was refused.
    pub(crate) fn refused(&mut self, record: &Record, reason: &'static str) {
        let mut spans = self.records.iter_mut();
        if let Some(span) = spans.find(|span| Some(span.trace()) == record.trace) {
            span.fail(reason);
        }
    }
}

impl Drop for Spans {
    fn drop(&mut self) {
        if !self.handled {
            self.records.iter_mut().for_each(|span| span.fail("given_up"));
        }
    }
}

/// The span of an event that is published (`Kind::Producer`) or processed (`Kind::Consumer`), which goes on with its `cause`; `None`
/// when it is not exported. It says which event it is, by its headers.
#[must_use]
pub fn event_span<'h>(
    kind: Kind,
    topic: &str,
    cause: Trace,
    header: impl Fn(&str) -> Option<&'h str>,
) -> Option<Span> {
    let (verb, operation) = match kind {
        Kind::Producer => ("publish", "send"),
        _ => ("process", "process"),
    };
    let mut span = Span::following(format_args!("{verb} {topic}"), kind, &[cause])?;
    span.set("messaging.system", "kafka");
    span.set("messaging.operation.type", operation);
    span.set("messaging.destination.name", topic.to_owned());
    for (name, header_name) in [
        ("event.id", "ce_id"),
        ("event.type", "ce_type"),
        ("event.subject", "ce_subject"),
    ] {
        if let Some(value) = header(header_name) {
            span.set(name, value.to_owned());
        }
    }
    Some(span)
}

/// Says in the log that a record is handled.
pub(crate) fn tell(group: &'static str, record: &Record) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let tell = || {
        tracing::debug!(
            kafka.group = group,
            kafka.topic = record.topic,
            kafka.partition = record.partition,
            kafka.offset = record.offset,
            event.id = record.header("ce_id"),
            "event.type" = record.header("ce_type"),
            task.id = record
                .header("ce_subject")
                .and_then(|subject| subject.strip_prefix("task/")),
            "handled"
        );
    };
    match record.trace {
        Some(trace) => trace.within(tell),
        None => tell(),
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
