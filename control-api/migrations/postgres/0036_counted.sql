-- Proofs of edges that count once, by a hash, and the second until which they would count: several servers of one database know of each other's.
-- No backup has them, and no archive of what is written here.
create unlogged table used_proofs (
  hash bytea primary key,
  until_at bigint not null
);

create index used_proofs_by_end on used_proofs (until_at);

-- What functions deployed counts as stored: each component with its files once in a function, however often it was deployed.
-- Bytes of all blocks of both. None: it is from before this was written down, and the component's bytes count.
alter table deployments add column stored_bytes bigint;

-- Of all its deployments, each content once. A sum over all of them would be read at each deploy otherwise.
alter table functions add column stored_bytes bigint not null default 0;

drop index deployments_by_code;
create index deployments_by_code on deployments (code_cid, function_id);

update functions set stored_bytes = coalesce((select sum(contents.bytes) from (
  select max(d.size) as bytes from deployments d where d.function_id = functions.id group by d.code_cid, d.assets_cid
) contents), 0);
