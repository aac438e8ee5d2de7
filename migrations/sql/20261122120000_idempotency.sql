-- The API's own book-keeping: what it answered to a POST with an Idempotency-Key, written in the transaction of what the
-- POST did, so that there is never one without the other.
create schema api;

create table api.idempotency_keys (
    user_id     uuid        not null references accounts.users (id) on delete cascade,
    key         text        not null,
    fingerprint bytea       not null, -- SHA-256 of method, path and body: whether it is the same request
    status      smallint    not null check (status between 200 and 299),
    headers     jsonb       not null, -- [[name, value], …]
    body        bytea       not null check (length(body) <= 1048576),
    created_at  timestamptz not null default now(),
    primary key (user_id, key)
);

-- For the sweep, oldest first.
create index idempotency_keys_created_idx on api.idempotency_keys (created_at);

grant usage on schema api to carillon_api;
grant select, insert, delete on api.idempotency_keys to carillon_api;
