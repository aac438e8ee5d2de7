-- Armed reminders in the order in which they ring, those of one person at one instant together: so that a claim can pass by
-- a person who has very many of them.
--
-- Not made concurrently: that would wait for those who wait for us to migrate. Only the scanner writes here, and it waits:
-- some two seconds for a million rows.
set local lock_timeout = '10s';

create index reminders_armed_user_idx on reminders.reminders (fire_at, urgency, user_id) where state = 'armed';
-- What the new one begins with, so versions of before use that.
drop index reminders.reminders_armed_idx;

alter table reminders.reminders validate constraint reminders_state_check;
alter table reminders.reminders validate constraint reminders_fired_at_check;
