-- The key that a project's data keys are sealed with, sealed with the master key.
create table project_keys (
  project_id text primary key references projects (id) on delete cascade,
  sealed blob not null,
  created_at integer not null
) strict, without rowid;

-- What a private deployment's code and assets are encrypted with, sealed with its project's key. Deployments that are
-- not private have none.
create table content_keys (
  deployment_id text primary key references deployments (id) on delete cascade,
  sealed blob not null
) strict, without rowid;
