-- What is to be sent, and what became of it. Each channel's sender works on the rows of its channel.
create schema delivery;

create table delivery.inbox (
    event_id     uuid        primary key,
    processed_at timestamptz not null default now()
);

create table delivery.deliveries (
    id              uuid        primary key,
    user_id         uuid        not null,
    channel         text        not null,
    reminder_id     uuid        not null,
    task_id         uuid        not null,
    fire_at         timestamptz not null,
    fired_at        timestamptz not null,
    task            jsonb       not null, -- the task when it rang: what the message is written from
    state           text        not null default 'pending' check (state in ('pending', 'sent', 'failed', 'suppressed')),
    attempts        integer     not null default 0,
    -- When it may be tried (again). A claim moves it into the future: that is the lease, and it ends by itself.
    next_attempt_at timestamptz not null default now(),
    message_id      text,
    last_error      text,
    created_at      timestamptz not null default now(),
    finished_at     timestamptz,
    -- One firing, one delivery a channel: what makes a second ReminderFired of the same firing harmless.
    unique (user_id, reminder_id, fire_at, channel)
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

create index deliveries_due_idx on delivery.deliveries (channel, next_attempt_at) where state = 'pending';

grant usage on schema delivery to carillon_email_sender;
grant select, insert, delete on delivery.inbox to carillon_email_sender;
grant select, insert, update on delivery.deliveries to carillon_email_sender;
