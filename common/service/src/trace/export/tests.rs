use opentelemetry::Value;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceState};
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::trace::SpanExporter as _;

use super::*;

fn link(sampled: bool) -> Link {
    let flags = TraceFlags::default().with_sampled(sampled);
    Link::with_context(SpanContext::new(
        TraceId::from(7),
        SpanId::from(9),
        flags,
        true,
        TraceState::NONE,
    ))
}

fn decided(sampling: Sampling, parent: Option<bool>, links: &[Link]) -> bool {
    let parent = parent.map_or_else(Context::new, |sampled| {
        Context::new().with_remote_span_context(link(sampled).span_context)
    });
    let result = Sampled::new(sampling).should_sample(
        Some(&parent),
        TraceId::from(u128::MAX / 3),
        "work",
        &SpanKind::Internal,
        &[],
        links,
    );
    result.decision == SamplingDecision::RecordAndSample
}

#[test]
fn who_began_a_trace_has_decided_for_all_of_it() {
    for sampling in [Sampling::Always, Sampling::Never, Sampling::Ratio(0.5)] {
        assert!(decided(sampling, Some(true), &[]), "{sampling:?}");
        assert!(!decided(sampling, Some(false), &[]), "{sampling:?}");
    }
    assert!(decided(Sampling::Always, None, &[]));
    assert!(!decided(Sampling::Never, None, &[]));
    assert!(decided(Sampling::Ratio(1.0), None, &[]));
    assert!(!decided(Sampling::Ratio(0.0), None, &[]));
}

#[test]
fn work_on_many_traces_is_exported_when_one_of_them_is_whatever_the_ratio() {
    for sampling in [Sampling::Always, Sampling::Never] {
        assert!(
            decided(sampling, None, &[link(false), link(true)]),
            "{sampling:?}"
        );
        assert!(!decided(sampling, None, &[link(false)]), "{sampling:?}");
    }
}

#[test]
fn what_runs_here_is_named_after_the_binary() {
    let resource = resource("outbox-relay");
    let said = |name: &'static str| resource.get(&name.into());
    assert_eq!(said("service.name"), Some(Value::from("outbox-relay")));
    assert_eq!(said("service.namespace"), Some(Value::from("carillon")));
    assert_eq!(
        said("service.version"),
        Some(Value::from(env!("CARGO_PKG_VERSION")))
    );
}

/// An exporter that fails as often as it is told.
#[derive(Debug)]
struct Failing(std::sync::Mutex<u32>);

impl opentelemetry_sdk::trace::SpanExporter for Failing {
    async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
        let mut left = self.0.lock().expect("no panic meanwhile");
        if *left == 0 {
            return Ok(());
        }
        *left -= 1;
        Err(OTelSdkError::InternalFailure("refused".to_owned()))
    }
}

#[tokio::test]
async fn an_outage_of_the_collector_is_over_when_it_takes_spans_again() {
    let told = Told::new(Failing(std::sync::Mutex::new(2)));
    for away in [true, true, false, false] {
        assert_eq!(told.export(Vec::new()).await.is_err(), away);
        assert_eq!(told.away.load(Ordering::Acquire), away);
    }
}
