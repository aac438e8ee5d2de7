//! The Kafka side: what is to be mailed becomes a delivery, now, later, or in a digest, as its person wants it. Nothing is
//! sent here, so a slow SMTP server holds no partition.

use std::sync::Arc;

use delivery::Occasion;
use kafka::{HandleError, Handler};
use schemas::{Event, ReminderEvent};
use sqlx::PgConnection;
use tokio::sync::Notify;

use crate::deliveries::{self, Arranged};

/// Writes a delivery for every reminder that fired or was missed, if it is to be mailed.
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
        let (events, occasions): (Vec<ReminderEvent>, Vec<Occasion>) = events
            .into_iter()
            .filter_map(|event| match event {
                Event::Reminder(event) => Occasion::of(&event).map(|occasion| (event, occasion)),
                _ => None,
            })
            .unzip();
        self.armed = !events.is_empty();
        let decisions = delivery::decide(tx, &occasions).await?;
        let mut arranged: Vec<Arranged> = events
            .into_iter()
            .zip(occasions)
            .zip(decisions)
            .filter_map(|((event, occasion), decision)| Arranged::of(event, occasion.kind, decision.email))
            .collect();
        deliveries::open_digests(tx, &mut arranged).await?;
        deliveries::insert(tx, &arranged).await?;
        Ok(())
    }

    fn committed(&mut self) {
        if std::mem::take(&mut self.armed) {
            self.wake.notify_one();
        }
    }
}
