-- Content that projects keep: files and directories by their roots.
create table pins (
  id text primary key,
  project_id text not null references projects (id),
  cid text not null,
  name text,
  -- Of all its blocks, each once.
  bytes integer not null,
  blocks integer not null,
  author_id text not null references users (id),
  created_at integer not null,
  unique (project_id, cid)
) strict;

create index pins_by_project on pins (project_id, id);
create index pins_by_cid on pins (cid);

-- Where else than here a pin is to be held.
create table pin_places (
  pin_id text not null references pins (id) on delete cascade,
  place text not null,
  primary key (pin_id, place)
) strict, without rowid;

-- Which blocks a project has sent. Nobody gets a block of another project for knowing its CID.
create table project_blocks (
  project_id text not null references projects (id) on delete cascade,
  cid text not null,
  bytes integer not null,
  -- When it was sent or asked for last.
  touched_at integer not null,
  primary key (project_id, cid)
) strict, without rowid;

create index project_blocks_by_cid on project_blocks (cid);

-- How far content is held at a place, of pins and deployments of all projects.
create table placements (
  cid text not null,
  place text not null,
  state text not null check (state in ('QUEUED', 'PINNING', 'PINNED', 'FAILED', 'REMOVING')),
  -- What the place calls it.
  request text,
  -- In a row that failed, or that found it on its way.
  attempts integer not null default 0,
  -- What the last attempt found amiss.
  error text,
  -- When it is looked at next.
  next_at integer not null,
  updated_at integer not null,
  primary key (cid, place)
) strict, without rowid;

create index placements_due on placements (place, next_at);
