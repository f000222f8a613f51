-- The path patterns of a function and where they lead, as JSON; null: no table.
alter table functions add column routes text;

-- One row a function, site or domain, also after it is gone: an edge that was away must learn that too.
create table feed (
  kind text not null check (kind in ('function', 'site', 'domain')),
  id text not null,
  revision integer not null unique,
  primary key (kind, id)
) strict, without rowid;

insert into feed (kind, id, revision)
  select 'function', function_id, max(revision) from routes where function_id is not null group by function_id;

drop table routes;
