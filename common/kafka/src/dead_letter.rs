//! Dead letters: what cannot be handled goes to a topic of its own, its bytes untouched, with the reason and the place it
//! came from in headers of the names that Kafka Connect uses (KIP-298).

use rdkafka::error::KafkaError;
use tokio::sync::OnceCell;

use crate::producer::to_headers;
use crate::{KafkaConfig, Producer, Record, metrics};

/// The headers that a dead letter carries beside those of its source.
pub const DEAD_LETTER_HEADERS: [&str; 7] = [
    "__connect.errors.topic",
    "__connect.errors.partition",
    "__connect.errors.offset",
    "__connect.errors.connector.name",
    "__connect.errors.stage",
    "__connect.errors.exception.class.name",
    "__connect.errors.exception.message",
];

/// Why a record is not handled, and will not be however often it is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Its place in the batch.
    pub index: usize,
    /// Where it failed: `VALUE_CONVERTER` when it could not be read, `TASK_PUT` when it could not be applied.
    pub stage: &'static str,
    /// A stable word, for metrics.
    pub reason: &'static str,
    /// What exactly is wrong.
    pub message: String,
}

pub(crate) struct DeadLetters {
    config: KafkaConfig,
    group: &'static str,
    /// Made with the first dead letter, which most processes never see: rust-rdkafka's thread that polls a producer spins
    /// for the last part of a millisecond of each 100 ms (`BaseProducer::poll` waits in whole ones), and that was most of
    /// what a consumer took that had nothing to do.
    producer: OnceCell<Producer>,
}

impl DeadLetters {
    pub(crate) fn new(config: &KafkaConfig, group: &'static str) -> Self {
        Self {
            config: config.clone(),
            group,
            producer: OnceCell::new(),
        }
    }

    async fn producer(&self) -> Result<&Producer, KafkaError> {
        let client_id = format!("{}-dead-letters", self.group);
        self.producer
            .get_or_try_init(|| async { Producer::new(&self.config, &client_id) })
            .await
    }

    /// Writes the record to its dead-letter topic and waits for the acknowledgement.
    pub(crate) async fn write(&self, record: &Record, rejection: &Rejection) -> Result<(), KafkaError> {
        let topic = format!(
            "{}{}",
            self.config.topic_prefix,
            schemas::topics::dead_letter(&record.topic, self.group)
        );
        let partition = record.partition.to_string();
        let offset = record.offset.to_string();
        let why = [
            record.topic.as_str(),
            &partition,
            &offset,
            self.group,
            rejection.stage,
            rejection.reason,
            &rejection.message,
        ];
        let source = record
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()));
        let headers = to_headers(
            source.chain(
                DEAD_LETTER_HEADERS
                    .into_iter()
                    .zip(why.map(|w| Some(w.as_bytes()))),
            ),
        );
        let delivery = self
            .producer()
            .await?
            .enqueue(&topic, record.key.as_deref(), record.value.as_deref(), headers)
            .await?;
        match delivery.await {
            Ok(Ok(_)) => {}
            Ok(Err((error, _))) => return Err(error),
            Err(_) => return Err(KafkaError::Canceled),
        }
        metrics::DEAD_LETTERS
            .with_label_values(&[self.group, record.topic.as_str(), rejection.reason])
            .inc();
        tracing::warn!(
            kafka.topic = record.topic,
            kafka.partition = record.partition,
            kafka.offset = record.offset,
            reason = rejection.reason,
            "record dead-lettered: {}",
            rejection.message
        );
        Ok(())
    }
}
