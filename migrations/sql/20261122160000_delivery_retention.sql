-- The email sender removes deliveries that were over long ago. Until they are, one firing has one delivery; a topic forgets
-- the firing long before.
create index deliveries_finished_idx on delivery.deliveries (finished_at) where state <> 'pending';

grant delete on delivery.deliveries to carillon_email_sender;
