-- Plans: what organizations that have one may have and ask. What a plan does not say (null) is what the server says to all.
create table plans (
  id text primary key,
  name text not null unique,
  -- Of an organization.
  projects integer check (projects >= 0),
  members integer check (members >= 0),
  requests_per_minute integer check (requests_per_minute > 0),
  -- Of each of its projects.
  functions integer check (functions >= 0),
  sites integer check (sites >= 0),
  domains integer check (domains >= 0),
  project_deployments integer check (project_deployments >= 0),
  storage_bytes integer check (storage_bytes >= 0),
  pins integer check (pins >= 0),
  -- Of each function.
  function_deployments integer check (function_deployments >= 0),
  created_at integer not null,
  updated_at integer not null
) strict;

alter table organizations add column plan_id text references plans (id);
create index organizations_by_plan on organizations (plan_id) where plan_id is not null;
