-- What a function, or all functions of a project, are told from the next deployment on, sealed with the project's key. A
-- deployment has copies, which never change.
create table settings (
  -- A project or a function; the value is sealed for it.
  owner_id text collate "C" not null,
  name text collate "C" not null,
  project_id text collate "C" not null references projects (id) on delete cascade,
  function_id text collate "C" references functions (id) on delete cascade,
  -- Whether the value is never shown.
  secret bigint not null check (secret in (0, 1)),
  sealed bytea not null,
  -- BLAKE3 of the value as it was sealed first: what manifests say of it, also after it was sealed with another key.
  digest bytea not null,
  author_id text collate "C" not null references users (id),
  updated_at bigint not null,
  primary key (owner_id, name)
);

create index settings_by_project on settings (project_id, owner_id, name);
create index settings_by_function on settings (function_id) where function_id is not null;

-- Rows without a digest are from before: sealed with the master key, which the next start changes.
alter table deployment_settings add column owner_id text collate "C";
alter table deployment_settings add column secret bigint not null default 1 check (secret in (0, 1));
alter table deployment_settings add column digest bytea;
alter table deployment_settings add column author_id text collate "C";
alter table deployment_settings add column updated_at bigint;
create index deployment_settings_from_before on deployment_settings (deployment_id, name) where digest is null;

-- Why a deployment was made, what it was made of, and what its component imports and may reach, as JSON; null: from before.
alter table deployments add column message text;
alter table deployments add column source_hash text;
alter table deployments add column imports text;
alter table deployments add column capabilities text;
