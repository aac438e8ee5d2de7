-- Series that say more than a rule: dates beside it, what the next one counts from, and what happens when it falls due
-- while the last is open. Older versions write none of these columns and go on as before: one instance at a time.
alter table tasks.series
    -- RDATE and EXDATE (RFC 5545).
    add column rdates       timestamptz[] not null default '{}' check (cardinality(rdates) <= 500),
    add column exdates      timestamptz[] not null default '{}' check (cardinality(exdates) <= 500),
    add column anchor       text not null default 'schedule' check (anchor in ('schedule', 'completion')),
    add column overlap      text not null default 'skip' check (overlap in ('skip', 'roll_forward', 'pile_up')),
    -- The last occurrence that the series has come to: what comes next is the first one after it. Null in series of older
    -- versions: theirs is that of their latest instance.
    add column made_through timestamptz,
    -- The next occurrence, where it does not wait for a completion: what rolls forward does so when it has fallen due, what
    -- piles up is made a horizon ahead of it. Null where there is nothing to do.
    add column attend_at    timestamptz,
    -- The series that this one went on from.
    add column split_from   uuid,
    -- What is done at another time, or not at all, cannot be waited for.
    add constraint series_anchor_overlap_check check (anchor = 'schedule' or overlap = 'skip');

-- Whose turn it is, whoever's they are.
create index series_attend_idx on tasks.series (overlap, attend_at) where attend_at is not null;

-- The generator says how far a series has come, and moves the open instance of one that rolls forward.
grant update (made_through, attend_at) on tasks.series to carillon_recurrence_generator;
grant update (version, due_at, due_on, due_on_starts_at, occurrence, reminders, updated_at) on tasks.tasks
    to carillon_recurrence_generator;
