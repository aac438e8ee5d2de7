#![doc = include_str!("../README.md")]

pub mod admin;
mod config;
mod consumer;
mod context;
mod dead_letter;
mod events;
pub mod groups;
pub mod letters;
mod metrics;
mod producer;
pub mod reader;
mod record;
mod registry;
mod spans;

pub use config::{BatchConfig, KafkaConfig, Login, RegistryConfig};
pub use consumer::{Consumer, ConsumerError, ProcessError, Processor};
pub use dead_letter::{DEAD_LETTER_HEADERS, LEFT_OUT_HEADER, Rejection};
pub use events::{Events, HandleError, Handler, trace_of};
pub use metrics::{Outcome, count_events};
pub use producer::{Producer, ProducerContext};
pub use record::{Place, Record};
pub use registry::{Registry, RegistryError, RegistrySetupError};
pub use spans::event_span;
