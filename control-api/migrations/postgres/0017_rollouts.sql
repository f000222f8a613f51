-- A function's newest gradual rollout: of a candidate, beside its active deployment.
create table rollouts (
  function_id text collate "C" primary key references functions (id) on delete cascade,
  id text collate "C" not null,
  deployment_id text collate "C" not null references deployments (id) on delete cascade,
  percent bigint not null check (percent between 0 and 100),
  sticky text collate "C" not null,
  max_errors bigint not null,
  min_requests bigint not null,
  status text collate "C" not null check (status in ('RUNNING', 'PROMOTED', 'ABORTED', 'ROLLED_BACK')),
  reason text collate "C",
  created_at bigint not null,
  updated_at bigint not null
);

create index rollouts_by_deployment on rollouts (deployment_id);

-- What a deployment may do that the active one may not, as JSON, and who allowed it; until then it waits. Whether it is to become active then.
alter table deployments add column widens text collate "C";
alter table deployments add column approver_id text collate "C";
alter table deployments add column approved_at bigint;
alter table deployments add column activates bigint not null default 0;
