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
