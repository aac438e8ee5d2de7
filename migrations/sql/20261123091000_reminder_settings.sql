-- What a person says of reminders in general, and whose tasks are still to follow them to another zone.
set local lock_timeout = '10s';

alter table accounts.users
    -- The minute of a whole day from which offsets of reminders count.
    add column whole_day_minute         integer not null default 540
        check (whole_day_minute between 0 and 1439),
    -- How late a reminder may still ring that says nothing about it: a day; 366 days at most.
    add column send_late_within_seconds bigint  not null default 86400
        check (send_late_within_seconds between 0 and 31622400);

-- People whose zone or hour of whole days has changed: their open tasks and series that follow them are rewritten, and
-- then the row goes. What a crash leaves is found here.
create table accounts.moves (
    user_id  uuid        primary key references accounts.users (id) on delete cascade,
    asked_at timestamptz not null default now()
);

create index moves_asked_idx on accounts.moves (asked_at);

grant select, insert, update, delete on accounts.moves to carillon_api;
grant usage on schema accounts to carillon_reminder_scanner;
grant select (id, send_late_within_seconds) on accounts.users to carillon_reminder_scanner;

-- The API shows what became of reminders, and finds the task of one by the reminder's id.
create index if not exists reminders_user_id_idx on reminders.reminders (user_id, id);

grant usage on schema reminders to carillon_api;
grant select on reminders.reminders to carillon_api;
