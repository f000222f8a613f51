-- A function's newest gradual rollout: of a candidate, beside its active deployment.
create table rollouts (
  function_id text primary key references functions (id) on delete cascade,
  id text not null,
  deployment_id text not null references deployments (id) on delete cascade,
  percent integer not null check (percent between 0 and 100),
  sticky text not null,
  max_errors integer not null,
  min_requests integer not null,
  status text not null check (status in ('RUNNING', 'PROMOTED', 'ABORTED', 'ROLLED_BACK')),
  reason text,
  created_at integer not null,
  updated_at integer not null
) strict;

create index rollouts_by_deployment on rollouts (deployment_id);

-- What a deployment may do that the active one may not, as JSON, and who allowed it; until then it waits. Whether it is to become active then.
alter table deployments add column widens text;
alter table deployments add column approver_id text;
alter table deployments add column approved_at integer;
alter table deployments add column activates integer not null default 0;
