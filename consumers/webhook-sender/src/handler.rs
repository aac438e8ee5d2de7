//! The Kafka side: an event becomes a delivery for each endpoint of its person that wants to hear of it. Nothing is sent
//! here, so a slow endpoint holds no partition.

use std::sync::Arc;

use kafka::{HandleError, Handler};
use schemas::Event;
use sqlx::PgConnection;
use tokio::sync::Notify;

use crate::deliveries;

/// Writes deliveries of events.
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
        self.armed = deliveries::insert(tx, &events).await? > 0;
        Ok(())
    }

    fn committed(&mut self) {
        if std::mem::take(&mut self.armed) {
            self.wake.notify_one();
        }
    }
}
