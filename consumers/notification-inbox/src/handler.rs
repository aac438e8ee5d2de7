//! Events become rows of people's lists.

use delivery::Occasion;
use kafka::{HandleError, Handler};
use preferences::{Action, Channel, Kind};
use schemas::{Event, NotificationEventKind};
use sqlx::PgConnection;

use crate::metrics;
use crate::notifications::{self, Notification};

/// Lists what its person wants to see.
#[derive(Debug, Default)]
pub struct Listing {
    listed: u64,
}

impl Handler for Listing {
    async fn handle(&mut self, tx: &mut PgConnection, events: Vec<Event>) -> Result<(), HandleError> {
        let (occasions, notifications): (Vec<Occasion>, Vec<Notification>) =
            events.into_iter().filter_map(occasion).unzip();
        let decisions = delivery::decide(tx, &occasions).await?;
        let wanted: Vec<Notification> = notifications
            .into_iter()
            .zip(decisions)
            .filter(|(_, decision)| decision.of(Channel::InApp).action == Action::Send)
            .map(|(notification, _)| notification)
            .collect();
        self.listed = notifications::insert(tx, &wanted).await?;
        Ok(())
    }

    fn committed(&mut self) {
        metrics::LISTED.inc_by(std::mem::take(&mut self.listed));
    }
}

/// What an event is the occasion of, and how that is listed.
fn occasion(event: Event) -> Option<(Occasion, Notification)> {
    match event {
        Event::Reminder(event) => {
            let occasion = Occasion::of(&event)?;
            let notification = Notification {
                id: notifications::id(&occasion, ""),
                user_id: occasion.user_id,
                kind: occasion.kind,
                reminder_id: occasion.reminder_id,
                task_id: occasion.task_id,
                title: Some(event.task.title),
                fire_at: occasion.fire_at,
                detail: None,
                at: event.reminder.fired_at.unwrap_or(event.occurred_at),
            };
            Some((occasion, notification))
        }
        Event::Notification(event) if event.kind == NotificationEventKind::Failed => {
            let failed = event.notification;
            let occasion = Occasion {
                user_id: event.user_id,
                reminder_id: failed.reminder_id,
                fire_at: failed.fire_at,
                task_id: failed.task_id,
                series_id: None,
                kind: Kind::DeliveryFailed,
                urgent: false,
            };
            let notification = Notification {
                id: notifications::id(&occasion, &failed.channel),
                user_id: occasion.user_id,
                kind: occasion.kind,
                reminder_id: occasion.reminder_id,
                task_id: occasion.task_id,
                title: None,
                fire_at: occasion.fire_at,
                detail: failed.reason,
                at: event.occurred_at,
            };
            Some((occasion, notification))
        }
        _ => None,
    }
}
