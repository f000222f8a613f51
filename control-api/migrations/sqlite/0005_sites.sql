-- What a project has besides functions: directories of files that are served as they are.

create table sites (
  id text primary key,
  project_id text not null references projects (id),
  name text not null,
  slug text not null unique,
  current_deployment_id text references site_deployments (id),
  created_at integer not null,
  updated_at integer not null,
  unique (project_id, name)
) strict;

create index sites_by_project on sites (project_id, id);

create table site_deployments (
  id text primary key,
  site_id text not null references sites (id) on delete cascade,
  number integer not null,
  root_cid text not null,
  files integer not null,
  bytes integer not null,
  author_id text not null references users (id),
  created_at integer not null,
  unique (site_id, number)
) strict;

-- A slug is a host name, of which functions and sites have the same.
create trigger functions_slug_insert before insert on functions
  when exists (select 1 from sites where slug = new.slug)
  begin select raise(abort, 'slug is taken by a site'); end;

create trigger functions_slug_update before update of slug on functions
  when exists (select 1 from sites where slug = new.slug)
  begin select raise(abort, 'slug is taken by a site'); end;

create trigger sites_slug_insert before insert on sites
  when exists (select 1 from functions where slug = new.slug)
  begin select raise(abort, 'slug is taken by a function'); end;

create trigger sites_slug_update before update of slug on sites
  when exists (select 1 from functions where slug = new.slug)
  begin select raise(abort, 'slug is taken by a function'); end;
