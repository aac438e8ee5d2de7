-- Recurring tasks as things of their own: a series has a version, and what its instances are made of.
alter table tasks.series
    add column version    bigint      not null default 1 check (version >= 1),
    -- What an instance is made with. Null in series of older versions: theirs is what their newest instance holds.
    add column content    jsonb,      -- {"title", "description", "priority", "tags", "reminders": [offset]}
    -- No instance follows a completed one while one of these stands here.
    add column paused_at  timestamptz,
    add column ended_at   timestamptz,
    -- Deleted series are ended too. Their rows stay, for completed instances point to them.
    add column deleted_at timestamptz,
    add column updated_at timestamptz not null default now(),
    add constraint series_deleted_check check (deleted_at is null or ended_at is not null);

-- Owner first, as everywhere; it also finds the instances of a series. The older index on (series_id, occurrence) stays
-- as long as a version may run that names it in its ON CONFLICT.
create unique index tasks_user_series_occurrence_key on tasks.tasks (user_id, series_id, occurrence)
    where series_id is not null;

-- The generator ends a series whose rule has no further occurrence.
grant update (version, ended_at, updated_at) on tasks.series to carillon_recurrence_generator;
