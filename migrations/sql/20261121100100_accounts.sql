-- People. Owned by the API; the email sender reads where mail goes, and nothing else of a person.
create schema accounts;

create table accounts.users (
    id            uuid        primary key,
    email         text        not null,
    name          text        not null,
    timezone      text        not null,
    password_hash text        not null,
    created_at    timestamptz not null
);

-- One account per address, however it is capitalised.
create unique index users_email_key on accounts.users (lower(email));

grant usage on schema accounts to carillon_api, carillon_email_sender;
grant select, insert on accounts.users to carillon_api;
grant select (id, email, name, timezone) on accounts.users to carillon_email_sender;
