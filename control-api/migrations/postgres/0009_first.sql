-- What the SQLite schema has come to by the same number. Times are milliseconds since 1970 UTC. Ids are prefixed ULIDs,
-- which sort by creation in byte order: hence the collation.

create table users (
  id text collate "C" primary key,
  name text not null,
  created_at bigint not null
);

create table projects (
  id text collate "C" primary key,
  name text not null,
  created_at bigint not null,
  updated_at bigint not null
);

create table project_members (
  project_id text collate "C" not null references projects (id) on delete cascade,
  user_id text collate "C" not null references users (id) on delete cascade,
  primary key (user_id, project_id)
);

create table tokens (
  id text collate "C" primary key,
  user_id text collate "C" not null references users (id) on delete cascade,
  name text not null,
  hash bytea not null unique,
  masked text not null,
  expires_at bigint,
  last_used_at bigint,
  created_at bigint not null,
  unique (user_id, name)
);

create table functions (
  id text collate "C" primary key,
  project_id text collate "C" not null references projects (id),
  name text not null,
  slug text not null unique,
  status text not null check (status in ('ACTIVE', 'INACTIVE')),
  current_deployment_id text collate "C",
  -- The path patterns of a function and where they lead, as JSON; null: no table.
  routes text,
  created_at bigint not null,
  updated_at bigint not null,
  unique (project_id, name)
);

create index functions_by_project on functions (project_id, id);

create table deployments (
  id text collate "C" primary key,
  function_id text collate "C" not null references functions (id) on delete cascade,
  number bigint not null,
  manifest_cid text not null,
  code_cid text not null,
  blake3 text not null,
  size bigint not null,
  world text not null,
  -- The root of the files that a deployment may read, if it has any.
  assets_cid text,
  -- When a deployment's function is called without a request, as JSON; null: never.
  triggers text,
  author_id text collate "C" not null references users (id),
  created_at bigint not null,
  unique (function_id, number)
);

alter table functions add foreign key (current_deployment_id) references deployments (id);

-- Values that functions are told, sealed with the master key. A deployment's never change.
create table deployment_settings (
  deployment_id text collate "C" not null references deployments (id) on delete cascade,
  name text not null,
  sealed bytea not null,
  primary key (deployment_id, name)
);

-- One row a function, site or domain, also after it is gone: an edge that was away must learn that too.
create table feed (
  kind text not null check (kind in ('function', 'site', 'domain')),
  id text collate "C" not null,
  revision bigint not null unique,
  primary key (kind, id)
);

create table sites (
  id text collate "C" primary key,
  project_id text collate "C" not null references projects (id),
  name text not null,
  slug text not null unique,
  current_deployment_id text collate "C",
  created_at bigint not null,
  updated_at bigint not null,
  unique (project_id, name)
);

create index sites_by_project on sites (project_id, id);

create table site_deployments (
  id text collate "C" primary key,
  site_id text collate "C" not null references sites (id) on delete cascade,
  number bigint not null,
  root_cid text not null,
  files bigint not null,
  bytes bigint not null,
  author_id text collate "C" not null references users (id),
  created_at bigint not null,
  unique (site_id, number)
);

alter table sites add foreign key (current_deployment_id) references site_deployments (id);

-- A slug is a host name, of which functions and sites have the same.
create function slug_is_free() returns trigger language plpgsql as $$
begin
  if tg_table_name = 'functions' and exists (select 1 from sites where slug = new.slug) then
    raise exception 'slug is taken by a site';
  elsif tg_table_name = 'sites' and exists (select 1 from functions where slug = new.slug) then
    raise exception 'slug is taken by a function';
  end if;
  return new;
end $$;

create trigger functions_slug before insert or update of slug on functions
  for each row execute function slug_is_free();
create trigger sites_slug before insert or update of slug on sites
  for each row execute function slug_is_free();

