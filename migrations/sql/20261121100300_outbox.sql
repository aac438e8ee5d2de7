-- The outbox: every event is written here in the transaction of the change that it tells of. docs/adr/0002 says why it
-- looks as it does; producers/outbox-relay reads it.
create schema outbox;

-- What a body was written with, so that the relay can register it whatever its own build knows. `carillon migrate`
-- fills it before any new writer starts.
create table outbox.schemas (
    fingerprint uuid primary key,
    topic       text not null,
    fullname    text not null,
    schema_json text not null
);

create sequence outbox.events_seq;

create table outbox.events (
    -- Which part of the ring the row lies in. Rows are never changed or deleted one by one: a whole slot, published long
    -- ago, is truncated at once, which leaves no dead rows whatever transactions are open.
    slot        smallint    not null default ((extract(epoch from now())::bigint / 3600) % 6),
    -- Order of publication. Taken while the writer holds its task's lock, so for one task it is version order.
    seq         bigint      not null default nextval('outbox.events_seq'),
    -- The writer's transaction: visibility in a snapshot, not seq, says what is new (seq is not commit order).
    xid         xid8        not null default pg_current_xact_id(),
    shard       smallint    not null generated always as ((hashtextextended(user_id::text, 0) & 1)::smallint) stored,
    event_id    uuid        not null,
    topic       text        not null,
    user_id     uuid        not null,
    event_type  text        not null,
    fingerprint uuid        not null,
    body        bytea       not null,
    headers     jsonb       not null,
    created_at  timestamptz not null default clock_timestamp()
) partition by list (slot);

create table outbox.events_0 partition of outbox.events for values in (0);
create table outbox.events_1 partition of outbox.events for values in (1);
create table outbox.events_2 partition of outbox.events for values in (2);
create table outbox.events_3 partition of outbox.events for values in (3);
create table outbox.events_4 partition of outbox.events for values in (4);
create table outbox.events_5 partition of outbox.events for values in (5);

create index events_shard_seq_idx on outbox.events (shard, seq);
create index events_xid_seq_idx on outbox.events (xid, seq);

-- How far each shard is published: everything visible in `done`, and of what is visible in `target` all up to
-- `published_seq`.
create table outbox.cursors (
    shard             smallint    primary key,
    system_identifier bigint      not null, -- of the cluster that the snapshots below belong to
    done              pg_snapshot not null,
    -- The sequence's last_value at about the time of `done`: splits what `done` cannot see into many newer and few older
    -- rows, which are found by different indexes.
    done_seq          bigint      not null,
    target            pg_snapshot not null,
    target_seq        bigint      not null,
    published_seq     bigint      not null,
    published_total   bigint      not null default 0,
    updated_at        timestamptz not null default clock_timestamp()
);

insert into outbox.cursors (shard, system_identifier, done, done_seq, target, target_seq, published_seq)
select shard, system_identifier, s, 0, s, 0, 0
from generate_series(0, 1) shard, pg_control_system(), pg_current_snapshot() s;

grant usage on schema outbox to carillon_api, carillon_outbox_relay, carillon_reminder_scanner, carillon_email_sender,
    carillon_recurrence_generator;
grant usage on sequence outbox.events_seq to carillon_api, carillon_reminder_scanner, carillon_email_sender,
    carillon_recurrence_generator;
grant insert on outbox.events to carillon_api, carillon_reminder_scanner, carillon_email_sender,
    carillon_recurrence_generator;
grant select on outbox.events, outbox.schemas to carillon_outbox_relay;
grant select on outbox.events_seq to carillon_outbox_relay;
grant select, update on outbox.cursors to carillon_outbox_relay;
grant select, truncate on outbox.events_0, outbox.events_1, outbox.events_2, outbox.events_3, outbox.events_4,
    outbox.events_5 to carillon_outbox_relay;

-- After a dump was restored into another cluster the rows carry the old cluster's transaction ids, which mean nothing
-- here. What was published goes; what was not gets this transaction's id, and the cursors start before it.
create function outbox.rebase() returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    here bigint := (select system_identifier from pg_control_system());
    s    pg_snapshot;
begin
    lock table outbox.cursors in exclusive mode;
    if not exists (select from outbox.cursors where system_identifier <> here) then
        return;
    end if;
    lock table outbox.events in access exclusive mode;
    s := pg_current_snapshot();
    delete from outbox.events e using outbox.cursors c
        where c.shard = e.shard and (pg_visible_in_snapshot(e.xid, c.done)
            or (e.seq <= c.published_seq and pg_visible_in_snapshot(e.xid, c.target)));
    update outbox.events set xid = pg_current_xact_id();
    update outbox.cursors set system_identifier = here, done = s, done_seq = 0, target = s, target_seq = 0,
        published_seq = 0;
end
$$;

revoke all on function outbox.rebase() from public;
grant execute on function outbox.rebase() to carillon_outbox_relay;
