-- The recurrence generator keeps no state but its inbox: instances are rows of tasks.tasks.
create schema recurrence;

create table recurrence.inbox (
    event_id     uuid        primary key,
    processed_at timestamptz not null default now()
);

grant usage on schema recurrence to carillon_recurrence_generator;
grant select, insert, delete on recurrence.inbox to carillon_recurrence_generator;
