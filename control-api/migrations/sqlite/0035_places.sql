-- What a place is to hold is compared with what it holds by pages, in the order of CIDs.
create index placements_by_place on placements (place, cid);
create index deployments_by_manifest on deployments (manifest_cid);

-- Pins from before pins said that they are wanted at all places there will be, made where there was provably none: what was deployed
-- before the pin would be at it. Other pins without places may have been meant to stay here only, and are left alone.
insert into pin_places (pin_id, place)
  select p.id, '*' from pins p
  where not exists (select 1 from pin_places) and not exists (select 1 from placements)
    and (exists (select 1 from deployments d where d.created_at < p.created_at)
      or exists (select 1 from site_deployments d where d.created_at < p.created_at));

-- What a project has unpinned, for as long as another place may still have it.
create table unpinned (
  project_id text not null references projects (id) on delete cascade,
  cid text not null,
  -- As the project called it; of private content nothing.
  name text,
  unpinned_at integer not null,
  primary key (project_id, cid)
) strict, without rowid;

create index unpinned_by_cid on unpinned (cid);

insert into unpinned (project_id, cid, unpinned_at)
  select a.project_id, a.target, max(a.at) from audit a join projects j on j.id = a.project_id
  where a.action = 'pin.delete' and a.outcome = 'done'
    and exists (select 1 from placements h where h.cid = a.target and h.state in ('REMOVING', 'LEFT'))
    and not exists (select 1 from pins p where p.project_id = a.project_id and p.cid = a.target)
  group by a.project_id, a.target;

-- Until when a server is believed to be at work on it, where several share the database.
alter table placements add column leased_until integer not null default 0;
