-- How people want to be notified, what was decided about each notification, digests, and the list in the page.
set local lock_timeout = '10s';

do $$
begin
    -- Without a password nobody can log in by it; `carillon migrate` sets the one it is given.
    create role carillon_notification_inbox login;
exception when duplicate_object or unique_violation then
    null;
end
$$;

-- Who has no row never said anything.
create table accounts.notification_settings (
    user_id    uuid        primary key references accounts.users (id) on delete cascade,
    version    bigint      not null, -- the ETag
    settings   jsonb       not null,
    updated_at timestamptz not null default now()
);

-- What was said of one task, or of all instances of a series.
create table tasks.notification_overrides (
    user_id   uuid  not null,
    task_id   uuid,
    series_id uuid,
    override  jsonb not null,
    check (num_nonnulls(task_id, series_id) = 1),
    foreign key (user_id, task_id) references tasks.tasks (user_id, id) on delete cascade,
    foreign key (user_id, series_id) references tasks.series (user_id, id) on delete cascade
);

create unique index notification_overrides_task_key on tasks.notification_overrides (user_id, task_id)
    where task_id is not null;
create unique index notification_overrides_series_key on tasks.notification_overrides (user_id, series_id)
    where series_id is not null;

-- One decision a notification. The channel that comes first makes it, the others follow it.
create table delivery.decisions (
    user_id     uuid        not null,
    reminder_id uuid        not null,
    fire_at     timestamptz not null,
    kind        text        not null,
    decision    jsonb       not null, -- an action and a reason for each channel
    decided_at  timestamptz not null default now(),
    primary key (user_id, reminder_id, fire_at, kind)
);

-- Written in the order of time, and only ever looked through to remove the oldest.
create index decisions_decided_idx on delivery.decisions using brin (decided_at);

-- Many notifications in one message.
create table delivery.digests (
    id              uuid        primary key, -- it follows from the person, the channel and the time
    user_id         uuid        not null,
    channel         text        not null,
    due_at          timestamptz not null,
    state           text        not null default 'pending' check (state in ('pending', 'sent', 'failed', 'suppressed')),
    attempts        integer     not null default 0,
    next_attempt_at timestamptz not null,
    message_id      text,
    last_error      text,
    created_at      timestamptz not null default now(),
    finished_at     timestamptz,
    unique (user_id, channel, due_at)
) with (fillfactor = 80);

create index digests_due_idx on delivery.digests (channel, next_attempt_at) where state = 'pending';
create index digests_finished_idx on delivery.digests (finished_at) where state <> 'pending';

alter table delivery.deliveries
    add column kind       text not null default 'reminder',
    -- Until when quiet hours held it.
    add column held_until timestamptz,
    -- The digest that it waits for, and then ends with: its state is 'collected' till then.
    add column digest_id  uuid references delivery.digests (id) on delete set null,
    drop constraint deliveries_state_check,
    add constraint deliveries_state_check
        check (state in ('pending', 'sent', 'failed', 'suppressed', 'collected')) not valid;

create index deliveries_digest_idx on delivery.deliveries (digest_id) where digest_id is not null;

-- The list in the page.
create schema notifications;

create table notifications.inbox (
    event_id     uuid        primary key,
    processed_at timestamptz not null default now()
);

create table notifications.notifications (
    user_id     uuid        not null,
    id          uuid        not null, -- it follows from what it tells of
    kind        text        not null,
    reminder_id uuid        not null,
    task_id     uuid        not null,
    title       text        not null, -- of the task, as it was; empty when it is not known
    fire_at     timestamptz not null, -- when the reminder was due
    detail      text, -- why it was missed or not sent, in words
    at          timestamptz not null,
    read_at     timestamptz,
    primary key (user_id, id)
) with (fillfactor = 90);

create index notifications_list_idx on notifications.notifications (user_id, at, id);
create index notifications_unread_idx on notifications.notifications (user_id, at, id) where read_at is null;
create index notifications_at_idx on notifications.notifications using brin (at);

grant select, insert, update, delete on accounts.notification_settings, tasks.notification_overrides to carillon_api;
grant usage on schema notifications to carillon_api;
grant select, update (read_at) on notifications.notifications to carillon_api;
grant select on delivery.decisions to carillon_api;
grant select (id, due_at, state, last_error) on delivery.digests to carillon_api;
grant select (kind, held_until, digest_id) on delivery.deliveries to carillon_api;

grant select (user_id, settings) on accounts.notification_settings
    to carillon_email_sender, carillon_notification_inbox;
grant usage on schema tasks to carillon_email_sender, carillon_notification_inbox;
grant select on tasks.notification_overrides to carillon_email_sender, carillon_notification_inbox;
grant select, insert, delete on delivery.decisions to carillon_email_sender;
grant select, insert, update, delete on delivery.digests to carillon_email_sender;

grant usage on schema accounts, delivery, notifications to carillon_notification_inbox;
grant select (id, timezone, deleted_at) on accounts.users to carillon_notification_inbox;
grant select, insert on delivery.decisions to carillon_notification_inbox;
grant select, insert, delete on notifications.inbox to carillon_notification_inbox;
grant select, insert, delete on notifications.notifications to carillon_notification_inbox;

-- An operator sees what is held and why, and not of which task.
grant select (id, user_id, channel, due_at, state, attempts, next_attempt_at, last_error, created_at, finished_at)
    on delivery.digests to carillon_operator;
grant select (kind, held_until, digest_id) on delivery.deliveries to carillon_operator;
