use std::error::Error;
use std::fmt::{self, Write as _};
use std::io::Write as _;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::trace::Trace;

/// Names the layer itself writes; a field of such a name is written as `fields.<name>`, so that no line has a
/// key twice.
const RESERVED: [&str; 6] = ["timestamp", "level", "service", "target", "message", "span"];

/// Writes each event as one flat JSON object: its own fields and those of the spans around it, the inner ones
/// first, all at the top level, and the ids of the trace that it belongs to. The formatter of `tracing-subscriber` nests span fields and has no place for
/// the service's name, and a query by `task.id` should find events whichever of the two carries it.
pub(super) struct JsonLines<W> {
    service: &'static str,
    writer: W,
}

impl<W> JsonLines<W> {
    pub(super) fn new(service: &'static str, writer: W) -> Self {
        Self { service, writer }
    }
}

impl<S, W> Layer<S> for JsonLines<W>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    W: for<'w> MakeWriter<'w> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let target = fields
            .take_log_target()
            .unwrap_or_else(|| Value::from(metadata.target()));
        let message = fields.take("message").unwrap_or_default();
        let mut spans = String::new();
        for span in context.event_scope(event).into_iter().flatten() {
            let separator = if spans.is_empty() { "" } else { ":" };
            spans.insert_str(0, separator);
            spans.insert_str(0, span.name());
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.add_missing(outer);
            }
        }
        if let Some(trace) = Trace::current() {
            fields.add("trace.id", trace.id());
            fields.add("span.id", trace.span_id());
        }
        let line = Line {
            service: self.service,
            level: metadata.level().as_str(),
            target,
            message,
            fields,
            spans,
        };
        if let Ok(mut line) = serde_json::to_vec(&line) {
            line.push(b'\n');
            // One write, so that lines of several threads do not mix. There is nowhere to report its failure.
            let _ = self.writer.make_writer_for(metadata).write_all(&line);
        }
    }
}

struct Line {
    service: &'static str,
    level: &'static str,
    target: Value,
    message: Value,
    fields: Fields,
    spans: String,
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("timestamp", &timestamp())?;
        map.serialize_entry("level", self.level)?;
        map.serialize_entry("service", self.service)?;
        map.serialize_entry("target", &self.target)?;
        map.serialize_entry("message", &self.message)?;
        for (name, value) in &self.fields.0 {
            if RESERVED.contains(name) {
                map.serialize_entry(&format!("fields.{name}"), value)?;
            } else {
                map.serialize_entry(name, value)?;
            }
        }
        if !self.spans.is_empty() {
            map.serialize_entry("span", &self.spans)?;
        }
        map.end()
    }
}

/// UTC with microseconds, as RFC 3339 writes it.
fn timestamp() -> String {
    let mut text = String::with_capacity(27);
    // Writing to a string cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

/// The fields of an event or span in the order they were written; events have too few of them for a map to
/// pay.
#[derive(Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn set(&mut self, field: &Field, value: impl Into<Value>) {
        let value = value.into();
        match self.0.iter_mut().find(|(name, _)| *name == field.name()) {
            Some((_, known)) => *known = value,
            None => self.0.push((field.name(), value)),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let index = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.remove(index).1)
    }

    /// Records of the `log` crate arrive with the target `log` and their own metadata in fields.
    fn take_log_target(&mut self) -> Option<Value> {
        let target = self.take("log.target")?;
        self.0.retain(|(name, _)| !name.starts_with("log."));
        Some(target)
    }

    /// Adds one, if there is none of that name.
    fn add(&mut self, name: &'static str, value: impl Into<Value>) {
        if !self.0.iter().any(|(known, _)| *known == name) {
            self.0.push((name, value.into()));
        }
    }

    fn add_missing(&mut self, outer: &Self) {
        for (name, value) in &outer.0 {
            self.add(name, value.clone());
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value);
    }

    fn record_error(&mut self, field: &Field, error: &(dyn Error + 'static)) {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            // Writing to a string cannot fail.
            let _ = write!(text, ": {cause}");
            source = cause.source();
        }
        self.set(field, text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests;