-- Names that projects claim. Several projects may claim one; at most one claim of a name is verified.
create table domains (
  id text collate "C" primary key,
  project_id text collate "C" not null references projects (id),
  hostname text not null,
  owner_kind text not null check (owner_kind in ('function', 'site')),
  owner_id text collate "C" not null,
  method text not null check (method in ('TXT', 'CNAME', 'A')),
  token text not null,
  status text not null check (status in ('PENDING', 'VERIFIED', 'FAILED')),
  -- What the last check found amiss; null: nothing, or there was none.
  reason text,
  -- Checks in a row that found the proof of a verified name gone.
  misses bigint not null default 0,
  verified_at bigint,
  checked_at bigint,
  -- When a verified name is checked again; null: by request only.
  next_check_at bigint,
  -- The owner's own certificate. The key is sealed with the master key.
  certificate_chain text,
  certificate_key bytea,
  certificate_not_after bigint,
  created_at bigint not null,
  updated_at bigint not null,
  unique (project_id, hostname)
);

create unique index domains_verified on domains (hostname) where status = 'VERIFIED';
create index domains_by_hostname on domains (hostname);
create index domains_by_owner on domains (owner_id);
create index domains_due on domains (next_check_at) where next_check_at is not null;

-- Who proved a name last, also after the claim is gone: DNS records that were left behind prove nothing for others.
create table domain_holders (
  hostname text primary key,
  project_id text collate "C" not null,
  verified_at bigint not null
);

-- The triggers of what functions run now, while they are switched on. next_at is null when no moment is left.
create table schedule (
  function_id text collate "C" not null references functions (id) on delete cascade,
  cron text not null,
  path text not null,
  deployment_id text collate "C" not null,
  next_at bigint,
  primary key (function_id, cron, path)
);

create index schedule_by_time on schedule (next_at) where next_at is not null;

-- What became of the newest ticks. One that is running when the platform starts was cut off.
create table trigger_runs (
  id text collate "C" primary key,
  function_id text collate "C" not null references functions (id) on delete cascade,
  deployment_id text collate "C" not null,
  cron text not null,
  path text not null,
  scheduled_at bigint not null,
  started_at bigint not null,
  duration_ms bigint,
  outcome text not null check (outcome in ('running', 'succeeded', 'failed', 'skipped', 'interrupted')),
  status bigint,
  error text
);

create index trigger_runs_by_function on trigger_runs (function_id, started_at);
create index trigger_runs_running on trigger_runs (outcome) where outcome = 'running';

-- Content that projects keep: files and directories by their roots.
create table pins (
  id text collate "C" primary key,
  project_id text collate "C" not null references projects (id),
  cid text collate "C" not null,
  name text,
  -- Of all its blocks, each once.
  bytes bigint not null,
  blocks bigint not null,
  author_id text collate "C" not null references users (id),
  created_at bigint not null,
  unique (project_id, cid)
);

create index pins_by_project on pins (project_id, id);
create index pins_by_cid on pins (cid);

-- Where else than here a pin is to be held.
create table pin_places (
  pin_id text collate "C" not null references pins (id) on delete cascade,
  place text not null,
  primary key (pin_id, place)
);

-- Which blocks a project has sent. Nobody gets a block of another project for knowing its CID.
create table project_blocks (
  project_id text collate "C" not null references projects (id) on delete cascade,
  cid text collate "C" not null,
  bytes bigint not null,
  -- When it was sent or asked for last.
  touched_at bigint not null,
  primary key (project_id, cid)
);

create index project_blocks_by_cid on project_blocks (cid);

-- How far content is held at a place, of pins and deployments of all projects.
create table placements (
  cid text collate "C" not null,
  place text not null,
  state text not null check (state in ('QUEUED', 'PINNING', 'PINNED', 'FAILED', 'REMOVING')),
  -- What the place calls it.
  request text,
  -- In a row that failed, or that found it on its way.
  attempts bigint not null default 0,
  -- What the last attempt found amiss.
  error text,
  -- When it is looked at next.
  next_at bigint not null,
  updated_at bigint not null,
  primary key (cid, place)
);

create index placements_due on placements (place, next_at);

-- The key that a project's data keys are sealed with, sealed with the master key.
create table project_keys (
  project_id text collate "C" primary key references projects (id) on delete cascade,
  sealed bytea not null,
  created_at bigint not null
);

-- What a private deployment's code and assets are encrypted with, sealed with its project's key. Deployments that are
-- not private have none.
create table content_keys (
  deployment_id text collate "C" primary key references deployments (id) on delete cascade,
  sealed bytea not null
);
