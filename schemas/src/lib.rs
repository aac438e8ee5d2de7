#![doc = include_str!("../README.md")]

pub mod access;
mod cloudevents;
mod codec;
pub mod compat;
mod event;
mod notification;
mod reminder;
mod task;
mod tolerant;
pub mod topics;

pub use cloudevents::{CE_HEADERS, CONTENT_TYPE, short_type};
pub use codec::{
    DecodeError, EncodeError, Encoded, EventSchema, FRAME_HEADER_BYTES, MAX_EVENT_BYTES, WriterSchema,
    all_schemas, decode, frame, to_json, unframe,
};
pub use event::{Actor, Event, Head, InvariantError, Timestamp, now};
pub use notification::{Notification, NotificationEvent, NotificationEventKind};
pub use reminder::{Reminder, ReminderEvent, ReminderEventKind};
pub use task::{FieldChange, Nag, Priority, Task, TaskEvent, TaskEventKind, TaskReminder, WHOLE_DAY_MINUTE};
