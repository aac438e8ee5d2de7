-- Times on the wall that follow the person, and the minute from which reminders of a whole day count.
alter table tasks.tasks
    add column floating         boolean not null default false,
    add column whole_day_minute integer not null default 540 check (whole_day_minute between 0 and 1439);
