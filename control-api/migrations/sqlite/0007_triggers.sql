-- When a deployment's function is called without a request, as JSON; null: never.
alter table deployments add column triggers text;

-- The triggers of what functions run now, while they are switched on. next_at is null when no moment is left.
create table schedule (
  function_id text not null references functions (id) on delete cascade,
  cron text not null,
  path text not null,
  deployment_id text not null,
  next_at integer,
  primary key (function_id, cron, path)
) strict, without rowid;

create index schedule_by_time on schedule (next_at) where next_at is not null;

-- What became of the newest ticks. One that is running when the platform starts was cut off.
create table trigger_runs (
  id text primary key,
  function_id text not null references functions (id) on delete cascade,
  deployment_id text not null,
  cron text not null,
  path text not null,
  scheduled_at integer not null,
  started_at integer not null,
  duration_ms integer,
  outcome text not null check (outcome in ('running', 'succeeded', 'failed', 'skipped', 'interrupted')),
  status integer,
  error text
) strict;

create index trigger_runs_by_function on trigger_runs (function_id, started_at);
create index trigger_runs_running on trigger_runs (outcome) where outcome = 'running';
