//! How spans get to a collector: batched, by a thread of their own, from a queue that is bounded. When the collector is
//! away they are dropped, and nobody waits for it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::trace::{Link, SpanKind, TraceContextExt, TraceId, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    Sampler, SamplingDecision, SamplingResult, SdkTracer, SdkTracerProvider, ShouldSample, SpanData,
};

use crate::config::{Sampling, TracesConfig};

/// How long the collector may take to answer. Meanwhile the queue fills, and then spans are dropped.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Whether this process exports spans at all.
#[must_use]
pub fn is_on() -> bool {
    TRACER.get().is_some()
}

pub(super) fn tracer() -> Option<&'static SdkTracer> {
    TRACER.get()
}

/// The way out for spans.
pub(crate) struct Export(SdkTracerProvider);

/// Opens the way out, if there is an endpoint. Only the first call in a process has an effect.
pub(crate) fn start(config: &TracesConfig, service: &'static str) -> anyhow::Result<Option<Export>> {
    let Some(endpoint) = &config.endpoint else {
        return Ok(None);
    };
    if is_on() {
        return Ok(None);
    }
    let exporter = SpanExporter::builder()
        .with_http()
        .with_endpoint(endpoint.traces())
        .with_headers(config.header_pairs())
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .context("spans cannot be exported")?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(Told::new(exporter))
        .with_sampler(Sampled::new(config.sampling))
        .with_resource(resource(service))
        .build();
    TRACER.get_or_init(|| provider.tracer("carillon"));
    Ok(Some(Export(provider)))
}

impl Export {
    /// Sends what is left, within that time.
    pub(crate) fn finish(self, limit: Duration) {
        if let Err(error) = self.0.shutdown_with_timeout(limit) {
            tracing::warn!(%error, "the last spans could not be exported");
        }
    }
}

/// What runs here: `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`, and what they leave unsaid.
fn resource(service: &'static str) -> Resource {
    let said = Resource::builder().build();
    let mut resource = Resource::builder();
    for (name, value) in [
        ("service.name", service),
        ("service.namespace", "carillon"),
        ("service.version", env!("CARGO_PKG_VERSION")),
    ] {
        let known = said.get(&name.into()).map(|value| value.to_string());
        // The SDK's own word for a name that nobody has said.
        if known.is_none_or(|known| known.starts_with("unknown_service")) {
            resource = resource.with_attribute(KeyValue::new(name, value));
        }
    }
    resource.build()
}

/// Which spans are exported. Who begins a trace decides for all of it; work on many traces at once is exported when any of
/// them is.
#[derive(Debug, Clone)]
struct Sampled(Sampler);

impl Sampled {
    fn new(sampling: Sampling) -> Self {
        let root = match sampling {
            Sampling::Always => Sampler::AlwaysOn,
            Sampling::Never => Sampler::AlwaysOff,
            Sampling::Ratio(ratio) => Sampler::TraceIdRatioBased(ratio),
        };
        Self(Sampler::ParentBased(Box::new(root)))
    }
}

impl ShouldSample for Sampled {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let has_parent = parent.is_some_and(|parent| parent.span().span_context().is_valid());
        let mut result = self
            .0
            .should_sample(parent, trace_id, name, kind, attributes, links);
        if !has_parent && !links.is_empty() {
            let any = links.iter().any(|link| link.span_context.is_sampled());
            result.decision = if any {
                SamplingDecision::RecordAndSample
            } else {
                SamplingDecision::Drop
            };
        }
        result
    }
}

/// An exporter whose outage is one story in the log.
#[derive(Debug)]
struct Told<E> {
    exporter: E,
    away: AtomicBool,
}

impl<E> Told<E> {
    fn new(exporter: E) -> Self {
        Self {
            exporter,
            away: AtomicBool::new(false),
        }
    }
}

impl<E: opentelemetry_sdk::trace::SpanExporter> opentelemetry_sdk::trace::SpanExporter for Told<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.exporter.export(batch).await;
        match (&result, self.away.swap(result.is_err(), Ordering::AcqRel)) {
            (Err(error), false) => {
                tracing::warn!(%error, "spans cannot be exported; they are dropped until they can");
            }
            (Ok(()), true) => tracing::info!("spans are exported again"),
            _ => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests;
