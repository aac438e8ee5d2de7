-- One role per service, each with only what its section of the following migrations grants. Roles belong to the whole
-- cluster, not to the database: another database, or another run at the same moment, may have made them already.
do $$
declare
    service text;
begin
    foreach service in array array['api', 'outbox_relay', 'reminder_scanner', 'email_sender', 'recurrence_generator', 'audit_sink']
    loop
        begin
            -- Without a password nobody can log in by one; `carillon migrate` sets those it is given.
            execute format('create role %I login', 'carillon_' || service);
        exception when duplicate_object or unique_violation then
            null;
        end;
    end loop;
end
$$;

revoke all on schema public from public;
