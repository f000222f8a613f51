-- Deployments that no edge has reported on are asked for in the order of their ids, and are few. Without this, SQLite reads all deployments each time.
create index deployments_awaited_by_id on deployments (id) where reported = 'DEPLOYING';
