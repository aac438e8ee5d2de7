-- What waits in a table goes on with the trace (W3C Trace Context) of the change that it comes of: see docs/adr/0024. Ids and
-- flags, and nothing about anybody.
set local lock_timeout = '10s';

alter table reminders.reminders add column traceparent text;
alter table delivery.deliveries add column traceparent text;
alter table webhooks.deliveries add column traceparent text;
