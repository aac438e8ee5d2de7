//! Publishes the fixed samples of every event, under the topic prefix that is the only argument, and prints each as a
//! line of JSON: what readers in other languages must find. `tests/interop/run` calls it.

// The tests of the contract own the samples and their golden JSON.
#[path = "../../../schemas/tests/it/samples.rs"]
mod samples;

use std::time::Duration;

use anyhow::{Context, ensure};
use kafka::{Producer, Registry};
use rdkafka::message::{Header, OwnedHeaders};
use support::Topics;

/// The golden JSON of a sample.
fn golden(stem: &str) -> anyhow::Result<String> {
    let path = format!(
        "{}/../../schemas/tests/golden/{stem}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    // On one line: within strings, JSON has no line breaks.
    Ok(std::fs::read_to_string(&path).context(path)?.replace('\n', " "))
}

fn line(
    stem: &str,
    topic: &str,
    key: &str,
    record: &str,
    headers: &[(String, String)],
) -> anyhow::Result<String> {
    // All of these are plain ASCII without quotes: Rust's notation of them is JSON's.
    let headers: Vec<_> = headers.iter().map(|(k, v)| format!("{k:?}: {v:?}")).collect();
    Ok(format!(
        "{{\"topic\": {topic:?}, \"key\": {key:?}, \"record\": {record:?}, \"headers\": {{{}}}, \"value\": {}}}",
        headers.join(", "),
        golden(stem)?.trim_end(),
    ))
}

#[expect(clippy::print_stdout, reason = "standard output is what it is for")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let prefix = arguments.next().context("usage: publish-samples TOPIC_PREFIX")?;
    ensure!(arguments.next().is_none(), "usage: publish-samples TOPIC_PREFIX");
    let topics = Topics::named(&prefix);
    let config = topics.config();
    kafka::admin::ensure_topics(&config, &schemas::topics::all(), 1).await?;
    let registry = Registry::new(&topics.registry())?;
    let producer = Producer::new(&config, "publish-samples")?;
    let all = samples::all()
        .into_iter()
        .map(|event| (event.record_name(), event));
    for (stem, event) in all.chain([("TaskCreated.minimal", samples::minimal())]) {
        let encoded = event.encode("samples")?;
        let schema = schemas::all_schemas()
            .iter()
            .find(|s| s.fingerprint == encoded.fingerprint)
            .context("the event has a schema")?;
        let id = registry
            .id(schema.fingerprint, &schema.subject(&prefix), &schema.json, true)
            .await?;
        let topic = config.prefixed(encoded.topic);
        let key = encoded.user_id.to_string();
        let headers = encoded
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |all, (key, value)| {
                all.insert(Header {
                    key,
                    value: Some(value),
                })
            });
        let value = schemas::frame(id, &encoded.body);
        let delivery = producer
            .enqueue(&topic, Some(key.as_bytes()), Some(&value), headers)
            .await?;
        tokio::time::timeout(Duration::from_secs(30), delivery)
            .await??
            .map_err(|(error, _)| error)?;
        println!(
            "{}",
            line(stem, &topic, &key, event.record_name(), &encoded.headers)?
        );
    }
    Ok(())
}
