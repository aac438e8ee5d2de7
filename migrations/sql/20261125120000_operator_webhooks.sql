-- Operators look at webhooks as they do at mail, and give those that failed another try. They see neither what was sent nor where to.
set local lock_timeout = '10s';

grant usage on schema webhooks to carillon_operator;
grant select (id, user_id, endpoint_id, event_id, event_type, occurred_at, state, attempts, attempts_before, next_attempt_at,
    last_error, created_at, finished_at) on webhooks.deliveries to carillon_operator;
grant update (state, attempts_before, next_attempt_at, last_error, finished_at) on webhooks.deliveries to carillon_operator;
-- Whoever gives a delivery another try has its endpoint looked at.
grant select (endpoint_id, due_at, open_until), insert (endpoint_id, user_id, due_at), update (due_at)
    on webhooks.queues to carillon_operator;
