-- Everything that happened, one row an event, in partitions of a day each.
create schema audit;

create table audit.events (
    event_id     uuid        not null,
    occurred_at  timestamptz not null,
    topic        text        not null,
    partition_id integer     not null,
    offset_id    bigint      not null,
    event_type   text        not null,
    user_id      uuid,
    task_id      uuid,
    actor        text,
    payload      jsonb,      -- the event as JSON; null where the record could not be read
    raw          bytea,      -- the record as it was, where it could not be read
    headers      jsonb       not null,
    recorded_at  timestamptz not null default now(),
    -- An event's time never changes, so the pair is as unique as the id alone, which a partitioned key could not be.
    primary key (event_id, occurred_at)
) partition by range (occurred_at);

create index events_user_idx on audit.events (user_id, occurred_at);

-- For what claims a time that no partition was made for; nothing is refused.
create table audit.events_default partition of audit.events default;

-- Partitions are made and dropped by the audit sink, through these two: it owns no table.
create function audit.ensure_partitions(first_day date, days integer) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    d    date;
    name text;
begin
    if days not between 1 and 400 then
        raise exception 'days must be between 1 and 400, not %', days;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('audit.ensure_partitions', 0));
    for i in 0 .. days - 1 loop
        d := first_day + i;
        name := 'events_' || to_char(d, 'YYYYMMDD');
        if to_regclass('audit.' || name) is null then
            -- Attached, not created in place: the parent is locked against nobody who only reads or inserts. Attaching looks
            -- through the default partition, so what came before its day was made moves over first.
            execute format('create table audit.%I (like audit.events including defaults including constraints)', name);
            lock table audit.events_default in access exclusive mode;
            execute format('with moved as (delete from audit.events_default where occurred_at >= %L and occurred_at < %L
                                           returning *)
                            insert into audit.%I select * from moved',
                d::timestamp at time zone 'UTC', (d + 1)::timestamp at time zone 'UTC', name);
            execute format('alter table audit.events attach partition audit.%I for values from (%L) to (%L)', name,
                d::timestamp at time zone 'UTC', (d + 1)::timestamp at time zone 'UTC');
        end if;
    end loop;
end
$$;

create function audit.drop_partitions(before date) returns setof text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    name text;
begin
    -- Of two at once the second would find a partition listed that the first has dropped.
    perform pg_advisory_xact_lock(hashtextextended('audit.ensure_partitions', 0));
    delete from audit.events_default where occurred_at < before::timestamp at time zone 'UTC';
    for name in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'audit.events'::regclass and c.relname ~ '^events_[0-9]{8}$'
          and to_date(substr(c.relname, 8), 'YYYYMMDD') < before
        order by 1
    loop
        execute format('drop table audit.%I', name);
        return next name;
    end loop;
end
$$;

revoke all on function audit.ensure_partitions(date, integer), audit.drop_partitions(date) from public;
grant execute on function audit.ensure_partitions(date, integer), audit.drop_partitions(date) to carillon_audit_sink;
grant usage on schema audit to carillon_audit_sink;
grant select, insert on audit.events to carillon_audit_sink;
