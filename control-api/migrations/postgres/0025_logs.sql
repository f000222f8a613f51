-- Servers of this database, by when they said last that they are there: each hands what functions log on to the others. No backup has
-- either table, and no archive of what is written here.
create unlogged table log_servers (
  id text collate "C" primary key,
  seen_at bigint not null
);

-- Lines that a server has, as JSON, for a minute.
create unlogged table log_batches (
  id bigint generated always as identity primary key,
  server_id text collate "C" not null,
  lines bytea not null,
  created_at bigint not null
);
