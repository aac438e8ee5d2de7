-- Tasks that are due on a whole day, tasks that depend on others, and the sweep of tasks deleted long ago.
alter table tasks.tasks
    add column due_on           date,
    add column due_on_starts_at timestamptz, -- when that day starts in the task's zone
    add column due_key          timestamptz generated always as (coalesce(due_at, due_on_starts_at)) stored,
    add column depends_on       uuid[] not null default '{}', -- of the same person; no foreign key: one that is gone blocks nothing
    add constraint tasks_due_check check (due_at is null or due_on is null),
    add constraint tasks_due_on_check check ((due_on is null) = (due_on_starts_at is null));

create index tasks_deleted_idx on tasks.tasks (deleted_at) where deleted_at is not null;

grant delete on tasks.tasks to carillon_api;
