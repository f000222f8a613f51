-- Servers of this database, by when they said last that they are there: each hands what functions log on to the others. No backup has
-- either table.
create table log_servers (
  id text primary key,
  seen_at integer not null
) strict;

-- Lines that a server has, as JSON, for a minute.
create table log_batches (
  id integer primary key autoincrement,
  server_id text not null,
  lines blob not null,
  created_at integer not null
) strict;
