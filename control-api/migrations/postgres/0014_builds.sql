-- Deployments of source code: what was sent, until it is a component, and why it did not become one. One that is built has the
-- deployment with its id.
create table builds (
  id text collate "C" primary key,
  function_id text collate "C" not null references functions (id) on delete cascade,
  source_cid text collate "C" not null,
  assets_cid text collate "C",
  status text not null check (status in ('DEPLOYING', 'BUILT', 'FAILED')),
  reason text,
  author_id text collate "C" not null references users (id),
  created_at bigint not null,
  updated_at bigint not null
);

create index builds_by_function on builds (function_id, id);
create index builds_deploying on builds (status) where status = 'DEPLOYING';
-- The newest deployments of a function, by their ids.
create index deployments_by_function on deployments (function_id, id);
