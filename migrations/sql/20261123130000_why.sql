-- What the API tells of a reminder's fate: up to which version the scanner has seen its task, and what is still to be sent.
-- Neither the snapshot nor the text of a message.
grant select (user_id, task_id, version) on reminders.tasks to carillon_api;
grant select (user_id, reminder_id, channel, fire_at, state, attempts, next_attempt_at, last_error)
    on delivery.deliveries to carillon_api;
