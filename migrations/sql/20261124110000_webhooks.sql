-- Webhooks: where people want to be told of events, what is to be sent there, and what became of it.
set local lock_timeout = '10s';

do $$
begin
    -- Without a password nobody can log in by it; `carillon migrate` sets the one it is given.
    create role carillon_webhook_sender login;
exception when duplicate_object or unique_violation then
    null;
end
$$;

create schema webhooks;

create table webhooks.inbox (
    event_id     uuid        primary key,
    processed_at timestamptz not null default now()
);

create table webhooks.endpoints (
    user_id         uuid        not null,
    id              uuid        not null,
    version         bigint      not null default 1, -- the ETag
    url             text        not null check (length(url) <= 2000),
    description     text        not null default '',
    event_types     text[]      not null default '{}', -- none: all
    enabled         boolean     not null default true,
    -- Why it is not enabled: 'paused' by the person, 'gone' (it answered 410), 'failing' for too long.
    disabled_reason text        check (disabled_reason in ('paused', 'gone', 'failing')),
    disabled_at     timestamptz,
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    primary key (user_id, id),
    check (enabled = (disabled_reason is null) and enabled = (disabled_at is null))
);

-- What requests are signed with: the current one, and those before it that still sign along. In a table of their own, so
-- that who may read them is said in one place, and a dump can leave them out.
create table webhooks.secrets (
    user_id     uuid        not null,
    endpoint_id uuid        not null,
    secret      bytea       not null check (length(secret) between 24 and 64),
    created_at  timestamptz not null default now(),
    expires_at  timestamptz, -- null: the current one
    foreign key (user_id, endpoint_id) references webhooks.endpoints (user_id, id) on delete cascade
);

create unique index secrets_current_idx on webhooks.secrets (user_id, endpoint_id) where expires_at is null;
create index secrets_endpoint_idx on webhooks.secrets (user_id, endpoint_id);
create index secrets_expires_idx on webhooks.secrets (expires_at) where expires_at is not null;

-- One event for one endpoint.
create table webhooks.deliveries (
    id              uuid        primary key, -- the webhook-id; it follows from the endpoint and the event
    user_id         uuid        not null,
    endpoint_id     uuid        not null,
    event_id        uuid        not null,
    event_type      text        not null,
    occurred_at     timestamptz not null,
    body            text        not null, -- the very text that is sent and signed
    state           text        not null default 'pending' check (state in ('pending', 'sent', 'failed', 'suppressed')),
    attempts        integer     not null default 0,
    -- Attempts of before it was asked for again: the schedule counts from there.
    attempts_before integer     not null default 0,
    -- When it may be tried (again). A claim moves it into the future: that is the lease, and it ends by itself.
    next_attempt_at timestamptz not null default now(),
    claimed         boolean     not null default false,
    last_error      text,
    created_at      timestamptz not null default now(),
    finished_at     timestamptz
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

-- What is due at an endpoint; what is under way; the log, newest first; what is over.
create index deliveries_due_idx on webhooks.deliveries (endpoint_id, next_attempt_at) where state = 'pending';
create index deliveries_claimed_idx on webhooks.deliveries (user_id, endpoint_id) where claimed;
create index deliveries_log_idx on webhooks.deliveries (user_id, endpoint_id, created_at, id);
create index deliveries_finished_idx on webhooks.deliveries (finished_at) where state <> 'pending';

-- The log of requests.
create table webhooks.attempts (
    user_id          uuid        not null,
    delivery_id      uuid        not null,
    number           integer     not null,
    at               timestamptz not null,
    url              text        not null,
    request_headers  jsonb       not null,
    status           integer,     -- null: no answer
    response_headers jsonb,
    response_body    text,
    duration_ms      bigint      not null,
    error            text,
    primary key (delivery_id, number)
);

create index attempts_user_idx on webhooks.attempts (user_id);

-- Whose turn it is: one row an endpoint, so that one with a hundred thousand deliveries waits in line like one with one.
create table webhooks.queues (
    endpoint_id   uuid        primary key,
    user_id       uuid        not null,
    due_at        timestamptz, -- when to look at it; null: nothing is pending
    failures      integer     not null default 0, -- in a row
    failing_since timestamptz, -- the first of them
    open_until    timestamptz  -- nothing is sent there before: it has failed too often, or asked for it
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

create index queues_due_idx on webhooks.queues (due_at) where due_at is not null;
create index queues_user_idx on webhooks.queues (user_id);

-- Mails about an account tell of webhooks that were disabled too.
alter table delivery.account_mails
    drop constraint account_mails_kind_check,
    add constraint account_mails_kind_check
        check (kind in ('verify_email', 'reset_password', 'change_email', 'email_changing', 'address_taken',
                        'webhook_disabled')) not valid,
    add column detail text; -- what the mail is about, in words; gone when it is out

grant usage on schema webhooks to carillon_api, carillon_webhook_sender;

-- The API keeps endpoints and secrets, shows the log, and asks for deliveries: of a test, and again.
grant select, insert, update, delete on webhooks.endpoints to carillon_api;
grant select, insert, update, delete on webhooks.secrets to carillon_api;
grant select on webhooks.deliveries, webhooks.attempts, webhooks.queues to carillon_api;
grant insert on webhooks.deliveries to carillon_api;
grant update (state, attempts_before, next_attempt_at, finished_at, last_error) on webhooks.deliveries to carillon_api;
grant insert, update on webhooks.queues to carillon_api;

grant select on webhooks.endpoints to carillon_webhook_sender;
grant update (enabled, disabled_reason, disabled_at, version, updated_at) on webhooks.endpoints to carillon_webhook_sender;
grant select, delete on webhooks.secrets to carillon_webhook_sender;
grant select, insert, delete on webhooks.inbox to carillon_webhook_sender;
grant select, insert, update, delete on webhooks.deliveries to carillon_webhook_sender;
grant select, insert, delete on webhooks.attempts to carillon_webhook_sender;
grant select, insert, update, delete on webhooks.queues to carillon_webhook_sender;

grant usage on schema accounts to carillon_webhook_sender;
grant select (id, deleted_at) on accounts.users to carillon_webhook_sender;
grant usage on schema delivery to carillon_webhook_sender;
grant insert (id, user_id, kind, expires_at, detail) on delivery.account_mails to carillon_webhook_sender;
