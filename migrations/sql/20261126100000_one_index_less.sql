-- A reminder's row is found by its person, and by its id among that person's, in the index of the primary key; one of the
-- id alone made every ring write to two indexes.
set local lock_timeout = '10s';

drop index if exists reminders.reminders_user_id_idx;
