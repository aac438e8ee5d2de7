-- Seals over the audit trail: rows are sealed in segments, and each seal holds the hash of the one before (docs/adr/0017).
set local lock_timeout = '10s';

-- Which segment takes rows, and up to which one they are sealed.
create table audit.chain (
    only_row       boolean     primary key default true check (only_row),
    open_segment   bigint      not null default 1,
    opened_at      timestamptz not null default clock_timestamp(),
    sealed_segment bigint      not null default -1
);
insert into audit.chain default values;

create table audit.seals (
    number      bigint      primary key,                     -- 1, 2, 3 … without a gap
    kind        text        not null check (kind in ('rows', 'drop')),
    day         date        not null,                        -- of the rows; of a drop the first day that is kept
    segment     bigint      not null,                        -- of a drop 0
    rows        integer     not null check (rows >= 0),
    leaves      bytea,                                       -- 64 bytes a row; null once the day is dropped
    leaves_hash bytea       not null,
    previous    bytea       not null,                        -- the hash of the seal before
    hash        bytea       not null,
    key_id      text,                                        -- of the key that the hash is made with, if with one
    sealed_at   timestamptz not null
);
-- Hashes do not get smaller by compressing.
alter table audit.seals alter column leaves set storage external;
create index seals_segment_idx on audit.seals (segment, day);
create index seals_leaves_idx on audit.seals (day) where leaves is not null;

-- The segment that takes rows. It stays open until the transaction of whoever asked has ended: a closed one gets no rows
-- any more. In its own statement, so that it sees what was closed while it waited.
create function audit.open_segment() returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform pg_advisory_xact_lock_shared(hashtextextended('audit.segment', 0));
    return (select open_segment from audit.chain);
end
$$;

-- Closes the open segment if it is that old, and opens the next. Waits for those who write into it.
create function audit.close_segment(least_age interval) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('audit.segment', 0));
    update audit.chain set open_segment = open_segment + 1, opened_at = clock_timestamp()
    where opened_at <= clock_timestamp() - least_age;
    return (select open_segment from audit.chain);
end
$$;

-- What is there is segment 0. The default is for sinks of the version before this: ours say it.
alter table audit.events add column segment bigint not null default 0;
alter table audit.events alter column segment set default audit.open_segment();
-- Segments come in order, so an index of ranges is enough, and costs an insert next to nothing.
create index events_segment_idx on audit.events using brin (segment) with (pages_per_range = 16, autosummarize = on);

-- As before, and what is dropped leaves its seals, without the leaves. Rows that went from the default partition are told
-- by its name.
create or replace function audit.drop_partitions(before date) returns setof text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    name text;
begin
    -- Of two at once the second would find a partition listed that the first has dropped.
    perform pg_advisory_xact_lock(hashtextextended('audit.ensure_partitions', 0));
    delete from audit.events_default where occurred_at < before::timestamp at time zone 'UTC';
    if found then
        return next 'events_default';
    end if;
    for name in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'audit.events'::regclass and c.relname ~ '^events_[0-9]{8}$'
          and to_date(substr(c.relname, 8), 'YYYYMMDD') < before
        order by 1
    loop
        execute format('drop table audit.%I', name);
        return next name;
    end loop;
    update audit.seals set leaves = null where leaves is not null and day < before;
end
$$;

revoke all on function audit.open_segment(), audit.close_segment(interval) from public;
grant execute on function audit.open_segment(), audit.close_segment(interval) to carillon_audit_sink;
-- Seals are added and never changed; the leaves go with drop_partitions.
grant select, insert on audit.seals to carillon_audit_sink;
grant select, update (sealed_segment) on audit.chain to carillon_audit_sink;
