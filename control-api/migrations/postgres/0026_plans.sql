-- Plans: what organizations that have one may have and ask. What a plan does not say (null) is what the server says to all.
create table plans (
  id text collate "C" primary key,
  name text collate "C" not null unique,
  -- Of an organization.
  projects bigint check (projects >= 0),
  members bigint check (members >= 0),
  requests_per_minute bigint check (requests_per_minute > 0),
  -- Of each of its projects.
  functions bigint check (functions >= 0),
  sites bigint check (sites >= 0),
  domains bigint check (domains >= 0),
  project_deployments bigint check (project_deployments >= 0),
  storage_bytes bigint check (storage_bytes >= 0),
  pins bigint check (pins >= 0),
  -- Of each function.
  function_deployments bigint check (function_deployments >= 0),
  created_at bigint not null,
  updated_at bigint not null
);

alter table organizations add column plan_id text collate "C" references plans (id);
create index organizations_by_plan on organizations (plan_id) where plan_id is not null;
