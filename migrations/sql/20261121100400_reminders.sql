-- The reminder scanner's own state.
create schema reminders;

create table reminders.inbox (
    event_id     uuid        primary key,
    processed_at timestamptz not null default now()
);

-- The newest version of each task that the scanner has seen; older ones are refused.
create table reminders.tasks (
    user_id  uuid   not null,
    task_id  uuid   not null,
    version  bigint not null,
    snapshot jsonb  not null, -- the whole task, for the event when it fires
    primary key (user_id, task_id)
);

create table reminders.reminders (
    user_id  uuid        not null,
    task_id  uuid        not null,
    id       uuid        not null,
    state    text        not null check (state in ('armed', 'fired', 'cancelled')),
    fire_at  timestamptz not null,
    urgency  smallint    not null, -- 0 urgent … 3 low: of those due in one instant the urgent ring first
    fired_at timestamptz check (fired_at >= fire_at),
    reason   text,
    primary key (user_id, task_id, id)
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

create index reminders_armed_idx on reminders.reminders (fire_at, urgency) where state = 'armed';

grant usage on schema reminders to carillon_reminder_scanner;
grant select, insert, delete on reminders.inbox to carillon_reminder_scanner;
grant select, insert, update on reminders.tasks, reminders.reminders to carillon_reminder_scanner;
