//! A collector of traces: takes what services send by OTLP over HTTP, and keeps it.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A collector that runs until it is dropped.
#[derive(Debug)]
pub struct Collector {
    url: String,
    taken: Arc<Mutex<Vec<Seen>>>,
    server: JoinHandle<()>,
}

/// A span, as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Whose it is.
    pub service: String,
    /// What was done.
    pub name: String,
    /// The trace, in hexadecimal.
    pub trace: String,
    /// The span, in hexadecimal.
    pub id: String,
    /// The span that caused it; empty for the first of a trace.
    pub parent: String,
    /// Traces and spans that it is linked to.
    pub links: Vec<(String, String)>,
    /// Whether it failed.
    pub failed: bool,
    /// Everything that it says, resource and all, to look for what should not be there.
    pub text: String,
    attributes: Vec<KeyValue>,
}

impl Seen {
    /// What it says of itself by that name.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<String> {
        text_of(&self.attributes, name)
    }
}

impl Collector {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// When there is none.
    pub async fn start() -> Self {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&taken);
        let take = post(move |body: Bytes| {
            let keep = Arc::clone(&keep);
            async move {
                match ExportTraceServiceRequest::decode(body) {
                    Ok(request) => {
                        keep.lock().unwrap().extend(spans(request));
                        StatusCode::OK
                    }
                    Err(_) => StatusCode::BAD_REQUEST,
                }
            }
        });
        let router = Router::new().route("/v1/traces", take);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, taken, server }
    }

    /// Its `OTEL_EXPORTER_OTLP_ENDPOINT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The spans that came so far.
    ///
    /// # Panics
    /// When the server has panicked.
    #[must_use]
    pub fn spans(&self) -> Vec<Seen> {
        self.taken.lock().unwrap().clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn spans(request: ExportTraceServiceRequest) -> Vec<Seen> {
    let mut seen = Vec::new();
    for group in request.resource_spans {
        let resource = group.resource.unwrap_or_default();
        let service = text_of(&resource.attributes, "service.name").unwrap_or_default();
        for span in group.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            seen.push(Seen {
                service: service.clone(),
                text: format!("{resource:?} {span:?}"),
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                links: span
                    .links
                    .iter()
                    .map(|link| (hex(&link.trace_id), hex(&link.span_id)))
                    .collect(),
                failed: span.status.is_some_and(|status| status.code == 2),
                name: span.name,
                attributes: span.attributes,
            });
        }
    }
    seen
}

fn text_of(attributes: &[KeyValue], name: &str) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.key == name)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        Value::BoolValue(truth) => Some(truth.to_string()),
        other => Some(format!("{other:?}")),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
