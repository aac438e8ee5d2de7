-- The mail channel: in which language people are written to, whether they want a calendar file, and addresses that no mail
-- arrives at.
set local lock_timeout = '10s';

alter table accounts.users
    add column language   text    not null default 'en' check (language ~ '^[a-z]{2}$'),
    add column attach_ics boolean not null default false;

grant select (language, attach_ics) on accounts.users to carillon_email_sender;

-- Where mail is refused for good, or comes back. Nothing but what a person asks for goes there until the person has shown
-- by a link from such a mail that the address works again: then the API removes the row.
create table delivery.suppressed_addresses (
    address text        primary key check (address = lower(address)),
    user_id uuid        not null, -- whose mail it was
    source  text        not null check (source in ('refusal', 'report')),
    reason  text        not null check (length(reason) <= 500),
    since   timestamptz not null default now()
);

create index suppressed_addresses_user_idx on delivery.suppressed_addresses (user_id);

grant select, insert on delivery.suppressed_addresses to carillon_email_sender;
grant select, delete on delivery.suppressed_addresses to carillon_api;
