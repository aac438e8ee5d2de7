//! Rows to records, and their acknowledgements.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use chrono::Utc;
use kafka::{KafkaConfig, Login, Producer, Registry, RegistryError, event_span};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::future_producer::DeliveryFuture;
use service::trace::{Kind, Span, TRACEPARENT, Trace};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::cursor::{self, Cursor, OutboxRow};
use crate::metrics;

/// Publishing came to a halt. The rows are still in the outbox.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    #[error("Postgres failed")]
    Database(#[from] sqlx::Error),
    #[error("Kafka refuses an event")]
    Kafka(#[from] KafkaError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(
        "no schema with fingerprint {0} is in outbox.schemas: run carillon migrate of the version that wrote it"
    )]
    UnknownSchema(Uuid),
    #[error("KAFKA_SASL_PASSWORD has changed, and what is under way is not acknowledged")]
    Login,
    #[error("the headers of event {0} are no JSON object of texts")]
    Headers(i64, #[source] serde_json::Error),
}

/// A page that the broker has not acknowledged wholly.
struct InFlight {
    acks: VecDeque<DeliveryFuture>,
    created: Vec<(chrono::DateTime<Utc>, Arc<str>)>,
    /// Of those whose traces are exported. They end with the last acknowledgement.
    spans: Vec<Span>,
    /// What is true when all are acknowledged.
    after: Cursor,
}

/// Publishes pages in order and remembers which are acknowledged.
pub(crate) struct Publisher {
    login: Login,
    producer: Producer,
    registry: Arc<Registry>,
    prefix: String,
    auto_register: bool,
    /// Topic names with prefix.
    topics: HashMap<String, Arc<str>>,
    ids: HashMap<Uuid, u32>,
    in_flight: VecDeque<InFlight>,
}

impl Publisher {
    pub(crate) fn new(
        config: &KafkaConfig,
        registry: Arc<Registry>,
        auto_register: bool,
    ) -> Result<Self, KafkaError> {
        Ok(Self {
            login: config.login(),
            producer: Producer::new(config, "outbox-relay")?,
            registry,
            prefix: config.topic_prefix.clone(),
            auto_register,
            topics: HashMap::new(),
            ids: HashMap::new(),
            in_flight: VecDeque::new(),
        })
    }

    /// Whether what it logs in with is another password now. The broker may let it in no more.
    pub(crate) fn login_has_changed(&self) -> bool {
        self.login.has_changed()
    }

    /// How many pages wait for acknowledgements.
    pub(crate) fn pages_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Makes sure that the registry's id of every schema in the page is known.
    pub(crate) async fn learn_schemas(
        &mut self,
        connection: &mut PgConnection,
        rows: &[OutboxRow],
    ) -> Result<(), PublishError> {
        for row in rows {
            if self.ids.contains_key(&row.fingerprint) {
                continue;
            }
            let (subject, json) = cursor::schema(connection, row.fingerprint)
                .await?
                .ok_or(PublishError::UnknownSchema(row.fingerprint))?;
            let subject = format!("{}{subject}", self.prefix);
            let id = self
                .registry
                .id(row.fingerprint, &subject, &json, self.auto_register)
                .await?;
            self.ids.insert(row.fingerprint, id);
        }
        Ok(())
    }

    /// Puts a page into the producer's queue. `after` is what is true when all of it is acknowledged.
    pub(crate) async fn enqueue(&mut self, rows: Vec<OutboxRow>, after: Cursor) -> Result<(), PublishError> {
        let mut acks = VecDeque::with_capacity(rows.len());
        let mut created = Vec::with_capacity(rows.len());
        let mut spans = Vec::new();
        for row in rows {
            let topic = match self.topics.get(&row.topic) {
                Some(topic) => Arc::clone(topic),
                None => {
                    let topic: Arc<str> = format!("{}{}", self.prefix, row.topic).into();
                    self.topics.insert(row.topic.clone(), Arc::clone(&topic));
                    topic
                }
            };
            let id = self
                .ids
                .get(&row.fingerprint)
                .ok_or(PublishError::UnknownSchema(row.fingerprint))?;
            let mut headers: HashMap<String, String> =
                serde_json::from_str(&row.headers).map_err(|error| PublishError::Headers(row.seq, error))?;
            spans.extend(span(&row.topic, &mut headers));
            tell(&row.topic, &headers);
            let headers = headers.iter().fold(
                OwnedHeaders::new_with_capacity(headers.len()),
                |all, (key, value)| {
                    all.insert(Header {
                        key,
                        value: Some(value),
                    })
                },
            );
            let key = row.user_id.to_string();
            let value = schemas::frame(*id, &row.body);
            acks.push_back(
                self.producer
                    .enqueue(&topic, Some(key.as_bytes()), Some(&value), headers)
                    .await?,
            );
            created.push((row.created_at, topic));
        }
        self.in_flight.push_back(InFlight {
            acks,
            created,
            spans,
            after,
        });
        Ok(())
    }

    /// Waits until the oldest page is acknowledged, and returns what is true then and how many events it had; `None`
    /// when no page is under way. Cancel-safe: what was acknowledged before stays so.
    pub(crate) async fn acknowledged(&mut self) -> Result<Option<(Cursor, i64)>, PublishError> {
        let Some(page) = self.in_flight.front_mut() else {
            return Ok(None);
        };
        while let Some(ack) = page.acks.front_mut() {
            match ack.await {
                Ok(Ok(_)) => page.acks.pop_front(),
                Ok(Err((error, _))) => return Err(error.into()),
                Err(_) => return Err(KafkaError::Canceled.into()),
            };
        }
        let Some(page) = self.in_flight.pop_front() else {
            return Ok(None);
        };
        let now = Utc::now();
        let mut counts: HashMap<&str, u64> = HashMap::new();
        for (created_at, topic) in &page.created {
            metrics::PUBLISH_SECONDS.observe((now - *created_at).as_seconds_f64().max(0.0));
            *counts.entry(topic).or_default() += 1;
        }
        for (topic, count) in counts {
            metrics::PUBLISHED.with_label_values(&[topic]).inc_by(count);
        }
        Ok(Some((
            page.after,
            i64::try_from(page.created.len()).unwrap_or(i64::MAX),
        )))
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // What is still queued will be read again from the outbox by whoever is next: it must not arrive after that.
        if !self.in_flight.is_empty() {
            self.producer.purge();
        }
        for span in self.in_flight.iter_mut().flat_map(|page| &mut page.spans) {
            span.fail("unacknowledged");
        }
    }
}

/// The span of an event that is published, if it is exported. Consumers go on from it.
fn span(topic: &str, headers: &mut HashMap<String, String>) -> Option<Span> {
    let cause = headers.get(TRACEPARENT).and_then(|parent| Trace::parse(parent))?;
    let span = event_span(Kind::Producer, topic, cause, |name| {
        headers.get(name).map(String::as_str)
    })?;
    headers.extend([span.trace().header()]);
    Some(span)
}

/// Says in the log that an event is on its way.
fn tell(topic: &str, headers: &HashMap<String, String>) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let header = |name: &str| headers.get(name).map(String::as_str);
    let tell = || {
        tracing::debug!(
            kafka.topic = topic,
            event.id = header("ce_id"),
            "event.type" = header("ce_type"),
            task.id = header("ce_subject").and_then(|subject| subject.strip_prefix("task/")),
            "publishing"
        );
    };
    match header(TRACEPARENT).and_then(Trace::parse) {
        Some(trace) => trace.within(tell),
        None => tell(),
    }
}
