-- Values that functions are told, sealed with the master key. A deployment's never change.
create table deployment_settings (
  deployment_id text not null references deployments (id) on delete cascade,
  name text not null,
  sealed blob not null,
  primary key (deployment_id, name)
) strict, without rowid;
