-- What tasks are made from, with dates relative to a day. Owned by the API alone.
create table tasks.templates (
    user_id    uuid        not null references accounts.users (id),
    id         uuid        not null,
    version    bigint      not null check (version >= 1),
    content    jsonb       not null, -- {"title", "description", "priority", "tags", "due": {"days", "time"}, "reminders": [offset]}
    created_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (user_id, id)
);

grant select, insert, update, delete on tasks.templates to carillon_api;
