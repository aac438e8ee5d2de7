-- The API shows people what happened to what is theirs. It reads the columns of their events that it shows, and nothing of
-- what could not be read (raw, headers) or of where in Kafka it lay.
grant usage on schema audit to carillon_api;
grant select (event_id, occurred_at, event_type, user_id, task_id, actor, payload) on audit.events to carillon_api;

-- One task's history. Attaching a partition makes what the parent's indexes have, so partitions to come get it too.
--
-- Not made concurrently: that cannot be done to a partitioned table. Only the audit sink writes here, and it waits.
create index events_task_idx on audit.events (user_id, task_id, occurred_at);
