-- Times are milliseconds since 1970 UTC. Ids are prefixed ULIDs, so they sort by creation.

create table users (
  id text primary key,
  name text not null,
  created_at integer not null
) strict;

create table projects (
  id text primary key,
  name text not null,
  created_at integer not null,
  updated_at integer not null
) strict;

create table project_members (
  project_id text not null references projects (id) on delete cascade,
  user_id text not null references users (id) on delete cascade,
  primary key (user_id, project_id)
) strict, without rowid;

create table tokens (
  id text primary key,
  user_id text not null references users (id) on delete cascade,
  name text not null,
  hash blob not null unique,
  masked text not null,
  expires_at integer,
  last_used_at integer,
  created_at integer not null,
  unique (user_id, name)
) strict;

create table functions (
  id text primary key,
  project_id text not null references projects (id),
  name text not null,
  slug text not null unique,
  status text not null check (status in ('ACTIVE', 'INACTIVE')),
  current_deployment_id text references deployments (id),
  created_at integer not null,
  updated_at integer not null,
  unique (project_id, name)
) strict;

create index functions_by_project on functions (project_id, id);

create table deployments (
  id text primary key,
  function_id text not null references functions (id) on delete cascade,
  number integer not null,
  manifest_cid text not null,
  code_cid text not null,
  blake3 text not null,
  size integer not null,
  world text not null,
  author_id text not null references users (id),
  created_at integer not null,
  unique (function_id, number)
) strict;

-- One row a slug, also after its function is gone: an edge that was away must learn that too.
create table routes (
  slug text primary key,
  function_id text,
  revision integer not null unique
) strict, without rowid;
