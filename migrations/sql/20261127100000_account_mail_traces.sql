-- A mail about an account, too, goes on with the trace of the request that asked for it: see docs/adr/0024.
set local lock_timeout = '10s';

alter table delivery.account_mails add column traceparent text;
grant insert (traceparent) on delivery.account_mails to carillon_api;
-- Where it waits until somebody looks whether the address has an account.
alter table accounts.reset_requests add column traceparent text;
