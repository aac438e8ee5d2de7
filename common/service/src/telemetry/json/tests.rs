use std::io;
use std::sync::{Arc, Mutex};

use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

use super::*;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic while writing").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines that are written while `work` runs.
fn lines(work: impl FnOnce()) -> Vec<Value> {
    let captured = Captured::default();
    let writer = captured.clone();
    let layer = JsonLines::new("api", move || writer.clone());
    tracing::subscriber::with_default(Registry::default().with(layer), work);
    let bytes = captured.0.lock().expect("no panic while writing").clone();
    let text = String::from_utf8(bytes).expect("lines are UTF-8");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect()
}

#[test]
fn an_event_is_one_flat_object_with_typed_fields() {
    let lines = lines(|| {
        tracing::info!(
            target: "tasks",
            { task.id = 7, ok = true, ratio = 0.5, topic = "task-events" },
            "stored {}",
            "it"
        );
    });
    assert_eq!(lines.len(), 1);
    let line = &lines[0];
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["service"], "api");
    assert_eq!(line["target"], "tasks");
    assert_eq!(line["message"], "stored it");
    assert_eq!(line["task.id"], 7);
    assert_eq!(line["ok"], true);
    assert_eq!(line["ratio"], 0.5);
    assert_eq!(line["topic"], "task-events");
    assert_eq!(line.get("span"), None);
}

#[test]
fn the_timestamp_is_utc_with_microseconds() {
    let lines = lines(|| tracing::info!("now"));
    let timestamp = lines[0]["timestamp"].as_str().expect("text");
    assert_eq!(timestamp.len(), "2026-11-21T09:00:00.000000Z".len());
    assert!(timestamp.ends_with('Z'), "{timestamp}");
}

#[test]
fn fields_of_spans_are_part_of_the_event_and_inner_ones_win() {
    let lines = lines(|| {
        let outer = tracing::info_span!("request", request.id = "r1", attempt = 1);
        let _outer = outer.enter();
        let inner = tracing::info_span!("query", attempt = 2, rows = tracing::field::Empty);
        inner.record("rows", 3);
        let _inner = inner.enter();
        tracing::info!(attempt = 3, "inside");
        tracing::info!("inside");
    });
    assert_eq!(lines[0]["span"], "request:query");
    assert_eq!(lines[0]["request.id"], "r1");
    assert_eq!(lines[0]["rows"], 3);
    assert_eq!(lines[0]["attempt"], 3);
    assert_eq!(lines[1]["attempt"], 2);
}

#[test]
fn a_field_named_like_a_part_of_the_line_does_not_replace_it() {
    let lines = lines(|| tracing::info!(level = "high", service = "x", "hello"));
    assert_eq!(lines[0]["level"], "INFO");
    assert_eq!(lines[0]["fields.level"], "high");
    assert_eq!(lines[0]["service"], "api");
    assert_eq!(lines[0]["fields.service"], "x");
}

#[test]
fn an_error_is_written_with_its_causes() {
    #[derive(Debug, thiserror::Error)]
    #[error("cannot send")]
    struct Failure(#[source] io::Error);

    let failure = Failure(io::Error::other("refused"));
    let lines = lines(|| tracing::error!(error = &failure as &dyn Error, "lost"));
    assert_eq!(lines[0]["error"], "cannot send: refused");
}

#[test]
fn line_breaks_and_quotes_stay_inside_the_line() {
    let lines = lines(|| tracing::info!(text = "a\n\"b\"", "c\nd"));
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["text"], "a\n\"b\"");
    assert_eq!(lines[0]["message"], "c\nd");
}

#[test]
fn a_record_of_the_log_crate_keeps_its_own_target() {
    let lines = lines(|| tracing::info!(log.target = "rustls::conn", log.line = 7, "from a library"));
    assert_eq!(lines[0]["target"], "rustls::conn");
    assert_eq!(lines[0].get("log.line"), None);
}

#[test]
fn what_is_logged_as_part_of_a_trace_carries_its_ids() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-b7496b7169203331-01";
    let trace = Trace::parse(parent).expect("a valid parent");
    let lines = lines(|| {
        trace.within(|| tracing::info!("inside"));
        tracing::info!("outside");
    });
    assert_eq!(lines[0]["trace.id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(lines[0]["span.id"], "b7496b7169203331");
    assert_eq!(lines[1].get("trace.id"), None);
}
