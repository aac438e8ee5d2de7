-- A reminder may ring more than once until its task is done, and may be too late to ring.
set local lock_timeout = '10s';

alter table reminders.reminders
    -- Its first ring; null in rows of before, whose only one is `fire_at`. Ring k is due at first_at + k * nag_every_seconds.
    add column first_at                 timestamptz,
    -- Which ring `fire_at` is the time of.
    add column ring                     integer not null default 0 check (ring >= 0),
    -- How it repeats, after the first ring: null when it does not.
    add column nag_every_seconds        bigint check (nag_every_seconds > 0),
    add column nag_times                integer check (nag_times > 0),
    -- How late it may still ring; null when that is the person's setting.
    add column send_late_within_seconds bigint check (send_late_within_seconds >= 0),
    -- The latest of its times that rang or was missed.
    add column last_fire_at             timestamptz,
    -- When the change was made that armed it, and when the scanner last decided something about it.
    add column armed_at                 timestamptz,
    add column handled_at               timestamptz,
    add constraint reminders_nag_check check ((nag_every_seconds is null) = (nag_times is null)),
    -- `fired_at` is when it last rang. One that is armed again has a `fire_at` after that.
    drop constraint reminders_state_check,
    drop constraint reminders_check,
    add constraint reminders_state_check
        check (state in ('armed', 'fired', 'missed', 'cancelled')) not valid,
    add constraint reminders_fired_at_check
        check (state <> 'fired' or fired_at >= fire_at) not valid;

-- The API shows what became of reminders, and finds the task of one by the reminder's id.
create index if not exists reminders_user_id_idx on reminders.reminders (user_id, id);
grant usage on schema reminders to carillon_api;
grant select on reminders.reminders to carillon_api;
