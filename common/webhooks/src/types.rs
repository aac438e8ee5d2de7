//! The types of events, as webhooks name them: `task.created` of `com.carillon.task.created.v1`.

use std::sync::LazyLock;

use schemas::short_type;

/// The type of a request that only shows that it arrives.
pub const TEST: &str = "webhook.test";

static TYPES: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let mut types: Vec<&str> = schemas::all_schemas()
        .iter()
        .map(|schema| short_type(&schema.event_type))
        .collect();
    types.sort_unstable();
    types
});

/// Every type that an endpoint may ask for.
#[must_use]
pub fn types() -> &'static [&'static str] {
    &TYPES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_a_type_of_two_words() {
        assert_eq!(
            types(),
            [
                "notification.failed",
                "notification.sent",
                "notification.suppressed",
                "reminder.cancelled",
                "reminder.fired",
                "reminder.scheduled",
                "reminder.snoozed",
                "task.completed",
                "task.created",
                "task.deleted",
                "task.reopened",
                "task.restored",
                "task.updated",
            ]
        );
        assert!(!types().contains(&TEST));
    }
}
