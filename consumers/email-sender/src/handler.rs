//! The Kafka side: a reminder that fired becomes a delivery. Nothing is sent here, so a slow SMTP server holds no
//! partition.

use std::sync::Arc;

use kafka::{HandleError, Handler};
use schemas::{Event, ReminderEvent, ReminderEventKind};
use sqlx::PgConnection;
use tokio::sync::Notify;

use crate::deliveries;

/// Writes a delivery for every reminder that fired.
#[derive(Debug)]
pub struct ArmDeliveries {
    wake: Arc<Notify>,
    armed: bool,
}

impl ArmDeliveries {
    /// `wake` is notified when deliveries are there to be sent.
    pub fn new(wake: Arc<Notify>) -> Self {
        Self { wake, armed: false }
    }
}

impl Handler for ArmDeliveries {
    async fn handle(&mut self, tx: &mut PgConnection, events: Vec<Event>) -> Result<(), HandleError> {
        let fired: Vec<ReminderEvent> = events
            .into_iter()
            .filter_map(|event| match event {
                Event::Reminder(event) if event.kind == ReminderEventKind::Fired => Some(event),
                _ => None,
            })
            .collect();
        self.armed = !fired.is_empty();
        deliveries::insert(tx, &fired).await?;
        Ok(())
    }

    fn committed(&mut self) {
        if std::mem::take(&mut self.armed) {
            self.wake.notify_one();
        }
    }
}
