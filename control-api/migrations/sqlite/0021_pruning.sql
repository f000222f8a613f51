-- Which deployments a function keeps: so many of the newest, and all that are younger; null: what its project says, and where that says nothing,
-- the platform's default.
alter table functions add column keep_newest integer check (keep_newest > 0);
alter table functions add column keep_for_seconds integer check (keep_for_seconds >= 0);
alter table projects add column keep_newest integer check (keep_newest > 0);
alter table projects add column keep_for_seconds integer check (keep_for_seconds >= 0);
