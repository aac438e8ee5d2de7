-- Sessions that their owner can tell apart, a change of address by a mailed link, requests for a new password that no crash
-- loses, and an end for mails about accounts.
set local lock_timeout = '10s';

alter table accounts.sessions
    add column user_agent   text,        -- what the client last called itself, shortened
    add column last_used_at timestamptz; -- when it was last refreshed; null: not yet

-- Not validated: the rows that there are satisfied the narrower ones.
alter table accounts.links
    drop constraint links_kind_check,
    add constraint links_kind_check check (kind in ('verify_email', 'reset_password', 'change_email')) not valid;

alter table delivery.account_mails
    drop constraint account_mails_kind_check,
    add constraint account_mails_kind_check
        check (kind in ('verify_email', 'reset_password', 'change_email', 'email_changing', 'address_taken')) not valid,
    add column email text; -- where it goes, if that is not where the account's mails go; gone with the link

-- Who forgot a password, as they say: written whether there is such an account or not, so that neither the answer nor its
-- time tells. The API looks a moment later.
create table accounts.reset_requests (
    id         uuid        primary key,
    email      text        not null check (length(email) <= 254),
    created_at timestamptz not null default now()
);

-- For the sweep.
create index account_mails_finished_idx on delivery.account_mails (finished_at) where state <> 'pending';

-- Update, because taking a row locks it.
grant select, insert, update, delete on accounts.reset_requests to carillon_api;
grant insert (email) on delivery.account_mails to carillon_api;
grant delete on delivery.account_mails to carillon_email_sender;
