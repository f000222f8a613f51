-- Until when whoever is at a request has said that it is, milliseconds; none once it has ended.
alter table idempotency_keys add column leased_until integer;
