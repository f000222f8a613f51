-- Organizations own projects. Who is a member of one has the same role in all its projects; a project can have members of its own.
create table organizations (
  id text collate "C" primary key,
  name text not null,
  created_at bigint not null,
  updated_at bigint not null
);

create table organization_members (
  organization_id text collate "C" not null references organizations (id) on delete cascade,
  user_id text collate "C" not null references users (id) on delete cascade,
  role text not null check (role in ('owner', 'admin', 'developer', 'billing', 'viewer')),
  created_at bigint not null,
  primary key (user_id, organization_id)
);

create index organization_members_by_organization on organization_members (organization_id, user_id);

alter table projects add column organization_id text collate "C" references organizations (id);
create index projects_by_organization on projects (organization_id, id);

alter table project_members add column role text not null default 'owner'
  check (role in ('owner', 'admin', 'developer', 'billing', 'viewer'));
alter table project_members add column created_at bigint not null default 0;
create index project_members_by_project on project_members (project_id, user_id);

-- Everybody who has projects owns them through an organization from now on.
insert into organizations (id, name, created_at, updated_at)
  select 'org_' || substr(id, 5), name, created_at, created_at from users;
insert into organization_members (organization_id, user_id, role, created_at)
  select 'org_' || substr(id, 5), id, 'owner', created_at from users;
update projects set organization_id = (select 'org_' || substr(min(m.user_id), 5) from project_members m
  where m.project_id = projects.id);

alter table users add column email text;
alter table users add column tokens_day bigint not null default 0;
alter table users add column tokens_made bigint not null default 0;

-- What a token may do besides what its user may: nothing of other projects or functions, and only what its scopes say
-- ("functions:read deployments:write"); null: all. A token with a role is a project's own key.
alter table tokens add column project_id text collate "C" references projects (id) on delete cascade;
alter table tokens add column function_id text collate "C" references functions (id) on delete cascade;
alter table tokens add column scopes text;
alter table tokens add column role text check (role in ('admin', 'developer', 'billing', 'viewer'));
-- The secret before the last rotation, and until when it works.
alter table tokens add column previous_hash bytea;
alter table tokens add column previous_until bigint;
create unique index tokens_previous_hash on tokens (previous_hash) where previous_hash is not null;
create index tokens_by_project on tokens (project_id, id) where project_id is not null;
create index tokens_by_function on tokens (function_id) where function_id is not null;

-- How others become members: whoever has the code.
create table invitations (
  id text collate "C" primary key,
  organization_id text collate "C" references organizations (id) on delete cascade,
  project_id text collate "C" references projects (id) on delete cascade,
  role text not null check (role in ('owner', 'admin', 'developer', 'billing', 'viewer')),
  email text,
  hash bytea not null unique,
  inviter_id text collate "C" not null references users (id),
  expires_at bigint not null,
  created_at bigint not null
);

create index invitations_by_organization on invitations (organization_id, id);
create index invitations_by_project on invitations (project_id, id);
