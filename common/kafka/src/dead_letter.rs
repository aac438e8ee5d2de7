//! Dead letters: what cannot be handled goes to a topic of its own, its bytes untouched, with the reason and the place it
//! came from in headers of the names that Kafka Connect uses (KIP-298). letters.rs reads them again.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use tokio::sync::OnceCell;

use crate::producer::to_headers;
use crate::record::REPLAY_HEADER;
use crate::{KafkaConfig, Login, Producer, Record, metrics};

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

/// The header, before those of [`DEAD_LETTER_HEADERS`], of a dead letter that no broker takes with its value: how many bytes
/// were left out, and with them the source's headers. They stay where the letter says they came from, until that topic forgets them.
pub const LEFT_OUT_HEADER: &str = "carillon-value-left-out-bytes";

/// The largest key that such a letter keeps: more than a user's id.
const SMALL_KEY_BYTES: usize = 1 << 10;

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
    login: Login,
    group: &'static str,
    /// Made with the first dead letter, which most processes never see: rust-rdkafka's thread that polls a producer spins
    /// for the last part of a millisecond of each 100 ms (`BaseProducer::poll` waits in whole ones), and that was most of
    /// what a consumer took that had nothing to do.
    producer: OnceCell<Producer>,
}

impl DeadLetters {
    pub(crate) fn new(config: &KafkaConfig, group: &'static str) -> Self {
        Self {
            login: config.login(),
            config: config.clone(),
            group,
            producer: OnceCell::new(),
        }
    }

    /// Whether what it logs in with is another password now.
    pub(crate) fn login_has_changed(&self) -> bool {
        self.login.has_changed()
    }

    async fn producer(&self) -> Result<&Producer, KafkaError> {
        let client_id = format!("{}-dead-letters", self.group);
        self.producer
            .get_or_try_init(|| async { Producer::new(&self.config, &client_id) })
            .await
    }

    /// Writes the record to its dead-letter topic and waits for the acknowledgement.
    pub(crate) async fn write(&self, record: &Record, rejection: &Rejection) -> Result<(), KafkaError> {
        // What the audit sink refuses of another group's dead letters belongs to the topic behind.
        let source = schemas::topics::source_of(&record.topic);
        let topic = self
            .config
            .prefixed(&schemas::topics::dead_letter(source, self.group));
        match self.send(&topic, record, rejection, false).await {
            // The topic that it lies in takes more than any of ours. A letter that is never written would hold up the
            // partition for ever, and the bytes are safe where they are for now.
            Err(
                KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge)
                | KafkaError::MessageProduction(RDKafkaErrorCode::InvalidMessageSize),
            ) => self.send(&topic, record, rejection, true).await?,
            sent => sent?,
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
    async fn send(
        &self,
        topic: &str,
        record: &Record,
        rejection: &Rejection,
        leave_out: bool,
    ) -> Result<(), KafkaError> {
        let value = record.value.as_deref().filter(|_| !leave_out);
        let key = record
            .key
            .as_deref()
            .filter(|key| !leave_out || key.len() <= SMALL_KEY_BYTES);
        let headers = headers(self.group, record, rejection, leave_out);
        let delivery = self.producer().await?.enqueue(topic, key, value, headers).await?;
        match delivery.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err((error, _))) => Err(error),
            Err(_) => Err(KafkaError::Canceled),
        }
    }
}

/// The headers of the source as they were, and behind them what we have to say.
fn headers(group: &str, record: &Record, rejection: &Rejection, leave_out: bool) -> OwnedHeaders {
    let source = record
        .headers
        .iter()
        .filter(|_| !leave_out)
        .map(|(name, value)| (name.as_str(), value.as_deref()));
    let replay_of = record.replayed_at.as_ref().map(|_| record.source().to_string());
    let left_out = leave_out.then(|| record.value.as_ref().map_or(0, Vec::len).to_string());
    let found = record.place();
    let (partition, offset) = (found.partition.to_string(), found.offset.to_string());
    let why = [
        found.topic.as_str(),
        &partition,
        &offset,
        group,
        rejection.stage,
        rejection.reason,
        &rejection.message,
    ];
    let ours = [(REPLAY_HEADER, &replay_of), (LEFT_OUT_HEADER, &left_out)];
    to_headers(
        source
            .chain(
                ours.into_iter()
                    .filter_map(|(name, value)| Some((name, Some(value.as_ref()?.as_bytes())))),
            )
            .chain(
                DEAD_LETTER_HEADERS
                    .into_iter()
                    .zip(why.map(|w| Some(w.as_bytes()))),
            ),
    )
}
