-- Accounts in full: sessions, personal access tokens, identities of other issuers, mailed links, deletion.
set local lock_timeout = '10s';

alter table accounts.users
    alter column password_hash drop not null, -- null: the person comes by another issuer, or is deleted
    add column version           bigint  not null default 1, -- the ETag
    add column email_verified_at timestamptz,
    add column admin             boolean not null default false, -- set by hand: an operator of the platform
    add column deleted_at        timestamptz; -- the rest of the person's data goes in the background

create index users_deleted_idx on accounts.users (deleted_at) where deleted_at is not null;

-- One row a login. A refresh token is two secrets: the first finds the row and never changes, the second changes at each
-- use. So an old token is known as one of this session for as long as the session lives, and used-up tokens need no rows.
create table accounts.sessions (
    user_id     uuid        not null references accounts.users (id) on delete cascade,
    id          uuid        not null primary key, -- claim sid of its access tokens
    family_hash bytea       not null unique,      -- SHA-256 of the first secret
    secret_hash bytea       not null,             -- SHA-256 of the newest second secret
    created_at  timestamptz not null default now(),
    expires_at  timestamptz not null,
    revoked_at  timestamptz
) with (fillfactor = 80);

create index sessions_user_idx on accounts.sessions (user_id);
create index sessions_expires_idx on accounts.sessions (expires_at);
create index sessions_revoked_idx on accounts.sessions (revoked_at) where revoked_at is not null;

create table accounts.personal_tokens (
    user_id      uuid        not null references accounts.users (id) on delete cascade,
    id           uuid        not null,
    name         text        not null,
    scopes       text[]      not null,
    token_hash   bytea       not null unique, -- SHA-256 of 256 random bits
    created_at   timestamptz not null default now(),
    expires_at   timestamptz,
    last_used_at timestamptz,
    primary key (user_id, id)
) with (fillfactor = 80);

create index personal_tokens_expires_idx on accounts.personal_tokens (expires_at) where expires_at is not null;

-- Whom another issuer's subject is here.
create table accounts.identities (
    user_id    uuid        not null references accounts.users (id) on delete cascade,
    issuer     text        not null,
    subject    text        not null,
    created_at timestamptz not null default now(),
    primary key (issuer, subject)
);

create index identities_user_idx on accounts.identities (user_id);

-- Links that were mailed and not followed yet.
create table accounts.links (
    user_id    uuid        not null references accounts.users (id) on delete cascade,
    kind       text        not null check (kind in ('verify_email', 'reset_password')),
    token_hash bytea       not null primary key, -- SHA-256 of 256 random bits
    email      text        not null,             -- where it was mailed to
    created_at timestamptz not null default now(),
    expires_at timestamptz not null
);

create index links_user_idx on accounts.links (user_id, kind, created_at);
create index links_expires_idx on accounts.links (expires_at);

-- Mails about an account. They do not go through Kafka: an event must not carry a link that opens the account.
create table delivery.account_mails (
    id              uuid        primary key,
    user_id         uuid        not null,
    kind            text        not null check (kind in ('verify_email', 'reset_password')),
    link_token      text,       -- gone as soon as the mail is out, or given up
    expires_at      timestamptz not null, -- of the link
    state           text        not null default 'pending' check (state in ('pending', 'sent', 'failed', 'suppressed')),
    attempts        integer     not null default 0,
    next_attempt_at timestamptz not null default now(),
    message_id      text,
    last_error      text,
    created_at      timestamptz not null default now(),
    finished_at     timestamptz
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

create index account_mails_due_idx on delivery.account_mails (next_attempt_at) where state = 'pending';
create index account_mails_user_idx on delivery.account_mails (user_id);

grant update on accounts.users to carillon_api;
grant select, insert, update, delete on accounts.sessions, accounts.personal_tokens, accounts.links to carillon_api;
grant select, insert on accounts.identities to carillon_api;
grant usage on schema delivery to carillon_api;
grant insert (id, user_id, kind, link_token, expires_at) on delivery.account_mails to carillon_api;
grant select (email_verified_at, deleted_at) on accounts.users to carillon_email_sender;
grant select, update on delivery.account_mails to carillon_email_sender;

-- Takes a bite out of what is left of a deleted person anywhere: every table that has a column user_id, so that a new one
-- is covered without anyone remembering. The outbox is left out: its rows are never deleted one by one, and truncated
-- within hours. True when nothing is left, the account's row included.
create function accounts.purge(person uuid, bite integer) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    owned   text;
    gone    bigint;
    total   bigint := 0;
    blocked text;
begin
    if not exists (select from accounts.users where id = person and deleted_at is not null) then
        raise exception 'there is no deleted account %', person;
    end if;
    for owned in
        select c.oid::regclass from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        join pg_attribute a on a.attrelid = c.oid and a.attname = 'user_id' and a.atttypid = 'uuid'::regtype
        where c.relkind in ('r', 'p') and not c.relispartition and not a.attisdropped
          and n.nspname not in ('pg_catalog', 'information_schema', 'outbox') and n.nspname not like 'pg\_%'
        order by 1
    loop
        begin
            execute format('delete from %1$s t using (select tableoid, ctid from %1$s where user_id = $1 limit $2) d
                            where t.user_id = $1 and t.tableoid = d.tableoid and t.ctid = d.ctid', owned)
                using person, bite;
            get diagnostics gone = row_count;
            total := total + gone;
        exception when foreign_key_violation then
            -- Rows of another table hold these: they go first, and these in a later bite.
            blocked := owned;
        end;
    end loop;
    if total > 0 then
        return false;
    end if;
    if blocked is not null then
        raise exception 'rows of % are held by rows that no user_id leads to', blocked;
    end if;
    delete from accounts.users where id = person;
    return true;
end
$$;

revoke all on function accounts.purge(uuid, integer) from public;
grant execute on function accounts.purge(uuid, integer) to carillon_api;
