-- Operators look at what waits and set right what failed, as a role that reads no person's content: neither the bodies of
-- events nor the tasks of deliveries.
do $$
begin
    create role carillon_operator login;
exception when duplicate_object or unique_violation then
    null;
end
$$;

grant usage on schema public, outbox, delivery to carillon_operator;
-- Which migrations are applied.
grant select on public._sqlx_migrations to carillon_operator;
-- What waits, and for which relay. Insert: schemas that a migration of another version did not write down.
grant select on outbox.cursors to carillon_operator;
grant select (slot, seq, xid, shard, event_id, topic, event_type, fingerprint, created_at) on outbox.events
    to carillon_operator;
grant select, insert on outbox.schemas to carillon_operator;
-- What became of deliveries, and another try for those that failed.
grant select (id, user_id, channel, reminder_id, task_id, fire_at, fired_at, state, attempts, next_attempt_at, message_id,
    last_error, created_at, finished_at) on delivery.deliveries to carillon_operator;
grant update (state, attempts, next_attempt_at, last_error, finished_at) on delivery.deliveries to carillon_operator;
