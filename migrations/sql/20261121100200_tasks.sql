-- Tasks and the series they recur in. Owned by the API; the recurrence generator adds next instances.
create schema tasks;

create table tasks.series (
    user_id     uuid        not null references accounts.users (id),
    id          uuid        not null,
    rrule       text        not null, -- RFC 5545 section 3.3.10, canonical text
    starts_at   timestamptz not null, -- DTSTART, meant in timezone
    timezone    text        not null,
    created_at  timestamptz not null,
    primary key (user_id, id)
);

create table tasks.tasks (
    user_id      uuid        not null references accounts.users (id),
    id           uuid        not null,
    version      bigint      not null check (version >= 1),
    title        text        not null,
    description  text,
    priority     text        not null check (priority in ('low', 'medium', 'high', 'urgent')),
    tags         text[]      not null,
    due_at       timestamptz,
    timezone     text        not null,
    reminders    jsonb       not null, -- [{"id", "offset" | "at"}], at in microseconds since 1970
    series_id    uuid,
    occurrence   timestamptz,
    recurrence   text,                 -- the series' rrule when the instance was made
    created_at   timestamptz not null,
    updated_at   timestamptz not null,
    completed_at timestamptz,
    deleted_at   timestamptz,
    -- Owner first: every query names the owner, and a page of one person's tasks is one stretch of this index, newest
    -- last, since ids are UUIDv7.
    primary key (user_id, id),
    foreign key (user_id, series_id) references tasks.series (user_id, id),
    check ((series_id is null) = (occurrence is null))
);

-- What makes the next instance of a series come once, whoever makes it, however often.
create unique index tasks_series_occurrence_key on tasks.tasks (series_id, occurrence) where series_id is not null;

grant usage on schema tasks to carillon_api, carillon_recurrence_generator;
grant select, insert, update on tasks.tasks, tasks.series to carillon_api;
grant select, insert on tasks.tasks to carillon_recurrence_generator;
-- UPDATE on one column that is never changed: PostgreSQL asks for it before it lets a role lock a row.
grant select, update (id) on tasks.series to carillon_recurrence_generator;
