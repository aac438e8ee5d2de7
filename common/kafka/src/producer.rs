//! Producing. Only the relay, the dead-letter writer and an operator's replay do.

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::util::Timeout;
use std::time::Duration;

use crate::KafkaConfig;
use crate::context::log;

/// Keeps librdkafka's own log lines in our log.
#[derive(Debug, Clone, Copy)]
pub struct ProducerContext;

impl ClientContext for ProducerContext {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(error = %error, "librdkafka reports: {reason}");
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }
}

/// A producer that neither loses, doubles nor reorders records as long as it lives. Dropping it drops what the broker has
/// not acknowledged.
pub struct Producer(FutureProducer<ProducerContext>);

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Producer")
    }
}

impl Producer {
    /// A producer; it connects in the background.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn new(config: &KafkaConfig, client_id: &str) -> Result<Self, KafkaError> {
        Ok(Self(
            config.producer(client_id).create_with_context(ProducerContext)?,
        ))
    }

    /// Puts a record into the queue, in order, waiting for room if it is full. The future resolves when the broker has
    /// acknowledged it.
    ///
    /// # Errors
    /// When librdkafka refuses the record: the topic is unknown, the record too large, the client dead.
    pub async fn enqueue(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: OwnedHeaders,
    ) -> Result<DeliveryFuture, KafkaError> {
        let mut record = FutureRecord::<[u8], [u8]>::to(topic).headers(headers);
        record.key = key;
        record.payload = value;
        loop {
            match self.0.send_result(record) {
                Ok(delivery) => return Ok(delivery),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned)) => {
                    record = returned;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    /// The error that has made this producer useless, if any has: it must then be replaced.
    #[must_use]
    pub fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.0.client().fatal_error()
    }

    /// Gives up what is queued or under way, so that nothing of it arrives after something that is sent later.
    pub fn purge(&self) {
        self.0
            .purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
        // Purging is done by the poll thread; what is left after a moment is what the network already has.
        self.0.flush(Timeout::After(Duration::from_millis(100))).ok();
    }
}

/// Headers in librdkafka's form.
pub(crate) fn to_headers<'a>(headers: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>) -> OwnedHeaders {
    headers
        .into_iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value })
        })
}
