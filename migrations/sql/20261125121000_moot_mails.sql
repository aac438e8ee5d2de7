-- The email sender does not mail about a task that was completed or deleted while the mail waited.
grant select (user_id, id, completed_at, deleted_at) on tasks.tasks to carillon_email_sender;
