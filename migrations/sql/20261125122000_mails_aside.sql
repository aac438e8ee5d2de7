-- Mails of a person who has very many of them due wait in a state of their own, so that a claim finds the others' first.
set local lock_timeout = '10s';

alter table delivery.deliveries
    drop constraint deliveries_state_check,
    add constraint deliveries_state_check
        check (state in ('pending', 'sent', 'failed', 'suppressed', 'collected', 'aside')) not valid;

-- Not made concurrently: that would wait for those who wait for us to migrate. Only the email sender writes here, and it waits.
create index deliveries_aside_idx on delivery.deliveries (channel, user_id, next_attempt_at) where state = 'aside';
